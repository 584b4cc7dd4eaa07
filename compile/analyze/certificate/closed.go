package certificate

import (
	"fmt"
	"slices"

	"smtpd/compile"
)

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
				v.world, v.limits = world{listener: at, forgeable: Forgeable(rs, at), own: own, trusted: c.Trusted, declared: declared}, [2]int{i}
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
