package analyze

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// Verify checks that a certificate proves that no stranger can relay by rs.
// It does not search, and neither asks an engine nor trusts anything that
// the search computed: it shares with it only the tables and what the
// question means (who is a stranger, which listeners he reaches).
//
// That a region is empty is shown by cells. The values of a field fall into
// cells that no entry of a table tells apart, and in each cell some fact
// fails. Facts about expressions, unusual patterns and tables that have to
// be asked are left out, which only makes regions larger.
func Verify(rs *compile.Ruleset, c *Certificate) error {
	if c.Version != CertificateVersion {
		return fmt.Errorf("the certificate has version %d, not %d", c.Version, CertificateVersion)
	}
	trees := make(map[[2]int]*Node)
	for _, p := range c.Proofs {
		trees[[2]int{p.Rule - 1, p.Listener - 1}] = p.Tree
	}
	trusted := trustedNets(rs)
	for i, r := range rs.Rules {
		if r.Action == 0 || rs.Action(r.Action).Method != compile.Relay {
			continue
		}
		for l := range rs.Listeners {
			if !isPublic(&rs.Listeners[l]) {
				continue
			}
			v := verifier{rs: rs, rule: i, listener: &rs.Listeners[l], trusted: trusted}
			if err := v.tree(v.matched(), trees[[2]int{i, l}]); err != nil {
				return fmt.Errorf("rule %d, listener %d: %w", i+1, l+1, err)
			}
		}
	}
	return nil
}

type verifier struct {
	rs       *compile.Ruleset
	rule     int // the rule that is to match no stranger
	listener *compile.Listener
	trusted  []netip.Prefix
}

// A fact is that a criterion of a rule holds, or does not.
type fact struct {
	rule  int
	part  engine.Part
	holds bool
}

func (v *verifier) criterion(f fact) compile.Criterion {
	return criterion(&v.rs.Rules[f.rule], f.part)
}

// in reports whether a fact wants the value to be in the table.
func (v *verifier) in(f fact) bool { return f.holds == (v.criterion(f).Sign == compile.Is) }

// matched returns what holds of all that the rule matches.
func (v *verifier) matched() []fact {
	var known []fact
	for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
		if f := (fact{v.rule, p, true}); v.criterion(f).Sign != compile.Absent {
			known = append(known, f)
		}
	}
	return known
}

func (v *verifier) tree(known []fact, n *Node) error {
	switch {
	case n == nil:
		return errors.New("there is no proof for it")
	case n.Empty != "":
		for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
			if p.String() == n.Empty && v.impossible(known, p) {
				return nil
			}
		}
		return fmt.Errorf("what is said of %q is possible", n.Empty)
	case n.Rule < 1 || n.Rule > v.rule:
		return fmt.Errorf("rule %d does not come before it", n.Rule)
	}
	for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
		yes, no := fact{n.Rule - 1, p, true}, fact{n.Rule - 1, p, false}
		if v.criterion(yes).Sign == compile.Absent || slices.Contains(known, yes) {
			continue
		}
		without := append(slices.Clip(known), no)
		if rest := n.Rest[p.String()]; rest != nil {
			if err := v.tree(without, rest); err != nil {
				return err
			}
		} else if !v.impossible(without, p) {
			return fmt.Errorf("what rule %d leaves by %q is not looked at", n.Rule, p.String())
		}
		if slices.Contains(known, no) {
			return nil
		}
		known = append(slices.Clip(known), yes)
	}
	return nil
}

// impossible reports whether no value of a part fits the facts.
func (v *verifier) impossible(known []fact, p engine.Part) bool {
	var facts []fact
	for _, f := range known {
		both := (p == engine.PartFor || p == engine.PartRcptTo) && (f.part == engine.PartFor || f.part == engine.PartRcptTo)
		if f.part == p || both {
			facts = append(facts, f)
		}
	}
	if v.contradict(facts) {
		return true
	}
	switch p {
	case engine.PartTag:
		return v.fails(facts, func(f fact) membership { return v.listed(f, fold(v.listener.Tag)) })
	case engine.PartAuth: // a stranger has not logged in
		return v.fails(facts, func(fact) membership { return no })
	case engine.PartTLS:
		return v.fails(facts, func(fact) membership { return yes }) && v.fails(facts, func(fact) membership { return no })
	case engine.PartFrom:
		return v.noAddress(facts) || v.noReverse(facts)
	}
	return v.noName(facts, p)
}

// contradict reports whether two facts say opposite things of one table.
// Without a reverse name neither "from rdns" nor its negation holds.
func (v *verifier) contradict(facts []fact) bool {
	for i, a := range facts {
		for _, b := range facts[:i] {
			ca, cb := v.criterion(a), v.criterion(b)
			from := v.rs.Rules[a.rule].From.Kind
			same := a.part == b.part && ca.Table == cb.Table && ca.Regex == cb.Regex &&
				(a.part != engine.PartFrom || from == v.rs.Rules[b.rule].From.Kind && (from != compile.FromRDNS || a.holds || b.holds))
			if same && v.in(a) != v.in(b) {
				return true
			}
		}
	}
	return false
}

// A membership says whether a value is in a table.
type membership uint8

const (
	unclear membership = iota
	yes
	no
)

func membershipOf(b bool) membership {
	if b {
		return yes
	}
	return no
}

// fails reports whether a fact certainly fails.
func (v *verifier) fails(facts []fact, ask func(fact) membership) bool {
	return slices.ContainsFunc(facts, func(f fact) bool {
		a := ask(f)
		return a != unclear && (a == yes) != v.in(f)
	})
}

// entries returns what the table of a fact holds, unless that is not known.
func (v *verifier) entries(f fact) ([]compile.Entry, bool) {
	c := v.criterion(f)
	if c.Table == 0 || c.Regex || v.rs.Table(c.Table).Kind == compile.Dynamic {
		return nil, false
	}
	return v.rs.Table(c.Table).Entries, true
}

func (v *verifier) listed(f fact, key string) membership {
	list, known := v.entries(f)
	if !known {
		return unclear
	}
	return membershipOf(slices.ContainsFunc(list, func(e compile.Entry) bool { return e.Key == key }))
}
