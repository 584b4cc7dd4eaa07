package smtp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/internal/smtptest"
	"smtpd/runtime/envelope"
	"smtpd/runtime/filter"
	"smtpd/runtime/lka"
	"smtpd/runtime/mfa"
)

// A fakeQueue keeps messages in a directory and says what became of them.
type fakeQueue struct {
	dir         string
	createErr   error
	commitErr   error
	mu          sync.Mutex
	last        envelope.MessageID
	open        map[envelope.MessageID]bool
	committed   []envelope.MessageID
	rolledBack  int
	writeErr    error
	inCommit    chan struct{}
	leaveCommit chan struct{}
}

func (q *fakeQueue) path(id envelope.MessageID) string { return filepath.Join(q.dir, id.String()) }

func (q *fakeQueue) Create(context.Context) (envelope.MessageID, io.Writer, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.createErr != nil {
		return 0, nil, q.createErr
	}
	q.last++
	q.open[q.last] = true
	f, err := os.Create(q.path(q.last))
	if q.writeErr != nil {
		f.Close()
		return q.last, brokenWriter{q.writeErr}, err
	}
	return q.last, f, err
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func (q *fakeQueue) Commit(_ context.Context, id envelope.MessageID) error {
	if q.inCommit != nil {
		q.inCommit <- struct{}{}
		<-q.leaveCommit
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, id)
	if q.commitErr != nil {
		return q.commitErr
	}
	q.committed = append(q.committed, id)
	return nil
}

func (q *fakeQueue) Rollback(_ context.Context, id envelope.MessageID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, id)
	q.rolledBack++
}

// A fakePolicy accepts everyone but a few, and keeps what it was asked.
type fakePolicy struct {
	mu       sync.Mutex
	asked    []mfa.Rcpt
	verdicts map[string]mfa.PhaseVerdict // by phase
	phases   []mfa.Phase                 // that were asked
	gone     bool                        // Phase fails
	wants    []string                    // phases of programs; nil: there are none
}

func (p *fakePolicy) Phase(_ context.Context, q mfa.Phase) (mfa.PhaseVerdict, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phases = append(p.phases, q)
	if p.gone {
		return mfa.PhaseVerdict{}, errors.New("mfa is gone")
	}
	return p.verdicts[q.Name], nil
}

func (p *fakePolicy) Open(context.Context, compile.FilterID, uint64) (events, phases []string, err error) {
	if p.wants == nil {
		return nil, nil, errors.New("no programs")
	}
	return nil, p.wants, nil
}

func (p *fakePolicy) Tell(context.Context, compile.FilterID, uint64, []filter.Event) error {
	return errors.New("no programs")
}

func (p *fakePolicy) Message(context.Context, compile.FilterID, uint64) (*os.File, error) {
	return nil, errors.New("no programs")
}

func (p *fakePolicy) Rcpt(_ context.Context, r mfa.Rcpt) (string, []envelope.ID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, r)
	switch r.Rcpt.User {
	case "nobody":
		return "550 Invalid recipient", nil, nil
	case "later":
		return "451 Temporary failure", nil, nil
	case "goodbye":
		return "421 Go away", nil, nil
	case "broken":
		return "", nil, errors.New("mfa is gone")
	}
	return "", []envelope.ID{envelope.ID(r.Message)<<32 | envelope.ID(len(p.asked))}, nil
}

// fakeNames knows one client and a few users.
type fakeNames struct{ hang bool }

func (n fakeNames) PTR(ctx context.Context, _ netip.Addr) (string, lka.FCrDNS, error) {
	if n.hang {
		<-ctx.Done()
		return "", lka.Error, ctx.Err()
	}
	return "client.example", lka.Pass, nil
}

func (fakeNames) Lookup(_ context.Context, _ compile.TableID, s engine.Service, key string) (string, bool, error) {
	switch {
	case s == engine.AddrName && key == "127.0.0.1":
		return "reached.example", true, nil
	case s == engine.MailAddrMap && key == "alice":
		return "alice@example.org, @lists.example.*", true, nil
	case s == engine.MailAddrMap && key == "label":
		return "", false, errors.New("table is gone")
	}
	return "", false, nil
}

// Authenticate knows two users, whose password is "secret".
func (fakeNames) Authenticate(_ context.Context, _ compile.TableID, user, password string) (bool, error) {
	switch strings.ToLower(user) {
	case "broken":
		return false, errors.New("table is gone")
	case "alice", "label":
		return password == "secret", nil
	}
	return false, nil
}

// Check knows one network in table 1, and fails in table 2.
func (fakeNames) Check(_ context.Context, id compile.TableID, s engine.Service, key string) (bool, error) {
	if id == 2 {
		return true, errors.New("table is gone")
	}
	return s == engine.NetAddr && key == "127.0.0.1", nil
}

// A rig is a server with one listener, and what stands around it.
type rig struct {
	t      *testing.T
	rules  *compile.Ruleset
	queue  *fakeQueue
	policy *fakePolicy
	server *server
	call   func() (net.Conn, error) // the listener
	logs   *bytes.Buffer
	stop   func() // ends the server and waits for it

	patience time.Duration // of dialogues; 0: their default
}

// newRig starts a server. Its listener is as change leaves it.
func newRig(t *testing.T, change ...func(*rig, *compile.Listener)) *rig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newRigOn(t, ln, change)
	r.call = func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }
	return r
}

// inBubble runs f with a server in a bubble of testing/synctest, where hours
// take no time.
func inBubble(t *testing.T, f func(*testing.T, *rig), change ...func(*rig, *compile.Listener)) {
	t.Helper()
	testKeys(t) // made by the clock outside
	synctest.Test(t, func(t *testing.T) {
		ln := &pipeListener{calls: make(chan net.Conn, 16), closed: make(chan struct{})}
		r := newRigOn(t, ln, change)
		r.call, r.patience = ln.call, time.Hour
		f(t, r)
	})
}

// A pipeListener takes connections from call, without a network.
type pipeListener struct {
	calls  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// A pipeEnd says that it is from this host.
type pipeEnd struct{ net.Conn }

func (pipeEnd) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }
func (pipeEnd) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1025} }

func (l *pipeListener) call() (net.Conn, error) {
	ours, theirs := net.Pipe()
	l.calls <- pipeEnd{ours}
	return theirs, nil
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.calls:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeEnd{}.LocalAddr() }

func newRigOn(t *testing.T, ln net.Listener, change []func(*rig, *compile.Listener)) *rig {
	t.Helper()
	r := &rig{
		t: t,
		rules: &compile.Ruleset{
			ServerName: "mx.example",
			SMTP:       compile.SMTP{MaxMails: 100, MaxRcpt: 1000, MaxMessageSize: 36700160},
			Listeners:  []compile.Listener{{Addr: netip.MustParseAddr("192.0.2.1"), Port: 25, Hostname: "mx.example", Origin: compile.Origin{File: "smtpd.conf", Line: 1}}},
			Socket:     compile.Socket{Hostname: "mx.example"},
		},
		queue:  &fakeQueue{dir: t.TempDir(), open: make(map[envelope.MessageID]bool)},
		policy: new(fakePolicy),
		logs:   new(bytes.Buffer),
	}
	l := &r.rules.Listeners[0]
	c := &Config{Rules: r.rules, Log: slog.New(slog.NewTextHandler(r.logs, nil)), MaxSessions: 64, Listeners: make([]net.Listener, 1)}
	s, err := newServer(c)
	if err != nil {
		t.Fatal(err)
	}
	r.server = s
	s.queue, s.mfa, s.names = r.queue, r.policy, fakeNames{}
	for _, f := range change {
		f(r, l)
	}
	s.socket = newSocketEndpoint(r.rules)
	certs, roots := testKeys(t)
	tlsConfig, err := NewTLS(l, "", certs, roots)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var served sync.WaitGroup
	served.Go(func() {
		if err := s.serve(ctx, ctx, ln, newEndpoint(r.rules, l, tlsConfig)); err != nil {
			t.Error(err)
		}
	})
	r.stop = func() {
		cancel()
		served.Wait()
		s.sessions.Wait()
	}
	t.Cleanup(r.stop)
	return r
}

func (r *rig) dial() *smtptest.Dialogue {
	r.t.Helper()
	conn, err := r.call()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return &smtptest.Dialogue{Conn: conn, Timeout: r.patience}
}

// run holds a dialogue on a new connection.
func (r *rig) run(script string) {
	r.t.Helper()
	runOn(r.t, r.dial(), script)
}

func runOn(t *testing.T, d *smtptest.Dialogue, script string) {
	t.Helper()
	if err := d.Run(script); err != nil {
		t.Fatal(err)
	}
}

// messages returns what was committed.
func (r *rig) messages() []string {
	r.t.Helper()
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	var all []string
	for _, id := range r.queue.committed {
		b, err := os.ReadFile(r.queue.path(id))
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, string(b))
	}
	return all
}

// bodies returns what was committed without the Received field.
func (r *rig) bodies() []string {
	r.t.Helper()
	all := r.messages()
	for i, m := range all {
		all[i] = withoutReceived(m)
	}
	return all
}

func withoutReceived(m string) string {
	var rest strings.Builder
	first := true
	for line := range strings.Lines(m) {
		if first && (strings.HasPrefix(line, "Received: ") || strings.HasPrefix(line, "\t")) {
			continue
		}
		first = false
		rest.WriteString(line)
	}
	return rest.String()
}

// settled waits for the sessions and checks that nothing is left in the queue
// that is neither committed nor rolled back.
func (r *rig) settled() {
	r.t.Helper()
	r.stop()
	if len(r.queue.open) > 0 {
		r.t.Errorf("messages %v are left open", r.queue.open)
	}
}
