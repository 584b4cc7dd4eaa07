package mda

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"smtpd/runtime/envelope"
	"smtpd/runtime/parent"
)

// reading returns the value of a counter or gauge, or the observations of a
// histogram.
func reading(t *testing.T, m any) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.(prometheus.Metric).Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue() + float64(d.GetHistogram().GetSampleCount())
}

// TestCounts checks which numbers deliveries change, and that none is left
// changed that says what is going on.
func TestCounts(t *testing.T) {
	a, w, _ := newTestAgent(t)
	for _, c := range []struct {
		action, method, result string
		change                 func(*envelope.Envelope)
		outcome                parent.Outcome
		timed                  float64
	}{
		{"maildir", "maildir", "Ok", nil, parent.Delivered, 1},
		{"maildir", "mda", "TempFail", func(ev *envelope.Envelope) { ev.Execute, ev.Exec = envelope.Command, "x" }, parent.TempFail, 1},
		{"lmtp", "lmtp", "PermFail", nil, parent.PermFail, 1},
		{"mbox", "mbox", "PermFail", func(ev *envelope.Envelope) { ev.LocalUser = "nobody" }, 0, 0}, // user unknown
		{"gone", "unknown", "TempFail", nil, 0, 0},
	} {
		ended := deliveries.WithLabelValues(c.method, c.result)
		timed := deliveryTime.WithLabelValues(c.method)
		before, timedBefore := reading(t, ended), reading(t, timed)
		ev := testEnvelope(c.action)
		if c.change != nil {
			c.change(&ev)
		}
		w.result = parent.Result{Outcome: c.outcome, Status: "2.0.0"}
		deliverOne(t, a, ev)
		if got := reading(t, ended) - before; got != 1 {
			t.Errorf("%s: %v deliveries by %s with %s, want 1", c.action, got, c.method, c.result)
		}
		if got := reading(t, timed) - timedBefore; got != c.timed {
			t.Errorf("%s: %v deliveries by %s were timed, want %v", c.action, got, c.method, c.timed)
		}
	}
	for name, g := range map[string]prometheus.Gauge{
		"envelopes": envelopesHeld.WithLabelValues(), "waiting": waiting, "running": running, "users": usersActive,
	} {
		if got := reading(t, g); got != 0 {
			t.Errorf("%s is %v with nothing to do", name, got)
		}
	}
}
