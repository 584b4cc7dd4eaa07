package stat

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
)

var (
	testCount  = Counter("smtpd_test_count_total", "Test.", "kind")
	testOpen   = Gauge("smtpd_test_open", "Test.")
	testMoment = Gauge("smtpd_test_last_timestamp_seconds", "Test.")
	testTimes  = Histogram("smtpd_test_seconds", "Test.")
)

// encoded returns what a process has counted that did so much.
func encoded(t *testing.T, kinds map[string]float64, open, moment float64, times ...float64) []byte {
	t.Helper()
	testCount.Reset()
	testTimes.Reset()
	for kind, n := range kinds {
		testCount.WithLabelValues(kind).Add(n)
	}
	testOpen.WithLabelValues().Set(open)
	testMoment.WithLabelValues().Set(moment)
	for _, s := range times {
		testTimes.WithLabelValues().Observe(s)
	}
	b, err := Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decoded(t *testing.T, b []byte) []*dto.MetricFamily {
	t.Helper()
	families, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// numbers returns what is in families under names that begin so.
func numbers(families []*dto.MetricFamily, begin string) map[string]float64 {
	got := make(map[string]float64)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), begin) {
			continue
		}
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			if h := m.Histogram; h != nil {
				got[name] = h.GetSampleSum()
				for _, b := range h.Bucket {
					if b.GetUpperBound() == 1 {
						got[name+" below 1"] = float64(b.GetCumulativeCount())
					}
				}
				continue
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

// TestTotal checks that numbers of processes are added, moments are the latest,
// and of a process that has ended only what lasts is left.
func TestTotal(t *testing.T) {
	a := encoded(t, map[string]float64{"x": 1, "y": 2}, 5, 100, 0.5)
	b := encoded(t, map[string]float64{"y": 40}, 7, 90, 0.25, 4)
	ended := encoded(t, map[string]float64{"z": 3, "x": 1}, 1000, 110, 8)
	var total Total
	total.Add(decoded(t, a))
	total.Add(decoded(t, b))
	total.AddLast(decoded(t, ended))
	want := map[string]float64{
		"smtpd_test_count_total x":          2,
		"smtpd_test_count_total y":          42,
		"smtpd_test_count_total z":          3,
		"smtpd_test_open":                   12,
		"smtpd_test_last_timestamp_seconds": 110,
		"smtpd_test_seconds":                12.75,
		"smtpd_test_seconds below 1":        2,
	}
	got := numbers(total.Families(), "smtpd_test_")
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	again, err := total.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, numbers(decoded(t, again), "smtpd_test_")); d != "" {
		t.Error("encoded:", d)
	}
}

// TestTotalOfOthers checks that a process which says something else under a
// name does no harm.
func TestTotalOfOthers(t *testing.T) {
	good := encoded(t, nil, 5, 0)
	name, kind := "smtpd_test_open", dto.MetricType_COUNTER
	other := &dto.MetricFamily{Name: &name, Type: &kind, Metric: []*dto.Metric{{}}}
	empty := &dto.MetricFamily{Metric: []*dto.Metric{{Histogram: &dto.Histogram{}}, {Histogram: &dto.Histogram{}}}}
	var total Total
	total.Add(decoded(t, good))
	total.Add([]*dto.MetricFamily{other, empty})
	if got := numbers(total.Families(), "smtpd_test_")["smtpd_test_open"]; got != 5 {
		t.Errorf("got %v, want 5", got)
	}
	for _, b := range [][]byte{{0xff}, {5, 1}, make([]byte, MaxEncoded+1)} {
		if _, err := Decode(b); err == nil {
			t.Errorf("%d bytes that say nothing are taken", len(b))
		}
	}
}

// TestDescribeProcess checks what a process says of itself.
func TestDescribeProcess(t *testing.T) {
	DescribeProcess("test")
	DescribeProcess("again") // the first one counts
	families, err := Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := numbers(families, "smtpd_process_")
	for _, name := range []string{"cpu_seconds_total", "memory_bytes", "goroutines", "start_timestamp_seconds"} {
		if got["smtpd_process_"+name+" test"] <= 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}
