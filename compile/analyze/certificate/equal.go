package certificate

import (
	"errors"
	"fmt"
	"slices"

	"smtpd/compile"
)

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
