package engine

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"smtpd/compile"
)

func TestMatches(t *testing.T) {
	tests := []struct {
		service    Service
		entry, key string
		want       bool
	}{
		{String, "net", "net", true},
		{String, "*", "net", false},
		{String, "", "", true},

		{Domain, "example.org", "example.org", true},
		{Domain, "example.org", "example.org.", false},
		{Domain, "*.example.org", "a.example.org", true},
		{Domain, "*.example.org", ".example.org", true},
		{Domain, "*.example.org", "example.org", false},
		{Domain, "*.example.org", "a.b.example.org", false},
		{Domain, "*example.org", "example.org", true},
		{Domain, "*a.z", "xa.ya.z", false},
		{Domain, "*a.z", "x.a.z", true},
		{Domain, "*", "x", true},
		{Domain, "*", "", false},
		{Domain, "**", "x", true},
		{Domain, "a*", "a", false},
		{Domain, "a*", "ab", true},
		{Domain, "mail.*.org", "mail.x.org", true},
		{Domain, "mail.*.org", "mail.x.y.org", false},
		{Domain, "", "", true},
		{Domain, "", "x", false},

		{NetAddr, "local", "local", true},
		{NetAddr, "10/8", "10.1.2.3", true},
		{NetAddr, "10", "10.1.2.3", true},
		{NetAddr, "10.1", "10.1.2.3", true},
		{NetAddr, "10.1", "10.2.2.3", false},
		{NetAddr, "192.168.1", "192.168.1.9", true},
		{NetAddr, "192.168", "192.168.0.9", true},
		{NetAddr, "192.168", "192.168.1.9", false},
		{NetAddr, "192.0.2.7", "192.0.2.8", false},
		{NetAddr, "0.0.0.0/0", "[2001:db8::1]", false},
		{NetAddr, "::/0", "[2001:db8::1]", true},
		{NetAddr, "::/0", "192.0.2.1", false},
		{NetAddr, "[2001:db8::/32]", "[2001:db8::1]", true},
		{NetAddr, "[2001:db8::]/32", "[2001:db8::1]", false},
		{NetAddr, "ipv6:2001:db8::/32", "[2001:db8::1]", true},
		{NetAddr, "[ipv6:2001:db8::/32]", "[2001:db8::1]", true},
		{NetAddr, "192.0.2.0/33", "192.0.2.1", false},
		{NetAddr, "192.0.2.0/", "192.0.2.1", false},
		{NetAddr, "192.0.2.0.0", "192.0.2.0", false},
		{NetAddr, "client.invalid", "client.invalid", true},
		{NetAddr, "*.invalid", "client.invalid", false},

		{MailAddr, "@", "@", true},
		{MailAddr, "@", "a@b", true},
		{MailAddr, "", "a@b", true},
		{MailAddr, "bob", "bob@example.org", true},
		{MailAddr, "bob", "bob+tag@example.org", true},
		{MailAddr, "bob+tag", "bob+tag@example.org", true},
		{MailAddr, "bob+tag", "bob@example.org", false},
		{MailAddr, "bob@example.org", "bob+a+b@example.org", true},
		{MailAddr, "bob@", "bob@example.org", true},
		{MailAddr, "@example.org", "bob@example.org", true},
		{MailAddr, "@*.example.org", "bob@a.example.org", true},
		{MailAddr, "@*", "@", false},
		{MailAddr, "a@b@c", "a@b@c", true},
		{MailAddr, "bob", "@", false},

		{Regex, "^mx", "mx.example", true},
		{Regex, "(", "(", false},
		{Regex, "(?i)example", "example", true},
	}
	for _, tt := range tests {
		if got := matches(tt.entry, tt.service, tt.key, '+'); got != tt.want {
			t.Errorf("service %#x: entry %q, key %q: %v, want %v", tt.service, tt.entry, tt.key, got, tt.want)
		}
	}
}

// A world is a small Ruleset under construction.
type world struct{ rs compile.Ruleset }

func newWorld() *world {
	w := new(world)
	w.rs.SMTP.SubAddrDelim = '+'
	w.rs.Local = w.table("local", "127.0.0.1", "[::1]")
	w.rs.LocalNames = w.table("localhost", "mx.example")
	w.rs.AnyHost = w.table("local", "0.0.0.0/0", "::/0")
	w.rs.AnyDest = w.table("*", "mx")
	w.rs.Actions = []compile.Action{{Name: "local", Method: compile.MBox}, {Name: "out", Method: compile.Relay}}
	return w
}

func (w *world) add(t compile.Table) compile.TableID {
	w.rs.Tables = append(w.rs.Tables, t)
	return compile.TableID(len(w.rs.Tables))
}

func (w *world) table(keys ...string) compile.TableID {
	t := compile.Table{Name: "t", Kind: compile.List, Backend: "static"}
	for _, k := range keys {
		t.Entries = append(t.Entries, compile.Entry{Key: k})
	}
	return w.add(t)
}

func (w *world) dynamic(name string) compile.TableID {
	return w.add(compile.Table{Name: name, Kind: compile.Dynamic, Backend: "ldap"})
}

func is(t compile.TableID) compile.Criterion  { return compile.Criterion{Sign: compile.Is, Table: t} }
func not(t compile.TableID) compile.Criterion { return compile.Criterion{Sign: compile.Not, Table: t} }

func (w *world) anyone() compile.Rule {
	return compile.Rule{
		From:   compile.From{Kind: compile.FromAny, Criterion: is(w.rs.AnyHost)},
		For:    compile.For{Kind: compile.ForAny, Criterion: is(w.rs.AnyDest)},
		Action: 2,
	}
}

// tables answers for dynamic tables: "table key" is present, "table" alone
// is down.
type tables struct {
	w    *world
	have map[string]bool
	log  []string
}

var errDown = errors.New("connection refused")

func (l *tables) Check(_ context.Context, id compile.TableID, _ Service, key string) (bool, error) {
	name := l.w.rs.Table(id).Name
	l.log = append(l.log, name+" "+key)
	if l.have[name] {
		return false, errDown
	}
	return l.have[name+" "+key], nil
}

func outsider() Transaction {
	return Transaction{
		Kind: FromAddress, Addr: netip.MustParseAddr("203.0.113.9"), Helo: "client.example", RDNS: "client.invalid",
		Sender: Address{"alice", "example.net"}, Rcpt: Address{"bob", "example.org"},
	}
}

func TestLinearFrom(t *testing.T) {
	w := newWorld()
	src := is(w.table("local", "203.0.113.0/24"))
	named := is(w.table("client.invalid"))
	negate := func(c compile.Criterion) compile.Criterion { c.Sign = compile.Not; return c }
	from := func(k compile.FromKind, c compile.Criterion) compile.From { return compile.From{Kind: k, Criterion: c} }

	far := outsider()
	near := outsider()
	near.Addr = netip.MustParseAddr("127.0.0.1")
	mapped := outsider()
	mapped.Addr = netip.MustParseAddr("::ffff:203.0.113.9")
	nameless := outsider()
	nameless.RDNS = ""
	socket := outsider()
	socket.Kind, socket.Addr, socket.Auth = FromSocket, netip.Addr{}, true
	internal := far
	internal.Kind = FromInternal

	tests := []struct {
		name string
		from compile.From
		want [6]bool // far, near, mapped, nameless, socket, internal
	}{
		{"any", from(compile.FromAny, is(w.rs.AnyHost)), [6]bool{true, true, true, true, true, true}},
		{"local", from(compile.FromLocal, is(w.rs.Local)), [6]bool{false, true, false, false, true, true}},
		{"!local", from(compile.FromLocal, not(w.rs.Local)), [6]bool{true, false, true, true, false, false}},
		{"socket", from(compile.FromSocket, is(0)), [6]bool{false, false, false, false, true, false}},
		{"!socket", from(compile.FromSocket, not(0)), [6]bool{true, true, true, true, false, false}},
		{"src", from(compile.FromSrc, src), [6]bool{true, false, true, true, true, true}},
		{"!src", from(compile.FromSrc, negate(src)), [6]bool{false, true, false, false, false, false}},
		{"rdns", from(compile.FromRDNS, is(0)), [6]bool{true, true, true, false, true, false}},
		{"!rdns", from(compile.FromRDNS, not(0)), [6]bool{false, false, false, true, false, false}},
		{"rdns T", from(compile.FromRDNS, named), [6]bool{true, true, true, false, true, false}},
		{"!rdns T", from(compile.FromRDNS, negate(named)), [6]bool{false, false, false, false, false, true}},
	}
	for _, tt := range tests {
		w.rs.Rules = []compile.Rule{w.anyone()}
		w.rs.Rules[0].From = tt.from
		e := NewLinear(&w.rs)
		for i, tx := range []Transaction{far, near, mapped, nameless, socket, internal} {
			got := e.Decide(t.Context(), &tx, nil)
			if (got.Outcome == Accept) != tt.want[i] {
				t.Errorf("from %s, transaction %d: %+v, want accepted %v", tt.name, i, got, tt.want[i])
			}
		}
	}
}

func TestLinearCriteria(t *testing.T) {
	w := newWorld()
	change := func(f func(r *compile.Rule)) compile.Rule { r := w.anyone(); f(&r); return r }
	null := outsider()
	null.Sender = Address{}
	empty := outsider()
	empty.Rcpt.Domain = ""
	login := outsider()
	login.Auth, login.User, login.TLS = true, "Bob+x@Example.org", true
	tests := []struct {
		name string
		rule compile.Rule
		tx   Transaction
		want bool
	}{
		{"for any takes no empty domain", w.anyone(), empty, false},
		{"null sender is @", change(func(r *compile.Rule) { r.MailFrom = is(w.table("@example.net")) }), null, false},
		{"@ takes the null sender", change(func(r *compile.Rule) { r.MailFrom = is(w.table("@")) }), null, true},
		{"bare auth", change(func(r *compile.Rule) { r.Auth = is(0) }), login, true},
		{"auth as an address", change(func(r *compile.Rule) { r.Auth = is(w.table("bob@example.org")) }), login, true},
		{"not auth T", change(func(r *compile.Rule) { r.Auth = not(w.table("carol")) }), null, true},
		{"tls", change(func(r *compile.Rule) { r.TLS = is(0) }), login, true},
		{"not tls", change(func(r *compile.Rule) { r.TLS = not(0) }), login, false},
		{"untagged", change(func(r *compile.Rule) { r.Tag = is(w.table("")) }), null, true},
		{"helo", change(func(r *compile.Rule) { r.Helo = is(w.table("*.example")) }), null, true},
		{"rcpt-to", change(func(r *compile.Rule) { r.RcptTo = not(w.table("bob@*")) }), null, false},
	}
	for _, tt := range tests {
		w.rs.Rules = []compile.Rule{tt.rule}
		got := NewLinear(&w.rs).Decide(t.Context(), &tt.tx, nil)
		if (got.Outcome == Accept) != tt.want {
			t.Errorf("%s: %+v, want accepted %v", tt.name, got, tt.want)
		}
	}
}

// TestLinearFailure is about a table that cannot say: it stops the mail that
// depends on it and no other.
func TestLinearFailure(t *testing.T) {
	w := newWorld()
	down := w.dynamic("down")
	first := w.anyone()
	first.Helo = is(down)
	first.MailFrom = is(w.table("carol@example.net"))
	w.rs.Rules = []compile.Rule{first, w.anyone()}
	l := &tables{w: w, have: map[string]bool{"down": true}}
	tx := outsider()

	if got := NewLinear(&w.rs).Decide(t.Context(), &tx, l); got.Outcome != Accept || got.Rule != 1 || len(l.log) != 0 {
		t.Errorf("another sender: %+v after lookups %q, want rule 1 and no lookup", got, l.log)
	}
	got := NewLinearWith(&w.rs, OpenSMTPD78).Decide(t.Context(), &tx, l)
	if got.Outcome != TempFail || got.Rule != 0 || !errors.Is(got.Err, errDown) {
		t.Errorf("another sender, in the order of OpenSMTPD: %+v, want a temporary failure of rule 0", got)
	}
	tx.Sender.User = "carol"
	if got := NewLinear(&w.rs).Decide(t.Context(), &tx, l); got.Outcome != TempFail || got.Rule != 0 || !errors.Is(got.Err, errDown) {
		t.Errorf("the sender of the rule: %+v, want a temporary failure of rule 0", got)
	}
	tx.Helo = string(make([]byte, maxKey+1))
	if got := NewLinear(&w.rs).Decide(t.Context(), &tx, l); !errors.Is(got.Err, ErrKeyTooLong) {
		t.Errorf("HELO of 1024 bytes: %+v, want %v", got, ErrKeyTooLong)
	}

	tls := w.anyone()
	tls.TLS = not(0)
	w.rs.Rules = []compile.Rule{tls}
	if got := NewLinearWith(&w.rs, OpenSMTPD78).Decide(t.Context(), &tx, l); !errors.Is(got.Err, ErrTLS) {
		t.Errorf("tls in OpenSMTPD 7.8: %+v, want %v", got, ErrTLS)
	}
}
