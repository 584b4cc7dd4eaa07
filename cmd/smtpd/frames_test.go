package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"smtpd/compile/hostfacts"
	"smtpd/internal/smtptest"
	"smtpd/runtime/imsg"
	"smtpd/runtime/parent"
	"smtpd/runtime/proc"
)

// A countedConn counts the frames that are sent on it.
type countedConn struct {
	imsg.Conn
	n *atomic.Int64
}

func (c countedConn) Send(frames ...imsg.Frame) error {
	c.n.Add(int64(len(frames)))
	return c.Conn.Send(frames...)
}

const framesConfig = `table users { "you" = "%d:%d:%s" }
listen on 127.0.0.1 port 2525 hostname mx.example.com
action "in" maildir userbase <users>
action "out" relay
match from any for domain "example.com" action "in"
match from any for domain "relay.example" action "out"
`

// countFrames starts every component, with nothing being delivered, and
// returns where smtp listens and how many frames they have sent each other,
// control aside.
func countFrames(t *testing.T) (addr string, n *atomic.Int64) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "smtpd.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, framesConfig, os.Geteuid(), os.Getegid(), dir), 0o600); err != nil {
		t.Fatal(err)
	}
	host, err := hostfacts.Parse("facts", "name mx.example.com", os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	d := &daemon{
		cli: new(cli), log: slog.New(slog.DiscardHandler), level: new(slog.LevelVar), spool: dir,
		all: &setup{Paused: []string{"mda", "mta"}, User: "nobody", Resolver: "127.0.0.1:1"},
	}
	if d.rules, err = load(conf, nil, host, &complaints); err != nil {
		t.Fatal(err, complaints.String())
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.sockets = []net.Listener{ln}
	if err := d.bindLocal(); err != nil {
		t.Fatal(err)
	}
	c := newCompany(true)
	n = new(atomic.Int64)
	for k, end := range c.ends {
		if k[0] != "control" && k[1] != "control" { // which is not told of mail
			c.ends[k] = countedConn{end, n}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	l := proc.NewLocals(ctx)
	var front, rest []proc.Component
	for i := range roles {
		if roles[i].front {
			front = append(front, d.component(&roles[i], c, nil))
		} else {
			rest = append(rest, d.component(&roles[i], c, nil))
		}
	}
	rest = append(rest, proc.Component{Name: proc.Self, Main: func(ctx context.Context) error {
		return runParent(ctx, d.parts(proc.Self, c, nil), parent.Config{})
	}})
	l.Start(front, rest)
	t.Cleanup(func() {
		cancel()
		if err := l.Wait(); err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String(), n
}

// TestFrames holds what an accepted mail of one recipient costs in frames
// between components, replies included: 6, and 2 for the .forward of a local
// user. What the start of a daemon, a connection and the first mail of each
// kind cost once is not counted.
func TestFrames(t *testing.T) {
	const relayed, local = 6, 8
	addr, n := countFrames(t)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	session := &smtptest.Dialogue{Conn: conn, Timeout: patience}
	run := func(script string) {
		t.Helper()
		if err := session.Run(script); err != nil {
			t.Fatal(err)
		}
	}
	mails := ""
	for _, to := range []string{"x@relay.example", "you@example.com"} {
		mails += "C: MAIL FROM:<a@example.org>\nS: 250\nC: RCPT TO:<" + to + ">\nS: 250\nC: DATA\nS: 354\nC: Subject: test\nC:\nC: .\nS: 250\n"
	}
	run("S: 220\nC: EHLO client.example\nS: 250\n" + mails)
	before := n.Load()
	run(mails + mails)
	const want = 2*relayed + 2*local
	if got := n.Load() - before; got > want {
		t.Errorf("%d frames for four mails, want at most %d", got, want)
	}
}
