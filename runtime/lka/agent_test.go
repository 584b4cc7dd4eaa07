package lka

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/internal/dnstest"
	"smtpd/lang/diag"
	"smtpd/runtime/imsg"
	outside "smtpd/runtime/lka/source"
)

// Tables of the test configuration.
const (
	inlineMap compile.TableID = iota + 1
	inlineList
	fileMap
	accounts
	users
	database
)

func testRules(t testing.TB) *compile.Ruleset {
	t.Helper()
	path := filepath.Join(t.TempDir(), "aliases")
	if err := os.WriteFile(path, []byte("root: alice\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rs := &compile.Ruleset{Tables: []compile.Table{
		{Name: "map", Kind: compile.Mapping, Backend: "static", Entries: []compile.Entry{
			{Key: "broken", Value: "1000:1000"}, {Key: "vmail", Value: "5000:5001:/var/vmail"}}},
		{Name: "list", Kind: compile.List, Backend: "static", Entries: []compile.Entry{
			{Key: "10.0.0.0/8"}, {Key: "192.0.2.1"}, {Key: "198.51.100.1"}}},
		{Name: "aliases", Kind: compile.Mapping, Backend: "static", Path: path, Entries: []compile.Entry{{Key: "root", Value: "alice"}}},
		{Name: "accounts", Kind: compile.Mapping, Backend: "static", Entries: []compile.Entry{
			{Key: "alice", Value: "1000:100:/home/alice"}, {Key: "minus", Value: "4294967295:1:/x"},
			{Key: "relative", Value: "1:1:home"}, {Key: "words", Value: "root:wheel:/x"}}},
		{Name: "<getpwnam>", Kind: compile.Dynamic, Backend: "getpwnam"},
		{Name: "other", Kind: compile.Dynamic, Backend: "sqlite", Path: "/x", Origin: compile.Origin{File: "smtpd.conf", Line: 3, Column: 1}},
	}}
	rs.SMTP.SubAddrDelim = '+'
	return rs
}

// A rig is a running agent and a peer for each component.
type rig struct {
	rules                        *compile.Ruleset
	mfa, mda, mta, smtp, control *Client
	raw                          map[string]*imsg.Peer
}

func start(t *testing.T, c Config) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 6)
	running := 1
	r := &rig{rules: c.Rules, raw: make(map[string]*imsg.Peer)}
	link := func(name string, theirs *imsg.Conn) *Client {
		ours, other := imsg.Pipe()
		*theirs = other
		p := imsg.NewPeer(ours, ChangeHandler(func(context.Context, compile.TableID, Version) error { return nil }))
		running++
		go func() { errs <- p.Run(ctx) }()
		r.raw[name] = p
		return NewClient(p)
	}
	c.OpenTable = outside.Open
	r.mfa, r.mda, r.mta, r.smtp, r.control = link("mfa", &c.MFA), link("mda", &c.MDA), link("mta", &c.MTA),
		link("smtp", &c.SMTP), link("control", &c.Control)
	go func() { errs <- Main(ctx, c) }()
	t.Cleanup(func() {
		cancel()
		for range running {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
	return r
}

func TestTables(t *testing.T) {
	r := start(t, Config{Rules: testRules(t), Resolver: "127.0.0.1:9"})
	ctx := t.Context()
	if v, ok, err := r.mfa.Lookup(ctx, fileMap, engine.Alias, "ROOT"); v != "alice" || !ok || err != nil {
		t.Errorf("alias: %q, %v, %v", v, ok, err)
	}
	if v, ok, err := r.mfa.Lookup(ctx, fileMap, engine.Alias, "nobody"); v != "" || ok || err != nil {
		t.Errorf("absent alias: %q, %v, %v", v, ok, err)
	}
	for key, want := range map[string]bool{"10.1.2.3": true, "11.1.2.3": false} {
		if ok, err := r.smtp.Check(ctx, inlineList, engine.NetAddr, key); ok != want || err != nil {
			t.Errorf("check %s: %v, %v", key, ok, err)
		}
	}
	if _, _, err := r.mfa.Lookup(ctx, fileMap, engine.Alias, strings.Repeat("x", 1024)); err == nil {
		t.Error("a key that no table can hold was looked up")
	}
	for _, id := range []compile.TableID{99, 1 << 31} {
		if _, err := r.mfa.Check(ctx, id, engine.String, "x"); err == nil {
			t.Errorf("there is no table %d, and it answered", id)
		}
	}
	if _, _, err := r.mfa.Lookup(ctx, database, engine.Alias, "root"); err == nil {
		t.Error("a database answered that cannot be read")
	}
}

func TestFetchGoesRound(t *testing.T) {
	r := start(t, Config{Rules: testRules(t), Resolver: "127.0.0.1:9"})
	var got []string
	for range 4 {
		v, ok, err := r.mta.Fetch(t.Context(), inlineList, engine.Source)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		got = append(got, v)
	}
	if s := strings.Join(got, " "); s != "10.0.0.0/8 192.0.2.1 198.51.100.1 10.0.0.0/8" {
		t.Error(s)
	}
}

func TestUserInfo(t *testing.T) {
	r := start(t, Config{Rules: testRules(t), Resolver: "127.0.0.1:9"})
	ctx := t.Context()
	u, ok, err := r.mda.UserInfo(ctx, accounts, "Alice")
	if want := (UserInfo{"alice", 1000, 100, "/home/alice"}); u != want || !ok || err != nil {
		t.Errorf("alice: %+v, %v, %v", u, ok, err)
	}
	for _, name := range []string{"minus", "relative", "words"} {
		if u, _, err := r.mda.UserInfo(ctx, accounts, name); err == nil {
			t.Errorf("%s: a bad record is no error: %+v", name, u)
		}
	}
	for _, name := range []string{"nobody-has-this-name", "", "a:b", "root\x00", "0"} {
		for _, id := range []compile.TableID{0, users} {
			if u, ok, err := r.mda.UserInfo(ctx, id, name); ok || err != nil {
				t.Errorf("table %d, %q: %+v, %v, %v", id, name, u, ok, err)
			}
		}
	}
	me, err := user.Lookup("root")
	if err != nil {
		t.Skip("this system has no root:", err)
	}
	for _, id := range []compile.TableID{0, users} {
		if u, ok, err := r.mfa.UserInfo(ctx, id, "root"); !ok || err != nil || fmt.Sprint(u.UID) != me.Uid || u.Home != me.HomeDir {
			t.Errorf("table %d: %+v, %v, %v", id, u, ok, err)
		}
	}
	if _, _, err := r.mfa.Lookup(ctx, users, engine.Alias, "root"); err == nil {
		t.Error("accounts answered as aliases")
	}
}

// TestUpdate replaces the file of a table; what cannot be read in whole
// leaves the old content.
func TestUpdate(t *testing.T) {
	r := start(t, Config{Rules: testRules(t), Resolver: "127.0.0.1:9"})
	path := r.rules.Table(fileMap).Path
	steps := []struct {
		name, text, want, err string
	}{
		{"new", "root: bob\n", "bob", ""},
		{"bad line", "root: carol\nlonely\n", "bob", path + ":2"},
		{"a list", "root\n", "bob", "was a list"},
		{"comment only", "# nobody\n", "", ""},
		{"back", "root: dave\n", "dave", ""},
	}
	for _, s := range steps {
		if err := os.WriteFile(path, []byte(s.text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := r.control.Update(t.Context(), fileMap)
		if (err == nil) != (s.err == "") || err != nil && !strings.Contains(err.Error(), s.err) {
			t.Errorf("%s: %v", s.name, err)
		}
		if v, _, err := r.mfa.Lookup(t.Context(), fileMap, engine.Alias, "root"); v != s.want || err != nil {
			t.Errorf("%s: root is %q, %v; want %q", s.name, v, err, s.want)
		}
	}
	os.Remove(path)
	if err := r.control.Update(t.Context(), fileMap); err == nil {
		t.Error("a file that is gone was read")
	}
	for _, id := range []compile.TableID{inlineMap, users} {
		if err := r.control.Update(t.Context(), id); err == nil {
			t.Errorf("table %d was read anew", id)
		}
	}
}

func TestInclude(t *testing.T) {
	r := start(t, Config{Rules: testRules(t), Resolver: "127.0.0.1:9"})
	dir := t.TempDir()
	list := filepath.Join(dir, "list")
	if err := os.WriteFile(list, []byte("alice\nbob\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, ok, err := r.mfa.Include(t.Context(), list); text != "alice\nbob\n" || !ok || err != nil {
		t.Errorf("%q, %v, %v", text, ok, err)
	}
	if text, ok, err := r.mfa.Include(t.Context(), list+".missing"); text != "" || ok || err != nil {
		t.Errorf("missing: %q, %v, %v", text, ok, err)
	}
	huge := filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, make([]byte, maxInclude+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{huge, dir, "/dev/zero"} {
		if _, _, err := r.mfa.Include(t.Context(), path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}

// TestPeersAskOnlyTheirOwn has each peer send what is for others.
func TestPeersAskOnlyTheirOwn(t *testing.T) {
	r := start(t, Config{Rules: testRules(t), Resolver: "127.0.0.1:9"})
	file := nameQuery{r.rules.Table(fileMap).Path}.append(nil)
	for name, types := range map[string][]uint32{
		"smtp":    {msgInclude, msgUserInfo, msgUpdate, msgMX, 0, 99},
		"mfa":     {msgMX, msgFetch, msgUpdate},
		"mda":     {msgLookup, msgInclude, msgUpdate},
		"mta":     {msgInclude, msgUserInfo, msgUpdate},
		"control": {msgInclude, msgLookup},
	} {
		for _, typ := range types {
			m, err := r.raw[name].Call(t.Context(), imsg.Message{Type: typ, Data: file})
			if refused := imsg.RemoteError(""); !errors.As(err, &refused) || !strings.Contains(err.Error(), "not for this peer") {
				t.Errorf("%s, type %d: %q, %v", name, typ, m.Data, err)
			}
		}
	}
	if _, err := r.raw["mfa"].Call(t.Context(), imsg.Message{Type: msgLookup, Data: []byte{1, 2, 3}}); err == nil {
		t.Error("a malformed request was answered")
	}
	if _, _, err := r.mfa.Lookup(t.Context(), fileMap, engine.Alias, "root"); err != nil {
		t.Errorf("after malformed requests: %v", err)
	}
}

// TestDNSOverWire asks what mta and smtp ask, through the messages.
func TestDNSOverWire(t *testing.T) {
	r := start(t, Config{Rules: testRules(t), Resolver: dnstest.Start(t, testZone).Addr(), Hosts: "/nonexistent"})
	ctx := t.Context()
	mx, err := r.mta.MX(ctx, "two.example")
	if got := show(mx, nil); err != nil || got != "MX1.two.example 10 2001:db8::1 192.0.2.1; mx2.two.example 20 192.0.2.2" {
		t.Errorf("%s, %v", got, err)
	}
	var derr *DNSError
	if _, err := r.mta.MX(ctx, "nowhere.example"); !errors.As(err, &derr) || !derr.Permanent || derr.Text != "Domain does not exist" {
		t.Errorf("nowhere: %v", err)
	}
	if addrs, err := r.mta.Addrs(ctx, "mx1.two.example"); err != nil || fmt.Sprint(addrs) != "[2001:db8::1 192.0.2.1]" {
		t.Errorf("%v, %v", addrs, err)
	}
	if _, err := r.mta.Addrs(ctx, "nowhere.example"); !errors.As(err, &derr) || derr.Permanent {
		t.Errorf("nowhere: %v", err)
	}
	name, forward, err := r.smtp.PTR(ctx, netip.MustParseAddr("192.0.2.1"))
	if name != "mx1.two.example" || forward != Pass || err != nil {
		t.Errorf("%q, %v, %v", name, forward, err)
	}
	name, forward, err = r.smtp.PTR(ctx, netip.MustParseAddr("fe80::1%lo"))
	if name != "" || forward != Fail || err != nil {
		t.Errorf("scoped address: %q, %v, %v", name, forward, err)
	}
}

// TestDNSStallsNoOther has a name server that says nothing while tables and
// literals are asked for.
func TestDNSStallsNoOther(t *testing.T) {
	s := dnstest.Start(t, "")
	asked := make(chan struct{}, 16)
	s.SetHook(func(*dns.Msg, bool) *dns.Msg {
		asked <- struct{}{}
		return dnstest.Drop
	})
	r := start(t, Config{Rules: testRules(t), Resolver: s.Addr()})
	ctx, cancel := context.WithCancel(t.Context())
	hung := make(chan error, 1)
	go func() {
		_, err := r.mta.MX(ctx, "slow.example")
		hung <- err
	}()
	<-asked
	for range 10 { // well within the time that the question has
		if v, ok, err := r.mta.Lookup(t.Context(), fileMap, engine.Alias, "root"); v != "alice" || !ok || err != nil {
			t.Fatalf("%q, %v, %v", v, ok, err)
		}
		if addrs, err := r.mta.Addrs(t.Context(), "[192.0.2.1]"); len(addrs) != 1 || err != nil {
			t.Fatalf("%v, %v", addrs, err)
		}
	}
	cancel()
	if err := <-hung; !errors.Is(err, context.Canceled) {
		t.Errorf("the question ended before it was given up: %v", err)
	}
}

func TestUnsupported(t *testing.T) {
	l := Unsupported(testRules(t))
	if len(l) != 1 || !l.Has(diag.Language) || l[0].Error() != "smtpd.conf:3:1: table other: /x could not be read, or is empty" {
		t.Errorf("%v", l)
	}
}
