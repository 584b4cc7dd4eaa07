package mta

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/queue"
)

// A world fakes mta's peers and collects what it logs.
type world struct {
	t       testing.TB
	content string
	mx      map[string][]lka.MX
	addrs   map[string][]netip.Addr
	lookup  map[string]string
	fetch   []string
	secure  bool // hosts that are asked for by name, and TLSA records
	tlsa    map[string][]lka.TLSA
	tlsaErr error
	sts     lka.STS
	hurried chan []envelope.ID
	err     error
	paused  chan string // what was paused before

	mu           sync.Mutex
	log          bytes.Buffer
	path, stored string // where the content is, and which
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *world) Open(context.Context, envelope.MessageID) (*os.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stored != w.content || w.path == "" {
		w.path, w.stored = filepath.Join(w.t.TempDir(), "content"), w.content
		if err := os.WriteFile(w.path, []byte(w.content), 0o600); err != nil {
			return nil, err
		}
	}
	return os.Open(w.path)
}

func (w *world) Hurry(_ context.Context, l []envelope.ID) error {
	w.hurried <- l
	return nil
}

func (w *world) PausedRoutes(context.Context) (string, error) { return <-w.paused, nil }

func (w *world) Lookup(_ context.Context, _ compile.TableID, _ engine.Service, key string) (string, bool, error) {
	v, ok := w.lookup[key]
	return v, ok, w.err
}

func (w *world) Fetch(context.Context, compile.TableID, engine.Service) (string, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fetch) == 0 {
		return "", false, w.err
	}
	v := w.fetch[0]
	w.fetch = append(w.fetch[1:], v)
	return v, true, w.err
}

func (w *world) MX(_ context.Context, domain string) ([]lka.MX, error) {
	l, ok := w.mx[domain]
	if !ok {
		return nil, &lka.DNSError{Text: "Domain does not exist", Permanent: true}
	}
	return l, w.err
}

func (w *world) Host(_ context.Context, host string) (lka.MX, error) {
	l, ok := w.addrs[host]
	if !ok {
		return lka.MX{}, &lka.DNSError{Text: "Host not found"}
	}
	return lka.MX{Host: host, Addrs: l, Secure: w.secure}, nil
}

func (w *world) TLSA(_ context.Context, name string) ([]lka.TLSA, bool, error) {
	return w.tlsa[name], w.secure, w.tlsaErr
}

func (w *world) STS(context.Context, string) (lka.STS, error) { return w.sts, nil }

func (w *world) PTR(_ context.Context, a netip.Addr) (string, lka.FCrDNS, error) {
	return "", lka.Fail, nil
}

func testRules() *compile.Ruleset {
	return &compile.Ruleset{
		ServerName: "here.example",
		Actions:    []compile.Action{{Name: "relay", Method: compile.Relay}},
		MTA: compile.MTA{Limits: compile.MTALimits{
			MaxConnPerHost: 10, MaxConnPerRoute: 5, MaxConnPerSource: 100, MaxConnPerConnector: 20, MaxConnPerRelay: 100,
			MaxConnPerDomain: 100, ConnDelayRoute: 5, ConnDelayRelay: 2, ReconnDelayRoute: 3,
			SessionMailMax: 100, SessionKeepalive: 10, MaxFailuresPerSession: 25,
		}},
	}
}

// newTestAgent returns an agent that calls port and finds the mail exchanger
// of remote.example at 127.0.0.1.
func newTestAgent(t testing.TB, rs *compile.Ruleset, port uint16, changes ...func(*Config)) (*agent, *world) {
	t.Helper()
	w := &world{
		t: t, hurried: make(chan []envelope.ID, 10), paused: make(chan string), content: "Subject: hello\n\n.dot\ntext\n",
		mx: map[string][]lka.MX{"remote.example": {mx("mx.remote.example", 10, "127.0.0.1")}},
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := Config{Rules: rs, Port: port, Log: slog.New(slog.NewTextHandler(w, nil))}
	for _, change := range changes {
		change(&c)
	}
	a, err := newAgent(ctx, ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	a.queue, a.tables = w, w
	t.Cleanup(func() {
		cancel()
		a.work.Wait()
		for key, u := range a.book.usages {
			if u.conns != 0 {
				t.Errorf("%+v still has %d connections", key, u.conns)
			}
		}
	})
	return a, w
}

func mx(host string, pref uint16, addrs ...string) lka.MX {
	m := lka.MX{Host: host, Pref: pref}
	for _, a := range addrs {
		m.Addrs = append(m.Addrs, netip.MustParseAddr(a))
	}
	return m
}

// batch returns envelopes for one message to users of a domain.
func batch(domain string, users ...string) []envelope.Envelope {
	var l []envelope.Envelope
	for i, u := range users {
		a := envelope.Address{User: u, Domain: domain}
		l = append(l, envelope.Envelope{
			ID: 0x1234567800000001 + envelope.ID(i), Type: envelope.MTA, Action: "relay", Created: time.Now(),
			Sender: envelope.Address{User: "bob", Domain: "example.net"}, Rcpt: a, Dest: a, SMTPName: "here.example",
		})
	}
	return l
}

func deliver(t *testing.T, a *agent, b []envelope.Envelope) []queue.Result {
	t.Helper()
	results, err := a.Deliver(t.Context(), b)
	if err != nil || len(results) != len(b) {
		t.Fatalf("Deliver = %+v, %v", results, err)
	}
	slices.SortFunc(results, func(x, y queue.Result) int { return cmp.Compare(x.ID, y.ID) })
	for i := range b {
		if results[i].ID != b[i].ID {
			t.Fatalf("result %d is of envelope %v", i, results[i].ID)
		}
	}
	return results
}

// wantOne checks the result of a batch of one.
func wantOne(t *testing.T, r []queue.Result, outcome queue.Outcome, status, text string) {
	t.Helper()
	if r[0].Outcome != outcome || r[0].Status != status || !strings.Contains(r[0].Text, text) {
		t.Errorf("result = %+v, want %v, %s, a text with %q", r[0], outcome, status, text)
	}
}

// A remote is a server made of another implementation.
type remote struct {
	mu      sync.Mutex
	got     []received
	conns   int
	active  int // transactions
	most    int // of them at once
	rcptErr func(to string) error
	dataErr error
	hold    func() // with the message at hand, before it is answered
	user    string // demanded
}

// A received is a message that a remote got.
type received struct {
	from, helo, text, user string
	to                     []string
	opts                   smtp.MailOptions
	rcptOpts               []smtp.RcptOptions
	tls                    bool
	peer                   string
}

type remoteSession struct {
	*remote
	conn *smtp.Conn
	m    received
	user string
}

func (b *remote) NewSession(c *smtp.Conn) (smtp.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns++
	return &remoteSession{remote: b, conn: c}, nil
}

func (s *remoteSession) Reset() { s.m = received{} }

func (s *remoteSession) Logout() error { return nil }

func (s *remoteSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *remoteSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.remote.user || password != "secret" {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (s *remoteSession) Mail(from string, o *smtp.MailOptions) error {
	s.m = received{from: from, opts: *o}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active++
	s.most = max(s.most, s.active)
	return nil
}

func (s *remoteSession) Rcpt(to string, o *smtp.RcptOptions) error {
	if s.rcptErr != nil {
		if err := s.rcptErr(to); err != nil {
			return err
		}
	}
	s.m.to = append(s.m.to, to)
	s.m.rcptOpts = append(s.m.rcptOpts, *o)
	return nil
}

func (s *remoteSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.hold != nil {
		s.hold()
	}
	s.m.text, s.m.helo, s.m.user = string(text), s.conn.Hostname(), s.user
	s.m.peer = s.conn.Conn().RemoteAddr().String()
	_, s.m.tls = s.conn.TLSConnectionState()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	if s.dataErr == nil {
		s.got = append(s.got, s.m)
	}
	return s.dataErr
}

func (b *remote) messages() []received {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]received(nil), b.got...)
}

// start serves b at addr and returns the port.
func (b *remote) start(t *testing.T, addr string, change func(*smtp.Server)) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := smtp.NewServer(b)
	s.EnableDSN, s.EnableSMTPUTF8 = true, true
	s.Domain = "mx.remote.example"
	s.ErrorLog = quiet{}
	if change != nil {
		change(s)
	}
	if s.LMTP || s.TLSConfig == nil || !s.AllowInsecureAuth {
		go s.Serve(ln)
	} else { // smtps
		go s.Serve(tls.NewListener(ln, s.TLSConfig))
	}
	t.Cleanup(func() { s.Close() })
	return netip.MustParseAddrPort(ln.Addr().String()).Port()
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

func smtpError(code int, e smtp.EnhancedCode, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: e, Message: text}
}

func TestRelay(t *testing.T) {
	b := new(remote)
	a, w := newTestAgent(t, testRules(), b.start(t, "127.0.0.1:0", nil))
	evs := batch("remote.example", "alice", "carol")
	evs[0].Ret, evs[0].EnvID, evs[0].Notify, evs[0].ORcpt = "HDRS", "id+2B", envelope.NotifySuccess|envelope.NotifyDelay, "rfc822;alice@old.example"
	evs[1].Notify = envelope.NotifyNever
	for _, r := range deliver(t, a, evs) {
		wantOne(t, []queue.Result{r}, queue.Delivered, "2.0.0", "250 2.0.0 OK")
		if !r.DSN || r.Remote != "mx.remote.example" {
			t.Errorf("result = %+v", r)
		}
	}
	got := b.messages()
	if len(got) != 1 {
		t.Fatalf("%d messages, want one transaction", len(got))
	}
	m := got[0]
	if m.from != "bob@example.net" || fmt.Sprint(m.to) != "[alice@remote.example carol@remote.example]" || m.helo != "here.example" {
		t.Errorf("received %+v", m)
	}
	if want := "Subject: hello\r\n\r\n.dot\r\ntext\r\n"; m.text != want {
		t.Errorf("text %q, want %q", m.text, want)
	}
	if m.opts.Return != "HDRS" || m.opts.EnvelopeID != "id+" || m.opts.Size != 0 || fmt.Sprint(m.rcptOpts[0].Notify) != "[SUCCESS DELAY]" ||
		fmt.Sprint(m.rcptOpts[1].Notify) != "[NEVER]" || m.rcptOpts[0].OriginalRecipient != "alice@old.example" {
		t.Errorf("DSN parameters: %+v, %+v", m.opts, m.rcptOpts)
	}
	log := regexp.MustCompile(` session=[0-9a-f]{16} evpid`).ReplaceAllString(w.logged(), " evpid")
	want := `msg="mta delivery" evpid=1234567800000001 from=<bob@example.net> to=<alice@remote.example> rcpt=<-> source=- ` +
		`relay="127.0.0.1 (mx.remote.example)" delay=0s result=Ok stat="250 2.0.0 OK`
	if !strings.Contains(log, want) {
		t.Errorf("log:\n%swant a line with\n%s", log, want)
	}
}

// TestRelaySenders checks that each recipient gets the sender that rewriting
// makes for it.
func TestRelaySenders(t *testing.T) {
	rs := testRules()
	rs.SRS.Key, rs.Actions[0].Relay.SRS = "secret", true
	b := new(remote)
	a, _ := newTestAgent(t, rs, b.start(t, "127.0.0.1:0", nil))
	evs := batch("remote.example", "alice", "carol", "dave")
	evs[1].Rcpt.Domain, evs[2].Rcpt.Domain = "one.example", "two.example"
	results := deliver(t, a, evs)
	for i := range results {
		wantOne(t, results[i:], queue.Delivered, "2.0.0", "250")
	}
	senders := make(map[string]string)
	for _, m := range b.messages() {
		senders[m.to[0]] = m.from[strings.IndexByte(m.from, '@'):]
	}
	want := map[string]string{"alice@remote.example": "@example.net", "carol@remote.example": "@one.example", "dave@remote.example": "@two.example"}
	if !maps.Equal(senders, want) {
		t.Errorf("senders %v, want %v", senders, want)
	}
}

func TestRelayPartialFailure(t *testing.T) {
	b := &remote{rcptErr: func(to string) error {
		switch {
		case strings.HasPrefix(to, "no"):
			return smtpError(550, smtp.EnhancedCode{5, 1, 1}, "unknown")
		case strings.HasPrefix(to, "later"):
			return smtpError(450, smtp.EnhancedCode{4, 2, 1}, "busy")
		}
		return nil
	}}
	a, _ := newTestAgent(t, testRules(), b.start(t, "127.0.0.1:0", nil))
	r := deliver(t, a, batch("remote.example", "no", "alice", "later"))
	wantOne(t, r[0:], queue.PermFail, "5.1.1", "550 5.1.1 unknown")
	wantOne(t, r[1:], queue.Delivered, "2.0.0", "250")
	wantOne(t, r[2:], queue.TempFail, "4.2.1", "450 4.2.1 busy")
	if got := b.messages(); len(got) != 1 || len(got[0].to) != 1 {
		t.Errorf("received %+v", got)
	}
	// A transaction that came to nothing leaves the session usable.
	r = deliver(t, a, batch("remote.example", "no"))
	wantOne(t, r, queue.PermFail, "5.1.1", "unknown")
	r = deliver(t, a, batch("remote.example", "alice"))
	wantOne(t, r, queue.Delivered, "2.0.0", "250")
	if b.conns > 2 { // the second recipient put off was offered again to nobody
		t.Errorf("%d connections", b.conns)
	}
}

func TestRelayRefusals(t *testing.T) {
	b := &remote{dataErr: smtpError(554, smtp.EnhancedCode{5, 7, 1}, "spam")}
	a, w := newTestAgent(t, testRules(), b.start(t, "127.0.0.1:0", func(s *smtp.Server) { s.MaxMessageBytes = 100 }))
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.PermFail, "5.7.1", "554 5.7.1 spam")
	wantOne(t, deliver(t, a, batch("nowhere.example", "alice")), queue.PermFail, "5.1.2", "Domain does not exist")
	w.content = strings.Repeat("x\n", 50)
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.PermFail, "5.3.4", "message too large for peer")
	gone := batch("remote.example", "alice")
	gone[0].Action = "gone"
	wantOne(t, deliver(t, a, gone), queue.TempFail, "4.3.5", `"gone" is not configured`)
}

func TestRelayManyRefused(t *testing.T) {
	b := &remote{rcptErr: func(string) error { return smtpError(550, smtp.EnhancedCode{5, 1, 1}, "unknown") }}
	a, _ := newTestAgent(t, testRules(), b.start(t, "127.0.0.1:0", func(s *smtp.Server) { s.MaxRecipients = 1000 }))
	var users []string
	for i := range 200 {
		users = append(users, fmt.Sprint("u", i))
	}
	r := deliver(t, a, batch("remote.example", users...))
	wantOne(t, r, queue.PermFail, "5.1.1", "unknown")
	wantOne(t, r[199:], queue.TempFail, "4.5.0", "Too many consecutive errors, closing connection")
}

// TestSessionReuse checks that sessions stay open for later messages, and
// that no limit is exceeded, seen from the other side.
func TestSessionReuse(t *testing.T) {
	b := new(remote)
	a, _ := newTestAgent(t, testRules(), b.start(t, "127.0.0.1:0", nil))
	for range 20 {
		wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.Delivered, "2.0.0", "250")
	}
	if b.conns != 1 {
		t.Errorf("%d connections for messages one after the other, want 1", b.conns)
	}
}

func TestSessionMailMax(t *testing.T) {
	rs := testRules()
	rs.MTA.Limits.SessionMailMax = 3
	b := new(remote)
	a, _ := newTestAgent(t, rs, b.start(t, "127.0.0.1:0", nil))
	for range 9 {
		wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.Delivered, "2.0.0", "250")
	}
	if b.conns != 3 {
		t.Errorf("%d connections for 9 messages, want 3", b.conns)
	}
}

// TestConcurrency checks that a route has as many sessions as its limit
// allows, at once: the first ones are held until so many are there.
func TestConcurrency(t *testing.T) {
	const n, limit = 200, 5
	var begun atomic.Int32
	together := make(chan struct{})
	b := &remote{hold: func() {
		if begun.Add(1) == limit {
			close(together)
		}
		<-together
	}}
	a, _ := newTestAgent(t, testRules(), b.start(t, "127.0.0.1:0", nil))
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if r, err := a.Deliver(t.Context(), batch("remote.example", "alice")); err != nil || r[0].Outcome != queue.Delivered {
				t.Errorf("Deliver = %+v, %v", r, err)
			}
		})
	}
	wg.Wait()
	if got := len(b.messages()); got != n {
		t.Errorf("%d messages arrived, want %d", got, n)
	}
	if b.most != limit {
		t.Errorf("%d transactions at once, want the limit of a route, %d", b.most, limit)
	}
}

// TestSharedHostLimit checks that relays that share a host share its limit,
// and that none waits for the idle sessions of another: they would stay for
// longer than any test may take.
func TestSharedHostLimit(t *testing.T) {
	rs := testRules()
	rs.MTA.Limits.MaxConnPerHost, rs.MTA.Limits.SessionKeepalive = 1, 100_000
	b := new(remote)
	a, w := newTestAgent(t, rs, b.start(t, "127.0.0.1:0", nil))
	for i := range 5 {
		w.mx[fmt.Sprintf("d%d.example", i)] = w.mx["remote.example"]
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			wantOne(t, deliver(t, a, batch(fmt.Sprintf("d%d.example", i%5), "alice")), queue.Delivered, "2.0.0", "250")
		})
	}
	wg.Wait()
	if b.most != 1 {
		t.Errorf("%d transactions at once, want 1", b.most)
	}
}

// TestStop checks that a message under way is sent to its end when mta is told
// to stop, that one that waits is not begun, and that sessions say goodbye.
func TestStop(t *testing.T) {
	rs := testRules()
	rs.MTA.Limits.MaxConnPerHost = 1
	begun, goOn := make(chan bool), make(chan bool)
	b := &remote{hold: func() { begun <- true; <-goOn }}
	a, _ := newTestAgent(t, rs, b.start(t, "127.0.0.1:0", nil))
	stop, halt := context.WithCancel(t.Context())
	a.stop = stop
	var wg sync.WaitGroup
	first := make(chan []queue.Result, 1)
	wg.Go(func() { first <- deliver(t, a, batch("remote.example", "alice")) })
	<-begun
	second := make(chan error, 1)
	wg.Go(func() {
		_, err := a.Deliver(t.Context(), batch("remote.example", "carol"))
		second <- err
	})
	halt()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that waits: %v", err)
	}
	close(goOn)
	wantOne(t, <-first, queue.Delivered, "2.0.0", "250")
	wg.Wait()
	a.work.Wait()
	if n := len(b.messages()); n != 1 {
		t.Errorf("%d messages arrived, want 1", n)
	}
}

// listenBoth starts two remotes on one port of two addresses.
func listenBoth(t *testing.T, first, second *remote) uint16 {
	t.Helper()
	port := first.start(t, "127.0.0.1:0", nil)
	second.start(t, fmt.Sprintf("127.0.0.2:%d", port), nil)
	return port
}

func twoMX() []lka.MX {
	return []lka.MX{mx("mx1.remote.example", 10, "127.0.0.1"), mx("mx2.remote.example", 20, "127.0.0.2")}
}

func TestNextMX(t *testing.T) {
	for _, c := range []struct {
		name  string
		first *remote
		mx    []lka.MX
		want  string // the host that got it
	}{
		{"best first", new(remote), twoMX(), "mx1.remote.example"},
		{"recipient put off", &remote{rcptErr: func(string) error { return smtpError(450, smtp.EnhancedCode{4, 7, 1}, "greylisted") }}, twoMX(), "mx2.remote.example"},
		{"message put off", &remote{dataErr: smtpError(452, smtp.EnhancedCode{4, 3, 1}, "full")}, twoMX(), "mx2.remote.example"},
		{"nobody there", new(remote), []lka.MX{mx("dead.remote.example", 5, "127.0.0.3"), twoMX()[1]}, "mx2.remote.example"},
		{"no address", new(remote), []lka.MX{mx("none.remote.example", 5), twoMX()[1]}, "mx2.remote.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			second := new(remote)
			a, w := newTestAgent(t, testRules(), listenBoth(t, c.first, second))
			w.mx["remote.example"] = c.mx
			r := deliver(t, a, batch("remote.example", "alice"))
			wantOne(t, r, queue.Delivered, "2.0.0", "250")
			if r[0].Remote != c.want {
				t.Errorf("delivered to %s, want %s", r[0].Remote, c.want)
			}
		})
	}
	t.Run("refused for good", func(t *testing.T) {
		first := &remote{rcptErr: func(string) error { return smtpError(550, smtp.EnhancedCode{5, 1, 1}, "unknown") }}
		second := new(remote)
		a, w := newTestAgent(t, testRules(), listenBoth(t, first, second))
		w.mx["remote.example"] = twoMX()
		wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.PermFail, "5.1.1", "unknown")
		if second.conns > 0 {
			t.Error("the backup was asked, too")
		}
	})
	t.Run("put off by all", func(t *testing.T) {
		later := func(string) error { return smtpError(450, smtp.EnhancedCode{4, 7, 1}, "greylisted") }
		first, second := &remote{rcptErr: later}, &remote{rcptErr: later}
		a, w := newTestAgent(t, testRules(), listenBoth(t, first, second))
		w.mx["remote.example"] = twoMX()
		wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.TempFail, "4.7.1", "greylisted")
		if first.conns != 1 || second.conns != 1 {
			t.Errorf("%d and %d connections, want one each", first.conns, second.conns)
		}
	})
}

// TestDeadHost checks that a host that does not answer is left alone for a
// while, and what is said then.
func TestDeadHost(t *testing.T) {
	a, w := newTestAgent(t, testRules(), 1)
	for range 3 {
		wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.TempFail, "4.4.1", "Network error on destination MXs")
	}
	if n := strings.Count(w.logged(), `msg="mta connecting"`); n != 1 {
		t.Errorf("%d connections tried, want 1", n)
	}
	w.mx["remote.example"] = nil
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.TempFail, "4.4.4", "No MX found for destination")
}

func TestOwnHost(t *testing.T) {
	rs := testRules()
	b := new(remote)
	port := b.start(t, "127.0.0.1:0", nil)
	rs.Listeners = []compile.Listener{{Addr: netip.MustParseAddr("127.0.0.9"), Port: port}}
	a, w := newTestAgent(t, rs, port)
	for _, c := range []struct {
		name string
		mx   []lka.MX
		ok   bool
	}{
		{"by name", []lka.MX{mx("HERE.example", 10, "192.0.2.1")}, false},
		{"by address", []lka.MX{mx("mx.remote.example", 10, "127.0.0.9")}, false},
		{"a better one is used", []lka.MX{mx("mx1.remote.example", 5, "127.0.0.1"), mx("here.example", 10, "127.0.0.9")}, true},
		{"a worse one is not", []lka.MX{mx("here.example", 10, "127.0.0.9"), mx("mx1.remote.example", 20, "127.0.0.1")}, false},
		{"an equal one is not", []lka.MX{mx("mx1.remote.example", 10, "127.0.0.1"), mx("here.example", 10, "127.0.0.9")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			domain := strings.ReplaceAll(c.name, " ", "-") // a relay of its own
			w.mx[domain] = c.mx
			r := deliver(t, a, batch(domain, "alice"))
			if c.ok {
				wantOne(t, r, queue.Delivered, "2.0.0", "250")
			} else {
				wantOne(t, r, queue.PermFail, "5.4.6", "mail for "+domain+" loops back to this host")
			}
		})
	}
}

func TestBackup(t *testing.T) {
	rs := testRules()
	rs.Actions[0].Relay.Backup = true
	b := new(remote)
	a, w := newTestAgent(t, rs, b.start(t, "127.0.0.1:0", nil))
	w.mx["remote.example"] = []lka.MX{mx("mx1.remote.example", 5, "127.0.0.1"), mx("here.example", 10, "127.0.0.9"), mx("mx3.remote.example", 20, "127.0.0.1")}
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.Delivered, "2.0.0", "250")
	w.mx["own.example"] = []lka.MX{mx("here.example", 10, "127.0.0.9"), mx("mx3.remote.example", 20, "127.0.0.1")}
	wantOne(t, deliver(t, a, batch("own.example", "alice")), queue.TempFail, "4.4.4", "No MX found for destination")
}

func TestSmarthost(t *testing.T) {
	rs := testRules()
	rs.Actions[0].Relay.Host = 1
	b := new(remote)
	port := b.start(t, "127.0.0.1:0", nil)
	for _, c := range []struct {
		name, url string
		change    func(*compile.RelayOptions, *world)
		outcome   queue.Outcome
		status    string
		text      string
	}{
		{"literal", fmt.Sprintf("smtp://[127.0.0.1]:%d", port), nil, queue.Delivered, "2.0.0", "250"},
		{"name", fmt.Sprintf("smtp+notls://relay.example:%d", port), nil, queue.Delivered, "2.0.0", "250"},
		{"no such host", "gone.example", nil, queue.TempFail, "4.4.3", "Host not found"},
		{"no URL", "http://x", nil, queue.TempFail, "4.3.5", "Cannot parse smarthost"},
		{"empty table", "", nil, queue.TempFail, "4.3.0", "Cannot retrieve smarthost"},
		{"label without table", "smtps://l@relay.example", nil, queue.TempFail, "4.3.5", "No auth table for relaying"},
		{"no credentials", "smtps://l@relay.example", func(o *compile.RelayOptions, _ *world) { o.Auth = 2 }, queue.TempFail, "4.3.0", "Could not retrieve credentials"},
		{"TLS forbidden and required", "smtp+notls://relay.example", func(o *compile.RelayOptions, _ *world) { o.TLS = true }, queue.TempFail, "4.3.5", "TLS required for relaying"},
		{"domain map", fmt.Sprintf("smtp://relay.example:%d", port), func(o *compile.RelayOptions, w *world) {
			o.Host, o.Domain = 0, 3
			w.lookup = map[string]string{"remote.example": w.fetch[0]}
		}, queue.Delivered, "2.0.0", "250"},
		{"not in the map", "x", func(o *compile.RelayOptions, _ *world) { o.Host, o.Domain = 0, 3 }, queue.TempFail, "4.3.0", "Cannot retrieve smarthost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rs := testRules()
			rs.Actions[0].Relay.Host = 1
			a, w := newTestAgent(t, rs, 1)
			if c.url != "" {
				w.fetch = []string{c.url}
			}
			w.addrs = map[string][]netip.Addr{"relay.example": {netip.MustParseAddr("127.0.0.1")}}
			if c.change != nil {
				c.change(&rs.Actions[0].Relay, w)
			}
			wantOne(t, deliver(t, a, batch("remote.example", "alice")), c.outcome, c.status, c.text)
		})
	}
}

func TestSourceAndHelo(t *testing.T) {
	rs := testRules()
	rs.Actions[0].Relay.Src, rs.Actions[0].Relay.HeloSrc = 1, 2
	b := new(remote)
	a, w := newTestAgent(t, rs, b.start(t, "127.0.0.1:0", nil))
	w.fetch = []string{"127.0.0.5"}
	w.lookup = map[string]string{"127.0.0.5": "five.example"}
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.Delivered, "2.0.0", "250")
	if m := b.messages()[0]; m.helo != "five.example" || !strings.HasPrefix(m.peer, "127.0.0.5:") {
		t.Errorf("came from %s as %s", m.peer, m.helo)
	}
	if !strings.Contains(w.logged(), "source=127.0.0.5 ") {
		t.Errorf("log: %s", w.logged())
	}
	w.mx["six.example"] = w.mx["remote.example"]
	w.fetch = []string{"::1"}
	w.lookup["[::1]"] = "six.example"
	wantOne(t, deliver(t, a, batch("six.example", "alice")), queue.TempFail, "4.4.4", "Address family mismatch on destination MXs")
	w.mx["none.example"] = w.mx["remote.example"]
	w.fetch = nil
	wantOne(t, deliver(t, a, batch("none.example", "alice")), queue.TempFail, "4.3.0", "Could not retrieve source address")
}

// TestFruitless checks that a session ends after ten messages in a row of which
// the host has taken none, and that one that it takes starts the count anew.
func TestFruitless(t *testing.T) {
	b := &remote{rcptErr: func(to string) error {
		if strings.HasPrefix(to, "good@") {
			return nil
		}
		return smtpError(550, smtp.EnhancedCode{5, 1, 1}, "unknown")
	}}
	a, w := newTestAgent(t, testRules(), b.start(t, "127.0.0.1:0", nil))
	for _, user := range []string{"bad", "good", "bad", "bad", "bad", "bad", "bad", "bad", "bad", "bad", "bad", "bad", "bad"} {
		want := queue.PermFail
		if user == "good" {
			want = queue.Delivered
		}
		if r := deliver(t, a, batch("remote.example", user)); r[0].Outcome != want {
			t.Errorf("%s: %+v", user, r[0])
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conns != 2 || strings.Count(w.logged(), "mta host-rejects-all-mails") != 1 {
		t.Errorf("%d connections, want 2; log:\n%s", b.conns, w.logged())
	}
}

func TestInternationalized(t *testing.T) {
	for _, utf8 := range []bool{true, false} {
		b := new(remote)
		a, _ := newTestAgent(t, testRules(), b.start(t, "127.0.0.1:0", func(s *smtp.Server) { s.EnableSMTPUTF8 = utf8 }))
		r := deliver(t, a, batch("remote.example", "ünï", "alice"))
		if utf8 {
			wantOne(t, r, queue.Delivered, "2.0.0", "250")
		} else {
			wantOne(t, r, queue.PermFail, "5.6.7", "not supported by peer")
		}
		wantOne(t, r[1:], queue.Delivered, "2.0.0", "250")
		if m := b.messages(); len(m) != 1 || m[0].opts.UTF8 != utf8 {
			t.Errorf("received %+v", m)
		}
	}
}

// A certificate is made for the tests; it is its own authority.
type certificate struct {
	tls  *tls.Config // of a server that has it
	leaf *x509.Certificate
}

func newCertificate(t *testing.T, names ...string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate{&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, leaf}
}

// authorities returns the pool of certs under the name that tests use.
func authorities(certs ...certificate) map[string]*x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c.leaf)
	}
	return map[string]*x509.CertPool{"test": pool}
}

// TestTLS runs every mode against servers that offer no TLS, a good
// certificate, one for another name, one of an unknown authority, and a
// handshake that fails.
func TestTLS(t *testing.T) {
	good, other, unknown := newCertificate(t, "relay.example"), newCertificate(t, "other.example"), newCertificate(t, "relay.example")
	broken := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("no") }}
	servers := map[string]*tls.Config{"none": nil, "good": good.tls, "other": other.tls, "unknown": unknown.tls, "broken": broken}
	const clear, secure, refused = "clear", "secure", "refused"
	for _, c := range []struct {
		scheme   string
		tls, nov bool
		want     map[string]string
	}{
		{"smtp", false, false, map[string]string{"none": clear, "good": secure, "other": secure, "unknown": secure, "broken": clear}},
		{"smtp", true, false, map[string]string{"none": refused, "good": secure, "other": refused, "unknown": refused, "broken": refused}},
		{"smtp", true, true, map[string]string{"none": refused, "good": secure, "other": secure, "unknown": secure, "broken": refused}},
		{"smtp+tls", false, false, map[string]string{"none": refused, "good": secure, "other": refused, "unknown": refused, "broken": refused}},
		{"smtp+tls", true, true, map[string]string{"none": refused, "good": secure, "other": secure, "unknown": secure, "broken": refused}},
		{"smtps", false, false, map[string]string{"none": refused, "good": secure, "other": refused, "unknown": refused, "broken": refused}},
		{"smtps", true, true, map[string]string{"none": refused, "good": secure, "other": secure, "unknown": secure, "broken": refused}},
		{"smtp+notls", false, false, map[string]string{"none": clear, "good": clear, "other": clear, "unknown": clear, "broken": clear}},
	} {
		for server, want := range c.want {
			t.Run(fmt.Sprintf("%s tls=%v no-verify=%v/%s", c.scheme, c.tls, c.nov, server), func(t *testing.T) {
				b := new(remote)
				port := b.start(t, "127.0.0.1:0", func(s *smtp.Server) {
					s.TLSConfig = servers[server]
					s.AllowInsecureAuth = c.scheme == "smtps" // see start
				})
				rs := testRules()
				o := &rs.Actions[0].Relay
				o.Host, o.TLS, o.NoVerify, o.CA = 1, c.tls, c.nov, "test"
				a, w := newTestAgent(t, rs, 1, func(c *Config) { c.Roots = authorities(good, other) })
				w.fetch = []string{fmt.Sprintf("%s://relay.example:%d", c.scheme, port)}
				w.addrs = map[string][]netip.Addr{"relay.example": {netip.MustParseAddr("127.0.0.1")}}
				r := deliver(t, a, batch("remote.example", "alice"))
				got := refused
				if m := b.messages(); len(m) == 1 {
					got = map[bool]string{true: secure, false: clear}[m[0].tls]
				}
				if got != want || (r[0].Outcome == queue.Delivered) != (got != refused) || r[0].Outcome == queue.PermFail {
					t.Errorf("mail went %s, want %s; result %+v\n%s", got, want, r[0], w.logged())
				}
				if server == "broken" && want == clear && c.scheme == "smtp" && !strings.Contains(w.logged(), "opportunistic TLS failed, downgrading to plain") {
					t.Errorf("the downgrade is not logged:\n%s", w.logged())
				}
			})
		}
	}
}

func TestAuth(t *testing.T) {
	cert := newCertificate(t, "relay.example")
	for _, c := range []struct {
		secret string
		ok     bool
	}{{"bob:secret", true}, {"bob:wrong", false}} {
		b := &remote{user: "bob"}
		port := b.start(t, "127.0.0.1:0", func(s *smtp.Server) { s.TLSConfig = cert.tls })
		rs := testRules()
		o := &rs.Actions[0].Relay
		o.Host, o.Auth, o.CA, o.PKI = 1, 2, "test", "client"
		a, w := newTestAgent(t, rs, 1, func(c *Config) {
			c.Roots = authorities(cert)
			c.Certs = map[string]tls.Certificate{"client": cert.tls.Certificates[0]}
		})
		w.fetch = []string{fmt.Sprintf("smtp+tls://label@relay.example:%d", port)}
		w.addrs = map[string][]netip.Addr{"relay.example": {netip.MustParseAddr("127.0.0.1")}}
		w.lookup = map[string]string{"label": c.secret}
		r := deliver(t, a, batch("remote.example", "alice"))
		if !c.ok {
			wantOne(t, r, queue.TempFail, "4.4.1", "Network error")
			continue
		}
		wantOne(t, r, queue.Delivered, "2.0.0", "250")
		if m := b.messages()[0]; m.user != "bob" || !m.tls {
			t.Errorf("received %+v", m)
		}
	}
}

func TestUnsupported(t *testing.T) {
	rs := testRules()
	rs.Actions[0].Origin = compile.Origin{File: "smtpd.conf", Line: 3, Column: 1}
	if l := Unsupported(rs); len(l) > 0 {
		t.Errorf("a plain relay: %v", l[0])
	}
	o := &rs.Actions[0].Relay
	o.Ciphers = "RC4"
	l := Unsupported(rs)
	if len(l) != 1 || l[0].Error() != `smtpd.conf:3:1: action relay: ciphers "RC4": "RC4" is not available` {
		t.Errorf("%d complaints: %v", len(l), l)
	}
}

// TestKeyring checks that mta does not start without what TLS needs.
func TestKeyring(t *testing.T) {
	for _, o := range []compile.RelayOptions{{CA: "gone"}, {PKI: "gone"}, {Ciphers: "RC4"}, {Protocols: "SSLv2"}} {
		rs := testRules()
		rs.Actions[0].Method, rs.Actions[0].Relay = compile.Relay, o
		if _, err := newAgent(t.Context(), t.Context(), Config{Rules: rs}); err == nil || !strings.Contains(err.Error(), "action relay: ") {
			t.Errorf("%+v: error %v", o, err)
		}
	}
}

// TestUntried checks that a component which is being started again costs no
// try: the queue is told nothing and hands the mail out again.
func TestUntried(t *testing.T) {
	down := fmt.Errorf("lookup: %w", imsg.ErrClosed)
	for name, change := range map[string]func(*compile.RelayOptions){
		"smarthost": func(o *compile.RelayOptions) { o.Host = 1 },
		"map":       func(o *compile.RelayOptions) { o.Domain = 1 },
		"source":    func(o *compile.RelayOptions) { o.Src = 1 },
		"exchanger": func(*compile.RelayOptions) {},
	} {
		t.Run(name, func(t *testing.T) {
			rs := testRules()
			change(&rs.Actions[0].Relay)
			a, w := newTestAgent(t, rs, 1)
			w.err = down
			if l, err := a.Deliver(t.Context(), batch("remote.example", "alice")); len(l) > 0 || err != nil {
				t.Errorf("results %v, %v", l, err)
			}
		})
	}
}
