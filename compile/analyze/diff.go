package analyze

import (
	"context"
	"fmt"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A DiffReport says what decides differently in two rule tables.
type DiffReport struct {
	Verdict Verdict // Proved: no decision differs
	Changes []Change
}

// A Change is a transaction that the tables decide differently; there is one
// for each pair of rules that do.
type Change struct {
	Old, New engine.Decision
	Witness  Witness
}

// Diff compares two rule tables. Only transactions that a rule matches which
// is not in both need a look: what matches none of these is decided by the
// first of the common rules, which come in the same order in both.
func Diff(before, after *compile.Ruleset) DiffReport {
	d := differ{before: newTable(before), after: newTable(after), seen: make(map[[2]int]bool)}
	d.report.Verdict = Proved
	head, tail := common(before, after)
	for i := head; i < len(before.Rules)-tail; i++ {
		d.explore(d.before.covered(i))
	}
	for i := head; i < len(after.Rules)-tail; i++ {
		d.explore(d.after.covered(i))
	}
	return d.report
}

// common returns how many rules at the head and at the tail are the same.
func common(a, b *compile.Ruleset) (head, tail int) {
	if a.SMTP.SubAddrDelim != b.SMTP.SubAddrDelim {
		return 0, 0
	}
	n := min(len(a.Rules), len(b.Rules))
	same := func(i, j int) bool { return ruleText(a, &a.Rules[i]) == ruleText(b, &b.Rules[j]) }
	for head < n && same(head, head) {
		head++
	}
	for tail < n-head && same(len(a.Rules)-1-tail, len(b.Rules)-1-tail) {
		tail++
	}
	return head, tail
}

// ruleText says all that a rule means.
func ruleText(rs *compile.Ruleset, r *compile.Rule) string {
	var b strings.Builder
	fmt.Fprint(&b, r.From.Kind, r.For.Kind)
	for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
		c := criterion(r, p)
		fmt.Fprint(&b, " ", c.Sign, c.Regex, content(rs, c.Table))
	}
	return b.String() + " " + actionText(rs, r.Action)
}

// actionText says all that an action means, but for its name.
func actionText(rs *compile.Ruleset, id compile.ActionID) string {
	if id == 0 {
		return "reject"
	}
	a := *rs.Action(id)
	text := ""
	for _, t := range []*compile.TableID{&a.Alias, &a.Virtual, &a.Userbase, &a.Relay.HeloSrc, &a.Relay.Src, &a.Relay.Host, &a.Relay.Domain, &a.Relay.Auth} {
		text += content(rs, *t) + " "
		*t = 0
	}
	if a.Relay.Filter != 0 {
		text += rs.Filter(a.Relay.Filter).Name
		a.Relay.Filter = 0
	}
	a.Name, a.Origin = "", compile.Origin{}
	return fmt.Sprintf("%s%+v", text, a)
}

// content says what a table holds, or what is to be asked for it.
func content(rs *compile.Ruleset, id compile.TableID) string {
	if id == 0 {
		return "-"
	}
	t := rs.Table(id)
	if t.Kind == compile.Dynamic {
		return fmt.Sprintf("%q", []string{t.Name, t.Backend, t.Path})
	}
	return fmt.Sprintf("%q", t.Entries)
}

type differ struct {
	before, after *table
	seen          map[[2]int]bool
	report        DiffReport
}

// explore looks at all of a region, in which both tables decide.
func (d *differ) explore(g region) {
	s := search{base: ordinary()}
	work := []region{g}
	for n := 0; len(work) > 0; n++ {
		g := work[len(work)-1]
		work = work[:len(work)-1]
		tx, a, f := s.pick(g)
		if f == unsure || n == maxRegions {
			d.report.Verdict = max(d.report.Verdict, Unknown)
		}
		if n == maxRegions {
			return
		}
		if f != found {
			continue
		}
		older, oldCell := d.before.decide(&tx, a)
		newer, newCell := d.after.decide(&tx, a)
		if d.before.outcome(older) != d.after.outcome(newer) {
			d.report.Verdict = Refuted
			if rules := [2]int{older.Rule, newer.Rule}; !d.seen[rules] {
				d.seen[rules] = true
				d.report.Changes = append(d.report.Changes, Change{older, newer, Witness{tx, a.list}})
			}
		}
		work = append(work, g.minus(append(oldCell, newCell...))...)
	}
}

// decide decides a transaction and returns a region around it in which all
// is decided by the same rule: that rule holds there, and of each rule before
// it a criterion that fails for the transaction fails.
func (t *table) decide(tx *engine.Transaction, a *assumptions) (engine.Decision, region) {
	a.rules = t.rules
	d := t.engine.Decide(context.Background(), tx, a)
	var cell region
	last := d.Rule
	if last < 0 {
		last = len(t.rules.Rules)
	} else {
		cell = t.covered(last)
	}
	for i := range last {
		for _, c := range t.covered(i) {
			if c.holds = false; c.true(tx, a) {
				cell = append(cell, c)
				break
			}
		}
	}
	return d, cell
}

func (t *table) outcome(d engine.Decision) string {
	if d.Outcome == engine.Accept {
		return actionText(t.rules, t.rules.Rules[d.Rule].Action)
	}
	return "reject"
}
