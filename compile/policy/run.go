package policy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/expand"
	"smtpd/compile/tablefile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// A Bound is tests joined to a rule table: the names that they use exist,
// and tables have the content that the suite or the one test gives.
type Bound struct {
	Suite *Suite
	Rules *compile.Ruleset
	tests []Test                   // with what the rule table says where they are silent
	fails map[compile.TableID]bool // tables of which every lookup fails
}

// Bind joins a suite to a rule table whose rules have labels, by their
// index. Tests that have tables of their own are bound apart from the
// others. The list says which names rs lacks.
func (s *Suite) Bind(rs *compile.Ruleset, labels map[int]string) ([]*Bound, diag.List) {
	b := &binder{suite: s, rules: rs, labels: make(map[string]int)}
	for i, label := range labels {
		b.labels[label] = i + 1
	}
	common := b.with(nil)
	bound := []*Bound{common}
	for _, t := range s.Tests {
		b.expectation(&t.Expect)
		t.tx.Complete(rs, t.tagged)
		if t.Tables == nil {
			common.tests = append(common.tests, t)
			continue
		}
		own := b.with(t.Tables)
		own.tests = []Test{t}
		bound = append(bound, own)
	}
	return bound, b.list
}

type binder struct {
	suite  *Suite
	rules  *compile.Ruleset
	labels map[string]int // rules, from 1
	list   diag.List
	said   map[token.Span]bool // what the list has already
}

// with returns the Bound of tests that have tables of their own beside those
// of the suite.
func (b *binder) with(own []Table) *Bound {
	rules := *b.rules
	rules.Tables = slices.Clone(b.rules.Tables)
	bound := &Bound{Suite: b.suite, Rules: &rules, fails: make(map[compile.TableID]bool)}
	for _, tables := range [][]Table{b.suite.Tables, own} {
		for i := range tables {
			if t := &tables[i]; !bound.replace(t) && !b.said[t.Span] {
				b.list.Errorf(t.Span, "undefined-table", "the configuration has no table %q", t.Name)
				if b.said == nil {
					b.said = make(map[token.Span]bool)
				}
				b.said[t.Span] = true
			}
		}
	}
	return bound
}

// expectation checks the names that an expectation uses.
func (b *binder) expectation(e *Expectation) {
	switch rule, known := b.labels[e.Label]; {
	case e.Label != "" && !known:
		b.list.Errorf(e.Span, "bad-label", "no rule has the label %q", e.Label).Help =
			[]string{`a comment gives one: # smtpd-check: label "NAME"`}
	case e.Label != "":
		e.Rule = rule
	case e.Action != "" && !hasAction(b.rules, e.Action):
		b.list.Errorf(e.Span, "undefined-action", "the configuration has no action %q", e.Action)
	case e.Rule > len(b.rules.Rules):
		b.list.Errorf(e.Span, "number-range", "the configuration has %d rules, not %d", len(b.rules.Rules), e.Rule)
	}
}

// replace gives a table the content of t, and reports whether there is one of
// that name. What fails has to be asked, so that it is not a constant.
func (b *Bound) replace(t *Table) bool {
	tables := b.Rules.Tables
	for i := range tables {
		if tables[i].Name != t.Name {
			continue
		}
		id := compile.TableID(i + 1)
		if b.fails[id] = t.Fails; t.Fails {
			tables[i].Kind, tables[i].Entries = compile.Dynamic, nil
			return true
		}
		tables[i].Backend = "static"
		tables[i].Kind, tables[i].Entries = t.content()
		return true
	}
	return false
}

// content returns what a table holds.
func (t *Table) content() (compile.Kind, []compile.Entry) {
	entries := tablefile.Normalize(slices.Clone(t.Entries))
	if t.Mapping {
		return compile.Mapping, entries
	}
	return compile.List, entries
}

func hasAction(rs *compile.Ruleset, name string) bool {
	for i := range rs.Actions {
		if rs.Actions[i].Name == name {
			return true
		}
	}
	return false
}

var (
	errUnknown = errors.New("its content is not known, a file of tests must give it")
	errFails   = errors.New("the test has it fail")
)

// Check implements engine.Lookups for the tables that nobody is asked for.
func (b *Bound) Check(_ context.Context, t compile.TableID, _ engine.Service, _ string) (bool, error) {
	return false, b.down(t)
}

// down says why a table without content cannot answer.
func (b *Bound) down(t compile.TableID) error {
	switch {
	case b.fails[t]:
		return errFails
	case b.Rules.Table(t).Kind == compile.Dynamic:
		return errUnknown
	}
	return nil
}

// reply returns how the server answers to RCPT by the decisions of e on rs,
// and why if the recipient is refused.
func (b *Bound) reply(rs *compile.Ruleset, e engine.Engine, tx *engine.Transaction) (reply, why string) {
	w := &expand.AtHand{
		Rules: rs, Transaction: tx, Decider: e, Lookups: b, Down: b.down, Forwards: b.Suite.Forwards,
		File: func(path string) (string, bool, error) { return "", false, fmt.Errorf("%s cannot be read", path) },
	}
	if a := b.Suite.Accounts; a != nil {
		w.Accounts = new(compile.Table)
		w.Accounts.Kind, w.Accounts.Entries = a.content()
	}
	x := expand.Expansion{World: w, Rules: rs, Warn: func(string, ...any) {}}
	_, err := x.Run(context.Background(), tx.Rcpt)
	var refusal *expand.Refusal
	switch {
	case err == nil:
		return expand.ReplyAccepted, ""
	case !errors.As(err, &refusal):
		return "", err.Error()
	}
	return refusal.Reply, refusal.Cause.Error()
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
	Tests    int           // that the rule decided
	Criteria int           // that can say no
	Untried  []engine.Part // of these, those that were never alone in saying no
}

// A Report is how tests went. Coverage has an element for each rule.
type Report struct {
	Results  []Result
	Failed   int
	Coverage []Coverage
}

// Run decides the tests of suites that are bound to one configuration of n
// rules. The results are in the order of the suites and of their tests.
func Run(bound []*Bound, n int) *Report {
	r := &Report{Coverage: make([]Coverage, n)}
	tried := make([]map[engine.Part]bool, n)
	order := make(map[*Suite]int)
	for _, b := range bound {
		if _, ok := order[b.Suite]; !ok {
			order[b.Suite] = len(order)
		}
		e, linear := engine.New(b.Rules), engine.NewLinear(b.Rules)
		for i := range b.tests {
			t := &b.tests[i]
			d := e.Decide(context.Background(), &t.tx, b)
			ok, got := b.judge(t, e, d)
			if !ok {
				r.Failed++
			}
			r.Results = append(r.Results, Result{b.Suite, t, d, ok, got})
			if d.Rule >= 0 {
				r.Coverage[d.Rule].Tests++
			}
			b.note(tried, linear, t, d)
		}
	}
	slices.SortStableFunc(r.Results, func(x, y Result) int {
		return cmp.Or(cmp.Compare(order[x.Suite], order[y.Suite]), cmp.Compare(x.Test.Span.Start.Offset, y.Test.Span.Start.Offset))
	})
	for i := range r.Coverage {
		for _, p := range selective(bound, i) {
			r.Coverage[i].Criteria++
			if !tried[i][p] {
				r.Coverage[i].Untried = append(r.Coverage[i].Untried, p)
			}
		}
	}
	return r
}

// judge reports whether a test passes, and says what was decided in the words
// of an expectation.
func (b *Bound) judge(t *Test, e engine.Engine, d engine.Decision) (passed bool, got string) {
	if t.Expect.Reply == "" {
		return t.Expect.meets(b.Rules, d), decided(b.Rules, d)
	}
	reply, why := b.reply(b.Rules, e, &t.tx)
	got = "reply " + quote(reply)
	switch {
	case reply == "":
		got = "no reply that is known"
	case why != "":
		got += ", " + why
	}
	return t.Expect.answers(reply), got
}

// answers reports whether a reply is what was expected: it begins so, and
// not in the middle of a word.
func (e *Expectation) answers(reply string) bool {
	rest, ok := strings.CutPrefix(reply, strings.TrimSpace(e.Reply))
	return ok && (rest == "" || rest[0] == ' ' || rest[0] == ':')
}

// meets reports whether a decision is what was expected, by all but the reply.
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
func (b *Bound) note(tried []map[engine.Part]bool, linear *engine.Linear, t *Test, d engine.Decision) {
	last := d.Rule
	if d.Outcome == engine.NoRule {
		last = len(b.Rules.Rules)
	}
	for i := range last {
		var failed []engine.Part
		for _, q := range t.tx.Ask(&b.Rules.Rules[i]) {
			if ok, err := linear.Answer(context.Background(), q, b); err != nil || !ok {
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
func selective(bound []*Bound, i int) []engine.Part {
	if len(bound) == 0 {
		return nil
	}
	r := &bound[0].Rules.Rules[i]
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
