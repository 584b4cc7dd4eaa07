package analyze

import (
	"testing"

	"smtpd/compile/engine"
)

func TestDiff(t *testing.T) {
	const base = "match from any for domain \"a.example\" action in\nmatch for any action out\n"
	tests := []struct {
		name, before, after string
		want                Verdict
		changes             int
	}{
		{"nothing", base, base, Proved, 0},
		{"a table with a name", base, "table a { \"a.example\" }\nmatch from any for domain <a> action in\nmatch for any action out\n", Proved, 0},
		{"a rule that never decides", base, base + "match from any for domain \"a.example\" reject\n", Proved, 0},
		{"two for one", "match from any for domain { \"a.example\", \"b.example\" } action in",
			"match from any for domain \"a.example\" action in\nmatch from any for domain \"b.example\" action in", Proved, 0},
		{"an open relay", base, base + "match from any for any action out\n", Refuted, 1},
		{"a reject that disappears", "match from src \"192.0.2.9\" for any reject\n" + base, base, Refuted, 1},
		{"order that matters", base, "match for any action out\nmatch from any for domain \"a.example\" action in", Refuted, 1},
	}
	for _, tt := range tests {
		before, after := load(t, tt.before), load(t, tt.after)
		got := Diff(before, after)
		if got.Verdict != tt.want || len(got.Changes) != tt.changes {
			t.Errorf("%s: %v with %+v, want %v with %d changes", tt.name, got.Verdict, got.Changes, tt.want, tt.changes)
		}
		for _, c := range got.Changes {
			older := engine.NewLinear(before).Decide(t.Context(), &c.Witness.Transaction, nil)
			newer := engine.NewLinear(after).Decide(t.Context(), &c.Witness.Transaction, nil)
			if older.Rule != c.Old.Rule || newer.Rule != c.New.Rule {
				t.Errorf("%s: witness %+v is decided by %d and %d", tt.name, c.Witness, older.Rule, newer.Rule)
			}
		}
	}
}
