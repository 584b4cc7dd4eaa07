package control

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestStats checks that the numbers of all processes are added: those that
// last, of the ones too that have ended.
func TestStats(t *testing.T) {
	r := newRig(t)
	c := dial(t, r.admin)
	var stats, metrics strings.Builder
	if err := c.Stats(&stats); err != nil {
		t.Fatal(err)
	}
	if err := c.Metrics(&metrics); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"control.session=2\n", "uptime=0\n", "uptime.human=0s\n"} {
		if !strings.Contains(stats.String(), want) {
			t.Errorf("no %q in\n%s", want, &stats)
		}
	}
	for _, want := range []string{
		"# TYPE smtpd_control_sessions gauge\nsmtpd_control_sessions 2\n",
		`smtpd_build_info{go="`, `version="smtpd test"} 2`,
	} {
		if !strings.Contains(metrics.String(), want) {
			t.Errorf("no %q in\n%s", want, &metrics)
		}
	}
}

// TestStatKeys checks that each number is one that some component counts.
func TestStatKeys(t *testing.T) {
	files, err := filepath.Glob("../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var declared strings.Builder
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && filepath.Base(filepath.Dir(file)) != "stat" {
			for _, m := range regexp.MustCompile(`stat\.(?:Counter|Gauge|Histogram)\(\s*("smtpd_[a-z_]+")`).FindAllSubmatch(text, -1) {
				declared.Write(m[1])
			}
		}
	}
	for _, k := range statKeys {
		if !strings.Contains(declared.String(), `"`+k.metric+`"`) {
			t.Errorf("%s: no component counts %s", k.key, k.metric)
		}
	}
}

func TestHumanTime(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 61 * time.Second: "1m1s", time.Hour: "1h0m0s", 49*time.Hour + 2*time.Second: "2d1h0m2s",
	} {
		if got := humanTime(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
