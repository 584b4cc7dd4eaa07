package certificate

import (
	"errors"
	"fmt"
	"slices"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// maxSteps is how many values are held against facts for one certificate.
const maxSteps = 20_000_000

var errBudget = errors.New("it takes too much work to check")

// An answer is what may become of a criterion, or several of these.
type answer uint8

const (
	yes answer = 1 << iota
	no
	unanswered // the table that it asks is down
)

// A fact is that a criterion of a rule holds, or does not, or asks a table
// that is down.
type fact struct {
	side *side
	rule *compile.Rule
	part engine.Part
	// down says that no table answers; what is sure without them is.
	down bool
	want answer
}

// A side is a rule table.
type side struct {
	*compile.Ruleset
	meanings Meanings
	cases    []decision // in the order in which they are tried
	at       map[Case]int
	statics  []*static // by TableID, made when asked
}

// A decision is a rule that decides all for which its facts are as they say.
type decision struct {
	Case
	facts   []fact
	outcome int
}

func newSide(rs *compile.Ruleset, m Meanings) *side {
	return &side{Ruleset: rs, meanings: m, statics: make([]*static, len(rs.Tables)+1)}
}

// fail makes the list of decisions while a source is down; "" is none. The
// first lookup that fails decides, if all that comes before it and all that
// needs no lookup holds.
func (s *side) fail(source string) {
	s.cases, s.at = s.cases[:0], make(map[Case]int)
	for i := range s.Rules {
		r := &s.Rules[i]
		for end := engine.PartTag; end <= engine.PartRcptTo; end++ {
			if source != "" && s.asks(r, end, source) {
				s.add(r, Case{i + 1, end.String()}, end, source, s.meanings.TempFail)
			}
		}
		s.add(r, Case{Rule: i + 1}, engine.PartRcptTo+1, source, s.meanings.Actions[r.Action])
	}
}

// add adds the decision that the criterion at end cannot be answered, or, at
// the end of the rule, that all hold.
func (s *side) add(r *compile.Rule, c Case, end engine.Part, source string, outcome int) {
	d := decision{Case: c, outcome: outcome}
	for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
		f := fact{s, r, p, source != "" && s.asks(r, p, source), yes}
		switch {
		case Criterion(r, p).Sign == compile.Absent:
			continue
		case p == end:
			f.want = unanswered
		case p > end && s.asks(r, p, ""):
			f.down, f.want = true, yes|unanswered
		}
		d.facts = append(d.facts, f)
	}
	s.at[c] = len(s.cases)
	s.cases = append(s.cases, d)
}

// asks reports whether a criterion asks a source; "" is any.
func (s *side) asks(r *compile.Rule, p engine.Part, source string) bool {
	return Asks(s.Ruleset, r, p) && (source == "" || Identity(s.Table(Criterion(r, p).Table)) == source)
}

// A verifier checks trees. Its steps are what is left of the budget.
type verifier struct {
	world
	limits [2]int // decisions of either table that take nothing any more
	sides  [2]*side
	steps  int
}

// tree checks that nothing of a region is left by the decisions before the
// limits.
func (v *verifier) tree(known []fact, n *Node) error {
	if v.steps -= len(known) + 1; v.steps < 0 {
		return errBudget
	}
	switch {
	case n == nil:
		return v.empty(known, engine.PartTag, engine.PartRcptTo)
	case n.Empty != "":
		p, ok := partOf(n.Empty)
		if !ok {
			return fmt.Errorf("%q is no part of a rule", n.Empty)
		}
		return v.empty(known, p, p)
	case n.Taken == nil:
		return errors.New("a node says nothing")
	}
	d, err := v.taken(n.Taken)
	if err != nil {
		return err
	}
	for _, f := range d.facts {
		if slices.Contains(known, f) {
			continue
		}
		other := f
		other.want = (yes | no | unanswered) &^ f.want
		without := append(slices.Clip(known), other)
		if rest := n.Rest[f.part.String()]; rest != nil {
			err = v.tree(without, rest)
		} else {
			err = v.empty(without, f.part, f.part)
		}
		if err != nil || slices.Contains(known, other) {
			return err
		}
		known = append(slices.Clip(known), f)
	}
	return nil
}

// taken returns the decision that takes some of a region.
func (v *verifier) taken(t *Taken) (*decision, error) {
	n := 0
	if t.ByNew {
		n = 1
	}
	if s := v.sides[n]; s != nil {
		if at, ok := s.at[t.Case]; ok && at < v.limits[n] {
			return &s.cases[at], nil
		}
	}
	return nil, fmt.Errorf("rule %d does not come before it", t.Rule)
}

// empty checks that nothing fits what is known of one of the parts.
func (v *verifier) empty(known []fact, from, to engine.Part) error {
	for p := from; p <= to; p++ {
		if from != to && p != groupOf(p) {
			continue
		}
		if v.impossible(known, p) {
			return nil
		}
		if v.steps < 0 {
			return errBudget
		}
	}
	return fmt.Errorf("what is said of %q is possible", to)
}

// VerifyClosed checks that c proves that no stranger can relay by rs.
func VerifyClosed(rs *compile.Ruleset, c *Certificate) error {
	if c.Version != Version || c.Claim != Closed {
		return fmt.Errorf("the certificate claims %q in version %d", c.Claim, c.Version)
	}
	own, err := c.owned(rs)
	if err != nil {
		return err
	}
	trees := make(map[[2]int]*Node)
	for _, p := range c.Proofs {
		trees[[2]int{p.Old.Rule - 1, p.Listener - 1}] = p.Tree
	}
	s := newSide(rs, NewMeaning().Of(rs))
	s.fail("")
	v := verifier{sides: [2]*side{s}, steps: maxSteps}
	for i := range rs.Rules {
		r := &rs.Rules[i]
		if r.Action == 0 || rs.Action(r.Action).Method != compile.Relay {
			continue
		}
		declared := Declared(rs, r)
		for l := range rs.Listeners {
			if at := &rs.Listeners[l]; Public(at) {
				v.world, v.limits = world{listener: at, own: own, trusted: c.Trusted, declared: declared}, [2]int{i}
				if err := v.tree(s.cases[i].facts, trees[[2]int{i, l}]); err != nil {
					return fmt.Errorf("rule %d, listener %d: %w", i+1, l+1, err)
				}
			}
		}
	}
	return nil
}

// owned returns the addresses that no stranger has, if c may say so.
func (c *Certificate) owned(rs *compile.Ruleset) ([]Range, error) {
	for _, r := range c.Sources {
		if !r.First.IsValid() || r.First.Is4() != r.Last.Is4() || r.Last.Less(r.First) {
			return nil, fmt.Errorf("%v to %v is no range", r.First, r.Last)
		}
	}
	for _, r := range Join(slices.Clone(c.Sources)) {
		if r.IsLarge() {
			return nil, fmt.Errorf("%v to %v are too many to be trusted", r.First, r.Last)
		}
	}
	own := append(Host(rs), c.Sources...)
	for _, name := range c.Trusted {
		i := slices.IndexFunc(rs.Tables, func(t compile.Table) bool { return t.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no table %q to be trusted", name)
		}
		own = append(own, Ranges(Networks(&rs.Tables[i]))...)
	}
	return Join(own), nil
}

// VerifyEqual checks that c proves that two rule tables decide alike. Rules
// in common are tried in the same order. So if one decides in either table it
// is the same one, and only pairs need a proof of which one is not common;
// and none needs one whose equal comes earlier in the other table.
//
// While sources are down, the first one that a table asks decides. So what
// differs then differs also while only one of them is down.
func VerifyEqual(before, after *compile.Ruleset, c *Certificate) error {
	if c.Version != Version || c.Claim != Equal {
		return fmt.Errorf("the certificate claims %q in version %d", c.Claim, c.Version)
	}
	m := NewMeaning()
	v := verifier{sides: [2]*side{newSide(before, m.Of(before)), newSide(after, m.Of(after))}, steps: maxSteps}
	if Splits(before, after) != "" {
		return errors.New("the tables split sub-addresses differently, and sources are asked for them")
	}
	place, err := v.common(c.Common)
	if err != nil {
		return err
	}
	trees := make(map[string]map[[2]Case]*Node)
	for _, p := range c.Proofs {
		if trees[p.Down] == nil {
			trees[p.Down] = make(map[[2]Case]*Node)
		}
		trees[p.Down][[2]Case{p.Old, p.New}] = p.Tree
	}
	for _, source := range append([]string{""}, Sources(before, after)...) {
		v.sides[0].fail(source)
		v.sides[1].fail(source)
		if err := v.pairs(source, place, trees[source]); err != nil {
			return fmt.Errorf("%s: %w", downText(source), err)
		}
	}
	return nil
}

func downText(source string) string {
	if source == "" {
		return "all tables answer"
	}
	return source + " is down"
}

// common returns for each rule of either table its place in the other, from
// 1, or 0.
func (v *verifier) common(runs []Run) (place [2][]int, err error) {
	a, b := v.sides[0], v.sides[1]
	place = [2][]int{make([]int, len(a.Rules)+1), make([]int, len(b.Rules)+1)}
	old, new := 0, 0
	for _, r := range runs {
		if r.Old <= old || r.New <= new || r.Count < 1 || r.Count > len(a.Rules)-r.Old+1 || r.Count > len(b.Rules)-r.New+1 {
			return place, errors.New("the common rules are out of order")
		}
		for n := range r.Count {
			old, new = r.Old+n, r.New+n
			if a.meanings.Rules[old-1] != b.meanings.Rules[new-1] {
				return place, fmt.Errorf("rule %d and rule %d are not equal", old, new)
			}
			place[0][old], place[1][new] = new, old
		}
	}
	return place, nil
}

// pairs checks that no two rules, one of which is not common, decide one
// transaction differently while a source is down.
func (v *verifier) pairs(source string, place [2][]int, trees map[[2]Case]*Node) error {
	none := decision{outcome: v.sides[0].meanings.Actions[0]}
	lists := [2][]decision{append(slices.Clip(v.sides[0].cases), none), append(slices.Clip(v.sides[1].cases), none)}
	for n := range lists {
		for i := range lists[n] {
			d := &lists[n][i]
			if d.Rule == 0 || place[n][d.Rule] != 0 {
				continue
			}
			for j := range lists[1-n] {
				other := &lists[1-n][j]
				at := place[1-n][other.Rule]
				switch {
				case d.outcome == other.outcome, at != 0 && at < d.Rule, n == 1 && at == 0 && other.Rule != 0:
					continue // alike, or its equal comes before, or seen already
				case source != "" && d.Fails == "" && other.Fails == "":
					continue // nobody asks the source: it may as well answer
				}
				if err := v.pair(n, i, j, d, other, trees); err != nil {
					return fmt.Errorf("rule %d against %d: %w", d.Rule, other.Rule, err)
				}
			}
		}
	}
	return nil
}

// pair checks that there is nothing that d of table n decides, and other of
// the other table.
func (v *verifier) pair(n, i, j int, d, other *decision, trees map[[2]Case]*Node) error {
	v.limits[n], v.limits[1-n] = i, j
	key := [2]Case{d.Case, other.Case}
	if n == 1 {
		key = [2]Case{other.Case, d.Case}
	}
	return v.tree(slices.Concat(d.facts, other.facts), trees[key])
}
