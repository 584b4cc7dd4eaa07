package analyze

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/expand"
)

// ErrNotAsked is the answer of a table that has to be asked where nobody
// asks.
var ErrNotAsked = fmt.Errorf("its content is %w", expand.ErrUnknown)

// maxRegions is how many regions are looked at for one question; beyond it
// the answer is unknown.
const maxRegions = 2000

// maxCandidates is how many values of one field are tried for one region.
const maxCandidates = 20_000

// A table is a rule table with what is needed to ask it.
type table struct {
	rules  *compile.Ruleset
	linear *engine.Linear
	engine *engine.Indexed
}

func newTable(rs *compile.Ruleset) *table {
	return &table{rs, engine.NewLinear(rs), engine.New(rs)}
}

// A condition is a criterion that must hold, or must not.
type condition struct {
	of    *table
	rule  *compile.Rule
	part  engine.Part
	holds bool
}

// A region is the transactions for which all conditions are as they say.
type region []condition

// covered returns the region of all transactions that the rule covers.
func (t *table) covered(i int) region {
	var g region
	r := &t.rules.Rules[i]
	for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
		if Criterion(t.rules, r, p) != "" {
			g = append(g, condition{t, r, p, true})
		}
	}
	return g
}

// minus returns disjoint regions that make up what of g is not in h.
func (g region) minus(h region) []region {
	var list []region
	for _, p := range g.pieces(h) {
		list = append(list, p.region)
	}
	return list
}

// A piece is a region in which the criterion of one part does not hold.
type piece struct {
	part   engine.Part
	region region
}

// pieces returns what of g is not in h, by the first condition of h that is
// not as it says.
func (g region) pieces(h region) []piece {
	var pieces []piece
	rest := slices.Clip(g)
	for _, c := range h {
		if slices.Contains(rest, c) {
			continue
		}
		c.holds = !c.holds
		if slices.Contains(rest, c) {
			return append(pieces, piece{c.part, rest}) // h does not touch what is left
		}
		pieces = append(pieces, piece{c.part, append(rest, c)})
		c.holds = !c.holds
		rest = slices.Clip(append(rest, c))
	}
	return pieces
}

// An Assumption is what a table that has to be asked is taken to say.
type Assumption struct {
	Table string
	Key   string
	Found bool
}

// A Witness is a transaction that shows something.
type Witness struct {
	Transaction engine.Transaction
	// Assumed is what the tables must say for it; none: it always holds.
	Assumed []Assumption
}

// assumptions answer for tables that have to be asked.
type assumptions struct {
	rules *compile.Ruleset
	made  map[string]bool // by table and key
	list  []Assumption
}

func (a *assumptions) Check(_ context.Context, t compile.TableID, _ engine.Service, key string) (bool, error) {
	return a.assume(a.rules.Table(t).Name, key, false), nil
}

// assume returns what is assumed of a key; found is for one of which nothing
// is.
func (a *assumptions) assume(table, key string, found bool) bool {
	id := table + "\x00" + key
	if old, ok := a.made[id]; ok {
		return old
	}
	a.made[id] = found
	a.list = append(a.list, Assumption{table, key, found})
	return found
}

// A script answers what is assumed, and nothing else.
type script struct {
	rules *compile.Ruleset
	list  []Assumption
}

func (s script) Check(_ context.Context, t compile.TableID, _ engine.Service, key string) (bool, error) {
	for _, a := range s.list {
		if a.Table == s.rules.Table(t).Name && a.Key == key {
			return a.Found, nil
		}
	}
	return false, ErrNotAsked
}

// replays reports whether the linear engine decides a witness as d says when
// the tables say what is assumed. What fails this is never shown.
func (t *table) replays(w *Witness, d engine.Decision) bool {
	again := t.linear.Decide(context.Background(), &w.Transaction, script{t.rules, w.Assumed})
	return again.Outcome == d.Outcome && again.Rule == d.Rule
}

// true reports whether a condition is as it says, assuming of tables what
// makes it so where nothing is assumed yet.
func (c *condition) true(tx *engine.Transaction, a *assumptions) bool {
	q := tx.Ask(c.rule)[c.part]
	if q.Answer == engine.Ask && c.of.rules.Table(q.Table).Kind == compile.Dynamic {
		want := c.holds == (q.Sign == compile.Is)
		return a.assume(c.of.rules.Table(q.Table).Name, fold(q.Key), want) == want
	}
	ok, err := c.of.linear.Answer(context.Background(), q, nil)
	return err == nil && ok == c.holds
}

// A finding is what became of an attempt to find a transaction.
type finding uint8

const (
	found  finding = iota
	empty          // there is none
	unsure         // there may be one
)

// A search says which transactions are looked at.
type search struct {
	base   engine.Transaction             // for fields that the region leaves open
	fixed  bool                           // tag and login are those of base, and the source is an address
	source func(netip.Addr) bool          // with fixed: the addresses it may be
	allows func(*engine.Transaction) bool // nil: all

	proof *Node       // what split did, if it came to an end
	gone  engine.Part // what pick found no value for
}

// pick returns a transaction in the region. Each group of fields that
// conditions look at together is chosen apart from the others.
func (s *search) pick(g region) (engine.Transaction, *assumptions, finding) {
	tx := s.base
	a := &assumptions{made: make(map[string]bool)}
	for _, group := range groups {
		conditions := g.of(group.parts)
		if len(conditions) == 0 && !group.always {
			continue
		}
		v := newValues(conditions)
		ok, tried := false, 0
		for candidate := range group.candidates(s, v, tx) {
			if tried++; tried > maxCandidates {
				v.inexact, v.finite = true, false
				break
			}
			if ok = s.suits(&candidate, conditions, a, group.always); ok {
				tx = candidate
				break
			}
		}
		switch {
		case ok:
		case v.inexact && !v.finite:
			return tx, a, unsure
		default:
			s.gone = group.parts[0]
			return tx, a, empty
		}
	}
	return tx, a, found
}

func (s *search) suits(tx *engine.Transaction, conditions region, a *assumptions, last bool) bool {
	before, kept := len(a.list), true
	for i := range conditions {
		if kept = conditions[i].true(tx, a); !kept {
			break
		}
	}
	if kept && last && s.allows != nil {
		kept = s.allows(tx)
	}
	if !kept {
		for _, made := range a.list[before:] {
			delete(a.made, made.Table+"\x00"+made.Key)
		}
		a.list = a.list[:before]
	}
	return kept
}

func (g region) of(parts []engine.Part) region {
	var some region
	for _, c := range g {
		if slices.Contains(parts, c.part) {
			some = append(some, c)
		}
	}
	return some
}
