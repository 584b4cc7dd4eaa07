package smtp

import (
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"smtpd/compile"
)

func TestErrorBudget(t *testing.T) {
	r := newRig(t)
	r.run("S: 220\n" + strings.Repeat("C: BOGUS\nS: 500\n", maxErrors) + "S: 421 4.7.0 Too many errors\nclosed")
}

func TestCommandBudget(t *testing.T) {
	r := newRig(t, func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxRcpt = 1 })
	d := r.dial()
	runOn(t, d, hello)
	runOn(t, d, strings.Repeat("C: NOOP\n", spareCommands+1)+strings.Repeat("S: 250\n", spareCommands+1)+"C: NOOP\nS: 421 4.7.0 Too many errors\nclosed")
}

// TestBudgets has each limit that a configuration may set.
func TestBudgets(t *testing.T) {
	r := newRig(t, withTLS(compile.SMTPS), func(r *rig, l *compile.Listener) {
		l.Auth, l.AuthTable = compile.OptionalAuth, 1
		r.rules.SMTP.MaxErrors, r.rules.SMTP.MaxCommands, r.rules.SMTP.MaxAuthFailures, r.rules.SMTP.MaxRcpt = 2, 3, 1, 1
	})
	const greeting = "tls\nS: 220\nC: EHLO client.example\nS: 250\n"
	r.run(greeting + "C: BOGUS\nS: 500\nC: BOGUS\nS: 500\nS: 421 4.7.0 Too many errors\nclosed")
	r.run(greeting + strings.Repeat("C: NOOP\nS: 250\n", 4) + "C: NOOP\nS: 421 4.7.0 Too many errors\nclosed")
	r.run(greeting + "C: AUTH PLAIN " + plain("", "alice", "wrong") + "\nS: 535 5.7.8\nS: 421 4.7.0 Too many failed authentications\nclosed")
}

// TestTimeWithoutMail keeps a session busy with nothing.
func TestTimeWithoutMail(t *testing.T) {
	for set, want := range map[int]time.Duration{0: withoutMail, 600: 10 * time.Minute} {
		inBubble(t, func(t *testing.T, r *rig) {
			d := r.dial()
			runOn(t, d, upToData+"C: .\nS: 250")
			began := time.Now()
			for d.Run("C: NOOP\nS: 250") == nil {
				time.Sleep(time.Minute)
			}
			if took := time.Since(began); took != want+time.Minute || !strings.HasPrefix(d.Reply, replyTooLong) {
				t.Errorf("%q after %v, want it after %v", d.Reply, took, want+time.Minute)
			}
		}, func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxWithoutMail = set })
	}
}

// TestEarlyTalker sends before the greeting, and is told so.
func TestEarlyTalker(t *testing.T) {
	r := newRig(t)
	d := r.dial()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if speaks(&patientConn{Conn: server}, 0) {
		t.Error("a silent client is an early one")
	}
	io.WriteString(client, "EHLO client.example\r\n")
	raw, err := server.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Read(func(fd uintptr) bool {
		n, _, _ := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
		return n > 0
	}); err != nil { // it comes
		t.Fatal(err)
	}
	go r.server.session(t.Context(), server, newEndpoint(r.rules, &r.rules.Listeners[0], nil))
	d.Conn.Close()
	d.Conn = client
	runOn(t, d, "S: 421 4.5.1 Client talks before the greeting\nclosed")
	r.run(hello) // others are served
	r.settled()
	if !strings.Contains(r.logs.String(), "smtp early-talker") {
		t.Errorf("not logged:\n%s", r.logs)
	}
}

// TestBareLFFrom has an old device, which may end lines in LF, and a client
// that may not.
func TestBareLFFrom(t *testing.T) {
	const device = `
S: 220
c: EHLO device.example\n
S: 250
c: MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\n
S: 250
S: 250
S: 354
c: Subject: scan\n\n..text\n.\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nBDAT 5 LAST\n\nx\ny\nQUIT\n
S: 250 2.0.0 00000001
S: 250
S: 250
S: 250 2.0.0 00000002
S: 221
closed
`
	r := newRig(t, func(r *rig, _ *compile.Listener) { r.rules.SMTP.BareLFFrom = 1 })
	r.run(device)
	r.settled()
	if d := cmp.Diff([]string{"Subject: scan\n\n.text\n", "\nx\ny\n"}, r.bodies()); d != "" {
		t.Error(d)
	}
	for _, from := range []compile.TableID{0, 2} { // nobody; a table that fails
		r := newRig(t, func(r *rig, _ *compile.Listener) { r.rules.SMTP.BareLFFrom = from })
		r.run("S: 220\nc: EHLO device.example\\n\nS: 500 5.5.2")
	}
}
