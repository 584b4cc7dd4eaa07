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

// spend reports whether the budget allows for n more steps.
func (v *verifier) spend(n int) bool {
	v.steps -= n
	return v.steps >= 0
}

// tree checks that nothing of a region is left by the decisions before the
// limits.
func (v *verifier) tree(known []fact, n *Node) error {
	if !v.spend(len(known) + 1) {
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
