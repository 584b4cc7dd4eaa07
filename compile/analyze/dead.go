package analyze

import (
	"context"
	"net/netip"
	"slices"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A Reach says whether a rule ever decides anything.
type Reach struct {
	Rule    int
	State   State
	Witness Witness // for Reached
	// Blockers are the rules that decide what the rule matches, ascending;
	// none for a Dead rule whose criteria contradict each other.
	Blockers []int
}

// A State is what is known of a rule.
type State uint8

// The states.
const (
	Reached State = iota + 1
	Dead
	Undecided // the search gave up, or a pattern was beyond it
)

// ordinary is a transaction with nothing special about it.
func ordinary() engine.Transaction {
	return engine.Transaction{
		Kind: engine.FromAddress, Addr: netip.MustParseAddr("203.0.113.9"),
		Helo: "client.example", RDNS: "client.example",
		Sender: engine.Address{User: "sender", Domain: "client.example"},
		Rcpt:   engine.Address{User: "someone", Domain: "elsewhere.example"},
	}
}

// Reachable says of every rule whether it decides some transaction.
func Reachable(rs *compile.Ruleset) []Reach {
	t := newTable(rs)
	work := maxWork + workPerRule*len(rs.Rules)
	var list []Reach
	for i := range rs.Rules {
		list = append(list, t.reach(i, &work))
	}
	return list
}

// workPerRule is what a rule takes that is easy to judge, and more.
const workPerRule = 100

func (t *table) reach(i int, work *int) Reach {
	s := search{base: ordinary(), automata: true, work: work}
	r := Reach{Rule: i, State: Dead}
	s.split(t, t.covered(i), func(w Witness, d engine.Decision) bool {
		if d.Rule == i {
			r.State, r.Witness = Reached, w
			return true
		}
		if !slices.Contains(r.Blockers, d.Rule) {
			r.Blockers = append(r.Blockers, d.Rule)
		}
		return false
	}, func() { r.State = Undecided })
	slices.Sort(r.Blockers)
	return r
}

// split decides one transaction of the region after another, each in what
// the rules that decided those before it do not cover, until visit returns
// true or nothing is left. It calls unsure if that cannot be said.
func (s *search) split(t *table, g region, visit func(Witness, engine.Decision) bool, undecided func()) {
	work := []region{g}
	gaveUp := false
	for n := 0; len(work) > 0; n++ {
		if n == maxRegions {
			gaveUp = true
			break
		}
		g := work[len(work)-1]
		work = work[:len(work)-1]
		tx, a, f := s.pick(g)
		if f != found {
			gaveUp = gaveUp || f == unsure
			continue
		}
		a.rules = t.rules
		d := t.engine.Decide(context.Background(), &tx, a)
		if visit(Witness{tx, a.list}, d) {
			return
		}
		if d.Rule < 0 {
			// Only a search whose region covers no rule comes here; nothing
			// can be taken away from it.
			gaveUp = true
			continue
		}
		work = append(work, g.minus(t.covered(d.Rule))...)
	}
	if gaveUp {
		undecided()
	}
}
