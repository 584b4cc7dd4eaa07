package policy

import (
	"context"
	"errors"
	"fmt"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/tablefile"
	"smtpd/lang/diag"
)

// A Bound is a suite joined to a rule table: the names that it uses exist,
// and tables have the content that it gives.
type Bound struct {
	Suite *Suite
	Rules *compile.Ruleset
	tests []Test // with what the rule table says where they are silent
}

// Bind joins a suite to a rule table. The list says which names rs lacks.
func (s *Suite) Bind(rs *compile.Ruleset) (*Bound, diag.List) {
	var list diag.List
	own := *rs
	own.Tables = append([]compile.Table(nil), rs.Tables...)
	for i := range s.Tables {
		if !replace(own.Tables, &s.Tables[i]) {
			list.Errorf(s.Tables[i].Span, "undefined-table", "the configuration has no table %q", s.Tables[i].Name)
		}
	}
	b := &Bound{Suite: s, Rules: &own}
	for _, t := range s.Tests {
		switch e := &t.Expect; {
		case e.Action != "" && !hasAction(rs, e.Action):
			list.Errorf(e.Span, "undefined-action", "the configuration has no action %q", e.Action)
		case e.Rule > len(rs.Rules):
			list.Errorf(e.Span, "number-range", "the configuration has %d rules, not %d", len(rs.Rules), e.Rule)
		}
		t.complete(rs)
		b.tests = append(b.tests, t)
	}
	return b, list
}

func replace(tables []compile.Table, t *Table) bool {
	for i := range tables {
		if tables[i].Name != t.Name {
			continue
		}
		tables[i].Kind, tables[i].Backend = compile.List, "static"
		if t.Mapping {
			tables[i].Kind = compile.Mapping
		}
		tables[i].Entries = tablefile.Normalize(append([]compile.Entry(nil), t.Entries...))
		return true
	}
	return false
}

func hasAction(rs *compile.Ruleset, name string) bool {
	for i := range rs.Actions {
		if rs.Actions[i].Name == name {
			return true
		}
	}
	return false
}

// complete fills in what a session has by itself: the tag of the socket or
// of the first listener, and on the socket the name of this host.
func (t *Test) complete(rs *compile.Ruleset) {
	socket := t.tx.Kind == engine.FromSocket
	switch {
	case t.tagged:
	case socket:
		t.tx.Tag = rs.Socket.Tag
	case len(rs.Listeners) > 0:
		t.tx.Tag = rs.Listeners[0].Tag
	}
	if socket && t.tx.RDNS == "" {
		t.tx.RDNS = rs.ServerName
	}
}

// unknown answers for the tables that nobody is asked for.
type unknown struct{}

var errUnknown = errors.New("its content is not known, a file of tests must give it")

func (unknown) Check(context.Context, compile.TableID, engine.Service, string) (bool, error) {
	return false, errUnknown
}

// A Result is how one test went.
type Result struct {
	Suite    *Suite
	Test     *Test
	Decision engine.Decision
	Passed   bool
	Got      string // what was decided, in the words of an expectation
}

// A Coverage says what of a rule tests have tried.
type Coverage struct {
	Tests   int           // that the rule decided
	Untried []engine.Part // criteria that were never alone in saying no
}

// A Report is how tests went. Coverage has an element for each rule.
type Report struct {
	Results  []Result
	Failed   int
	Coverage []Coverage
}

// Run decides the tests of suites that are bound to one configuration of n
// rules.
func Run(suites []*Bound, n int) *Report {
	r := &Report{Coverage: make([]Coverage, n)}
	tried := make([]map[engine.Part]bool, n)
	for _, b := range suites {
		e, linear := engine.New(b.Rules), engine.NewLinear(b.Rules)
		for i := range b.tests {
			t := &b.tests[i]
			d := e.Decide(context.Background(), &t.tx, unknown{})
			ok := t.Expect.meets(b.Rules, d)
			if !ok {
				r.Failed++
			}
			r.Results = append(r.Results, Result{b.Suite, t, d, ok, decided(b.Rules, d)})
			if d.Rule >= 0 {
				r.Coverage[d.Rule].Tests++
			}
			note(tried, b.Rules, linear, t, d)
		}
	}
	for i := range r.Coverage {
		for _, p := range selective(suites, i) {
			if !tried[i][p] {
				r.Coverage[i].Untried = append(r.Coverage[i].Untried, p)
			}
		}
	}
	return r
}

// meets reports whether a decision is what was expected.
func (e *Expectation) meets(rs *compile.Ruleset, d engine.Decision) bool {
	switch {
	case e.Rule != 0:
		return d.Rule == e.Rule-1 && d.Outcome != engine.TempFail
	case e.Outcome == engine.Reject:
		return d.Outcome == engine.Reject || d.Outcome == engine.NoRule
	case e.Outcome == engine.TempFail:
		return d.Outcome == engine.TempFail
	case d.Outcome != engine.Accept:
		return false
	}
	a := rs.Action(rs.Rules[d.Rule].Action)
	return e.Action == a.Name || e.Method == a.Method
}

// decided says what a decision is, in the words of an expectation.
func decided(rs *compile.Ruleset, d engine.Decision) string {
	switch d.Outcome {
	case engine.NoRule:
		return "reject, no rule matches"
	case engine.Reject:
		return fmt.Sprintf("reject by rule %d", d.Rule+1)
	case engine.TempFail:
		return fmt.Sprintf("tempfail at rule %d, %v", d.Rule+1, d.Err)
	}
	a := rs.Action(rs.Rules[d.Rule].Action)
	return fmt.Sprintf("action %s (%s) by rule %d", quote(a.Name), a.Method, d.Rule+1)
}

// note records the criteria that were alone in keeping a rule from deciding
// a test.
func note(tried []map[engine.Part]bool, rs *compile.Ruleset, linear *engine.Linear, t *Test, d engine.Decision) {
	last := d.Rule
	if d.Outcome == engine.NoRule {
		last = len(rs.Rules)
	}
	for i := range last {
		var failed []engine.Part
		for _, q := range t.tx.Ask(&rs.Rules[i]) {
			if ok, err := linear.Answer(context.Background(), q, unknown{}); err != nil || !ok {
				failed = append(failed, q.Part)
			}
		}
		if len(failed) == 1 {
			if tried[i] == nil {
				tried[i] = make(map[engine.Part]bool)
			}
			tried[i][failed[0]] = true
		}
	}
}

// selective returns the parts of rule i that can say no.
func selective(suites []*Bound, i int) []engine.Part {
	if len(suites) == 0 {
		return nil
	}
	r := &suites[0].Rules.Rules[i]
	var parts []engine.Part
	for p, c := range criteria(r) {
		if c.Sign != compile.Absent && !anything(r, engine.Part(p)) {
			parts = append(parts, engine.Part(p))
		}
	}
	return parts
}

// anything reports whether a part is "from any" or "for any".
func anything(r *compile.Rule, p engine.Part) bool {
	return p == engine.PartFrom && r.From.Kind == compile.FromAny && r.From.Sign == compile.Is ||
		p == engine.PartFor && r.For.Kind == compile.ForAny && r.For.Sign == compile.Is
}

// criteria returns the criteria of r, indexed by Part.
func criteria(r *compile.Rule) []*compile.Criterion {
	return []*compile.Criterion{&r.Tag, &r.From.Criterion, &r.For.Criterion, &r.Helo, &r.Auth, &r.TLS, &r.MailFrom, &r.RcptTo}
}
