package control

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpd/compile"
	"smtpd/internal/smtptest"
	"smtpd/runtime/imsg"
	"smtpd/runtime/smtp"
)

// start runs control and an SMTP server without anything behind it, and
// returns the paths of the sockets.
func start(t *testing.T) (submission, admin string) {
	t.Helper()
	dir := t.TempDir()
	listen := func(name string) *net.UnixListener {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	log := slog.New(slog.DiscardHandler)
	ours, theirs := imsg.Pipe()
	queue, _ := imsg.Pipe()
	mfa, _ := imsg.Pipe()
	lka, _ := imsg.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		rules := &compile.Ruleset{SMTP: compile.SMTP{MaxMails: 1, MaxRcpt: 1}, Socket: compile.Socket{Hostname: "mx.example"}}
		if err := smtp.Main(ctx, smtp.Config{Rules: rules, Log: log, Control: theirs, Queue: queue, MFA: mfa, LKA: lka}); err != nil {
			t.Error(err)
		}
	})
	c := Config{Log: log, Submission: listen("submit"), Admin: listen("control"), SMTP: ours}
	running.Go(func() {
		if err := Main(ctx, c); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return filepath.Join(dir, "submit"), filepath.Join(dir, "control")
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// connect opens a connection on which a test writes what it likes.
func connect(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ended says that nothing more comes and waits until the server has closed
// its end, after which the connection does not count any more.
func ended(c *net.UnixConn) {
	c.CloseWrite()
	io.Copy(io.Discard, c)
	c.Close()
}

// greets checks that a local session can be had.
func greets(t *testing.T, path string) {
	t.Helper()
	f, err := dial(t, path).Session()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d := &smtptest.Dialogue{Conn: conn}
	if err := d.Run("S: 220 mx.example\nC: EHLO localhost\nS: 250\nC: QUIT\nS: 221\nclosed"); err != nil {
		t.Fatal(err)
	}
}

func TestSession(t *testing.T) {
	submission, admin := start(t)
	greets(t, submission)
	greets(t, admin)
}

func TestStatus(t *testing.T) {
	submission, admin := start(t)
	s, err := dial(t, admin).Status()
	if err != nil || s.PID != os.Getpid() || s.Started.IsZero() {
		t.Errorf("Status = %+v, %v", s, err)
	}
	if s, err := dial(t, submission).Status(); err == nil {
		t.Errorf("everyone may ask for %+v", s)
	}
}

// TestRandomBytes writes rubbish, and frames that are none, to both sockets;
// the service goes on (CVE-2025-62875).
func TestRandomBytes(t *testing.T) {
	submission, admin := start(t)
	random := rand.New(rand.NewPCG(1, 2))
	for _, path := range []string{submission, admin} {
		for i := range 200 {
			c := connect(t, path)
			b := make([]byte, random.IntN(200))
			for j := range b {
				b[j] = byte(random.Uint32())
			}
			if i%2 == 0 && len(b) >= imsg.HeaderSize { // a length that is one
				copy(b[4:], []byte{byte(len(b)), 0, 0, byte(i) & 0x80})
			}
			c.Write(b)
			ended(c)
		}
		greets(t, path)
	}
}

func TestUnasked(t *testing.T) {
	submission, _ := start(t)
	for _, f := range []imsg.Frame{
		{Type: 99},
		{Type: typeSession, Data: []byte("more")},
		{Type: typeStatus},
		{Type: typeSession | 0x80000000},
	} {
		c := dial(t, submission)
		if err := c.conn.Send(f); err != nil {
			t.Fatal(err)
		}
		if got, err := c.conn.Recv(); err == nil {
			t.Errorf("%v was answered: %v", f, got)
		}
	}
	greets(t, submission)
}

func TestConnectionsPerUser(t *testing.T) {
	submission, _ := start(t)
	var conns []*net.UnixConn
	for range MaxPerUser {
		c := connect(t, submission)
		f, err := (&Client{imsg.NewUnix(c)}).Session() // an answer: the connection counts by now
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		conns = append(conns, c)
	}
	if _, err := dial(t, submission).Session(); err == nil || !strings.Contains(err.Error(), "too many connections") {
		t.Errorf("one more connection: %v", err)
	}
	ended(conns[0])
	greets(t, submission)
}

// FuzzStatus checks that what parses is written back to the same bytes.
func FuzzStatus(f *testing.F) {
	f.Add(Status{PID: 1, Started: time.Unix(1, 2)}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Status
		if s.parse(b) == nil && !bytes.Equal(s.append(nil), b) {
			t.Fatalf("%x became %x", b, s.append(nil))
		}
	})
}
