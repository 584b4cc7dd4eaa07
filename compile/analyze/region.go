package analyze

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
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
	rules   *compile.Ruleset
	linear  *engine.Linear
	engine  *engine.Indexed
	statics []*engine.Static // by TableID, made when asked
	numbers []int            // by TableID, of what the tables hold
}

func newTable(rs *compile.Ruleset) *table {
	return numbered(rs, certificate.NewMeaning().Of(rs))
}

// numbered returns a table whose contents have numbers already.
func numbered(rs *compile.Ruleset, m certificate.Meanings) *table {
	return &table{rs, engine.NewLinear(rs), engine.New(rs), make([]*engine.Static, len(rs.Tables)+1), m.Tables}
}

func (t *table) number(id compile.TableID) int { return t.numbers[id] }

// static returns what answers for a table whose content is known.
func (t *table) static(id compile.TableID) *engine.Static {
	if t.statics[id] == nil {
		t.statics[id] = engine.NewStatic(t.rules.Table(id), t.rules.SMTP.SubAddrDelim)
	}
	return t.statics[id]
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
	Table string `json:"table"`
	Key   string `json:"key"`
	Found bool   `json:"found"`

	source string // that the table asks
}

// A Witness is a transaction that shows something.
type Witness struct {
	Transaction engine.Transaction
	// Assumed is what the tables must say for it; none: it always holds.
	Assumed []Assumption
}

// assumptions answer for tables that have to be asked. Tables that ask the
// same source say the same.
type assumptions struct {
	rules   *compile.Ruleset
	trusted []string        // tables that hold no source address
	made    map[string]bool // by source and key
	list    []Assumption
}

func (a *assumptions) Check(_ context.Context, id compile.TableID, s engine.Service, key string) (bool, error) {
	t := a.rules.Table(id)
	return !a.lacks(t, s, key) && a.assume(t, key, false), nil
}

// lacks reports whether a table is declared not to hold a key.
func (a *assumptions) lacks(t *compile.Table, s engine.Service, key string) bool {
	if s != engine.NetAddr || !slices.Contains(a.trusted, t.Name) {
		return false
	}
	_, isAddr := engine.ParseNetAddr(key)
	return isAddr
}

// assume returns what is assumed of a key; found is for one of which nothing
// is.
func (a *assumptions) assume(t *compile.Table, key string, found bool) bool {
	source := certificate.Identity(t)
	id := source + "\x00" + key
	if old, ok := a.made[id]; ok {
		return old
	}
	a.made[id] = found
	a.list = append(a.list, Assumption{t.Name, key, found, source})
	return found
}

// A script answers what is assumed, and nothing else.
type script struct {
	rules   *compile.Ruleset
	trusted []string
	list    []Assumption
}

func (s script) Check(_ context.Context, id compile.TableID, service engine.Service, key string) (bool, error) {
	t := s.rules.Table(id)
	if (&assumptions{trusted: s.trusted}).lacks(t, service, key) {
		return false, nil
	}
	for _, a := range s.list {
		if a.source == certificate.Identity(t) && a.Key == key {
			return a.Found, nil
		}
	}
	return false, ErrNotAsked
}

// replays reports whether the linear engine decides a witness as d says when
// the tables say what is assumed. What fails this is never shown.
func (t *table) replays(w *Witness, d engine.Decision, trusted []string) bool {
	again := t.linear.Decide(context.Background(), &w.Transaction, script{t.rules, trusted, w.Assumed})
	return again.Outcome == d.Outcome && again.Rule == d.Rule
}

// true reports whether a condition is as it says, assuming of tables what
// makes it so where nothing is assumed yet.
func (c *condition) true(tx *engine.Transaction, a *assumptions) bool {
	q := tx.Ask(c.rule)[c.part]
	found := q.Answer == engine.Yes
	switch {
	case q.Sign == compile.Absent:
		return c.holds
	case q.Answer == engine.Never:
		return !c.holds
	case q.Answer != engine.Ask:
	case c.of.rules.Table(q.Table).Kind != compile.Dynamic:
		var err error
		if found, err = c.of.static(q.Table).Check(q.Service, q.Key); err != nil {
			return false
		}
	case !a.lacks(c.of.rules.Table(q.Table), q.Service, q.Key):
		found = a.assume(c.of.rules.Table(q.Table), fold(q.Key), c.holds == (q.Sign == compile.Is))
	}
	return c.holds == (found == (q.Sign == compile.Is))
}

// A finding is what became of an attempt to find a transaction.
type finding uint8

const (
	found  finding = iota
	empty          // there is none
	unsure         // there may be one
)

// maxWork is how many values are made and tried for one answer.
const maxWork = 20_000_000

// A search says which transactions are looked at.
type search struct {
	base     engine.Transaction // for fields that the region leaves open
	stranger *stranger          // nil: all transactions
	work     *int               // what is left of the budget; nil: there is none

	gone engine.Part // what pick found no value for
}

// A stranger is who has connected to a listener and not logged in.
type stranger struct {
	listener *compile.Listener
	addrs    []netip.Addr      // that he may have, one of each class
	declared certificate.Names // recipients that are no concern
	trusted  []string          // tables that he is not in
}

// spend reports whether the budget allows for n more values.
func (s *search) spend(n int) bool {
	if s.work == nil {
		return true
	}
	*s.work -= n
	return *s.work >= 0
}

// pick returns a transaction in the region. Each group of fields that
// conditions look at together is chosen apart from the others.
func (s *search) pick(g region) (engine.Transaction, *assumptions, finding) {
	tx := s.base
	a := &assumptions{made: make(map[string]bool)}
	if s.stranger != nil && !s.stranger.listener.ProxyV2 {
		a.trusted = s.stranger.trusted
	}
	for i := range groups {
		group := &groups[i]
		conditions := g.of(group.parts)
		if len(conditions) == 0 && !group.always {
			continue
		}
		if contradict(conditions) {
			s.gone = group.parts[0]
			return tx, a, empty
		}
		v := newValues(conditions)
		ok, tried, within := false, 0, s.spend(len(v.entries))
		for candidate := range group.candidates(s, v, tx) {
			if tried++; tried > maxCandidates || !within || !s.spend(1) {
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

// contradict reports whether two conditions want opposite answers to the
// same question. An expansion comes from nowhere, and a reverse name may be
// missing; then neither a criterion of it holds nor its negation.
func contradict(g region) bool {
	for i := range g {
		for j := range g[:i] {
			a, b := &g[i], &g[j]
			p, q := criterion(a.rule, a.part), criterion(b.rule, b.part)
			same := a.part == b.part && a.of.number(p.Table) == b.of.number(q.Table) && p.Regex == q.Regex
			if a.part == engine.PartFrom {
				kind := a.rule.From.Kind
				same = same && kind == b.rule.From.Kind && (p.Sign == q.Sign || kind != compile.FromRDNS && kind != compile.FromSocket)
			}
			if !same {
				continue
			}
			if a.holds == b.holds != (p.Sign == q.Sign) {
				return true
			}
		}
	}
	return false
}

func (s *search) suits(tx *engine.Transaction, conditions region, a *assumptions, last bool) bool {
	before, kept := len(a.list), true
	for i := range conditions {
		if kept = conditions[i].true(tx, a); !kept {
			break
		}
	}
	if kept && last && s.stranger != nil {
		kept = !s.stranger.declared.Has(fold(tx.Rcpt.Domain))
	}
	if !kept {
		for _, made := range a.list[before:] {
			delete(a.made, made.source+"\x00"+made.Key)
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
