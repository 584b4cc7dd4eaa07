package policy

import (
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// TestMeets holds each expectation against each outcome.
func TestMeets(t *testing.T) {
	rs := &compile.Ruleset{
		Actions: []compile.Action{{Name: "in", Method: compile.Maildir}},
		Rules:   []compile.Rule{{Action: 1}, {}},
	}
	decisions := []engine.Decision{
		{Outcome: engine.Accept, Rule: 0},
		{Outcome: engine.Reject, Rule: 1},
		{Outcome: engine.NoRule, Rule: -1},
		{Outcome: engine.TempFail, Rule: 0},
	}
	tests := []struct {
		expect Expectation
		want   [4]bool // of decisions
	}{
		{Expectation{Action: "in"}, [4]bool{0: true}},
		{Expectation{Action: "out"}, [4]bool{}},
		{Expectation{Method: compile.Maildir}, [4]bool{0: true}},
		{Expectation{Method: compile.Relay}, [4]bool{}},
		{Expectation{Rule: 1}, [4]bool{0: true}},
		{Expectation{Rule: 2}, [4]bool{1: true}},
		{Expectation{Outcome: engine.Reject}, [4]bool{1: true, 2: true}},
		{Expectation{Outcome: engine.TempFail}, [4]bool{3: true}},
	}
	for _, tt := range tests {
		for i, d := range decisions {
			if got := tt.expect.meets(rs, d); got != tt.want[i] {
				t.Errorf("expect %s: %v for %+v", &tt.expect, got, d)
			}
		}
	}
}
