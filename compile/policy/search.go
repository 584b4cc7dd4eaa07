package policy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A search looks for a transaction that a changed rule table decides
// otherwise. It tries values that the tables of the changed rules name, then
// those of other rules and some that no table names.
//
// Tables whose content is not known get one that is invented, so that what
// stands behind them can be reached; a test that needs it brings it along.
type search struct {
	base     *Bound        // the tables as the tests have them
	plain    engine.Engine // by these
	bound    *Bound        // with the invented ones, and without tests
	rules    *compile.Ruleset
	engine   engine.Engine // by these
	invented []Table
	common   [dimensions][]setter // values of all rules, and of none
}

// A setter sets one dimension of a transaction.
type setter func(tx *engine.Transaction)

// The dimensions of a transaction.
const (
	dimFrom = iota
	dimTag
	dimHelo
	dimAuth
	dimTLS
	dimSender
	dimRcpt
	dimensions
)

// Budgets of a search.
const (
	maxTries  = 20_000    // transactions a change
	minTries  = 200       // of a change in a long list of rules
	allTries  = 2_000_000 // of one change for every rule
	maxValues = 24        // of a dimension
	maxKeys   = 6         // of a table
)

// fresh is a name that stands in no table, one hopes; the engine has the
// last word.
const fresh = "fresh"

func newSearch(b *Bound) *search {
	s := &search{base: b, plain: engine.New(b.Rules), invented: invent(b)}
	bound, _ := (&Suite{Tables: s.invented}).Bind(b.Rules, nil)
	s.bound = bound[0]
	rs := s.bound.Rules
	s.rules, s.engine, s.common = rs, engine.New(rs), defaults(rs)
	for i := range rs.Rules {
		s.add(&s.common, &rs.Rules[i])
	}
	return s
}

// known is the name that stands in invented tables, as a user, a login, a tag
// and an expression, and with a domain as a name.
const known = "known"

// invent returns content for the tables of rules whose content is not known.
// A table has an entry for each thing that it is compared with.
func invent(b *Bound) []Table {
	var tables []Table
	at := make(map[compile.TableID]int) // index into tables
	for i := range b.Rules.Rules {
		r := &b.Rules.Rules[i]
		for p, c := range criteria(r) {
			if c.Table == 0 || b.Rules.Table(c.Table).Kind != compile.Dynamic || b.fails[c.Table] {
				continue
			}
			n, ok := at[c.Table]
			if !ok {
				n = len(tables)
				at[c.Table] = n
				tables = append(tables, Table{Name: b.Rules.Table(c.Table).Name})
			}
			e := compile.Entry{Key: inventedKey(r, engine.Part(p), c.Regex)}
			if !slices.Contains(tables[n].Entries, e) {
				tables[n].Entries = append(tables[n].Entries, e)
			}
		}
	}
	return tables
}

func inventedKey(r *compile.Rule, p engine.Part, regex bool) string {
	switch {
	case regex:
		return known
	case p == engine.PartFrom && r.From.Kind == compile.FromSrc:
		return "198.51.100.7"
	case p == engine.PartFrom, p == engine.PartFor, p == engine.PartHelo:
		return known + ".example"
	}
	return known
}

// defaults returns values that are always worth a try.
func defaults(rs *compile.Ruleset) (d [dimensions][]setter) {
	outside := func(name string) setter { return from(netip.MustParseAddr("203.0.113.9"), name) }
	d[dimFrom] = []setter{outside(""), outside("client.example"), socket(rs), from(loopback, ""),
		func(tx *engine.Transaction) { tx.Kind = engine.FromInternal }}
	d[dimTag] = []setter{func(*engine.Transaction) {}, tag("")}
	for i := range rs.Listeners {
		if len(d[dimTag]) < maxValues {
			d[dimTag] = append(d[dimTag], tag(rs.Listeners[i].Tag))
		}
	}
	d[dimTag] = append(d[dimTag], tag(fresh))
	d[dimHelo] = []setter{helo(defaultHelo), helo(fresh + ".example")}
	d[dimAuth] = []setter{func(*engine.Transaction) {}, auth(fresh), auth(fresh + "@example.com")}
	d[dimTLS] = []setter{func(tx *engine.Transaction) { tx.TLS = false }, func(tx *engine.Transaction) { tx.TLS = true }}
	d[dimSender] = []setter{sender(engine.Address{User: fresh, Domain: "sender.example"}), sender(engine.Address{})}
	d[dimRcpt] = []setter{rcpt(engine.Address{User: fresh, Domain: "elsewhere.example"}),
		rcpt(engine.Address{User: fresh, Domain: "localhost"})}
	return d
}

func from(addr netip.Addr, name string) setter {
	return func(tx *engine.Transaction) { tx.Kind, tx.Addr, tx.RDNS = engine.FromAddress, addr, name }
}

func socket(rs *compile.Ruleset) setter {
	return func(tx *engine.Transaction) {
		tx.Kind, tx.Tag, tx.RDNS, tx.Auth = engine.FromSocket, rs.Socket.Tag, rs.ServerName, true
	}
}

func tag(s string) setter  { return func(tx *engine.Transaction) { tx.Tag = s } }
func helo(s string) setter { return func(tx *engine.Transaction) { tx.Helo = s } }

func auth(user string) setter {
	return func(tx *engine.Transaction) {
		if tx.Kind != engine.FromSocket {
			tx.Auth, tx.User = true, user
		}
	}
}

func sender(a engine.Address) setter { return func(tx *engine.Transaction) { tx.Sender = a } }
func rcpt(a engine.Address) setter   { return func(tx *engine.Transaction) { tx.Rcpt = a } }

// add adds the values that the tables of a rule name.
func (s *search) add(d *[dimensions][]setter, r *compile.Rule) {
	put := func(dim int, f setter) {
		if len(d[dim]) < maxValues {
			d[dim] = append(d[dim], f)
		}
	}
	for _, key := range s.keys(r.From.Criterion) {
		if r.From.Kind == compile.FromAny {
			continue // any address will do, and the plain ones come first
		}
		if r.From.Kind == compile.FromRDNS {
			for _, name := range names(key) {
				put(dimFrom, from(netip.MustParseAddr("203.0.113.9"), name))
			}
		} else if p, ok := engine.ParseNetAddr(key); ok {
			put(dimFrom, from(p.Addr(), ""))
		}
	}
	for _, key := range s.keys(r.Tag) {
		put(dimTag, tag(key))
	}
	for _, key := range s.keys(r.Helo) {
		for _, name := range names(key) {
			put(dimHelo, helo(name))
		}
	}
	for _, key := range s.keys(r.Auth) {
		put(dimAuth, auth(key))
	}
	for _, a := range addresses(s.keys(r.MailFrom), nil) {
		put(dimSender, sender(a))
	}
	var domains []string
	for _, key := range s.keys(r.For.Criterion) {
		domains = append(domains, names(key)...)
	}
	for _, a := range addresses(s.keys(r.RcptTo), domains) {
		put(dimRcpt, rcpt(a))
	}
}

// keys returns some keys of the table of a criterion that can stand in a
// test. Of an expression it drops what anchors and escapes.
func (s *search) keys(c compile.Criterion) []string {
	if c.Sign == compile.Absent || c.Table == 0 {
		return nil
	}
	var keys []string
	for _, e := range s.rules.Table(c.Table).Entries {
		key := e.Key
		if c.Regex {
			key = strings.NewReplacer("^", "", "$", "", `\`, "", ".*", fresh, ".+", fresh).Replace(key)
		}
		if len(keys) < maxKeys && key != "" && !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' }) {
			keys = append(keys, key)
		}
	}
	return keys
}

// names returns names for a pattern: the name itself, or one below it.
func names(pattern string) []string {
	if !strings.Contains(pattern, "*") {
		return []string{pattern}
	}
	if pattern == "*" {
		return []string{fresh + ".example"}
	}
	return []string{strings.ReplaceAll(pattern, "*", fresh)}
}

// addresses returns addresses for the entries of a table of addresses. A
// user without a domain is tried in each of the domains, and in another one.
func addresses(entries, domains []string) []engine.Address {
	var list []engine.Address
	for _, e := range entries {
		user, domain, hasDomain := strings.Cut(e, "@")
		in := domains
		switch {
		case hasDomain && domain != "":
			in = names(domain)
		case !hasDomain && strings.Contains(e, "."):
			user, in = "", names(e)
		default:
			in = append(slices.Clone(domains), "elsewhere.example")
		}
		if user == "" {
			user = fresh
		}
		for _, d := range in {
			list = append(list, engine.Address{User: user, Domain: d})
		}
	}
	for _, d := range domains {
		list = append(list, engine.Address{User: fresh, Domain: d})
	}
	return list
}

// killer returns a test that passes and fails with the changed table, or ""
// if none was found.
func (s *search) killer(x *mutated) string {
	var d [dimensions][]setter
	s.add(&d, &s.rules.Rules[x.first])
	if x.first+1 < len(s.rules.Rules) && x.part == noPart {
		s.add(&d, &s.rules.Rules[x.first+1])
	}
	for i := range d {
		d[i] = append(d[i], s.common[i]...)
	}
	tries := min(maxTries, max(minTries, allTries/len(s.rules.Rules)))
	var found string
	// Few deviations from the first values come first, so that the test is
	// as plain as can be.
	for deviations := 0; deviations <= 5 && found == "" && tries > 0; deviations++ {
		var pick [dimensions]int
		s.try(x, &d, &pick, 0, deviations, &tries, &found)
	}
	return found
}

func (s *search) try(x *mutated, d *[dimensions][]setter, pick *[dimensions]int, dim, deviations int, tries *int, found *string) {
	switch {
	case *found != "" || *tries == 0:
		return
	case deviations == 0 || dim == dimensions:
		if deviations == 0 {
			*tries--
			*found = s.differs(x, d, pick)
		}
		return
	}
	s.try(x, d, pick, dim+1, deviations, tries, found)
	for i := 1; i < len(d[dim]); i++ {
		pick[dim] = i
		s.try(x, d, pick, dim+1, deviations-1, tries, found)
	}
	pick[dim] = 0
}

func (s *search) differs(x *mutated, d *[dimensions][]setter, pick *[dimensions]int) string {
	var t Test
	t.tx.Complete(s.rules, false)
	t.tx.Helo = defaultHelo
	for dim, i := range pick {
		d[dim][i](&t.tx)
	}
	before := s.engine.Decide(context.Background(), &t.tx, s.bound)
	after, action := x.decide(&t.tx, before, s.bound)
	if x.same(s.rules, before, after, action) {
		return ""
	}
	t.Name = fmt.Sprintf("notices rule %d %s", x.first+1, x.change)
	s.omit(&t)
	switch before.Outcome {
	case engine.Accept:
		t.Expect.Action = s.rules.Action(s.rules.Rules[before.Rule].Action).Name
	default:
		t.Expect.Outcome = before.Outcome
	}
	if !s.brings(&t, x) {
		return ""
	}
	return t.String()
}

// brings adds to a test the invented tables that it needs, and reports
// whether it then passes and notices the change.
func (s *search) brings(t *Test, x *mutated) bool {
	if s.holds(t, x) {
		return true
	}
	t.Tables = slices.Clone(s.invented)
	if len(t.Tables) == 0 || !s.holds(t, x) {
		return false
	}
	for i := len(t.Tables) - 1; i >= 0; i-- {
		less := *t
		less.Tables = slices.Delete(slices.Clone(t.Tables), i, i+1)
		if s.holds(&less, x) {
			t.Tables = less.Tables
		}
	}
	return true
}

// omit leaves out of a test what it has by itself.
func (s *search) omit(t *Test) {
	plain := Test{tx: engine.Transaction{Kind: t.tx.Kind}}
	plain.tx.Complete(s.rules, false)
	t.tagged = t.tx.Tag != plain.tx.Tag
	if t.tx.RDNS == plain.tx.RDNS {
		t.tx.RDNS = ""
	}
}

// holds reports whether the test, read again, passes and notices the change:
// what is offered to a user was tried in the form in which it is offered.
func (s *search) holds(t *Test, x *mutated) bool {
	suite, list := Read("", []byte(t.String()))
	if len(list) > 0 || len(suite.Tests) != 1 {
		return false
	}
	all, list := suite.Bind(s.base.Rules, nil)
	if len(list) > 0 {
		return false
	}
	b := all[len(all)-1]
	again := &b.tests[0]
	e := s.plain
	if len(again.Tables) > 0 {
		e = engine.NewLinear(b.Rules)
	}
	d := e.Decide(context.Background(), &again.tx, b)
	return again.Expect.meets(b.Rules, d) && x.mutation.in(b.Rules).notices(b, again, d)
}
