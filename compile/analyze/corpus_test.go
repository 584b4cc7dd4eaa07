package analyze

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
)

// TestCorpusWitnesses asks who relays by each public configuration, and
// compares it with the one before it and with edits of itself. Every witness
// is decided again by the linear engine, and every proof is checked.
func TestCorpusWitnesses(t *testing.T) {
	files, err := filepath.Glob("../../../shared/corpus/gen*/*.conf")
	if err != nil || len(files) == 0 {
		t.Skip("the corpus of public configurations, ../shared/corpus beside the tree, is not here")
	}
	relays, diffs := make(map[Verdict]int), make(map[Verdict]int)
	var last *compile.Ruleset
	var slowest time.Duration
	for _, file := range files {
		f, parsed := lang.Parse(file, lang.Options{})
		rs, _ := compile.Draft(f, hostfacts.Unnamed())
		if rs == nil || len(parsed) > 0 || len(rs.Rules) == 0 {
			continue
		}
		start := time.Now()
		r := Relay(rs, RelayOptions{})
		relays[r.Verdict]++
		for i := range r.Open {
			checkOpen(t, file, rs, &r.Open[i])
		}
		if r.Certificate != nil {
			if err := certificate.VerifyClosed(rs, r.Certificate); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
		for _, other := range append(edits(rs), last) {
			if other == nil {
				continue
			}
			d := Diff(other, rs)
			diffs[d.Verdict]++
			for i := range d.Changes {
				replayed(t, other, rs, &d.Changes[i])
			}
		}
		last, slowest = rs, max(slowest, time.Since(start))
	}
	t.Logf("relay %v, diff %v, the slowest file took %v", relays, diffs, slowest)
	if relays[Proved] == 0 || relays[Refuted] == 0 || diffs[Refuted] == 0 {
		t.Errorf("relay %v and diff %v try one side only", relays, diffs)
	}
}

// edits returns rule tables that lack a rule, or have two that changed
// places, or reject what the last rule accepts.
func edits(rs *compile.Ruleset) []*compile.Ruleset {
	var list []*compile.Ruleset
	edit := func(change func(rules []compile.Rule) []compile.Rule) {
		c := *rs
		c.Rules = change(slices.Clone(rs.Rules))
		list = append(list, &c)
	}
	for i := range min(len(rs.Rules), 5) {
		edit(func(rules []compile.Rule) []compile.Rule { return slices.Delete(rules, i, i+1) })
		if i > 0 {
			edit(func(rules []compile.Rule) []compile.Rule {
				rules[i], rules[i-1] = rules[i-1], rules[i]
				return rules
			})
		}
	}
	edit(func(rules []compile.Rule) []compile.Rule {
		rules[len(rules)-1].Action = 0
		return rules
	})
	return list
}
