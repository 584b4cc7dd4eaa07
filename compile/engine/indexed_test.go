package engine

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"smtpd/compile"
)

// A generator makes random rule sets and transactions from few texts, so
// that rules overlap and share tables, and transactions hit them.
type generator struct {
	*rand.Rand
	w       *world
	dynamic []compile.TableID
	files   []fileTable
}

// A fileTable is a table that may change, and what it is made of.
type fileTable struct {
	id   compile.TableID
	from []string
}

var (
	genNames   = []string{"example.org", "*.example.org", "*", "b.example.org", "*a.z", "mail.*.org", "localhost", "", "ex*", "*.*"}
	genMails   = []string{"@", "bob", "bob+tag", "bob@example.org", "@example.org", "@*.example.org", "bob+tag@*", "@*", "a@mail.*.org", "bob@"}
	genNets    = []string{"local", "10/8", "10.1/16", "192.0.2.7", "0.0.0.0/0", "::/0", "2001:db8::/32", "[2001:db8:1::/48]", "client.invalid", "10.1.2.3"}
	genTexts   = []string{"", "net", "bob", "carol", "bob@example.org"}
	genRegexes = []string{"^ex", "bob", "[0-9]+", "^$", "(", "org$", "local", "@"}

	keyNames = []string{"example.org", "a.example.org", "b.example.org", "a.b.example.org", "", "localhost", "Example.ORG", "x.a.z", "xa.ya.z", "mail.x.org", "client"}
	keyUsers = []string{"bob", "bob+tag", "BOB+x", "", "a", "+tag", "a@b"}
	keyAddrs = []string{"10.1.2.3", "10.9.9.9", "192.0.2.7", "2001:db8::9", "2001:db8:1::2", "203.0.113.9", "::ffff:10.1.2.3", "fe80::1%eth0"}
	keyHosts = []string{"", "client.invalid", "Client.Invalid", "10.1.2.3", "bob.example.org"}
	keyLogin = []string{"", "bob", "Carol", "bob@example.org", "BOB+x@Example.org", "x@y"}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func newGenerator(seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 7)), w: newWorld()}
	for i := range 3 {
		g.dynamic = append(g.dynamic, g.w.dynamic(fmt.Sprint("dyn", i)))
	}
	return g
}

func (g *generator) criterion(from []string) compile.Criterion {
	c := compile.Criterion{Sign: compile.Is}
	if g.IntN(4) == 0 {
		c.Sign = compile.Not
	}
	c.Regex = g.IntN(5) == 0
	switch {
	case g.IntN(6) == 0:
		c.Table = pick(g.Rand, g.dynamic)
		return c
	case c.Regex:
		from = genRegexes
	}
	t := compile.Table{Kind: compile.List, Backend: "static", Entries: g.entries(from)}
	if len(g.files) > 0 && g.IntN(10) == 0 { // some criteria share a file, whatever it was made for
		c.Table = pick(g.Rand, g.files).id
		return c
	}
	if g.IntN(4) == 0 {
		t.Path = "/file"
		g.files = append(g.files, fileTable{compile.TableID(len(g.w.rs.Tables) + 1), from})
	}
	c.Table = g.w.add(t)
	return c
}

func (g *generator) entries(from []string) []compile.Entry {
	var keys []string
	for range 1 + g.IntN(3) {
		keys = append(keys, pick(g.Rand, from))
	}
	return entriesOf(keys...)
}

// change returns the engines as they are after a file has changed.
func (g *generator) change(linear *Linear, indexed *Indexed) (*Linear, *Indexed) {
	f := pick(g.Rand, g.files)
	s := NewStatic(&compile.Table{Entries: g.entries(f.from)}, '+')
	return linear.With(f.id, s), indexed.With(f.id, s)
}

func (g *generator) bare() compile.Criterion {
	return compile.Criterion{Sign: compile.Sign(1 + g.IntN(2))}
}

func (g *generator) rule() compile.Rule {
	r := g.w.anyone()
	r.Action = compile.ActionID(g.IntN(3))
	switch g.IntN(8) {
	case 0:
		r.From = compile.From{Kind: compile.FromLocal, Criterion: is(g.w.rs.Local)}
	case 1:
		r.From = compile.From{Kind: compile.FromSocket, Criterion: g.bare()}
	case 2:
		r.From = compile.From{Kind: compile.FromRDNS, Criterion: g.bare()}
	case 3:
		r.From = compile.From{Kind: compile.FromRDNS, Criterion: g.criterion(genNets)}
	case 4, 5:
		r.From = compile.From{Kind: compile.FromSrc, Criterion: g.criterion(genNets)}
	}
	switch g.IntN(4) {
	case 0:
		r.For = compile.For{Kind: compile.ForLocal, Criterion: is(g.w.rs.LocalNames)}
	case 1, 2:
		r.For = compile.For{Kind: compile.ForDomain, Criterion: g.criterion(genNames)}
	}
	some := func(c *compile.Criterion, from []string) {
		if g.IntN(4) == 0 {
			*c = g.criterion(from)
		}
	}
	some(&r.Tag, genTexts)
	some(&r.Helo, genNames)
	some(&r.Auth, append(genTexts[:4:4], genMails...))
	some(&r.MailFrom, genMails)
	some(&r.RcptTo, genMails)
	if g.IntN(8) == 0 {
		r.Auth = g.bare()
	}
	if g.IntN(8) == 0 {
		r.TLS = g.bare()
	}
	return r
}

// witness returns a text that an entry has, or nearly has: its pattern with
// each star filled, cut or lengthened by a label, in another case, with a
// sub-address, and the edges of its network.
func (g *generator) witness(entry string) string {
	text := strings.ReplaceAll(entry, "*", pick(g.Rand, []string{"", "x", "x.y", ".", "*", "a.z"}))
	if p, ok := parseNetAddr(entry); ok && g.IntN(2) == 0 {
		addr := p.Masked().Addr()
		switch g.IntN(3) {
		case 0:
			addr = addr.Next()
		case 1:
			addr = addr.Prev()
		}
		text = addr.String()
	}
	switch g.IntN(8) {
	case 0:
		text = "x." + text
	case 1:
		_, text, _ = strings.Cut(text, ".")
	case 2:
		text += "."
	case 3:
		text = strings.ToUpper(text)
	case 4:
		text = strings.Replace(text, "@", "+t@", 1)
	}
	return text
}

// aim makes a transaction one that some rule is about: its fields become
// witnesses of entries of the rule's tables.
func (g *generator) aim(tx *Transaction) {
	if len(g.w.rs.Rules) == 0 {
		return
	}
	r := &g.w.rs.Rules[g.IntN(len(g.w.rs.Rules))]
	address := func(a *Address, text string) {
		user, domain := splitAddr(text)
		if user != "" {
			a.User = user
		}
		if domain != "" {
			a.Domain = domain
		}
	}
	for p, c := range criteria(r) {
		if c.Table == 0 || len(g.w.rs.Table(c.Table).Entries) == 0 || g.IntN(3) == 0 {
			continue
		}
		text := g.witness(pick(g.Rand, g.w.rs.Table(c.Table).Entries).Key)
		switch Part(p) {
		case PartTag:
			tx.Tag = text
		case PartFrom:
			if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
				tx.Addr = addr
			} else {
				tx.RDNS = text
			}
		case PartFor:
			tx.Rcpt.Domain = text
		case PartHelo:
			tx.Helo = text
		case PartAuth:
			tx.User = text
		case PartMailFrom:
			address(&tx.Sender, text)
		case PartRcptTo:
			address(&tx.Rcpt, text)
		}
	}
}

func (g *generator) transaction() *Transaction {
	tx := &Transaction{
		Kind: FromAddress, Addr: netip.MustParseAddr(pick(g.Rand, keyAddrs)), Tag: pick(g.Rand, []string{"", "NET", "net", "x"}),
		TLS: g.IntN(2) == 0, Helo: pick(g.Rand, keyNames), RDNS: pick(g.Rand, keyHosts),
		Sender: Address{pick(g.Rand, keyUsers), pick(g.Rand, keyNames)},
		Rcpt:   Address{pick(g.Rand, keyUsers), pick(g.Rand, keyNames)},
	}
	tx.Auth, tx.User = g.IntN(2) == 0, pick(g.Rand, keyLogin)
	if g.IntN(2) == 0 {
		g.aim(tx)
	}
	switch g.IntN(4) {
	case 0:
		tx.Kind, tx.Addr = FromSocket, netip.Addr{}
	case 1:
		tx.Kind = FromInternal
	}
	if g.IntN(50) == 0 {
		tx.Helo = string(make([]byte, maxKey+1))
	}
	return tx
}

// lookups returns dynamic tables, some of which are down.
func (g *generator) lookups() *tables {
	l := &tables{w: g.w, have: make(map[string]bool)}
	for i := range g.dynamic {
		if name := fmt.Sprint("dyn", i); g.IntN(4) == 0 {
			l.have[name] = true
		} else {
			for _, key := range append(keyNames, "local", "bob@example.org", "bob", "carol", "net", "[2001:db8::9]", "10.1.2.3") {
				l.have[name+" "+fold(key)] = g.IntN(2) == 0
			}
		}
	}
	return l
}

// checkAgreement makes one random rule set and checks that both engines
// decide alike random transactions, and those that rules are about, and that the index asks no more, while
// the files that rules look into change.
func checkAgreement(t *testing.T, seed uint64) {
	t.Helper()
	g := newGenerator(seed)
	for range g.IntN(40) {
		g.w.rs.Rules = append(g.w.rs.Rules, g.rule())
	}
	linear, indexed := NewLinear(&g.w.rs), New(&g.w.rs)
	for range 40 {
		if len(g.files) > 0 && g.IntN(4) == 0 {
			linear, indexed = g.change(linear, indexed)
		}
		tx, l := g.transaction(), g.lookups()
		want := linear.Decide(t.Context(), tx, l)
		asked := len(l.log)
		l.log = nil
		got := indexed.Decide(t.Context(), tx, l)
		if got.Outcome != want.Outcome || got.Rule != want.Rule || fmt.Sprint(got.Err) != fmt.Sprint(want.Err) {
			t.Fatalf("seed %d: %+v\nindexed %+v, linear %+v", seed, tx, got, want)
		}
		if len(l.log) > asked {
			t.Fatalf("seed %d: %+v\nindexed asked %q, %d questions, linear %d", seed, tx, l.log, len(l.log), asked)
		}
	}
}

func TestEnginesAgree(t *testing.T) {
	for seed := range uint64(2000) {
		checkAgreement(t, seed)
	}
}

// FuzzEnginesAgree states that the indexed engine is the linear one, faster.
func FuzzEnginesAgree(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(1<<32 + seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { checkAgreement(t, seed) })
}

// TestIndexedShared is about rules that differ only in what they share with
// many others, where pairs of tests have to tell them apart.
func TestIndexedShared(t *testing.T) {
	w := newWorld()
	const n = 40
	for i := range n * n {
		r := w.anyone()
		r.From = compile.From{Kind: compile.FromSrc, Criterion: is(w.table(fmt.Sprintf("10.%d.0.0/16", i/n)))}
		r.For = compile.For{Kind: compile.ForDomain, Criterion: is(w.table(fmt.Sprintf("d%d.example", i%n)))}
		w.rs.Rules = append(w.rs.Rules, r)
	}
	e := New(&w.rs)
	if len(e.pairs) != n*n || len(e.always) != 0 {
		t.Errorf("%d pairs and %d rules always tried, want %d and none", len(e.pairs), len(e.always), n*n)
	}
	for i := range n * n {
		tx := outsider()
		tx.Addr = netip.MustParseAddr(fmt.Sprintf("10.%d.1.1", i/n))
		tx.Rcpt.Domain = fmt.Sprintf("d%d.example", i%n)
		if got := e.Decide(t.Context(), &tx, nil); got.Outcome != Accept || got.Rule != i {
			t.Fatalf("Decide = %+v, want rule %d", got, i)
		}
	}
}

// TestIndexedFile is about a file that rules share with a filter, changed
// while the engine is in use: whoever holds the old engine sees the old file.
func TestIndexedFile(t *testing.T) {
	w := newWorld()
	file := w.add(compile.Table{Name: "f", Kind: compile.List, Backend: "static", Path: "/f", Entries: entriesOf("a.example")})
	unused := w.add(compile.Table{Name: "g", Kind: compile.List, Backend: "static", Path: "/g"})
	filtered := w.add(compile.Table{Name: "h", Kind: compile.List, Backend: "static", Path: "/h"})
	r := w.anyone()
	r.For = compile.For{Kind: compile.ForDomain, Criterion: is(file)}
	w.rs.Rules = []compile.Rule{r}
	w.rs.Filters = []compile.Filter{{Test: compile.FilterTest{Field: compile.FieldHelo, Criterion: not(filtered)}}}
	if got, want := FileTables(&w.rs), []compile.TableID{file, filtered}; !slices.Equal(got, want) {
		t.Errorf("FileTables = %v, want %v without %d", got, want, unused)
	}
	before := New(&w.rs)
	after := before.With(file, NewStatic(&compile.Table{Entries: entriesOf("*.b.example", "c.example")}, '+'))
	if again := after.With(filtered, NewStatic(&compile.Table{}, '+')); again.files[0] != after.files[0] {
		t.Error("another file changed what the first one holds")
	}
	for domain, want := range map[string][2]bool{"a.example": {true, false}, "x.b.example": {false, true}, "c.example": {false, true}} {
		tx := outsider()
		tx.Rcpt.Domain = domain
		for i, e := range []Engine{before, after} {
			if d := e.Decide(t.Context(), &tx, nil); (d.Outcome == Accept) != want[i] {
				t.Errorf("%s, version %d: %+v, want accepted %v", domain, i, d, want[i])
			}
		}
	}
}

func TestIndexedAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools allocate")
	}
	w := newWorld()
	file := w.add(compile.Table{Kind: compile.List, Backend: "static", Path: "/f", Entries: entriesOf("bob@mail*.example", "@evil.example")})
	for i := range 100 {
		r := w.anyone()
		r.For = compile.For{Kind: compile.ForDomain, Criterion: is(w.table(fmt.Sprintf("*.d%d.example", i)))}
		r.MailFrom = is(w.table("bob@*.example.net", "@"))
		r.Helo = not(w.table("*.evil.example", "mail*.*.evil.example"))
		r.RcptTo = not(file)
		w.rs.Rules = append(w.rs.Rules, r)
	}
	e := New(&w.rs)
	tx := outsider()
	tx.Rcpt.Domain = "Mail.D99.Example"
	if n := testing.AllocsPerRun(1000, func() {
		if d := e.Decide(t.Context(), &tx, nil); d.Rule != 99 {
			t.Fatalf("Decide = %+v, want rule 99", d)
		}
	}); n > 0 {
		t.Errorf("%v allocations a decision, want none", n)
	}
}
