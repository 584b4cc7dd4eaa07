package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A Mutant is a change of the rule table that no test notices.
type Mutant struct {
	Rule   int    // the changed one, from 0
	Change string // what was changed
	Test   string // a test that notices, ready for a file; "" if none was found
}

// A mutation is a change of the rule table in one place: rules stand for the
// replaced ones from first on. Rule i of rules is rule original[i] of the
// configuration.
type mutation struct {
	first    int
	replaced int
	change   string
	rules    []compile.Rule
	original []int
	part     engine.Part // that the change is about; none for a whole rule

	// A change of the list that a criterion stands with, which no other
	// rule has: the table, and the key that is left out.
	table compile.TableID
	key   string
}

// noPart stands for a change of a whole rule.
const noPart = engine.PartRcptTo + 1

// mutations calls f for each change of rule i.
func mutations(rs *compile.Ruleset, i int, f func(m *mutation)) {
	edited := func(change string, part engine.Part, edit func(r *compile.Rule)) {
		m := unchanged(rs, i, 1)
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
	entries(rs, i, f)
	switch {
	case rule.Action != 0:
		edited("with reject for its action", noPart, func(r *compile.Rule) { r.Action = 0 })
		if n := compile.ActionID(len(rs.Actions)); n > 1 {
			other := rule.Action%n + 1
			change := fmt.Sprintf("with action %s for its own", quote(rs.Action(other).Name))
			edited(change, noPart, func(r *compile.Rule) { r.Action = other })
		}
	case len(rs.Actions) > 0:
		edited(fmt.Sprintf("with action %s for reject", quote(rs.Actions[0].Name)), noPart, func(r *compile.Rule) { r.Action = 1 })
	}
	removed := unchanged(rs, i, 1)
	removed.change, removed.part = "removed", noPart
	removed.rules, removed.original = nil, nil
	f(removed)
	// Two rules with one action may change places without moving any mail.
	if i+1 < len(rs.Rules) && rule.Action != rs.Rules[i+1].Action {
		m := unchanged(rs, i, 2)
		m.change, m.part = fmt.Sprintf("after rule %d", i+2), noPart
		m.rules[0], m.rules[1] = m.rules[1], m.rules[0]
		m.original[0], m.original[1] = m.original[1], m.original[0]
		f(m)
	}
}

// maxEntries is how many entries of a list are left out, one at a time.
const maxEntries = 8

// entries calls f for each entry that is left out of a list of rule i.
func entries(rs *compile.Ruleset, i int, f func(m *mutation)) {
	for p, c := range criteria(&rs.Rules[i]) {
		p := engine.Part(p)
		if c.Sign == compile.Absent || c.Table == 0 || anything(&rs.Rules[i], p) {
			continue
		}
		// Of one entry there is no list without it: the criterion would go.
		t := rs.Table(c.Table)
		if !strings.HasPrefix(t.Name, "<dynamic:") || len(t.Entries) < 2 {
			continue
		}
		for _, e := range t.Entries[:min(len(t.Entries), maxEntries)] {
			m := unchanged(rs, i, 1)
			m.change, m.part = fmt.Sprintf("without %s in its %s", quote(e.Key), p), p
			m.table, m.key = c.Table, e.Key
			f(m)
		}
	}
}

// unchanged returns the mutation of n rules that changes nothing.
func unchanged(rs *compile.Ruleset, first, n int) *mutation {
	m := &mutation{first: first, replaced: n, rules: slices.Clone(rs.Rules[first : first+n])}
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

// A mutated decides by a changed rule table. It looks at the changed rules
// alone where the decision without the change says what the others decide:
// there are many changes of a long list, and all tests to be tried on each.
type mutated struct {
	*mutation
	of      *compile.Ruleset // without the change
	changed compile.Ruleset  // of nothing but the changed rules
	engine  *engine.Linear   // by changed
}

func (m *mutation) in(rs *compile.Ruleset) *mutated {
	x := &mutated{mutation: m, of: rs, changed: *rs}
	x.changed.Rules = m.rules
	if m.table != 0 {
		x.changed.Tables = slices.Clone(rs.Tables)
		t := x.changed.Table(m.table)
		t.Entries = slices.DeleteFunc(slices.Clone(t.Entries), func(e compile.Entry) bool { return e.Key == m.key })
	}
	x.engine = engine.NewLinear(&x.changed)
	return x
}

// whole returns all of the changed table.
func (x *mutated) whole() *compile.Ruleset {
	all := x.changed
	all.Rules = slices.Concat(x.of.Rules[:x.first], x.rules, x.of.Rules[x.first+x.replaced:])
	return &all
}

// decide returns the decision of the changed table, in numbers of the
// configuration, given that of the configuration.
func (x *mutated) decide(tx *engine.Transaction, before engine.Decision, l engine.Lookups) (engine.Decision, compile.ActionID) {
	behind := x.first + x.replaced
	if before.Rule >= 0 && before.Rule < x.first {
		return before, x.of.Rules[before.Rule].Action
	}
	d := x.engine.Decide(context.Background(), tx, l)
	switch {
	case d.Rule >= 0:
		action := x.rules[d.Rule].Action
		d.Rule = x.original[d.Rule]
		return d, action
	case before.Rule < 0:
		return before, 0
	case before.Rule >= behind:
		return before, x.of.Rules[before.Rule].Action
	}
	rest := *x.of
	rest.Rules = rest.Rules[behind:]
	if d = engine.NewLinear(&rest).Decide(context.Background(), tx, l); d.Rule < 0 {
		return d, 0
	}
	d.Rule += behind
	return d, x.of.Rules[d.Rule].Action
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
func (x *mutated) notices(b *Bound, t *Test, before engine.Decision) bool {
	if t.Expect.Reply != "" {
		// Addresses that the recipient stands for may meet the change.
		rs := x.whole()
		reply, _ := b.reply(rs, engine.NewLinear(rs), &t.tx)
		return !t.Expect.answers(reply)
	}
	if before.Rule >= 0 && before.Rule < x.first {
		return false
	}
	after, action := x.decide(&t.tx, before, b)
	if t.Expect.Rule != 0 || after.Outcome != engine.Accept {
		return !t.Expect.meets(b.Rules, after)
	}
	a := b.Rules.Action(action)
	return t.Expect.Action != a.Name && t.Expect.Method != a.Method
}

// Mutate changes the configuration in one place at a time and returns the
// changes that no test notices. Every test must pass.
func Mutate(bound []*Bound) (survivors []Mutant, tried int) {
	if len(bound) == 0 {
		return nil, 0
	}
	rs := bound[0].Rules
	before := make([][]engine.Decision, len(bound))
	for i, b := range bound {
		e := engine.New(b.Rules)
		for j := range b.tests {
			before[i] = append(before[i], e.Decide(context.Background(), &b.tests[j].tx, b))
		}
	}
	s := newSearch(bound[0])
	for i := range rs.Rules {
		mutations(rs, i, func(m *mutation) {
			tried++
			if !noticed(bound, m, before) {
				survivors = append(survivors, Mutant{i, m.change, s.killer(m.in(s.rules))})
			}
		})
	}
	return survivors, tried
}

// noticed reports whether a test fails with a change.
func noticed(bound []*Bound, m *mutation, before [][]engine.Decision) bool {
	for i, b := range bound {
		if len(b.tests) == 0 {
			continue
		}
		x := m.in(b.Rules)
		for j := range b.tests {
			if x.notices(b, &b.tests[j], before[i][j]) {
				return true
			}
		}
	}
	return false
}
