package analyze

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
const maxCandidates = 1_000_000

// A table is a rule table with what is needed to ask it.
type table struct {
	rules   *compile.Ruleset
	linear  *engine.Linear
	engine  *engine.Indexed
	statics []*engine.Static         // by TableID, made when asked
	numbers []int                    // by TableID, of what the tables hold
	exact   map[compile.TableID]bool // whether a table is known to hold no pattern
	known   map[string]bool          // texts, and whether some entry has them in it
}

func newTable(rs *compile.Ruleset) *table {
	return numbered(rs, certificate.NewMeaning().Of(rs))
}

// numbered returns a table whose contents have numbers already.
func numbered(rs *compile.Ruleset, m certificate.Meanings) *table {
	return &table{
		rules: rs, linear: engine.NewLinear(rs), engine: engine.New(rs), numbers: m.Tables,
		statics: make([]*engine.Static, len(rs.Tables)+1), exact: make(map[compile.TableID]bool), known: make(map[string]bool),
	}
}

// isExact reports whether a table is known to hold no pattern.
func (t *table) isExact(id compile.TableID) bool {
	exact, ok := t.exact[id]
	if !ok {
		at := t.rules.Table(id)
		exact = at.Kind != compile.Dynamic &&
			!slices.ContainsFunc(at.Entries, func(e compile.Entry) bool { return strings.Contains(e.Key, "*") })
		t.exact[id] = exact
	}
	return exact
}

// knows reports whether some entry of some table has a text in it.
func (t *table) knows(text string) bool {
	known, ok := t.known[text]
	if !ok {
		known = slices.ContainsFunc(t.rules.Tables, func(at compile.Table) bool {
			return slices.ContainsFunc(at.Entries, func(e compile.Entry) bool { return strings.Contains(e.Key, text) })
		})
		t.known[text] = known
	}
	return known
}

// static returns what answers for a table whose content is known.
func (t *table) static(id compile.TableID) *engine.Static {
	if t.statics[id] == nil {
		t.statics[id] = engine.NewStatic(t.rules.Table(id), t.rules.SMTP.SubAddrDelim)
	}
	return t.statics[id]
}

// longTable is how many entries make it worth while to index a table.
const longTable = 16

// holds reports whether a table that is known holds what is asked.
func (t *table) holds(q *engine.Question) (bool, error) {
	if len(t.rules.Table(q.Table).Entries) >= longTable {
		return t.static(q.Table).Check(q.Service, q.Key)
	}
	ok, err := t.linear.Answer(context.Background(), *q, nil)
	return ok == (q.Sign == compile.Is), err
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
	g := make(region, 0, 4)
	r := &t.rules.Rules[i]
	for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
		if criterion(r, p).Sign != compile.Absent {
			g = append(g, condition{t, r, p, true})
		}
	}
	return g
}

// A relation is what one condition says of another.
type relation uint8

const (
	apartFrom relation = iota
	equalTo            // they hold together
	opposedTo          // one holds where the other does not
)

// relationTo compares what two conditions ask, be it for different rules. An
// expansion comes from nowhere, and a reverse name may be missing; then
// neither a criterion of it holds nor its negation. Sub-addresses begin where
// each table says.
func (c *condition) relationTo(d *condition) relation {
	p, q := criterion(c.rule, c.part), criterion(d.rule, d.part)
	if c.part != d.part || p.Regex != q.Regex || c.of.numbers[p.Table] != d.of.numbers[q.Table] ||
		c.of != d.of && c.of.rules.SMTP.SubAddrDelim != d.of.rules.SMTP.SubAddrDelim {
		return apartFrom
	}
	if c.part == engine.PartFrom {
		kind, other := sourceOf(c.rule), sourceOf(d.rule)
		if kind != other || kind != compile.FromSrc && p.Sign != q.Sign {
			return apartFrom
		}
	}
	if (c.holds == d.holds) == (p.Sign == q.Sign) {
		return equalTo
	}
	return opposedTo
}

// sourceOf returns what "from" looks at: FromSocket, FromRDNS, or FromSrc
// for the address, whatever it is called.
func sourceOf(r *compile.Rule) compile.FromKind {
	if k := r.From.Kind; k == compile.FromSocket || k == compile.FromRDNS {
		return k
	}
	return compile.FromSrc
}

// has reports whether some condition of g has a relation to c.
func (g region) has(r relation, c *condition) bool {
	for i := range g {
		if g[i].relationTo(c) == r {
			return true
		}
	}
	return false
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
		switch {
		case rest.has(equalTo, &c):
			continue
		case rest.has(opposedTo, &c):
			return append(pieces, piece{c.part, rest}) // h does not touch what is left
		}
		c.holds = !c.holds
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
	q := tx.AskPart(c.rule, c.part)
	found := q.Answer == engine.Yes
	switch {
	case q.Sign == compile.Absent:
		return c.holds
	case q.Answer == engine.Never:
		return !c.holds
	case q.Answer != engine.Ask:
	case c.of.rules.Table(q.Table).Kind != compile.Dynamic:
		var err error
		if found, err = c.of.holds(&q); err != nil {
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
	automata bool               // what they say is empty counts; no certificate rests on it

	socket bool        // only mail from the local socket is looked at, or only other mail
	gone   engine.Part // what pick found no value for
}

// A stranger is who has connected to a listener and not logged in.
type stranger struct {
	listener  *compile.Listener
	forgeable bool              // he chooses his address
	addrs     []netip.Addr      // that he may have, one of each class
	declared  certificate.Names // recipients that are no concern
	trusted   []string          // tables that he is not in
}

// spend reports whether the budget allows for n more values.
func (s *search) spend(n int) bool {
	if s.work == nil {
		return true
	}
	*s.work -= n
	return *s.work >= 0
}

// pick returns a transaction in the region. The local socket has a login of
// its own and other sources have any, so that it is looked at apart from
// them: what is empty must be empty either way.
func (s *search) pick(g region) (engine.Transaction, *assumptions, finding) {
	s.socket = false
	tx, a, f := s.pickFrom(g)
	if f == found || s.stranger != nil {
		return tx, a, f
	}
	gone := s.gone
	s.socket = true
	socket, assumed, other := s.pickFrom(g)
	switch {
	case other == found:
		return socket, assumed, found
	case gone != engine.PartFrom && gone != engine.PartAuth:
		s.gone = gone // nothing fits, wherever mail comes from
	case s.gone == engine.PartAuth:
		s.gone = engine.PartFrom // it takes both together
	}
	return tx, a, max(f, other)
}

// pickFrom returns a transaction from the socket, or from elsewhere. Each
// group of fields that conditions look at together is chosen apart from the
// others.
func (s *search) pickFrom(g region) (engine.Transaction, *assumptions, finding) {
	tx := s.base
	if s.socket {
		tx.Kind, tx.Addr, tx.Auth, tx.User = engine.FromSocket, netip.Addr{}, true, ""
	}
	a := &assumptions{made: make(map[string]bool)}
	if s.stranger != nil && !s.stranger.forgeable {
		a.trusted = s.stranger.trusted
	}
	for i := range groups {
		group := &groups[i]
		conditions := g.of(group.parts)
		if len(conditions) == 0 && !group.always {
			continue
		}
		if f := s.choose(group, conditions, &tx, a); f != found {
			s.gone = group.parts[0]
			return tx, a, f
		}
	}
	return tx, a, found
}

// choose chooses the fields of a group.
func (s *search) choose(group *group, conditions region, tx *engine.Transaction, a *assumptions) finding {
	if s.stranger == nil && s.suits(tx, conditions, a, group.always) {
		return found // as it is, which is what is tried first
	}
	if conditions.contradict() {
		return empty
	}
	v := newValues(conditions)
	tried := 0
	for candidate := range group.candidates(s, v, *tx) {
		if tried++; tried > maxCandidates || !s.spend(1) {
			v.inexact, v.finite = true, false
			break
		}
		if s.suits(&candidate, conditions, a, group.always) {
			*tx = candidate
			return found
		}
	}
	if v.inexact && !v.finite {
		return s.solve(group, conditions, tx, a)
	}
	return empty
}

// solve chooses the fields of a group among all texts, where trying examples
// has found none.
func (s *search) solve(group *group, conditions region, tx *engine.Transaction, a *assumptions) finding {
	if group.texts == nil || group.parts[0] == engine.PartTag && s.stranger != nil {
		return unsure
	}
	text, f := group.texts.solve(conditions)
	if f == empty && s.automata {
		return empty
	}
	if f != found {
		return unsure
	}
	candidate := *tx
	if group.texts.set(&candidate, text); !s.suits(&candidate, conditions, a, group.always) {
		return unsure
	}
	*tx = candidate
	return found
}

// contradict reports whether two conditions want opposite answers to the
// same question.
func (g region) contradict() bool {
	for i := range g {
		if g[:i].has(opposedTo, &g[i]) {
			return true
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
