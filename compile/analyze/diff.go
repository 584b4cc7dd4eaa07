package analyze

import (
	"cmp"
	"context"
	"slices"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
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

	// Unproved says why the answer is not known.
	Unproved string
	// Certificate is for Proved; the checker has taken it.
	Certificate *certificate.Certificate
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
// Let the common rules be a common subsequence. If common rules decide a
// transaction in both tables, it is the same one: the first that matches. So
// only pairs of rules need a look of which one is not common; the other one
// is not common either, or is a common rule that comes after the first one
// in its own table, or is none.
//
// This is done once with tables that answer, and once for each source of a
// table with that source down. That more are down at once adds nothing: in
// either table the first source that is asked and does not answer decides,
// and a table that asks none of these decides as if all answered. So if the
// decisions differ, they differ with the source down alone that was the
// first of one of the tables.
func Diff(before, after *compile.Ruleset) DiffReport {
	// What is assumed of tables is kept by their names, and a source says the
	// same whatever either configuration calls it.
	before, after = bySource(before), bySource(after)
	m := certificate.NewMeaning()
	d := differ{budget: maxDiffRegions, work: 3 * maxWork}
	d.certificate = &certificate.Certificate{Version: certificate.Version, Claim: certificate.Equal}
	d.sides = [2]side{newSide(before, m), newSide(after, m)}
	d.sides[0].place, d.sides[1].place = common(d.sides[0].meanings.Rules, d.sides[1].meanings.Rules)
	d.certificate.Common = runs(d.sides[0].place)
	whole := d.sides
	d.compare()
	for _, source := range certificate.Sources(before, after) {
		d.down = source
		d.sides = [2]side{whole[0].without(source, m), whole[1].without(source, m)}
		d.sides[0].placeBy(&whole[0], &d.sides[1])
		d.sides[1].placeBy(&whole[1], &d.sides[0])
		d.compare()
	}
	return d.result(before, after)
}

// runs returns the common rules as a certificate has them.
func runs(place []int) []certificate.Run {
	var list []certificate.Run
	for i, j := range place {
		if j == uncommon {
			continue
		}
		if n := len(list) - 1; n >= 0 && list[n].Old+list[n].Count == i+1 && list[n].New+list[n].Count == j+1 {
			list[n].Count++
			continue
		}
		list = append(list, certificate.Run{Old: i + 1, New: j + 1, Count: 1})
	}
	return list
}

// compare asks about all pairs that may differ.
func (d *differ) compare() {
	d.classes = make(map[class]int)
	d.pairs(1)
	d.pairs(0)
}

// A side is one of the tables.
type side struct {
	*table
	real     *table             // what table is made of
	cases    []certificate.Case // of each rule in real
	fails    compile.ActionID
	meanings certificate.Meanings
	place    []int // of each rule in the other table, or uncommon
}

func newSide(rs *compile.Ruleset, m *certificate.Meaning) side {
	all := m.Of(rs)
	t := numbered(rs, all)
	s := side{table: t, real: t, meanings: all}
	for i := range rs.Rules {
		s.cases = append(s.cases, certificate.Case{Rule: i + 1})
	}
	return s
}

// without returns the table as it is while a source is down.
func (s *side) without(source string, m *certificate.Meaning) side {
	w := without(s.rules, source)
	down := newSide(w.rules, m)
	down.real, down.cases, down.fails = s.table, w.cases, w.fails
	return down
}

// placeBy places what stands for rules that have a place in the whole table.
func (s *side) placeBy(whole, other *side) {
	places := make(map[certificate.Case]int, len(other.cases))
	for j, c := range other.cases {
		places[c] = j
	}
	s.place = make([]int, len(s.cases))
	for i, c := range s.cases {
		s.place[i] = uncommon
		if at := whole.place[c.Rule-1]; at != uncommon {
			s.place[i] = places[certificate.Case{Rule: at + 1, Fails: c.Fails}]
		}
	}
}

// original returns the index that a rule has in the table that was given.
func (s *side) original(rule int) int {
	if rule < 0 {
		return rule
	}
	return s.cases[rule].Rule - 1
}

// caseOf returns what a rule stands for.
func (s *side) caseOf(rule int) certificate.Case {
	if rule < 0 {
		return certificate.Case{}
	}
	return s.cases[rule]
}

// failing reports whether a rule is a temporary failure.
func (s *side) failing(rule int) bool {
	return rule >= 0 && s.fails != 0 && s.rules.Rules[rule].Action == s.fails
}

// outcome returns the number of what a rule does with mail; that of none is
// to reject it.
func (s *side) outcome(rule int) int {
	if rule < 0 {
		return s.meanings.Actions[0]
	}
	return s.meanings.Actions[s.rules.Rules[rule].Action]
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
	work    int
	report  DiffReport

	certificate *certificate.Certificate
}

// pairs asks about all pairs of an uncommon rule of table n. Those with an
// uncommon rule of the other one are asked about for the second table only.
func (d *differ) pairs(n int) {
	this, other := &d.sides[n], &d.sides[1-n]
	for i := range this.rules.Rules {
		if this.place[i] != uncommon {
			continue
		}
		names := domains(this.rules, &this.rules.Rules[i])
		for j := range other.rules.Rules {
			relevant := other.place[j] > i || other.place[j] == uncommon && n == 1
			if relevant && !apart(names, other.rules, &other.rules.Rules[j]) {
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
	w, f, tree := d.find(g, want)
	if f == unsure {
		return
	}
	d.report.Decided++
	switch {
	case f == found:
		d.add(class{n, i, other.outcome(j)}, want, w)
	case tree.Taken != nil: // else it is plain
		d.certificate.Proofs = append(d.certificate.Proofs, certificate.Proof{
			Down: d.down, Old: d.sides[0].caseOf(want.Old), New: d.sides[1].caseOf(want.New), Tree: tree,
		})
	}
}

// find looks in a region for a transaction that the pair decides. What other
// rules decide is taken away until nothing is left; how is returned as a
// proof.
func (d *differ) find(g region, want Pair) (Witness, finding, *certificate.Node) {
	type job struct {
		region region
		node   *certificate.Node
	}
	s := search{base: ordinary(), work: &d.work}
	result, root := empty, new(certificate.Node)
	work := []job{{g, root}}
	for n := 0; len(work) > 0; n++ {
		if n == maxRegions || d.budget == 0 {
			return Witness{}, unsure, root
		}
		d.budget--
		j := work[len(work)-1]
		work = work[:len(work)-1]
		tx, a, f := s.pick(j.region)
		if f != found {
			j.node.Empty = s.gone.String()
			if f == unsure {
				result = unsure
			}
			continue
		}
		older, newer := d.decide(0, &tx, a), d.decide(1, &tx, a)
		if older == want.Old && newer == want.New {
			return Witness{tx, a.list}, found, root
		}
		side, rule := 0, older
		if older == want.Old || older < 0 {
			side, rule = 1, newer
		}
		if rule < 0 || side == 1 && newer == want.New {
			result = unsure // the engines and the region disagree
			continue
		}
		j.node.Taken = &certificate.Taken{Case: d.sides[side].cases[rule], ByNew: side == 1}
		j.node.Rest = make(map[string]*certificate.Node)
		for _, p := range j.region.pieces(d.sides[side].covered(rule)) {
			n := new(certificate.Node)
			j.node.Rest[p.part.String()] = n
			work = append(work, job{p.region, n})
		}
	}
	return Witness{}, result, root
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
	l := answers{script{rules: t.rules, list: w.Assumed}, d.down}
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

// result judges what was found. That nothing changes the checker has to
// agree to.
func (d *differ) result(before, after *compile.Ruleset) DiffReport {
	r := d.report
	r.Verdict = Proved
	if source := certificate.Splits(before, after); source != "" {
		r.Verdict, r.Unproved = Unknown, source+" may say something else of addresses with a sub-address, as the delimiters differ"
	}
	if r.Decided < r.Regions {
		r.Verdict, r.Unproved = Unknown, "the search was given up"
	}
	if r.Verdict == Proved && len(r.Changes) == 0 {
		if err := certificate.VerifyEqual(before, after, d.certificate); err != nil {
			r.Verdict, r.Unproved = Unknown, "the checker refuses the proof: "+err.Error()
		} else {
			r.Certificate = d.certificate
		}
	}
	if len(r.Changes) > 0 {
		r.Verdict = Refuted
	}
	slices.SortStableFunc(r.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Danger, b.Danger), cmp.Compare(a.New.Rule, b.New.Rule), cmp.Compare(a.Old.Rule, b.Old.Rule))
	})
	return r
}
