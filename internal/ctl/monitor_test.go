package ctl

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestMonitor(t *testing.T) {
	samples := []string{
		"# HELP smtpd_smtp_sessions x\nsmtpd_smtp_sessions{family=\"inet4\"} 2\nsmtpd_smtp_sessions{family=\"inet6\"} 1\nsmtpd_smtp_sessions_total{family=\"inet4\"} 10\n" +
			"smtpd_queue_envelopes 5\nsmtpd_queue_envelopes_total 100\n",
		"smtpd_smtp_sessions{family=\"inet4\"} 1\nsmtpd_smtp_sessions_total{family=\"inet4\"} 14\nsmtpd_queue_envelopes 6\nsmtpd_queue_envelopes_total 120\n" +
			"smtpd_queue_deliveries_total{agent=\"mta\",result=\"ok\"} 7\nsmtpd_queue_deliveries_total{agent=\"mda\",result=\"ok\"} 2\nsmtpd_queue_deliveries_total{agent=\"mta\",result=\"tempfail\"} 3\n" +
			"smtpd_queue_ended_total{why=\"removed\"} 1e+01\nsmtpd_queue_reports_total{kind=\"failed\"} 1\n",
	}
	tick := make(chan time.Time, 30)
	for range 25 {
		tick <- time.Time{}
	}
	close(tick)
	var out strings.Builder
	n := 0
	err := watch(&out, tick, func() (string, error) {
		s := samples[min(n, 1)]
		n++
		return s, nil
	})
	if err != nil || n != 26 {
		t.Fatalf("%d looks, %v", n, err)
	}
	lines := strings.SplitAfter(out.String(), "\n")
	want := []string{
		"   3    0    0     5    0    0    0       0       0    0      0      0      0\n",
		"   1    4    6     6   20   19    9       3       0    0      0     10      1\n",
		"   1    0    0     6    0    0    0       0       0    0      0      0      0\n",
	}
	for i, w := range want {
		if lines[2+i] != w {
			t.Errorf("line %d\n%q, want\n%q", i, lines[2+i], w)
		}
	}
	if got := strings.Count(out.String(), monitorHead); got != 2 {
		t.Errorf("the head stands there %d times", got)
	}
	gone := errors.New("gone")
	if err := watch(&out, nil, func() (string, error) { return "", gone }); err != gone {
		t.Errorf("without a daemon: %v", err)
	}
}
