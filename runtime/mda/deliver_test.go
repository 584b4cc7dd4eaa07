package mda

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"smtpd/compile"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/parent"
	"smtpd/runtime/queue"
)

// A world fakes mda's peers.
type world struct {
	t       *testing.T
	content string
	users   map[string]lka.UserInfo
	result  parent.Result
	err     error // of everything

	begun, wait chan bool // of Deliver; nil: it does not wait

	got []parent.Delivery
}

func (w *world) Open(context.Context, envelope.MessageID) (*os.File, error) {
	if w.err != nil {
		return nil, w.err
	}
	path := filepath.Join(w.t.TempDir(), "content")
	if err := os.WriteFile(path, []byte(w.content), 0o600); err != nil {
		return nil, err
	}
	return os.Open(path)
}

func (w *world) UserInfo(_ context.Context, table compile.TableID, name string) (lka.UserInfo, bool, error) {
	if name == "broken" {
		return lka.UserInfo{}, false, errors.New("table is broken")
	}
	u, ok := w.users[name]
	return u, ok && (table == 0) == (u.Name == "vmail"), nil
}

func (w *world) Deliver(_ context.Context, d parent.Delivery, content *os.File) (parent.Result, error) {
	if b, err := io.ReadAll(content); err != nil || string(b) != w.content {
		w.t.Errorf("content %q, %v", b, err)
	}
	content.Close()
	if w.wait != nil {
		w.begun <- true
		<-w.wait
	}
	w.got = append(w.got, d)
	return w.result, nil
}

func testRules() *compile.Ruleset {
	return &compile.Ruleset{
		SMTP:     compile.SMTP{SubAddrDelim: '+'},
		MDA:      compile.MDALimits{MaxSession: 50, MaxSessionPerUser: 7},
		Wrappers: []compile.Wrapper{{Name: "nice", Command: "nice -n %{dest.user[0]} %{mda}"}},
		Actions: []compile.Action{
			{Name: "maildir", Method: compile.Maildir, Userbase: 1, Junk: true},
			{Name: "path", Method: compile.Maildir, Userbase: 1, Argument: "/vmail/%{dest.domain}/%{dest.user}", User: "vmail"},
			{Name: "mbox", Method: compile.MBox, Userbase: 1},
			{Name: "lmtp", Method: compile.LMTP, Userbase: 1, Argument: "/run/lmtp", RcptTo: true},
			{Name: "mda", Method: compile.MDA, Userbase: 1, Argument: "deliver -d %{user.username}"},
			{Name: "wrapped", Method: compile.MDA, Userbase: 1, Argument: "deliver 'x'", Wrapper: "nice"},
			{Name: "wrapped maildir", Method: compile.Maildir, Userbase: 1, Junk: true, Argument: "~/my mail", Wrapper: "nice"},
			{Name: "unwrapped", Method: compile.Maildir, Userbase: 1, Wrapper: "gone"},
			{Name: "bad", Method: compile.MDA, Userbase: 1, Argument: "deliver %{nothing}"},
			{Name: "no user", Method: compile.MDA, Userbase: 1, Argument: "deliver", User: "ghost"},
			{Name: "relay", Method: compile.Relay, Userbase: 1},
		},
	}
}

func newTestAgent(t *testing.T) (*agent, *world, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	w := &world{
		t: t, content: "Subject: x\n\ntext\n",
		users: map[string]lka.UserInfo{
			"alice": {Name: "alice", UID: 1000, GID: 1000, Home: "/home/alice"},
			"vmail": {Name: "vmail", UID: 5000, GID: 5000, Home: "/vmail"},
		},
		result: parent.Result{Outcome: parent.Delivered, Status: "2.0.0", Text: "Delivered"},
	}
	a := newAgent(t.Context(), Config{Rules: testRules(), Log: slog.New(slog.NewTextHandler(&log, nil)), Program: "/usr/sbin/smtpd"})
	a.queue, a.accounts, a.parent = w, w, w
	return a, w, &log
}

func testEnvelope(action string) envelope.Envelope {
	return envelope.Envelope{
		ID: 0x1234567800000001, Type: envelope.MDA, Action: action, Created: time.Now().Add(-65 * time.Second),
		Sender: envelope.Address{User: "bob", Domain: "example.net"},
		Rcpt:   envelope.Address{User: "alice+tag", Domain: "example.org"},
		Dest:   envelope.Address{User: "alice", Domain: "mail.example.org"},

		LocalUser: "alice", SubAddress: "tag",
	}
}

func deliverOne(t *testing.T, a *agent, ev envelope.Envelope) queue.Result {
	t.Helper()
	results, err := a.Deliver(t.Context(), []envelope.Envelope{ev})
	if err != nil || len(results) != 1 || results[0].ID != ev.ID {
		t.Fatalf("Deliver = %+v, %v", results, err)
	}
	return results[0]
}

func TestDeliver(t *testing.T) {
	alice := parent.Account{Name: "alice", UID: 1000, GID: 1000, Home: "/home/alice"}
	self := parent.Account{Name: "self", UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Home: "/home/self"}
	daemon := parent.Account{Name: "_smtpd", UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Home: "/"}
	for _, c := range []struct {
		name, action string
		change       func(*envelope.Envelope)
		want         parent.Delivery // of what differs from case to case
	}{
		{"maildir", "maildir", nil, parent.Delivery{As: alice, Method: parent.Maildir, Target: "/home/alice/Maildir", Junk: true}},
		{"path and user", "path", nil, parent.Delivery{As: parent.Account{Name: "vmail", UID: 5000, GID: 5000, Home: "/vmail"},
			Method: parent.Maildir, Target: "/vmail/mail.example.org/alice"}},
		{"mbox", "mbox", nil, parent.Delivery{As: alice, Method: parent.Mbox, Target: "/var/mail/alice"}},
		{"lmtp", "lmtp", nil, parent.Delivery{As: alice, Method: parent.LMTP, Target: "/run/lmtp", RcptTo: true}},
		{"mda", "mda", nil, parent.Delivery{As: alice, Method: parent.Command, Target: "deliver -d alice"}},
		{"wrapper", "wrapped", nil, parent.Delivery{As: alice, Method: parent.Command, Target: "deliver 'x'", Wrapper: "nice -n a deliver 'x'"}},
		{"wrapper of a method", "wrapped maildir", nil, parent.Delivery{As: alice, Method: parent.Maildir, Junk: true, Target: "/home/alice/my mail",
			Wrapper: "nice -n a /usr/sbin/smtpd deliver-stdin maildir junk '/home/alice/my mail'"}},
		{"command of .forward", "maildir", func(ev *envelope.Envelope) {
			ev.Execute, ev.Exec = envelope.Command, "procmail %{dest.user}"
		}, parent.Delivery{As: alice, Method: parent.Command, Target: "procmail alice"}},
		{"file of .forward", "lmtp", func(ev *envelope.Envelope) {
			ev.Execute, ev.Exec = envelope.File, "/home/alice/mbox"
		}, parent.Delivery{As: alice, Method: parent.Mbox, Target: "/home/alice/mbox"}},
		{"command of .forward of the user who runs the daemon", "maildir", func(ev *envelope.Envelope) {
			ev.Execute, ev.Exec, ev.LocalUser = envelope.Command, "cat", "self"
		}, parent.Delivery{As: self, Method: parent.Command, Target: "cat"}},
		{"command of an alias", "maildir", func(ev *envelope.Envelope) {
			ev.Execute, ev.Exec, ev.LocalUser = envelope.Command, "cat", "_smtpd"
		}, parent.Delivery{As: daemon, Method: parent.Command, Target: "cat"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, w, _ := newTestAgent(t)
			ev := testEnvelope(c.action)
			if c.change != nil {
				c.change(&ev)
			}
			if ev.LocalUser == "self" {
				a.aliasUser = "self"
				w.users["self"] = lka.UserInfo(self)
			}
			if ev.LocalUser == "_smtpd" && os.Geteuid() == 0 {
				t.Skip("as root the account is a system user's")
			}
			if r := deliverOne(t, a, ev); r.Outcome != queue.Delivered || r.Status != "2.0.0" || r.Text != "Delivered" {
				t.Fatalf("result = %+v", r)
			}
			want := c.want
			want.ID, want.User = ev.ID, ev.LocalUser
			want.Header = "Return-Path: <bob@example.net>\nDelivered-To: alice+tag@example.org\n"
			want.Sender, want.Rcpt, want.Dest, want.SubAddress = ev.Sender, ev.Rcpt, ev.Dest, "tag"
			if diff := cmp.Diff([]parent.Delivery{want}, w.got); diff != "" {
				t.Errorf("delivery (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDeliverRefusals(t *testing.T) {
	for _, c := range []struct {
		name, action string
		change       func(*envelope.Envelope, *world)
		want         queue.Result
	}{
		{"action gone", "gone", nil, queue.Result{Outcome: queue.TempFail, Status: "4.3.0", Text: `action "gone" is not configured any more`}},
		{"action changed", "relay", nil, queue.Result{Outcome: queue.TempFail, Status: "4.3.0", Text: `action "relay" does not deliver to users`}},
		{"user gone", "maildir", func(ev *envelope.Envelope, _ *world) { ev.LocalUser = "carol" },
			queue.Result{Outcome: queue.PermFail, Status: "5.1.1", Text: "user unknown: carol"}},
		{"lookup failure", "maildir", func(ev *envelope.Envelope, _ *world) { ev.LocalUser = "broken" },
			queue.Result{Outcome: queue.TempFail, Status: "4.3.0", Text: "user broken: table is broken"}},
		{"delivery user gone", "no user", nil,
			queue.Result{Outcome: queue.PermFail, Status: "5.3.5", Text: "delivery user 'ghost' does not exist"}},
		{"specifier", "bad", nil,
			queue.Result{Outcome: queue.PermFail, Status: "5.3.5", Text: "mda command line could not be expanded: %{nothing}: no such specifier"}},
		{"wrapper gone", "unwrapped", nil,
			queue.Result{Outcome: queue.TempFail, Status: "4.3.0", Text: `wrapper "gone" is not configured any more`}},
		{"message not available", "maildir", func(_ *envelope.Envelope, w *world) { w.err = errors.New("disk on fire") },
			queue.Result{Outcome: queue.TempFail, Status: "4.3.0", Text: "message is not available: disk on fire"}},
		{"loop", "maildir", func(_ *envelope.Envelope, w *world) { w.content = "delivered-to:  ALICE@mail.example.org\n\n" },
			queue.Result{Outcome: queue.Loop, Status: "5.4.6", Text: "Loop detected"}},
		{"failure", "maildir", func(_ *envelope.Envelope, w *world) {
			w.result = parent.Result{Outcome: parent.PermFail, Status: "5.2.0", Text: `Error ("no")`}
		}, queue.Result{Outcome: queue.PermFail, Status: "5.2.0", Text: `Error ("no")`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, w, _ := newTestAgent(t)
			ev := testEnvelope(c.action)
			if c.change != nil {
				c.change(&ev, w)
			}
			c.want.ID = ev.ID
			if got := deliverOne(t, a, ev); got != c.want {
				t.Errorf("result = %+v, want %+v", got, c.want)
			}
			if len(a.turns.users) > 0 {
				t.Errorf("turns left: %v", a.turns.users)
			}
		})
	}
}

func TestLoop(t *testing.T) {
	ev := testEnvelope("maildir")
	long := strings.Repeat("x", 3*maxHeaderLine)
	for content, want := range map[string]bool{
		"":                     false,
		"Subject: x\n\ntext\n": false,
		"Delivered-To: alice+tag@example.org\n\n":                   true,
		"Delivered-To: carol@mail.example.org\n\n":                  false,
		"DELIVERED-TO:alice@MAIL.example.org":                       true,
		"Subject: x\n\nDelivered-To: alice@mail.example.org\n":      false,
		"X: " + long + "\nDelivered-To: alice@mail.example.org\n":   true,
		"X: " + long + "Delivered-To: alice@mail.example.org\n\n":   false,
		"Subject: x\r\nDelivered-To: alice@mail.example.org\r\n":    true,
		"Subject: x\n Delivered-To: alice@mail.example.org\n\ntext": true,
	} {
		if got, err := looped(strings.NewReader(content), &ev); got != want || err != nil {
			t.Errorf("looped(%.50q) = %v, %v, want %v", content, got, err, want)
		}
	}
}

func TestTrace(t *testing.T) {
	ev := testEnvelope("maildir")
	ev.Sender = envelope.Address{}
	ev.Rcpt.User = "a\nBcc: x"
	if got, want := trace(&ev), "Delivered-To: a?Bcc: x@example.org\n"; got != want {
		t.Errorf("trace = %q, want %q", got, want)
	}
}

func TestLogDelivery(t *testing.T) {
	a, w, log := newTestAgent(t)
	w.result = parent.Result{Outcome: parent.TempFail, Status: "4.2.2", Text: `Error ("full")`}
	deliverOne(t, a, testEnvelope("maildir"))
	want := `level=INFO msg="mda delivery" evpid=1234567800000001 from=<bob@example.net> to=<alice@mail.example.org> ` +
		`rcpt=<alice+tag@example.org> user=alice delay=1m5s result=TempFail stat="Error (\"full\")"` + "\n"
	got := regexp.MustCompile(`^time=\S+ |session=[0-9a-f]{16} `).ReplaceAllString(log.String(), "")
	if got != want {
		t.Errorf("log:\n%swant:\n%s", got, want)
	}
}

// TestEnds checks that mda ends when a peer is lost, and when it is told to:
// then not before the queue has closed its link.
func TestEnds(t *testing.T) {
	start := func(ctx context.Context) (queue imsg.Conn, parent imsg.Conn, done chan error) {
		q, theirQ := imsg.Pipe()
		l, _ := imsg.Pipe()
		p, theirP := imsg.Pipe()
		done = make(chan error, 1)
		go func() { done <- Main(ctx, Config{Rules: testRules(), Queue: q, LKA: l, Parent: p}) }()
		return theirQ, theirP, done
	}
	ended := func(done chan error) {
		t.Helper()
		if err := <-done; err != nil {
			t.Errorf("Main = %v", err)
		}
	}
	t.Run("queue lost", func(t *testing.T) {
		q, _, done := start(t.Context())
		q.Close()
		ended(done)
	})
	t.Run("parent lost", func(t *testing.T) {
		_, p, done := start(t.Context())
		p.Close()
		ended(done)
	})
	t.Run("told to", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			q, p, done := start(ctx)
			cancel()
			p.Close()
			synctest.Wait()
			select {
			case <-done:
				t.Error("ended before the queue had")
			default:
			}
			q.Close()
			ended(done)
		})
	})
}

// TestStop checks that a delivery under way is finished when mda is told to
// stop, and that one that waits for its turn is not begun.
func TestStop(t *testing.T) {
	a, w, _ := newTestAgent(t)
	a.turns = newTurns(1, 1)
	stop, halt := context.WithCancel(t.Context())
	a.stop = stop
	w.begun, w.wait = make(chan bool), make(chan bool)
	first, second := make(chan int), make(chan int)
	run := func(c chan int) {
		r, err := a.Deliver(t.Context(), []envelope.Envelope{testEnvelope("maildir")})
		if err != nil {
			t.Error(err)
		}
		c <- len(r)
	}
	go run(first)
	<-w.begun
	go run(second)
	halt()
	if n := <-second; n != 0 {
		t.Errorf("%d results of a delivery that was not begun", n)
	}
	close(w.wait)
	if n := <-first; n != 1 {
		t.Errorf("%d results of the delivery under way", n)
	}
}

func TestUnsupported(t *testing.T) {
	rs := testRules()
	rs.Actions = append(rs.Actions, compile.Action{Name: "shell", Method: compile.Maildir, Argument: "$HOME/Mail",
		Origin: compile.Origin{File: "smtpd.conf", Line: 7, Column: 1}})
	var got []string
	for _, d := range Unsupported(rs) {
		got = append(got, d.Error())
	}
	want := []string{
		`smtpd.conf:7:1: action shell: shell expansion in the maildir path "$HOME/Mail" is not supported: use ~/ or %{user.directory}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestUntried checks that a component which is being started again costs no
// try: the queue is told nothing and hands the mail out again.
func TestUntried(t *testing.T) {
	a, w, _ := newTestAgent(t)
	w.err = fmt.Errorf("open: %w", imsg.ErrClosed)
	if l, err := a.Deliver(t.Context(), []envelope.Envelope{testEnvelope("maildir")}); len(l) > 0 || err != nil {
		t.Errorf("results %v, %v", l, err)
	}
}
