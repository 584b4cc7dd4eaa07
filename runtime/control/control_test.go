package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpd/compile"
	"smtpd/internal/smtptest"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/parent"
	"smtpd/runtime/queue"
	"smtpd/runtime/smtp"
	"smtpd/runtime/stat"
)

// A rig is control with an SMTP server and a queue behind it. The queue hands
// out nothing.
type rig struct {
	submission, admin string // paths of the sockets
	level             slog.LevelVar
	smtp, mfa         *queue.Client // as these components have it
	updates           chan Update
	queueUpdates      chan queue.Update
	service           fakeService
}

// A fakeService is the daemon as parent sees it.
type fakeService struct {
	mu      sync.Mutex // another goroutine is asked, by way of a socket
	text    string
	asked   parent.Reload
	stopped chan struct{}
}

func (s *fakeService) Reload(_ context.Context, r parent.Reload) parent.Reloaded {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = r
	return parent.Reloaded{Done: r.Force, Text: s.text}
}

func (s *fakeService) Stop() { close(s.stopped) }

// Trace traces nothing but the request.
func (s *fakeService) Trace(_ context.Context, id string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err == nil {
		_, err = w.WriteString(id)
		w.Close()
	}
	return r, err
}

// Counted says that there are two processes, and has lost a third.
func (s *fakeService) Counted(context.Context) (processes [][]byte, ended []byte, err error) {
	b, err := stat.Encode()
	return [][]byte{b, b}, b, err
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{submission: filepath.Join(dir, "submit"), admin: filepath.Join(dir, "control")}
	listen := func(path string) *net.UnixListener {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	queueClient := func(to *imsg.Conn) *queue.Client {
		ours, theirs := imsg.Pipe()
		*to = theirs
		p := imsg.NewPeer(ours, nil)
		running.Go(func() { p.Run(ctx) })
		return queue.NewClient(p)
	}
	rules := &compile.Ruleset{
		SMTP:    compile.SMTP{MaxMails: 1, MaxRcpt: 1},
		Socket:  compile.Socket{Hostname: "mx.example"},
		Actions: []compile.Action{{Name: "out"}},
	}
	q := queue.Config{
		Rules: rules, Log: log, PauseMDA: true, PauseMTA: true,
		Store: queue.NewMemoryStore(func(ev *envelope.Envelope) queue.Destination { return queue.Destination{Type: ev.Type} }),
	}
	r.smtp, r.mfa = queueClient(&q.SMTP), queueClient(&q.MFA)
	r.queueUpdates = make(chan queue.Update)
	q.Updates = r.queueUpdates
	r.updates, r.service.stopped = make(chan Update), make(chan struct{})
	c := Config{
		Log: log, Submission: listen(r.submission), Admin: listen(r.admin), Level: &r.level, Version: "smtpd test", Updates: r.updates,
	}
	p := parent.Config{Log: log, Service: &r.service}
	c.Parent, p.Control = imsg.Pipe()
	c.LKA, _ = imsg.Pipe()
	c.MTA, q.MTA = startMTA(t)
	c.MFA = startMFA(t)
	c.Queue, q.Control = imsg.Pipe()
	s := smtp.Config{Rules: rules, Log: log}
	c.SMTP, s.Control = imsg.Pipe()
	s.Queue = refusing(t)
	s.MFA, _ = imsg.Pipe()
	s.LKA, _ = imsg.Pipe()
	for _, main := range []func() error{
		func() error { return queue.Main(ctx, q) },
		func() error { return smtp.Main(ctx, s) },
		func() error { return parent.Main(ctx, p) },
		func() error { return Main(ctx, c) },
	} {
		running.Go(func() {
			if err := main(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return r
}

// refusing returns a connection to a component that refuses every request: smtp
// asks the queue at its start, and goes on without an answer that it can use.
func refusing(t *testing.T) imsg.Conn {
	ours, theirs := imsg.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		imsg.NewPeer(theirs, nil).Run(context.WithoutCancel(t.Context()))
	}()
	t.Cleanup(func() { ours.Close(); <-ended })
	return ours
}

// send queues a message with an envelope to each recipient.
func (r *rig) send(t *testing.T, content string, rcpts ...string) envelope.MessageID {
	t.Helper()
	msg, file, err := r.smtp.Create(t.Context())
	if err == nil {
		_, err = io.WriteString(file, content)
	}
	var evs []envelope.Envelope
	for _, rcpt := range rcpts {
		a := envelope.ParseAddress(rcpt)
		evs = append(evs, envelope.Envelope{Type: envelope.MTA, Action: "out", SMTPName: "mx.example", Rcpt: a, Dest: a})
	}
	if err == nil {
		_, err = r.mfa.Submit(t.Context(), msg, evs)
	}
	if err == nil {
		err = r.smtp.Commit(t.Context(), msg)
	}
	if err != nil {
		t.Fatal(err)
	}
	return msg
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
	r := newRig(t)
	greets(t, r.submission)
	greets(t, r.admin)
}

func TestStatus(t *testing.T) {
	r := newRig(t)
	s, err := dial(t, r.admin).Status()
	want := Status{PID: os.Getpid(), Started: s.Started, Version: "smtpd test", MDA: true, MTA: true}
	if err != nil || s != want || s.Started.IsZero() {
		t.Errorf("Status = %+v, %v", s, err)
	}
	c := dial(t, r.admin)
	for system, was := range map[System]bool{SMTP: false, MDA: true, MTA: true} {
		for _, step := range []struct{ on, changed bool }{{was, false}, {!was, true}, {!was, false}, {was, true}} {
			if changed, err := c.Pause(system, step.on); err != nil || changed != step.changed {
				t.Errorf("%v paused %v: changed %v, %v", system, step.on, changed, err)
			}
		}
	}
}

// TestUserAsks checks that a user gets nothing but sessions.
func TestUserAsks(t *testing.T) {
	r := newRig(t)
	msg := r.send(t, "secret", "a@b.example")
	asks := map[string]func(*Client) error{
		"status":  func(c *Client) error { _, err := c.Status(); return err },
		"manage":  func(c *Client) error { _, err := c.Manage(queue.Suspend, queue.Selection{}); return err },
		"pause":   func(c *Client) error { _, err := c.Pause(SMTP, true); return err },
		"message": func(c *Client) error { _, err := c.Message(msg); return err },
		"verbose": func(c *Client) error { return c.Verbose(true) },
		"reload":  func(c *Client) error { _, err := c.Reload(false, false, io.Discard); return err },
		"list": func(c *Client) (err error) {
			for _, err = range c.List(queue.Selection{}) {
			}
			return err
		},
	}
	for name, ask := range asks {
		if err := ask(dial(t, r.submission)); !errors.Is(err, ErrIncompatible) {
			t.Errorf("%s of a user: %v", name, err)
		}
		if err := ask(dial(t, r.admin)); err != nil {
			t.Errorf("%s of the administrator: %v", name, err)
		}
	}
}

func TestQueue(t *testing.T) {
	r := newRig(t)
	c := dial(t, r.admin)
	var all []envelope.ID
	for range 3 {
		rcpts := make([]string, 100)
		for i := range rcpts {
			rcpts[i] = fmt.Sprintf("u%d@b.example", i)
		}
		r.send(t, "Subject: x\n\nhello\n", rcpts...)
	}
	list := func(sel queue.Selection) (ids []envelope.ID) {
		t.Helper()
		for l, err := range c.List(sel) {
			if err != nil || l.InFlight || l.Envelope.Dest.Domain != "b.example" {
				t.Fatalf("%+v, %v", l, err)
			}
			ids = append(ids, l.Envelope.ID)
		}
		return ids
	}
	if all = list(queue.Selection{}); len(all) != 300 || !slices.IsSorted(all) {
		t.Fatalf("%d envelopes", len(all))
	}
	msg := all[150].Message()
	if got := list(queue.Selection{Message: msg}); !slices.Equal(got, all[100:200]) {
		t.Errorf("of one message: %v", got)
	}
	if got := list(queue.Selection{Envelope: all[7]}); !slices.Equal(got, all[7:8]) {
		t.Errorf("one envelope: %v", got)
	}
	f, err := c.Message(msg)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if text, err := io.ReadAll(f); err != nil || string(text) != "Subject: x\n\nhello\n" {
		t.Errorf("content %q, %v", text, err)
	}
	if n, err := c.Manage(queue.Remove, queue.Selection{Message: msg}); n != 100 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	if got := list(queue.Selection{}); len(got) != 200 {
		t.Errorf("%d envelopes are left", len(got))
	}
	if _, err := c.Message(msg); !errors.As(err, new(Refusal)) {
		t.Errorf("content of a message that is gone: %v", err)
	}
}

func TestReload(t *testing.T) {
	r := newRig(t)
	c := dial(t, r.admin)
	long := strings.Repeat("long\n", 5000)
	for _, text := range []string{"", "short\n", long} {
		for _, q := range []parent.Reload{{}, {Show: true}, {Force: true}} {
			r.service.mu.Lock()
			r.service.text = strings.Clone(text)
			r.service.mu.Unlock()
			var got strings.Builder
			done, err := c.Reload(q.Show, q.Force, &got)
			r.service.mu.Lock()
			if err != nil || done != q.Force || got.String() != text || r.service.asked != q {
				t.Errorf("%+v: done %v with %d bytes, %v; asked %+v", q, done, got.Len(), err, r.service.asked)
			}
			r.service.mu.Unlock()
		}
	}
}

func TestStop(t *testing.T) {
	r := newRig(t)
	if err := dial(t, r.admin).Stop(); err != nil {
		t.Error(err)
	}
	<-r.service.stopped
}

// TestUpdate puts another smtp in the place of the one that is asked.
func TestUpdate(t *testing.T) {
	r := newRig(t)
	var u Update
	s := smtp.Config{Rules: &compile.Ruleset{Socket: compile.Socket{Hostname: "second.example"}}, Log: slog.New(slog.DiscardHandler)}
	u.SMTP, s.Control = imsg.Pipe()
	u.LKA, _ = imsg.Pipe()
	u.MTA, _ = startMTA(t)
	u.MFA, _ = imsg.Pipe()
	s.Queue = refusing(t)
	s.MFA, _ = imsg.Pipe()
	s.LKA, _ = imsg.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := smtp.Main(ctx, s); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	inForce := make(chan struct{})
	u.Done = func() { close(inForce) }
	r.updates <- u
	<-inForce
	f, err := dial(t, r.submission).Session()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := (&smtptest.Dialogue{Conn: conn}).Run("S: 220 second.example\nC: QUIT\nS: 221"); err != nil {
		t.Error(err)
	}
}

func TestVerbose(t *testing.T) {
	r := newRig(t)
	c := dial(t, r.admin)
	for _, on := range []bool{true, false} {
		if err := c.Verbose(on); err != nil || (r.level.Level() == slog.LevelDebug) != on {
			t.Errorf("level %v, %v", r.level.Level(), err)
		}
	}
}

// TestRandomBytes writes rubbish, and frames that are none, to both sockets;
// the service goes on (CVE-2025-62875).
func TestRandomBytes(t *testing.T) {
	r := newRig(t)
	random := rand.New(rand.NewPCG(1, 2))
	for _, path := range []string{r.submission, r.admin} {
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
	r := newRig(t)
	for _, f := range []imsg.Frame{
		{Type: 99},
		{Type: typeSession, Data: []byte("more")},
		{Type: typeStatus},
		{Type: typeSession | 0x80000000},
	} {
		c := dial(t, r.submission)
		if err := c.conn.Send(f); err != nil {
			t.Fatal(err)
		}
		if got, err := c.conn.Recv(); err == nil {
			t.Errorf("%v was answered: %v", f, got)
		}
	}
	greets(t, r.submission)
}

func TestConnectionsPerUser(t *testing.T) {
	r := newRig(t)
	var conns []*net.UnixConn
	for range MaxPerUser {
		c := connect(t, r.submission)
		f, err := (&Client{imsg.NewUnix(c)}).Session() // an answer: the connection counts by now
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		conns = append(conns, c)
	}
	if _, err := dial(t, r.submission).Session(); err == nil || !strings.Contains(err.Error(), "too many connections") {
		t.Errorf("one more connection: %v", err)
	}
	ended(conns[0])
	greets(t, r.submission)
}

// payloads are the messages of the protocol that hold something.
var payloads = map[string]func([]byte) ([]byte, error){
	"status": func(b []byte) ([]byte, error) { var v Status; err := v.parse(b); return v.append(nil), err },
	"manage": func(b []byte) ([]byte, error) { var v manageRequest; err := v.parse(b); return v.append(nil), err },
	"reload": func(b []byte) ([]byte, error) { var v reloadRequest; err := v.parse(b); return v.append(nil), err },
	"pause":  func(b []byte) ([]byte, error) { var v pauseRequest; err := v.parse(b); return v.append(nil), err },
	"listed": func(b []byte) ([]byte, error) {
		r := imsg.NewReader(b)
		v, err := readListed(r)
		return appendListed(nil, v), errors.Join(err, r.Close())
	},
	"selection": func(b []byte) ([]byte, error) {
		v, err := parseSelection(b)
		return appendSelection(nil, v), err
	},
}

// FuzzPayload checks that what parses is written back to the same bytes.
func FuzzPayload(f *testing.F) {
	f.Add("status", Status{PID: 1, Started: time.Unix(1, 2), Version: "v", MTA: true}.append(nil))
	f.Add("manage", manageRequest{queue.Suspend, queue.Selection{Message: 7}}.append(nil))
	f.Add("pause", pauseRequest{MDA, true}.append(nil))
	f.Add("listed", appendListed(nil, queue.Listed{Envelope: envelope.Envelope{ID: 7}, Error: "no"}))
	f.Add("selection", appendSelection(nil, queue.Selection{Envelope: 7}))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		parse := payloads[name]
		if parse == nil {
			return
		}
		if got, err := parse(b); err == nil && !bytes.Equal(got, b) {
			t.Fatalf("%x became %x", b, got)
		}
	})
}
