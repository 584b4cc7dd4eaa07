package mfa

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	wire "github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/filter"
	"smtpd/runtime/imsg"
)

// milterHost is where the milters of a test run: what is called by name is
// served by another implementation of the protocol.
type milterHost struct {
	conns chan net.Conn
	done  chan struct{}

	mu    sync.Mutex
	fewer sync.Cond // signals open
	down  bool
	calls []string
	heard []string
	open  int
}

func (h *milterHost) Milter(_ context.Context, name string, addr netip.Addr) (*os.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, fmt.Sprint(name, " ", addr))
	if h.down {
		return nil, errors.New("connection refused")
	}
	conn, theirs, err := imsg.Stream("milter")
	if err != nil {
		return nil, err
	}
	h.open++
	h.conns <- &countedConn{Conn: conn, host: h}
	return theirs, nil
}

// closed waits until every connection is closed.
func (h *milterHost) closed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.open > 0 {
		h.fewer.Wait()
	}
}

// A countedConn notes when it is closed.
type countedConn struct {
	net.Conn
	host *milterHost
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.host.mu.Lock()
		defer c.host.mu.Unlock()
		c.host.open--
		c.host.fewer.Broadcast()
	})
	return c.Conn.Close()
}

// Accept, Close and Addr make a listener of it.
func (h *milterHost) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *milterHost) Close() error   { return nil }
func (h *milterHost) Addr() net.Addr { return new(net.UnixAddr) }

func (h *milterHost) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, fmt.Sprintf(format, args...))
}

// A judge is a milter that decides by what it sees.
type judge struct {
	wire.NoOpMilter
	*milterHost
}

func (j judge) Connect(host, _ string, _ uint16, addr net.IP, m *wire.Modifier) (wire.Response, error) {
	j.note("connect %s %s %s", host, addr, m.Macros["j"])
	return wire.RespContinue, nil
}

func (j judge) Helo(name string, _ *wire.Modifier) (wire.Response, error) {
	j.note("helo %s", name)
	return wire.RespContinue, nil
}

func (j judge) MailFrom(from string, m *wire.Modifier) (wire.Response, error) {
	j.note("mail %s %s", from, m.Macros["{auth_authen}"])
	switch from {
	case "accept@x.example":
		return wire.RespAccept, nil
	case "die@x.example":
		return nil, errors.New("no more")
	}
	return wire.RespContinue, nil
}

func (j judge) RcptTo(to string, _ *wire.Modifier) (wire.Response, error) {
	j.note("rcpt %s", to)
	switch to {
	case "bad@x.example":
		return wire.NewResponseStr('y', "550 5.1.1 bad one"), nil
	case "drop@x.example":
		return wire.RespDiscard, nil
	}
	return wire.RespContinue, nil
}

func (j judge) Header(name, value string, _ *wire.Modifier) (wire.Response, error) {
	j.note("header %s: %s", name, value)
	if value == "spam" {
		return wire.RespReject, nil
	}
	return wire.RespContinue, nil
}

func (j judge) BodyChunk(chunk []byte, _ *wire.Modifier) (wire.Response, error) {
	j.note("body %s", chunk)
	return wire.RespContinue, nil
}

func (j judge) Body(m *wire.Modifier) (wire.Response, error) {
	j.note("end %s", m.Macros["i"])
	return wire.RespAccept, errors.Join(m.AddHeader("X-Judged", "yes"), m.AddRecipient("more@x.example"), m.Quarantine("smells"))
}

// milterAgent has the filters, the milters among them judges.
func milterAgent(t *testing.T, filters ...compile.Filter) (*agent, *milterHost) {
	t.Helper()
	h := &milterHost{conns: make(chan net.Conn, 100), done: make(chan struct{})}
	h.fewer.L = &h.mu
	server := &wire.Server{NewMilter: func() wire.Milter { return judge{milterHost: h} },
		Actions: wire.OptAddHeader | wire.OptAddRcpt | wire.OptQuarantine}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(h) })
	t.Cleanup(func() {
		close(h.done)
		serving.Wait()
	})
	a := filterAgent(filters...)
	a.caller, a.lookups = h, new(peers)
	if _, err := a.open(t.Context(), filter.In, &sessionRef{1, 0xab}); err != nil {
		t.Fatal(err)
	}
	return a, h
}

// told returns what the milters were told since the last time.
func (h *milterHost) told() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.heard = nil }()
	return strings.Join(h.heard, "\n")
}

// say puts phases to the filters, and returns what they say to the last.
func say(t *testing.T, a *agent, change func(*Phase), phases ...string) (v PhaseVerdict, err error) {
	t.Helper()
	for _, name := range phases {
		p := &Phase{
			Filter: 1, Name: name, Message: 7,
			Session: Session{ID: 0xab, Kind: engine.FromAddress, Addr: netip.MustParseAddr("192.0.2.7"), SMTPName: "mx.example",
				RDNS: "client.example", Helo: "helo.example", Auth: true, User: "joe"},
			Sender: envelope.ParseAddress("a@x.example"), Rcpt: envelope.ParseAddress("b@x.example"),
		}
		if change != nil {
			change(p)
		}
		if v, err = a.phase(t.Context(), p); err != nil || v.Do != 0 {
			break
		}
	}
	return v, err
}

const testMessage = "Received: ours\nSubject: x\n\nbody\n.\n"

var message = sessionRef{1, 0xab}

// TestMilter takes a session through a milter.
func TestMilter(t *testing.T) {
	a, h := milterAgent(t, compile.Filter{Name: "m", Milter: "inet:milter.example:8891"})
	if v, err := say(t, a, nil, "connect", "ehlo", "mail-from", "rcpt-to", "data"); v.Do != 0 || err != nil {
		t.Fatalf("%+v, %v", v, err)
	}
	if got, want := passed(t, a, &message, testMessage), "Received: ours\nSubject: x\nX-Judged: yes\n\nbody\n.\n"; got != want {
		t.Errorf("became %q", got)
	}
	v, err := say(t, a, nil, "commit")
	if diff := cmp.Diff(PhaseVerdict{Changes: Changes{Add: []string{"<more@x.example>"}, Quarantine: "smells"}}, v); diff != "" || err != nil {
		t.Errorf("%v: %s", err, diff)
	}
	want := "connect client.example 192.0.2.7 mx.example\nhelo helo.example\nmail a@x.example joe\nrcpt b@x.example\n" +
		"header Subject: x\nbody body\r\n\nend 00000007"
	if got := h.told(); got != want {
		t.Errorf("told\n%q, want\n%q", got, want)
	}
	// Twice, because this milter speaks an old version of the protocol.
	if diff := cmp.Diff([]string{"m 127.0.0.1", "m 127.0.0.1"}, h.calls); diff != "" {
		t.Error(diff)
	}
	// Nothing of one message is said of the next.
	if v, err := say(t, a, nil, "mail-from", "rcpt-to", "data", "commit"); err != nil || !v.Changes.None() {
		t.Errorf("%+v, %v", v, err)
	}
	a.tell(&message, []filter.Event{{Name: "link-disconnect"}})
	h.closed()
	if _, err := say(t, a, nil, "noop", "mail-from"); err == nil {
		t.Error("a session that has ended was asked about")
	}
}

// TestMilterVerdicts has a milter refuse, discard and accept.
func TestMilterVerdicts(t *testing.T) {
	a, h := milterAgent(t, compile.Filter{Name: "m", Milter: "inet:127.0.0.1:1"})
	sender := func(s string) func(*Phase) { return func(p *Phase) { p.Sender = envelope.ParseAddress(s) } }
	rcpt := func(s string) func(*Phase) { return func(p *Phase) { p.Rcpt = envelope.ParseAddress(s) } }
	say(t, a, nil, "connect", "helo", "mail-from")
	if v, err := say(t, a, rcpt("bad@x.example"), "rcpt-to"); v.Do != compile.Reject || v.Text != "550 5.1.1 bad one" || err != nil {
		t.Errorf("a recipient: %+v, %v", v, err)
	}
	if v, err := say(t, a, nil, "rcpt-to", "data"); v.Do != 0 || err != nil {
		t.Errorf("the next: %+v, %v", v, err)
	}
	spam := "Subject: spam\n\nbody\n.\n"
	if got := passed(t, a, &message, spam); got != spam {
		t.Errorf("became %q", got)
	}
	if v, err := say(t, a, nil, "commit"); v.Do != compile.Reject || v.Text != "550 5.7.1 Refused" || err != nil {
		t.Errorf("the message: %+v, %v", v, err)
	}
	if v, err := say(t, a, nil, "mail-from"); v.Do != 0 || err != nil {
		t.Errorf("mail: %+v, %v", v, err)
	}
	if v, err := say(t, a, rcpt("drop@x.example"), "rcpt-to"); v.Do != 0 || v.Discard || err != nil {
		t.Errorf("discarded: %+v, %v", v, err)
	}
	h.told()
	if got := passed(t, a, &message, testMessage); got != testMessage || h.told() != "" {
		t.Errorf("became %q", got)
	}
	if v, err := say(t, a, nil, "rcpt-to", "data", "commit"); !v.Discard || err != nil {
		t.Errorf("discarded: %+v, %v", v, err)
	}
	if v, err := say(t, a, sender("accept@x.example"), "mail-from", "rcpt-to", "data"); v.Do != 0 || err != nil {
		t.Errorf("accepted: %+v, %v", v, err)
	}
	if got := passed(t, a, &message, testMessage); got != testMessage || h.told() != "mail accept@x.example joe" {
		t.Errorf("became %q", got)
	}
	if v, err := say(t, a, nil, "commit"); v.Do != 0 || v.Discard || err != nil {
		t.Errorf("accepted: %+v, %v", v, err)
	}
}

// TestMilterDown checks what mail gets while a milter cannot be asked, and that
// it is called again with the next message.
func TestMilterDown(t *testing.T) {
	for _, bypass := range []bool{false, true} {
		a, h := milterAgent(t, compile.Filter{Name: "m", Milter: "unix:/m", Bypass: bypass})
		h.down = true
		for _, phase := range []string{"connect", "helo", "mail-from", "rcpt-to", "data", "commit"} {
			if v, err := say(t, a, nil, phase); v.Do != 0 || (err == nil) != bypass {
				t.Errorf("bypass %v, %s: %+v, %v", bypass, phase, v, err)
			}
		}
		if bypass {
			if got := passed(t, a, &message, testMessage); got != testMessage {
				t.Errorf("became %q", got)
			}
		} else if _, err := a.message(t.Context(), &message); err == nil {
			t.Error("a message passes a milter that is down")
		}
		h.mu.Lock()
		h.down = false
		h.mu.Unlock()
		if v, err := say(t, a, nil, "mail-from"); v.Do != 0 || err != nil {
			t.Errorf("up again: %+v, %v", v, err)
		}
		if got, want := h.told(), "connect client.example 192.0.2.7 mx.example\nhelo helo.example\nmail a@x.example joe"; got != want {
			t.Errorf("told %q", got)
		}
		// It dies, and is called again.
		die := func(p *Phase) { p.Sender = envelope.ParseAddress("die@x.example") }
		if _, err := say(t, a, die, "mail-from"); (err == nil) != bypass {
			t.Errorf("bypass %v, dies: %v", bypass, err)
		}
		if _, err := say(t, a, nil, "rcpt-to"); (err == nil) != bypass {
			t.Errorf("bypass %v, after its death: %v", bypass, err)
		}
		if v, err := say(t, a, nil, "mail-from", "rcpt-to"); v.Do != 0 || err != nil {
			t.Errorf("the next message: %+v, %v", v, err)
		}
		a.forget()
		h.closed()
	}
}

// TestMilterChain has a message go through milters and programs in their order.
func TestMilterChain(t *testing.T) {
	a, _ := milterAgent(t, compile.Filter{Name: "all", Chain: []compile.FilterID{2, 3, 4}},
		compile.Filter{Name: "one", Milter: "unix:/1"}, compile.Filter{Name: "builtin", Phase: "commit", Do: compile.Report},
		compile.Filter{Name: "two", Milter: "unix:/2"})
	if v, err := say(t, a, nil, "connect", "helo", "mail-from", "rcpt-to", "data"); v.Do != 0 || err != nil {
		t.Fatalf("%+v, %v", v, err)
	}
	want := "Received: ours\nSubject: x\nX-Judged: yes\nX-Judged: yes\n\nbody\n.\n"
	if got := passed(t, a, &message, testMessage); got != want {
		t.Errorf("became %q", got)
	}
	if v, err := say(t, a, nil, "commit"); err != nil || len(v.Changes.Add) != 2 {
		t.Errorf("%+v, %v", v, err)
	}
}
