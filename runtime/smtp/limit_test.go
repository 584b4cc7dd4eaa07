package smtp

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"smtpd/compile"
)

// counted returns the value of one counter of a vector.
func counted(t *testing.T, v *prometheus.CounterVec, labels ...string) float64 {
	t.Helper()
	var m dto.Metric
	if err := v.WithLabelValues(labels...).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

const limited = "S: 220\nC: EHLO client.example\nS: 250\n"

// TestLimits reaches each limit that a dialogue can reach: it is logged and
// counted.
func TestLimits(t *testing.T) {
	many := strings.Repeat("x", 2050)
	for name, tt := range map[limit]struct {
		change func(*rig, *compile.Listener)
		script string
	}{
		limitErrors:        {func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxErrors = 1 }, limited + "C: BOGUS\nS: 500\nS: 421 4.7.0\nclosed"},
		limitCommands:      {func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxCommands, r.rules.SMTP.MaxRcpt = 1, 1 }, limited + strings.Repeat("C: NOOP\nS: 250\n", 2) + "C: NOOP\nS: 421 4.7.0\nclosed"},
		limitConnPerSource: {func(r *rig, l *compile.Listener) { l.ProxyV2, r.server.sources.limit = true, 0 }, "S: 421 4.7.0\nclosed"},
		limitAuth:          {func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxAuthFailures = 1 }, limited + "C: AUTH PLAIN " + plain("", "alice", "x") + "\nS: 535\nS: 421 4.7.0\nclosed"},
		limitMails:         {func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxMails = 0 }, limited + "C: MAIL FROM:<a@b>\nS: 452 4.5.3"},
		limitRcpts:         {func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxRcpt = 1 }, limited + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: RCPT TO:<e@f>\nS: 451 4.5.3"},
		limitSize:          {func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxMessageSize = 9 }, limited + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: S: longer\nC: .\nS: 554 5.3.4"},
		limitLine:          {nil, limited + "C: NOOP " + many + "\nS: 500 5.0.0\nclosed"},
		limitReceivedFields: {nil, limited + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\n" +
			strings.Repeat("C: Received: x\n", 100) + "C:\nC: .\nS: 500 5.4.6"},
	} {
		t.Run(string(name), func(t *testing.T) {
			r := newRig(t, func(r *rig, l *compile.Listener) {
				if name == limitAuth {
					l.TLS, l.PKI, l.Auth, l.AuthTable = compile.SMTPS, []string{"mx.example"}, compile.OptionalAuth, 1
				}
				if tt.change != nil {
					tt.change(r, l)
				}
			})
			before := counted(t, limits, string(name))
			script := tt.script
			switch name {
			case limitAuth:
				script = "tls\n" + script
			case limitConnPerSource:
				r.dialProxied(proxyHeader(1, 0x11, addrs("192.0.2.9")...), script)
				script = ""
			}
			if script != "" {
				r.run(script)
			}
			r.stop()
			if got := counted(t, limits, string(name)); got != before+1 {
				t.Errorf("counted %v times", got-before)
			}
			if want := `msg="smtp limit" session=`; !strings.Contains(r.logs.String(), want) || !strings.Contains(r.logs.String(), "limit="+string(name)+"\n") {
				t.Errorf("log:\n%s", r.logs)
			}
		})
	}
}

// TestTimeLimits has clients that are silent, slow, and endless.
func TestTimeLimits(t *testing.T) {
	for _, tt := range []struct {
		name  limit
		pause time.Duration // between two bytes
		want  time.Duration // until the session is over
	}{
		{limitIdle, 11 * time.Second, 10 * time.Second},
		{limitRate, time.Second, 20 * time.Second},
		{limitWithoutMail, time.Second / 4, time.Minute},
	} {
		inBubble(t, func(t *testing.T, r *rig) {
			before := counted(t, limits, string(tt.name))
			d := r.dial()
			runOn(t, d, upToData)
			began := time.Now()
			for {
				if _, err := io.WriteString(d.Conn, "x"); err != nil {
					break
				}
				time.Sleep(tt.pause)
			}
			if got := time.Since(began); got < tt.want || got > tt.want+2*tt.pause {
				t.Errorf("%s: over after %v, want %v", tt.name, got, tt.want)
			}
			if got := counted(t, limits, string(tt.name)); got != before+1 {
				t.Errorf("%s: counted %v times", tt.name, got-before)
			}
		}, func(r *rig, _ *compile.Listener) {
			r.server.timeout, r.server.rate, r.rules.SMTP.MaxWithoutMail = 10*time.Second, 2, 60
		})
	}
}

// TestGreetingDelay waits for a client that speaks first, and not for ever for
// one that does not.
func TestGreetingDelay(t *testing.T) {
	client, server := tcpPair(t)
	if speaks(&patientConn{Conn: server}, time.Millisecond) {
		t.Error("a silent client speaks")
	}
	go io.WriteString(client, "E")
	if !speaks(&patientConn{Conn: server}, time.Hour) {
		t.Error("a client that speaks is not heard")
	}
	_, silent := tcpPair(t)
	c := &patientConn{Conn: silent}
	c.interrupt()
	if speaks(c, time.Hour) {
		t.Error("a client is waited for although the server stops")
	}
}

func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// TestMaxSessions checks what the configuration may ask for, and that it gets
// no more than the open files allow.
func TestMaxSessions(t *testing.T) {
	most := sessionLimit()
	for set, want := range map[int]int{0: most, 7: 7, most + 1: most} {
		var logs bytes.Buffer
		s, err := newServer(&Config{Rules: &compile.Ruleset{SMTP: compile.SMTP{MaxSessions: set}}, Log: slog.New(slog.NewTextHandler(&logs, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if got := cap(s.slots); got != want || strings.Contains(logs.String(), "wanted") != (set > most) {
			t.Errorf("max-sessions %d: %d, want %d; log %s", set, got, want, &logs)
		}
	}
}

func TestGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuesses(2)
		home, other, here := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1")
		for range 2 {
			g.count(here)
			if !g.allows(home) {
				t.Error("too early")
			}
			g.count(home)
		}
		if g.allows(home) || g.allows(home.Next()) || !g.allows(other) || !g.allows(here) {
			t.Error("it is the network of the source that has to wait")
		}
		time.Sleep(failureMemory + 1)
		if !g.allows(home) {
			t.Error("it is never forgiven")
		}
		for a := other; len(g.from) < maxGuessers; a = a.Next() {
			g.count(a)
		}
		g.count(home)
		if len(g.from) > maxGuessers {
			t.Errorf("%d sources are remembered", len(g.from))
		}
	})
}

// TestAuthFailuresPerSource guesses in many sessions.
func TestAuthFailuresPerSource(t *testing.T) {
	r := newRig(t, func(r *rig, l *compile.Listener) {
		l.ProxyV2, l.TLS, l.PKI, l.Auth, l.AuthTable = true, compile.SMTPS, []string{"mx.example"}, compile.OptionalAuth, 1
		r.server.guesses = newGuesses(2)
	})
	guess := func(from, password, reply string) {
		t.Helper()
		r.dialProxied(proxyHeader(1, 0x11, addrs(from)...), "tls\n"+limited+"C: AUTH PLAIN "+plain("", "alice", password)+"\nS: "+reply)
	}
	guess("192.0.2.9", "x", "535")
	guess("192.0.2.9", "y", "535")
	guess("192.0.2.9", "secret", "421 4.7.0 Too many failed authentications")
	guess("192.0.2.8", "secret", "235")
	r.stop()
	if !strings.Contains(r.logs.String(), "limit=max-auth-failures-per-source") {
		t.Errorf("log:\n%s", r.logs)
	}
}

// TestCounters sends good and bad mail and looks at what is counted.
func TestCounters(t *testing.T) {
	type sample struct {
		v     *prometheus.CounterVec
		label []string
		want  float64
	}
	samples := []sample{
		{verbs, []string{"MAIL"}, 2}, {verbs, []string{"RCPT"}, 4}, {verbs, []string{"other"}, 1},
		{recipients, []string{"accepted"}, 2}, {recipients, []string{"permfail"}, 1}, {recipients, []string{"tempfail"}, 1},
		{messages, []string{"accepted"}, 1}, {messages, []string{"malformed"}, 1},
	}
	before := make([]float64, len(samples))
	for i, s := range samples {
		before[i] = counted(t, s.v, s.label...)
	}
	bytesBefore := counted(t, octets)
	r := newRig(t)
	r.run(upToData + "C: .\nS: 250\nC: BOGUS\nS: 500\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<nobody@d>\nS: 550\nC: RCPT TO:<later@d>\nS: 451\nC: RCPT TO:<c@d>\nS: 250\n" +
		"C: DATA\nS: 354\nC: no header\nC: .\nS: 550\nC: QUIT\nS: 221\nclosed")
	r.settled()
	for i, s := range samples {
		if got := counted(t, s.v, s.label...) - before[i]; got != s.want {
			t.Errorf("%v: %v, want %v", s.label, got, s.want)
		}
	}
	if got, want := counted(t, octets)-bytesBefore, float64(len(r.messages()[0])); got != want {
		t.Errorf("%v bytes, want %v", got, want)
	}
}

// TestLimitsAreDocumented holds docs/limits.md to the limits that there are.
func TestLimitsAreDocumented(t *testing.T) {
	source, err := os.ReadFile("limit.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`limit = "([a-z-]+)"`).FindAllSubmatch(source, -1)
	if len(names) == 0 {
		t.Fatal("no limits")
	}
	for _, n := range names {
		if !strings.Contains(string(page), "| `"+string(n[1])+"` |") {
			t.Errorf("docs/limits.md lacks %s", n[1])
		}
	}
}
