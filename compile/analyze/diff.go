package analyze

import (
	"cmp"
	"context"
	"slices"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A DiffReport says what decides differently in two rule tables.
type DiffReport struct {
	// Verdict is Proved if no decision differs, and Unknown if none was
	// found to differ but not all that may was looked at.
	Verdict Verdict
	Changes []Change // most dangerous first

	// Regions is how many pairs of rules there are that may decide one
	// transaction and mean different things; of Decided it is known whether
	// they do.
	Regions, Decided int
}

// A Change is a class of transactions that the tables decide differently:
// those that one of its pairs of rules decides.
type Change struct {
	Danger   Danger
	Old, New engine.Decision // of the witness
	Witness  Witness
	Down     string        // for a TempFails: the source that does not answer
	Matters  []engine.Part // what the rules that decide the witness look at
	Pairs    []Pair        // the first one decides the witness
}

// A Pair is the rule that decides before and the one that decides after; -1
// is none.
type Pair struct{ Old, New int }

// A Danger says what a change may lead to.
type Danger uint8

// The dangers, the worst first.
const (
	RelayAppears Danger = iota + 1
	RejectDisappears
	DeliveryMoves
	RejectAppears
	TempFails // while a table does not answer
)

var dangerNames = [...]string{"", "relay appears", "reject disappears", "delivery moves", "reject appears", "temporary failure"}

// String returns what happens.
func (d Danger) String() string { return dangerNames[d] }

// maxDiffRegions is how many regions are looked at for one comparison.
const maxDiffRegions = 200_000

// Diff compares two rule tables.
//
// Let the common rules be a longest common subsequence. If common rules
// decide a transaction in both tables, it is the same one: the first that
// matches. So only pairs of rules need a look of which one is not common;
// the other one is not common either, or is a common rule that comes after
// the first one in its own table, or is none. A rule that repeats an earlier
// one decides nothing.
//
// This is done once with tables that answer, and once for each source of a
// table with that source down. That two are down at once is left out.
func Diff(before, after *compile.Ruleset) DiffReport {
	before, after = bySource(before), bySource(after)
	m := meaning{numbers: make(map[string]int)}
	d := differ{budget: maxDiffRegions}
	d.compare(newSide(before, &m), newSide(after, &m))
	for _, source := range sourcesOf(before, after) {
		d.down = source
		d.compare(newSideWithout(before, &m, source), newSideWithout(after, &m, source))
	}
	return d.result()
}

// compare asks about all pairs that may differ.
func (d *differ) compare(before, after side) {
	d.sides, d.classes = [2]side{before, after}, make(map[class]int)
	a, b := &d.sides[0], &d.sides[1]
	if a.rules.SMTP.SubAddrDelim == b.rules.SMTP.SubAddrDelim {
		a.place, b.place = common(a.meanings.rules, b.meanings.rules)
	} else {
		// Equal rules mean different things then, and values are not
		// picked with the characters of both in mind.
		a.place, _ = common(a.meanings.rules, nil)
		_, b.place = common(nil, b.meanings.rules)
		d.report.Regions++
	}
	d.pairs(1)
	d.pairs(0)
}

// A side is one of the tables.
type side struct {
	*table
	real     *table // what table is made of
	index    []int  // of each rule in real; nil: the same
	fails    compile.ActionID
	meanings meanings
	place    []int // of each rule in the other table, or uncommon
	repeated []bool
}

func newSide(rs *compile.Ruleset, m *meaning) side {
	all := m.of(rs)
	t := newTable(rs)
	return side{table: t, real: t, meanings: all, repeated: repeated(all.rules)}
}

// newSideWithout returns the table as it is while a source is down.
func newSideWithout(rs *compile.Ruleset, m *meaning, source string) side {
	w := without(rs, source)
	s := newSide(w.rules, m)
	s.real, s.index, s.fails = &table{rules: rs, linear: engine.NewLinear(rs)}, w.index, w.fails
	return s
}

// original returns the index that a rule has in the table that was given.
func (s *side) original(rule int) int {
	if s.index == nil || rule < 0 {
		return rule
	}
	return s.index[rule]
}

// failing reports whether a rule is a temporary failure.
func (s *side) failing(rule int) bool {
	return rule >= 0 && s.fails != 0 && s.rules.Rules[rule].Action == s.fails
}

// outcome returns the number of what a rule does with mail; that of none is
// to reject it.
func (s *side) outcome(rule int) int {
	if rule < 0 {
		return s.meanings.actions[0]
	}
	return s.meanings.actions[s.rules.Rules[rule].Action]
}

// A class is what is merged for reading: changes from one outcome to another
// by one rule that is not common.
type class struct {
	side, rule int
	other      int // outcome of the other table
}

type differ struct {
	sides   [2]side
	classes map[class]int // index into the changes
	down    string        // the source that is down
	budget  int
	report  DiffReport
}

// pairs asks about all pairs of an uncommon rule of table n. Those with an
// uncommon rule of the other one are asked about for the second table only.
func (d *differ) pairs(n int) {
	this, other := &d.sides[n], &d.sides[1-n]
	for i := range this.rules.Rules {
		if this.place[i] != uncommon || this.repeated[i] {
			continue
		}
		names := domains(this.rules, &this.rules.Rules[i])
		for j := range other.rules.Rules {
			relevant := other.place[j] > i || other.place[j] == uncommon && n == 1
			if relevant && !other.repeated[j] && !apart(names, other.rules, &other.rules.Rules[j]) {
				d.ask(n, i, j)
			}
		}
		d.ask(n, i, -1)
	}
}

// ask finds out whether there is a transaction that rule i of table n
// decides, and rule j of the other table, where they mean different things.
func (d *differ) ask(n, i, j int) {
	this, other := &d.sides[n], &d.sides[1-n]
	if this.outcome(i) == other.outcome(j) {
		return
	}
	if d.down != "" && !this.failing(i) && !other.failing(j) {
		return // the same while the source answers
	}
	d.report.Regions++
	g := this.covered(i)
	if j >= 0 {
		g = append(g, other.covered(j)...)
	}
	want := Pair{i, j}
	if n == 1 {
		want = Pair{j, i}
	}
	w, f := d.find(g, want)
	if f == unsure {
		return
	}
	d.report.Decided++
	if f == found {
		d.add(class{n, i, other.outcome(j)}, want, w)
	}
}

// find looks in a region for a transaction that the pair decides. What other
// rules decide is taken away until nothing is left.
func (d *differ) find(g region, want Pair) (Witness, finding) {
	s := search{base: ordinary()}
	result := empty
	work := []region{g}
	for n := 0; len(work) > 0; n++ {
		if n == maxRegions || d.budget == 0 {
			return Witness{}, unsure
		}
		d.budget--
		g := work[len(work)-1]
		work = work[:len(work)-1]
		tx, a, f := d.pick(&s, g)
		if f == unsure {
			result = unsure
		}
		if f != found {
			continue
		}
		older, newer := d.decide(0, &tx, a), d.decide(1, &tx, a)
		switch {
		case older == want.Old && newer == want.New:
			return Witness{tx, a.list}, found
		case older != want.Old && older >= 0:
			work = append(work, g.minus(d.sides[0].covered(older))...)
		case newer != want.New && newer >= 0:
			work = append(work, g.minus(d.sides[1].covered(newer))...)
		default:
			result = unsure // the engines and the region disagree
		}
	}
	return Witness{}, result
}

// notSocket is a rule whose from no mail from the local socket passes if it
// must not hold.
var notSocket = compile.Rule{From: compile.From{Kind: compile.FromSocket, Criterion: compile.Criterion{Sign: compile.Is}}}

// pick returns a transaction in the region. The source is picked before the
// login, and the socket always has one: a region that seems empty may hold
// mail from elsewhere.
func (d *differ) pick(s *search, g region) (engine.Transaction, *assumptions, finding) {
	tx, a, f := s.pick(g)
	if f != empty || len(g.of([]engine.Part{engine.PartAuth})) == 0 {
		return tx, a, f
	}
	return s.pick(append(slices.Clip(g), condition{d.sides[0].table, &notSocket, engine.PartFrom, false}))
}

func (d *differ) decide(n int, tx *engine.Transaction, a *assumptions) int {
	a.rules = d.sides[n].rules
	return d.sides[n].engine.Decide(context.Background(), tx, a).Rule
}

// add reports a change, or adds it to one that it reads like. The witness of
// a new one is decided again by the linear engines.
func (d *differ) add(c class, p Pair, w Witness) {
	original := Pair{d.sides[0].original(p.Old), d.sides[1].original(p.New)}
	if at, ok := d.classes[c]; ok {
		d.report.Changes[at].Pairs = append(d.report.Changes[at].Pairs, original)
		return
	}
	older, newer := d.replay(0, &w), d.replay(1, &w)
	if older.Rule != original.Old || newer.Rule != original.New ||
		(older.Outcome == engine.TempFail) != d.sides[0].failing(p.Old) || (newer.Outcome == engine.TempFail) != d.sides[1].failing(p.New) {
		d.report.Decided--
		return
	}
	d.classes[c] = len(d.report.Changes)
	d.report.Changes = append(d.report.Changes, Change{
		Danger: d.danger(p), Old: older, New: newer, Witness: w, Down: d.down, Matters: d.matters(p), Pairs: []Pair{original},
	})
}

func (d *differ) replay(n int, w *Witness) engine.Decision {
	t := d.sides[n].real
	l := answers{assumptions{rules: t.rules, made: make(map[string]bool)}, d.down}
	for _, made := range w.Assumed {
		l.assume(made.Table, made.Key, made.Found)
	}
	return t.linear.Decide(context.Background(), &w.Transaction, &l)
}

func (d *differ) danger(p Pair) Danger {
	older, newer := d.sides[0].action(p.Old), d.sides[1].action(p.New)
	switch {
	case d.down != "":
		return TempFails
	case newer == nil:
		return RejectAppears
	case newer.Method == compile.Relay && (older == nil || older.Method != compile.Relay):
		return RelayAppears
	case older == nil:
		return RejectDisappears
	}
	return DeliveryMoves
}

// action returns the action of a rule, nil if mail is rejected.
func (s *side) action(rule int) *compile.Action {
	if rule < 0 || s.rules.Rules[rule].Action == 0 {
		return nil
	}
	return s.rules.Action(s.rules.Rules[rule].Action)
}

// matters returns the parts of a transaction that the rules of a pair look
// at, but for those of which any value does.
func (d *differ) matters(p Pair) []engine.Part {
	var parts []engine.Part
	for part := engine.PartTag; part <= engine.PartRcptTo; part++ {
		if d.sides[0].asks(p.Old, part) || d.sides[1].asks(p.New, part) {
			parts = append(parts, part)
		}
	}
	return parts
}

func (s *side) asks(rule int, p engine.Part) bool {
	if rule < 0 {
		return false
	}
	r := &s.rules.Rules[rule]
	switch {
	case p == engine.PartFrom && r.From.Kind == compile.FromAny, p == engine.PartFor && r.For.Kind == compile.ForAny:
		return criterion(r, p).Sign == compile.Not
	}
	return criterion(r, p).Sign != compile.Absent
}

func (d *differ) result() DiffReport {
	r := d.report
	r.Verdict = Proved
	switch {
	case len(r.Changes) > 0:
		r.Verdict = Refuted
	case r.Decided < r.Regions:
		r.Verdict = Unknown
	}
	slices.SortStableFunc(r.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Danger, b.Danger), cmp.Compare(a.New.Rule, b.New.Rule), cmp.Compare(a.Old.Rule, b.Old.Rule))
	})
	return r
}
