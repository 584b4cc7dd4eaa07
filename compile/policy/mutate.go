package policy

import (
	"context"
	"fmt"
	"slices"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A Mutant is a change of the rule table that no test notices.
type Mutant struct {
	Rule   int    // the changed one, from 0
	Change string // what was changed
	Test   string // a test that notices, ready for a file; "" if none was found
}

// A mutation is a change of the rule table from rule first on. Rule i of the
// changed table is rule original[i-first] of the configuration.
type mutation struct {
	first    int
	change   string
	rules    []compile.Rule // from first on
	original []int
	part     engine.Part // that the change is about; none for a whole rule
}

// noPart stands for a change of a whole rule.
const noPart = engine.PartRcptTo + 1

// mutations calls f for each change of rule i.
func mutations(rs *compile.Ruleset, i int, f func(m *mutation)) {
	edited := func(change string, part engine.Part, edit func(r *compile.Rule)) {
		m := unchanged(rs, i)
		m.change, m.part = change, part
		edit(&m.rules[0])
		f(m)
	}
	rule := &rs.Rules[i]
	for p, c := range criteria(rule) {
		p := engine.Part(p)
		if c.Sign == compile.Absent || anything(rule, p) {
			continue
		}
		edited(fmt.Sprintf("without its %s", p), p, func(r *compile.Rule) { drop(rs, r, p) })
		edited(fmt.Sprintf("with the opposite of its %s", p), p, func(r *compile.Rule) { flip(criteria(r)[p]) })
	}
	switch {
	case rule.Action != 0:
		edited("with reject for its action", noPart, func(r *compile.Rule) { r.Action = 0 })
	case len(rs.Actions) > 0:
		edited(fmt.Sprintf("with action %s for reject", quote(rs.Actions[0].Name)), noPart, func(r *compile.Rule) { r.Action = 1 })
	}
	removed := unchanged(rs, i)
	removed.change, removed.part = "removed", noPart
	removed.rules, removed.original = removed.rules[1:], removed.original[1:]
	f(removed)
	// Two rules with one action may change places without moving any mail.
	if i+1 < len(rs.Rules) && rule.Action != rs.Rules[i+1].Action {
		m := unchanged(rs, i)
		m.change, m.part = fmt.Sprintf("after rule %d", i+2), noPart
		m.rules[0], m.rules[1] = m.rules[1], m.rules[0]
		m.original[0], m.original[1] = m.original[1], m.original[0]
		f(m)
	}
}

func unchanged(rs *compile.Ruleset, first int) *mutation {
	m := &mutation{first: first, rules: slices.Clone(rs.Rules[first:])}
	for i := range m.rules {
		m.original = append(m.original, first+i)
	}
	return m
}

// drop takes a criterion away. A rule always has from and for, so that they
// become any.
func drop(rs *compile.Ruleset, r *compile.Rule, p engine.Part) {
	switch p {
	case engine.PartFrom:
		r.From = compile.From{Kind: compile.FromAny, Criterion: compile.Criterion{Sign: compile.Is, Table: rs.AnyHost}}
	case engine.PartFor:
		r.For = compile.For{Kind: compile.ForAny, Criterion: compile.Criterion{Sign: compile.Is, Table: rs.AnyDest}}
	default:
		*criteria(r)[p] = compile.Criterion{}
	}
}

func flip(c *compile.Criterion) {
	if c.Sign == compile.Is {
		c.Sign = compile.Not
	} else {
		c.Sign = compile.Is
	}
}

// A mutated decides by a changed rule table. What the rules before the
// change decide is not decided again.
type mutated struct {
	*mutation
	rules  compile.Ruleset
	engine *engine.Linear
}

func (m *mutation) in(rs *compile.Ruleset) *mutated {
	x := &mutated{mutation: m, rules: *rs}
	x.rules.Rules = m.rules
	x.engine = engine.NewLinear(&x.rules)
	return x
}

// decide returns the decision of the changed table, in numbers of the
// configuration, given that of the configuration.
func (x *mutated) decide(tx *engine.Transaction, before engine.Decision) (engine.Decision, compile.ActionID) {
	if before.Rule >= 0 && before.Rule < x.first {
		return before, 0
	}
	d := x.engine.Decide(context.Background(), tx, unknown{})
	if d.Rule < 0 {
		return d, 0
	}
	action := x.rules.Rules[d.Rule].Action
	d.Rule = x.original[d.Rule]
	return d, action
}

// same reports whether mail goes the same way by two decisions.
func (x *mutated) same(rs *compile.Ruleset, before, after engine.Decision, action compile.ActionID) bool {
	if before.Rule >= 0 && before.Rule < x.first {
		return true
	}
	refused := func(d engine.Decision) bool { return d.Outcome == engine.Reject || d.Outcome == engine.NoRule }
	switch {
	case refused(before) || refused(after):
		return refused(before) == refused(after)
	case before.Outcome != after.Outcome:
		return false
	case before.Outcome == engine.TempFail:
		return true
	}
	return rs.Rules[before.Rule].Action == action
}

// notices reports whether a test that passes fails with the changed table.
func (x *mutated) notices(rs *compile.Ruleset, t *Test, before engine.Decision) bool {
	if before.Rule >= 0 && before.Rule < x.first {
		return false
	}
	after, action := x.decide(&t.tx, before)
	if t.Expect.Rule != 0 || after.Outcome != engine.Accept {
		return !t.Expect.meets(rs, after)
	}
	a := rs.Action(action)
	return t.Expect.Action != a.Name && t.Expect.Method != a.Method
}

// Mutate changes the configuration in one place at a time and returns the
// changes that no test notices. Every test must pass.
func Mutate(suites []*Bound) (survivors []Mutant, tried int) {
	if len(suites) == 0 {
		return nil, 0
	}
	rs := suites[0].Rules
	before := make([][]engine.Decision, len(suites))
	for i, b := range suites {
		e := engine.New(b.Rules)
		for j := range b.tests {
			before[i] = append(before[i], e.Decide(context.Background(), &b.tests[j].tx, unknown{}))
		}
	}
	s := newSearch(rs)
	for i := range rs.Rules {
		mutations(rs, i, func(m *mutation) {
			tried++
			for j, b := range suites {
				x := m.in(b.Rules)
				for k := range b.tests {
					if x.notices(b.Rules, &b.tests[k], before[j][k]) {
						return
					}
				}
			}
			survivors = append(survivors, Mutant{i, m.change, s.killer(m.in(rs))})
		})
	}
	return survivors, tried
}
