package mfa

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/expand"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/parent"
)

// peers stands for lka, parent and queue.
type peers struct {
	aliases  map[string]string // of the table that is a file
	users    []string
	forwards map[string]string // paths
	down     error             // of every lookup
	full     error             // of the queue

	queued []envelope.Envelope
}

func (p *peers) Check(context.Context, compile.TableID, engine.Service, string) (bool, error) {
	return false, errors.New("no table of these rules is dynamic")
}

func (p *peers) Lookup(_ context.Context, _ compile.TableID, _ engine.Service, key string) (string, bool, error) {
	v, ok := p.aliases[key]
	return v, ok, p.down
}

func (p *peers) UserInfo(_ context.Context, _ compile.TableID, name string) (lka.UserInfo, bool, error) {
	for _, u := range p.users {
		if u == name {
			return lka.UserInfo{Name: name, UID: 1000, GID: 1000, Home: "/home/" + name}, true, p.down
		}
	}
	return lka.UserInfo{}, false, p.down
}

func (p *peers) Include(context.Context, string) (string, bool, error) { return "", false, p.down }

func (p *peers) Addrs(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, p.down
}

func (p *peers) Forward(_ context.Context, u parent.Account) (*os.File, error) {
	if path, ok := p.forwards[u.Name]; ok {
		return os.Open(path)
	}
	return nil, nil
}

func (p *peers) Submit(_ context.Context, msg envelope.MessageID, evs []envelope.Envelope) ([]envelope.ID, error) {
	if p.full != nil {
		return nil, p.full
	}
	var ids []envelope.ID
	for _, ev := range evs {
		ev.ID = envelope.ID(uint64(msg)<<32 | uint64(len(p.queued)+1))
		p.queued = append(p.queued, ev)
		ids = append(ids, ev.ID)
	}
	return ids, nil
}

func (p *peers) Withdraw(_ context.Context, msg envelope.MessageID) error {
	if p.full != nil {
		return p.full
	}
	p.queued = slices.DeleteFunc(p.queued, func(ev envelope.Envelope) bool { return ev.ID.Message() == msg })
	return nil
}

// testRules has an action of each kind. Mail for NAME.example goes by the
// action NAME; other mail of the socket, and what came out of an expansion,
// is relayed.
func testRules() *compile.Ruleset {
	rs := &compile.Ruleset{
		ServerName: "mx.example",
		Tables: []compile.Table{
			{Name: "<localhost>", Kind: compile.List, Backend: "static", Entries: []compile.Entry{{Key: "local"}}},
			{Name: "<anyhost>", Kind: compile.List, Backend: "static",
				Entries: []compile.Entry{{Key: "0.0.0.0/0"}, {Key: "::/0"}, {Key: "local"}}},
			{Name: "<anydestination>", Kind: compile.List, Backend: "static", Entries: []compile.Entry{{Key: "*"}}},
			{Name: "inline", Kind: compile.Mapping, Backend: "static", Entries: []compile.Entry{
				{Key: "both", Value: "alice, out@remote.net"}, {Key: "root", Value: "alice"}}},
			{Name: "file", Kind: compile.Mapping, Backend: "static", Path: "/etc/virtual"},
		},
		Local: 1, AnyHost: 2, AnyDest: 3,
		Socket: compile.Socket{Tag: "sock"},
	}
	rs.SMTP.SubAddrDelim = '+'
	for _, a := range []compile.Action{
		{Name: "maildir", Method: compile.Maildir, Alias: 4},
		{Name: "boxes", Method: compile.Maildir, Argument: "/vmail/%{dest.domain}/%{dest.user}", Virtual: 5},
		{Name: "command", Method: compile.MDA, Argument: "prog", Virtual: 5},
		{Name: "relay", Method: compile.Relay},
	} {
		rs.Actions = append(rs.Actions, a)
		r := compile.Rule{
			From:   compile.From{Kind: compile.FromAny, Criterion: compile.Criterion{Sign: compile.Is, Table: rs.AnyHost}},
			For:    compile.For{Kind: compile.ForDomain, Criterion: compile.Criterion{Sign: compile.Is, Table: compile.TableID(len(rs.Tables) + 1)}},
			Action: compile.ActionID(len(rs.Actions)),
		}
		if a.Method == compile.Relay {
			r.From = compile.From{Kind: compile.FromLocal, Criterion: compile.Criterion{Sign: compile.Is, Table: rs.Local}}
			r.For = compile.For{Kind: compile.ForAny, Criterion: compile.Criterion{Sign: compile.Is, Table: rs.AnyDest}}
		}
		rs.Tables = append(rs.Tables, compile.Table{Name: a.Name, Kind: compile.List, Backend: "static",
			Entries: []compile.Entry{{Key: a.Name + ".example"}}})
		rs.Rules = append(rs.Rules, r)
	}
	return rs
}

func newTestAgent(p *peers) *agent {
	a := newAgent(Config{Rules: testRules()})
	a.lookups, a.homes, a.queue = p, p, p
	return a
}

func testRcpt(msg envelope.MessageID, rcpt string) *Rcpt {
	return &Rcpt{
		Message: msg,
		Session: Session{ID: 7, Kind: engine.FromAddress, Addr: netip.MustParseAddr("2001:db8::25"), Tag: "ext",
			SMTPName: "mx.example", Helo: "client.net", RDNS: "host.client.net", Auth: true, User: "sam", TLS: true},
		Sender: envelope.Address{User: "sam", Domain: "client.net"},
		Rcpt:   envelope.ParseAddress(rcpt),
		Notify: envelope.NotifyFailure, Ret: "HDRS", EnvID: "e1", ORcpt: "rfc822;x",
	}
}

func TestEnvelopes(t *testing.T) {
	p := &peers{users: []string{"alice"}}
	v := newTestAgent(p).rcpt(t.Context(), testRcpt(9, "Both@maildir.example"))
	if v.Reply != "" || len(v.IDs) != 2 {
		t.Fatalf("verdict %+v", v)
	}
	common := envelope.Envelope{
		Tag: "ext", SMTPName: "mx.example", Helo: "client.net", RDNS: "host.client.net", Source: "[2001:db8::25]", User: "sam",
		Sender: envelope.Address{User: "sam", Domain: "client.net"}, Rcpt: envelope.Address{User: "Both", Domain: "maildir.example"},
		Notify: envelope.NotifyFailure, Ret: "HDRS", EnvID: "e1", ORcpt: "rfc822;x",
	}
	local, remote := common, common
	local.ID, local.Type, local.Flags, local.Action = v.IDs[0], envelope.MDA, envelope.Authenticated, "maildir"
	local.Dest, local.LocalUser = common.Rcpt, "alice"
	remote.ID, remote.Type, remote.Flags, remote.Action = v.IDs[1], envelope.MTA, envelope.Authenticated|envelope.Internal, "relay"
	remote.Dest = envelope.Address{User: "out", Domain: "remote.net"}
	if diff := cmp.Diff([]envelope.Envelope{local, remote}, p.queued); diff != "" {
		t.Error(diff)
	}
}

// TestExpandedAddressIsLocal shows that a client who may not relay may still
// write to an alias that leads elsewhere.
func TestExpandedAddressIsLocal(t *testing.T) {
	p := &peers{users: []string{"alice"}}
	a := newTestAgent(p)
	if v := a.rcpt(t.Context(), testRcpt(1, "out@remote.net")); v.Reply != expand.ReplyInvalid {
		t.Errorf("relay for anyone: %+v", v)
	}
	if v := a.rcpt(t.Context(), testRcpt(1, "both@maildir.example")); v.Reply != "" {
		t.Errorf("alias: %+v", v)
	}
}

func TestForwardFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".forward")
	if err := os.WriteFile(path, []byte("\"|/bin/prog x\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &peers{users: []string{"alice"}, forwards: map[string]string{"alice": path}}
	if v := newTestAgent(p).rcpt(t.Context(), testRcpt(1, "alice@maildir.example")); v.Reply != "" {
		t.Fatalf("%+v", v)
	}
	if ev := p.queued[0]; ev.Execute != envelope.Command || ev.Exec != "/bin/prog x" || ev.LocalUser != "alice" {
		t.Errorf("envelope %+v", ev)
	}
}

// TestErrorsAreTemporary holds that what could not be looked up or queued is
// never refused for good.
func TestErrorsAreTemporary(t *testing.T) {
	down := errors.New("down")
	for name, p := range map[string]*peers{
		"user":    {down: down},
		"virtual": {down: down},
		"queue":   {full: down, users: []string{"alice"}},
	} {
		rcpt := "alice@maildir.example"
		if name == "virtual" {
			rcpt = "alice@boxes.example"
		}
		v := newTestAgent(p).rcpt(t.Context(), testRcpt(1, rcpt))
		if !strings.HasPrefix(v.Reply, "4") || len(p.queued) > 0 {
			t.Errorf("%s: %+v, queued %d", name, v, len(p.queued))
		}
	}
}

// TestOneMailboxOneCopy gives the recipients of one message, and then those
// of the next one of the session.
func TestOneMailboxOneCopy(t *testing.T) {
	tests := []struct {
		name  string
		rcpts []string
		want  int
	}{
		{"two names of a user", []string{"alice@maildir.example", "root@maildir.example"}, 1},
		{"the same twice", []string{"alice@maildir.example", "ALICE@maildir.example"}, 1},
		{"folders of a user", []string{"alice+a@maildir.example", "alice+b@maildir.example"}, 2},
		{"remote address", []string{"both@maildir.example", "both@maildir.example"}, 2},
		{"user and list", []string{"alice@maildir.example", "both@maildir.example"}, 2},
		{"catch-all into one folder an address", []string{"a@boxes.example", "b@boxes.example"}, 2},
		{"command that sees the address", []string{"a@command.example", "b@command.example"}, 2},
		{"command, the same address", []string{"a@command.example", "a@command.example"}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &peers{users: []string{"alice", "vmail"}, aliases: map[string]string{"@": "vmail"}}
			a := newTestAgent(p)
			for msg := envelope.MessageID(1); msg <= 2; msg++ {
				for _, rcpt := range tt.rcpts {
					if v := a.rcpt(t.Context(), testRcpt(msg, rcpt)); v.Reply != "" || len(v.IDs) == 0 {
						t.Errorf("%s: %+v", rcpt, v)
					}
				}
				if got := len(p.queued); got != tt.want*int(msg) {
					t.Errorf("%d envelopes after %d messages, want %d each", got, msg, tt.want)
				}
			}
		})
	}
}

func TestOneMailboxNotify(t *testing.T) {
	p := &peers{users: []string{"alice"}}
	a := newTestAgent(p)
	q := testRcpt(1, "alice@maildir.example")
	a.rcpt(t.Context(), q)
	q = testRcpt(1, "root@maildir.example")
	q.Notify = envelope.NotifySuccess
	if a.rcpt(t.Context(), q); len(p.queued) != 2 {
		t.Errorf("a recipient that wants other reports got none: %d envelopes", len(p.queued))
	}
}

// TestRefusedCopyIsForgotten shows that a mailbox counts as served only when
// the queue has its envelope.
func TestRefusedCopyIsForgotten(t *testing.T) {
	p := &peers{users: []string{"alice"}, full: errors.New("full")}
	a := newTestAgent(p)
	if v := a.rcpt(t.Context(), testRcpt(1, "alice@maildir.example")); v.Reply != expand.ReplyTemporary {
		t.Fatalf("%+v", v)
	}
	p.full = nil
	if v := a.rcpt(t.Context(), testRcpt(1, "alice@maildir.example")); v.Reply != "" || len(p.queued) != 1 {
		t.Errorf("%+v, %d envelopes", v, len(p.queued))
	}
}

func TestTransactionsAreBounded(t *testing.T) {
	var ts transactions
	first := ts.of(0, 1)
	for i := range uint64(3 * maxTransactions) {
		ts.of(i, 1)
		if ts.of(0, 1) != first {
			t.Fatalf("a session in use was forgotten after %d others", i)
		}
	}
	if n := len(ts.young) + len(ts.old); n > 2*maxTransactions {
		t.Errorf("%d transactions are kept", n)
	}
	if ts.of(0, 2) == first {
		t.Error("another message of the session got the transaction of the last")
	}
}

func TestSubmitReport(t *testing.T) {
	p := &peers{users: []string{"alice"}}
	a := newTestAgent(p)
	if err := a.SubmitReport(t.Context(), 5, "mx.example", envelope.ParseAddress("sam@remote.net")); err != nil {
		t.Fatal(err)
	}
	ev := p.queued[0]
	if !ev.Sender.IsNull() || ev.Source != "local" || ev.Tag != "sock" || ev.Flags != envelope.IsBounce|envelope.Authenticated || ev.Action != "relay" {
		t.Errorf("envelope %+v", ev)
	}
	err := a.SubmitReport(t.Context(), 5, "mx.example", envelope.ParseAddress("nobody@maildir.example"))
	if err == nil || err.Error() != expand.ReplyInvalid {
		t.Errorf("unknown user: %v", err)
	}
	p.down = errors.New("down")
	err = a.SubmitReport(t.Context(), 5, "mx.example", envelope.ParseAddress("alice@maildir.example"))
	if err == nil || err.Error() != expand.ReplyTemporary {
		t.Errorf("lookup error: %v", err)
	}
}

// TestAgentOverPipes runs the agent with the real lka over pipes; parent has no
// .forward and queue takes what it gets.
func TestAgentOverPipes(t *testing.T) {
	virtual := filepath.Join(t.TempDir(), "virtual")
	if err := os.WriteFile(virtual, []byte("info@boxes.example a@remote.net, b@remote.net\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rs := testRules()
	rs.Tables[4].Path = virtual

	ctx, cancel := context.WithCancel(t.Context())
	var conns [8]imsg.Conn
	for i := 0; i < len(conns); i += 2 {
		conns[i], conns[i+1] = imsg.Pipe()
	}
	submitted := make(chan int, 1)
	errs := make(chan error, 4)
	fake := func(c imsg.Conn, h imsg.Handler) *imsg.Peer {
		p := imsg.NewPeer(c, h)
		go func() { errs <- p.Run(ctx) }()
		return p
	}
	go func() { errs <- lka.Main(ctx, lka.Config{Rules: rs, MFA: conns[1], Resolver: "127.0.0.1:9"}) }()
	go func() {
		errs <- Main(ctx, Config{Rules: rs, LKA: conns[0], Queue: conns[2], Parent: conns[4], SMTP: conns[6]})
	}()
	fake(conns[3], func(_ context.Context, m imsg.Message) (imsg.Message, error) {
		r := imsg.NewReader(m.Data)
		msg := r.Uint32()
		n := int(r.Uint32())
		submitted <- n
		b := imsg.AppendUint32(nil, uint32(n))
		for i := range n {
			b = imsg.AppendUint64(b, uint64(msg)<<32|uint64(i))
		}
		return imsg.Message{Data: b}, nil
	})
	fake(conns[5], nil)
	smtp := fake(conns[7], nil)

	reply, ids, err := NewClient(smtp).Rcpt(ctx, *testRcpt(3, "info@boxes.example"))
	if err != nil || reply != "" || fmt.Sprint(ids) != "[0000000300000000 0000000300000001]" || <-submitted != 2 {
		t.Errorf("info: %q, %v, %v", reply, ids, err)
	}
	reply, ids, err = NewClient(smtp).Rcpt(ctx, *testRcpt(3, "nobody@boxes.example"))
	if err != nil || reply != expand.ReplyListPerm || ids != nil {
		t.Errorf("nobody: %q, %v, %v", reply, ids, err)
	}
	cancel()
	for range 5 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
