package queue

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"smtpd/compile"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

const day = 24 * time.Hour

func testRules() *compile.Ruleset {
	return &compile.Ruleset{
		ServerName: "mx.example",
		Actions: []compile.Action{
			{Name: "out", Method: compile.Relay, TTL: 4 * day},
			{Name: "smart", Method: compile.Relay, TTL: 4 * day, Relay: compile.RelayOptions{Host: 1}},
			{Name: "local", Method: compile.Maildir, TTL: 4 * day},
		},
		Queue:  compile.Queue{TTL: 4 * day},
		Bounce: []time.Duration{4 * time.Hour},
	}
}

// A fixture is a queue at work, with a scripted component at the other end of
// each of its connections.
type fixture struct {
	t     *testing.T
	start time.Time
	store Store
	smtp  *Client
	mfa   *Client
	mda   *Client
	ctl   *Client
	log   *bytes.Buffer
	stop  func()

	mta     imsg.Conn
	killMTA func() // and start another

	mu      sync.Mutex
	tries   []try
	answer  func(ev *envelope.Envelope) (Result, error) // of mda and mta
	hold    chan struct{}                               // if set, batches wait for it
	running map[string]int                              // batches by action and domain
	most    map[string]int
	refuse  error // of mfa
}

// A try is one batch as an agent saw it.
type try struct {
	At   time.Duration // after the start
	Rcpt string        // all of the batch
}

func (f *fixture) Deliver(ctx context.Context, batch []envelope.Envelope) ([]Result, error) {
	f.mu.Lock()
	tr := try{At: time.Since(f.start)}
	var l []Result
	var err error
	for i := range batch {
		tr.Rcpt += " " + batch[i].Dest.String()
		r, e := f.answer(&batch[i])
		r.ID, err = batch[i].ID, errors.Join(err, e)
		l = append(l, r)
	}
	tr.Rcpt = strings.TrimSpace(tr.Rcpt)
	f.tries = append(f.tries, tr)
	key := batch[0].Action + " " + batch[0].Dest.Domain
	f.running[key]++
	f.most[key] = max(f.most[key], f.running[key])
	hold := f.hold
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running[key]--
	return l, err
}

func (f *fixture) SubmitReport(ctx context.Context, msg envelope.MessageID, server string, rcpt envelope.Address) error {
	f.mu.Lock()
	refuse := f.refuse
	f.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	_, err := f.mfa.Submit(ctx, msg, []envelope.Envelope{{Type: envelope.MDA, Action: "local", LocalUser: rcpt.User, Rcpt: rcpt, Dest: rcpt}})
	return err
}

func ok(*envelope.Envelope) (Result, error) { return Result{Outcome: Delivered}, nil }

// newFixture starts a queue on store, or on an empty one in memory.
func newFixture(t *testing.T, rules *compile.Ruleset, store Store) *fixture {
	f := &fixture{t: t, start: time.Now(), answer: ok, log: new(bytes.Buffer), store: store,
		running: make(map[string]int), most: make(map[string]int)}
	c := Config{Rules: rules, Log: slog.New(slog.NewTextHandler(&lockedWriter{w: f.log}, nil))}
	if f.store == nil {
		a := newAgent(&c)
		f.store = NewMemoryStore(a.destination)
	}
	c.Store = f.store
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	connect := func(to *imsg.Conn, h imsg.Handler) *Client {
		var other imsg.Conn
		*to, other = imsg.Pipe()
		p := imsg.NewPeer(other, h)
		wg.Go(func() { p.Run(ctx) })
		return NewClient(p)
	}
	f.smtp = connect(&c.SMTP, nil)
	f.mfa = connect(&c.MFA, SubmitterHandler(f))
	f.mda = connect(&c.MDA, DelivererHandler(f))
	link := imsg.NewLink(func(error) {})
	c.MTA = link
	f.killMTA = func() {
		if f.mta != nil {
			f.mta.Close()
		}
		ours, theirs := imsg.Pipe()
		f.mta = theirs
		p := imsg.NewPeer(theirs, DelivererHandler(f))
		wg.Go(func() { p.Run(ctx) })
		link.Attach(ours)
	}
	f.killMTA() // there is none yet
	f.ctl = connect(&c.Control, nil)
	wg.Go(func() {
		if err := Main(ctx, c); err != nil {
			t.Error(err)
		}
	})
	f.stop = func() { cancel(); wg.Wait() }
	return f
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// send queues a message and returns its id.
func (f *fixture) send(content string, evs ...envelope.Envelope) envelope.MessageID {
	f.t.Helper()
	msg, file, err := f.smtp.Create(f.t.Context())
	if err == nil {
		_, err = io.WriteString(file, content)
	}
	if err == nil {
		_, err = f.mfa.Submit(f.t.Context(), msg, evs)
	}
	if err == nil {
		err = f.smtp.Commit(f.t.Context(), msg)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return msg
}

func to(rcpt string) envelope.Envelope {
	a := envelope.ParseAddress(rcpt)
	return envelope.Envelope{Type: envelope.MTA, Action: "out", SMTPName: "mx.example",
		Sender: envelope.ParseAddress("sender@example.org"), Rcpt: a, Dest: a}
}

func local(rcpt string) envelope.Envelope {
	ev := to(rcpt)
	ev.Type, ev.Action, ev.LocalUser = envelope.MDA, "local", ev.Dest.User
	return ev
}

// wait lets everything run for d of the bubble's time.
func (f *fixture) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (f *fixture) seen() []try {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.tries
	f.tries = nil
	return l
}

func (f *fixture) set(answer func(*envelope.Envelope) (Result, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fixture) empty() {
	f.t.Helper()
	for ev := range f.store.List(0) {
		f.t.Errorf("still in the queue: %+v", ev)
	}
}

func TestDeliveredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.send("hello\n", to("a@one.example"), to("b@ONE.example"), to("c@two.example"), local("d@here"), local("e@here"))
		f.wait(0)
		got := make(map[string]bool)
		for _, tr := range f.seen() {
			if tr.At != 0 {
				t.Errorf("%v after %v", tr.Rcpt, tr.At)
			}
			got[tr.Rcpt] = true
		}
		want := map[string]bool{"a@one.example b@ONE.example": true, "c@two.example": true, "d@here": true, "e@here": true}
		if d := gocmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		f.empty()
	})
}

// TestSmarthostTakesAll checks that one message for several domains, which
// all go to one relay host, is one transaction.
func TestSmarthostTakesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		a, b := to("a@one.example"), to("b@two.example")
		a.Action, b.Action = "smart", "smart"
		f.send("hello\n", a, b)
		f.wait(0)
		if got := f.seen(); len(got) != 1 || got[0].Rcpt != "a@one.example b@two.example" {
			t.Errorf("batches: %v", got)
		}
	})
}

// down fails what goes to down.example, and takes the rest.
func down(ev *envelope.Envelope) (Result, error) {
	if ev.Dest.Domain == "down.example" {
		return Result{Outcome: TempFail, Status: "4.4.1", Text: "Network error on destination MXs"}, nil
	}
	return ok(ev)
}

// TestOutage holds a destination down for longer than mail lives, and
// compares every try with the law of the original: creation + 400 s × n².
// Its sender hears of it twice: once that it is late, once that it failed.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.set(down)
		f.send("Subject: hi\n\nbody\n", to("a@down.example"))
		var want []try
		for n := time.Duration(0); n*n*400*time.Second < 4*day; n++ {
			want = append(want, try{n * n * 400 * time.Second, "a@down.example"})
		}
		// The try before 4 h is the one after which none comes before.
		late := try{5*5*400*time.Second + bounceGather, "sender@example.org"}
		failed := try{4*day + bounceGather, "sender@example.org"}
		want = append(want, late, failed)
		f.wait(10 * day)
		got := f.seen()
		slices.SortStableFunc(want, func(a, b try) int { return cmp.Compare(a.At, b.At) })
		if d := gocmp.Diff(want, got); d != "" {
			t.Error("tries (-law +got)", d)
		}
		f.empty()
	})
}

// TestDelayNotices checks that each age brings one notice, and that none
// comes for those who do not want it.
func TestDelayNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := testRules()
		rules.Bounce = []time.Duration{time.Hour, 4 * time.Hour, 2 * day}
		f := newFixture(t, rules, nil)
		defer f.stop()
		f.set(down)
		silent := to("b@down.example")
		silent.Sender.User, silent.Notify = "silent", envelope.NotifyFailure
		f.send("Subject: hi\n\nbody\n", to("a@down.example"))
		f.send("Subject: hi\n\nbody\n", silent)
		f.wait(4*day - time.Second)
		var at []time.Duration
		for _, tr := range f.seen() {
			switch tr.Rcpt {
			case "sender@example.org":
				at = append(at, tr.At.Round(time.Minute))
			case "silent@example.org":
				t.Errorf("a notice nobody asked for at %v", tr.At)
			}
		}
		if len(at) != len(rules.Bounce) {
			t.Errorf("notices at %v for ages %v", at, rules.Bounce)
		}
	})
}

// report waits for a report and returns it.
func (f *fixture) report() (*mail.Message, string) {
	f.t.Helper()
	for ev, err := range f.store.List(0) {
		if err != nil || ev.Flags&envelope.IsBounce == 0 {
			continue
		}
		file, err := f.mda.Open(f.t.Context(), ev.ID.Message())
		if err != nil {
			f.t.Fatal(err)
		}
		defer file.Close()
		m, err := mail.ReadMessage(file)
		if err != nil {
			f.t.Fatal(err)
		}
		body, err := io.ReadAll(m.Body)
		if err != nil {
			f.t.Fatal(err)
		}
		return m, string(body)
	}
	f.t.Fatal("no report in the queue")
	return nil, ""
}

// refusing fails two recipients for good and holds reports in the queue.
func refusing(ev *envelope.Envelope) (Result, error) {
	switch {
	case ev.Flags&envelope.IsBounce != 0:
		return Result{Outcome: TempFail, Text: "later"}, nil
	case ev.Dest.User == "loop":
		return Result{Outcome: Loop, Text: "Loop detected"}, nil
	}
	return Result{Outcome: PermFail, Status: "5.1.1", Text: "550 5.1.1 no such user", Remote: "mx.remote.example"}, nil
}

func TestFailureReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.set(refusing)
		f.send("Subject: hi\n\nbody\n", to("a@one.example"), to("b@two.example"), to("loop@three.example"))
		f.wait(2 * time.Second)
		m, body := f.report()
		if got := m.Header.Get("Auto-Submitted"); got != "auto-replied" {
			t.Errorf("Auto-Submitted: %q", got)
		}
		for _, want := range []string{
			"Final-Recipient: rfc822; a@one.example\nAction: failed\nStatus: 5.1.1\nRemote-MTA: dns; mx.remote.example\nDiagnostic-Code: smtp; 550 5.1.1 no such user\n",
			"Final-Recipient: rfc822; b@two.example\n",
			"Final-Recipient: rfc822; loop@three.example\nAction: failed\nStatus: 5.4.6\n",
			"\n\nSubject: hi\n",
		} {
			if !strings.Contains(body, want) {
				t.Errorf("no %q in\n%s", want, body)
			}
		}
		if n := len(slices.Collect(func(yield func(envelope.ID) bool) {
			for ev := range f.store.List(0) {
				if !yield(ev.ID) {
					return
				}
			}
		})); n != 1 {
			t.Errorf("%d envelopes in the queue, want one: the report", n)
		}
	})
}

// TestNoReport is about those who get none.
func TestNoReport(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*envelope.Envelope)
		log    string
	}{
		{"null sender", func(ev *envelope.Envelope) { ev.Sender = envelope.Address{} }, "no return path!"},
		{"a report", func(ev *envelope.Envelope) { ev.Sender, ev.Flags = envelope.Address{}, envelope.IsBounce }, "double bounce!"},
		{"never", func(ev *envelope.Envelope) { ev.Notify = envelope.NotifyNever }, ""},
		{"only success", func(ev *envelope.Envelope) { ev.Notify = envelope.NotifySuccess }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, testRules(), nil)
				defer f.stop()
				f.set(func(*envelope.Envelope) (Result, error) { return Result{Outcome: PermFail, Text: "550 no"}, nil })
				ev := to("a@one.example")
				tt.change(&ev)
				f.send("Subject: hi\n\nbody\n", ev)
				f.wait(time.Minute)
				want := 1
				if tt.name == "a report" {
					want = 2 // the second is what tells the postmaster of it
				}
				if got := f.seen(); len(got) != want {
					t.Errorf("tries: %v", got)
				}
				if !strings.Contains(f.log.String(), tt.log) {
					t.Errorf("no %q in the log:\n%s", tt.log, f.log)
				}
				f.empty()
			})
		})
	}
}

// TestSuccessReport checks who reports success: we do, unless the next host
// does.
func TestSuccessReport(t *testing.T) {
	for _, tt := range []struct {
		name string
		ev   envelope.Envelope
		dsn  bool
		want string // in the report; "" for none
	}{
		{"local", local("a@here"), false, "Action: delivered\nStatus: 2.0.0\n"},
		{"remote without DSN", to("a@one.example"), false, "Action: relayed\nStatus: 2.0.0\n"},
		{"remote with DSN", to("a@one.example"), true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, testRules(), nil)
				defer f.stop()
				f.set(func(ev *envelope.Envelope) (Result, error) {
					if ev.Flags&envelope.IsBounce != 0 {
						return Result{Outcome: TempFail}, nil
					}
					return Result{Outcome: Delivered, DSN: tt.dsn}, nil
				})
				tt.ev.Notify = envelope.NotifySuccess
				f.send("Subject: hi\n\nbody\n", tt.ev)
				f.wait(2 * time.Second)
				if tt.want == "" {
					f.empty()
					return
				}
				if _, body := f.report(); !strings.Contains(body, tt.want) {
					t.Errorf("no %q in\n%s", tt.want, body)
				}
			})
		})
	}
}

// TestReportIsRefused checks that a report which nobody takes ends with a
// line in the log, and one that is put off is tried again.
func TestReportIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.set(refusing)
		f.refuse = errors.New("451 later")
		f.send("Subject: hi\n\nbody\n", to("a@one.example"))
		f.wait(15 * time.Second)
		if !strings.Contains(f.log.String(), "TempFail injecting failure report") {
			t.Errorf("log:\n%s", f.log)
		}
		f.mu.Lock()
		f.refuse = errors.New("550 Invalid recipient")
		f.mu.Unlock()
		f.wait(time.Minute)
		for _, want := range []string{"PermFail injecting failure report", "double bounce!"} {
			if !strings.Contains(f.log.String(), want) {
				t.Errorf("no %q in the log:\n%s", want, f.log)
			}
		}
		f.empty()
	})
}

// TestRestart stops the queue in the middle of things: what was committed
// goes on, what was not is gone, and what was under way is tried again.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		f.set(down)
		f.send("hello\n", to("late@down.example"))
		if _, _, err := f.smtp.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.wait(500 * time.Second)
		f.mu.Lock()
		f.hold = make(chan struct{})
		f.mu.Unlock()
		f.send("hello\n", to("cut@off.example"))
		f.wait(0)
		f.stop()
		time.Sleep(time.Hour)

		g := newFixture(t, testRules(), f.store)
		defer g.stop()
		g.wait(0)
		got := make(map[string]bool)
		for _, tr := range g.seen() {
			got[tr.Rcpt] = true
		}
		if !got["late@down.example"] || !got["cut@off.example"] || len(got) != 2 {
			t.Errorf("tried after the restart: %v", got)
		}
		g.empty()
	})
}

// TestMissingAction checks that mail of an action that the configuration has
// lost waits for it, however long.
func TestMissingAction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		f.set(down)
		f.send("hello\n", to("a@down.example"))
		f.wait(0)
		f.stop()

		rules := testRules()
		rules.Actions = rules.Actions[1:]
		g := newFixture(t, rules, f.store)
		g.wait(10 * day)
		if got := g.seen(); len(got) > 0 {
			t.Errorf("tried: %v", got)
		}
		if !strings.Contains(g.log.String(), "no such action") {
			t.Errorf("log:\n%s", g.log)
		}
		for l, err := range g.ctl.List(t.Context(), 0) {
			if err != nil || l.Why != `the configuration has no action "out"` {
				t.Errorf("it waits because %q, %v", l.Why, err)
			}
		}
		g.stop()
		if ev := list(t, f.store); len(ev) != 1 {
			t.Fatalf("left in the queue: %v", ev)
		}
	})
}

// TestFairness queues more for one slow destination than fits into memory,
// and then one message for another: it does not wait.
func TestFairness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		hold := make(chan struct{})
		f.hold = hold
		const n = 3000
		for i := range n {
			f.send("hello\n", to(fmt.Sprintf("u%d@slow.example", i)))
		}
		f.mu.Lock()
		f.hold = nil
		f.mu.Unlock()
		f.send("hello\n", to("a@quick.example"))
		f.wait(0)
		got := f.seen()
		if last := got[len(got)-1]; last.Rcpt != "a@quick.example" || last.At != 0 {
			t.Errorf("the quick one was not served; last of %d: %v", len(got), last)
		}
		if f.most["out slow.example"] != 50 {
			t.Errorf("%d batches in flight for one destination, want 50", f.most["out slow.example"])
		}
		close(hold)
		f.wait(0)
		if got := f.seen(); len(got) != n-50 {
			t.Errorf("%d tries, want %d", len(got), n-50)
		}
		f.empty()
	})
}

// TestWindow has many destinations and little room: all are served, and no
// more is in flight than is allowed.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := testRules()
		rules.Scheduler.MaxInflight = 10
		f := newFixture(t, rules, nil)
		defer f.stop()
		hold := make(chan struct{})
		f.hold = hold
		for i := range 300 {
			f.send("hello\n", to(fmt.Sprintf("u@d%d.example", i)))
		}
		f.wait(0)
		if got := f.seen(); len(got) != 10 {
			t.Errorf("%d in flight, want 10", len(got))
		}
		close(hold)
		f.wait(0)
		if got := f.seen(); len(got) != 290 {
			t.Errorf("%d tries, want 290", len(got))
		}
		f.empty()
	})
}

// TestUntried checks that an agent that fails to try costs no try.
func TestUntried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.set(func(*envelope.Envelope) (Result, error) { return Result{}, errors.New("lookups fail") })
		f.send("hello\n", to("a@one.example"))
		f.wait(time.Second)
		ev := list(t, f.store)[0]
		if ev.Tries != 0 || ev.NextTry.Sub(f.start) != retryUntried {
			t.Errorf("tries %d, next after %v", ev.Tries, ev.NextTry.Sub(f.start))
		}
	})
}

// TestUntriedLost checks that an agent that is gone delays mail no longer than
// it takes to start another one, whether or not it had the request.
func TestUntriedLost(t *testing.T) {
	s := &scheduler{log: slog.New(slog.DiscardHandler), work: t.Context()}
	now := time.Now()
	for _, err := range []error{imsg.ErrLost, imsg.ErrClosed} {
		var w work
		s.untried(&envelope.Envelope{}, fmt.Errorf("try: %w", err), now, &w)
		if got := w.changes.Put[0].NextTry.Sub(now); got != suspectPause {
			t.Errorf("%v: next after %v", err, got)
		}
	}
}

// TestRollback checks that what is given up leaves nothing, and that an id
// that is not open is refused.
func TestRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		ctx := t.Context()
		msg, _, err := f.smtp.Create(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.smtp.Commit(ctx, msg); err == nil {
			t.Error("a message without an envelope was accepted")
		}
		if _, err := f.mfa.Submit(ctx, msg, []envelope.Envelope{to("a@one.example")}); err == nil {
			t.Error("an envelope was added to a message that is gone")
		}
		msg, _, _ = f.smtp.Create(ctx)
		bad := to("a@one.example")
		bad.Action = "nothing"
		if _, err := f.mfa.Submit(ctx, msg, []envelope.Envelope{bad}); err == nil {
			t.Error("an envelope of an unknown action was taken")
		}
		f.smtp.Rollback(ctx, msg)
		f.wait(0)
		if err := f.smtp.Commit(ctx, msg); err == nil {
			t.Error("a message was committed after its rollback")
		}
		// Each peer may ask only what is its own.
		if _, _, err := f.mfa.Create(ctx); err == nil {
			t.Error("mfa created a message")
		}
		if _, err := f.smtp.Open(ctx, msg); err == nil {
			t.Error("smtp opened a message")
		}
		f.empty()
	})
}

// TestWithdraw puts other envelopes in the place of those that a message had,
// one of them suspended from the start.
func TestWithdraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		ctx := t.Context()
		msg, file, err := f.smtp.Create(ctx)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(file, "text\n")
		old, err := f.mfa.Submit(ctx, msg, []envelope.Envelope{to("a@one.example"), to("b@one.example")})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.mfa.Withdraw(ctx, msg); err != nil {
			t.Fatal(err)
		}
		held := to("c@one.example")
		held.Flags, held.Error = envelope.Suspended, "quarantined"
		ids, err := f.mfa.Submit(ctx, msg, []envelope.Envelope{held})
		if err != nil || slices.Contains(old, ids[0]) {
			t.Fatalf("%v, %v after %v", ids, err, old)
		}
		if err := f.smtp.Commit(ctx, msg); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var got []string
		for l, err := range f.ctl.List(ctx, 0) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, l.Envelope.Dest.String()+" "+l.Envelope.Error)
		}
		if !slices.Equal(got, []string{"c@one.example quarantined"}) {
			t.Errorf("queued %q", got)
		}
		if err := f.mfa.Withdraw(ctx, msg); err == nil {
			t.Error("envelopes of a message that is committed were withdrawn")
		}
	})
}

// manage does verb with sel and expects it to find want envelopes.
func (f *fixture) manage(verb Verb, sel Selection, want int) {
	f.t.Helper()
	n, err := f.ctl.Manage(f.t.Context(), verb, sel)
	if n != want || err != nil {
		f.t.Errorf("verb %d: %d envelopes, %v; want %d", verb, n, err, want)
	}
	synctest.Wait()
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.set(down)
		const n = 2*maxList + 5
		want := make(map[envelope.MessageID]bool)
		for i := range n {
			want[f.send("hello\n", to(fmt.Sprintf("u%d@down.example", i)))] = true
		}
		f.wait(time.Second)
		last := envelope.ID(0)
		for l, err := range f.ctl.List(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if l.Envelope.ID <= last || l.InFlight || l.Envelope.Tries != 1 {
				t.Errorf("listed after %v: %+v", last, l)
			}
			last = l.Envelope.ID
			delete(want, last.Message())
		}
		if len(want) > 0 {
			t.Errorf("%d envelopes are not in the list", len(want))
		}
	})
}

func TestManage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.set(down)
		a := f.send("hello\n", to("a@down.example"), to("b@down.example"))
		f.send("hello\n", to("c@down.example"))
		f.wait(time.Second)
		f.seen()

		f.manage(Schedule, Selection{Message: a}, 2)
		if got := f.seen(); len(got) != 1 || got[0].Rcpt != "a@down.example b@down.example" {
			t.Errorf("tried after schedule: %v", got)
		}
		f.manage(Suspend, Selection{Message: a}, 2)
		f.manage(Suspend, Selection{Message: a}, 0)
		f.manage(Schedule, Selection{Message: a}, 0)
		f.wait(10 * day)
		for _, tr := range f.seen() {
			if tr.Rcpt != "c@down.example" && tr.Rcpt != "sender@example.org" {
				t.Errorf("tried while suspended: %v", tr)
			}
		}
		// Suspended mail does not expire; once resumed it does.
		f.set(ok)
		f.manage(Resume, Selection{}, 2)
		f.wait(time.Minute)
		for _, tr := range f.seen() {
			if tr.Rcpt != "sender@example.org" {
				t.Errorf("tried after its time: %v", tr)
			}
		}
		f.empty()
	})
}

// first returns the first envelope of a message.
func (f *fixture) first(msg envelope.MessageID) envelope.ID {
	for l := range f.ctl.List(f.t.Context(), Selection{Message: msg}.First()) {
		return l.Envelope.ID
	}
	return 0
}

// TestReadyIsSuspended suspends some of what is ready, and the rest is tried.
func TestReadyIsSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.ctl.Pause(t.Context(), envelope.MTA, true)
		a := f.send("hello\n", to("a@one.example"), to("b@one.example"))
		b := f.send("hello\n", to("c@one.example"), to("d@one.example"))
		f.wait(time.Second)
		f.manage(Schedule, Selection{Message: a}, 2)
		f.manage(Suspend, Selection{Envelope: f.first(a)}, 1)
		f.manage(Suspend, Selection{Message: b}, 2)
		f.ctl.Pause(t.Context(), envelope.MTA, false)
		f.wait(time.Second)
		if got := f.seen(); len(got) != 1 || got[0].Rcpt != "b@one.example" {
			t.Errorf("tried: %v", got)
		}
		f.manage(Resume, Selection{}, 3)
		f.wait(time.Second)
		f.empty()
	})
}

// TestRemove removes envelopes in every phase.
func TestRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.set(down)
		waiting := f.send("hello\n", to("waiting@down.example"))
		f.wait(time.Second)
		hold := make(chan struct{})
		f.mu.Lock()
		f.hold = hold
		f.mu.Unlock()
		flying := f.send("hello\n", to("flying@down.example"))
		f.wait(time.Second)
		if changed, err := f.ctl.Pause(t.Context(), envelope.MTA, true); !changed || err != nil {
			t.Errorf("pause: %v, %v", changed, err)
		}
		queued := f.send("hello\n", to("ready@down.example"))
		f.wait(time.Second)
		for _, msg := range []envelope.MessageID{waiting, flying, queued} {
			f.manage(Remove, Selection{Message: msg}, 1)
		}
		for l, err := range f.ctl.List(t.Context(), 0) {
			if err != nil || !l.InFlight {
				t.Errorf("listed after removal: %v, %v", l.Envelope.Dest, err)
			}
		}
		close(hold)
		f.seen()
		if changed, err := f.ctl.Pause(t.Context(), envelope.MTA, false); !changed || err != nil {
			t.Errorf("resume: %v, %v", changed, err)
		}
		f.wait(10 * day)
		if got := f.seen(); len(got) > 0 {
			t.Errorf("tried after removal: %v", got)
		}
		f.empty()
		if n := strings.Count(f.log.String(), "Removed by administrator"); n != 3 {
			t.Errorf("%d removals in the log", n)
		}
	})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.ctl.Pause(t.Context(), envelope.MTA, true)
		f.send("hello\n", to("a@one.example"), local("b@here"))
		f.wait(time.Hour)
		if got := f.seen(); len(got) != 1 || got[0].Rcpt != "b@here" {
			t.Errorf("tried while mta is paused: %v", got)
		}
		f.ctl.Pause(t.Context(), envelope.MTA, false)
		f.wait(0)
		if got := f.seen(); len(got) != 1 || got[0].Rcpt != "a@one.example" {
			t.Errorf("tried after mta was resumed: %v", got)
		}
		f.empty()
	})
}

// TestPauseOverRestart checks that what was paused still is when the queue is
// started again, until it is resumed.
func TestPauseOverRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		f.ctl.Pause(t.Context(), envelope.MTA, true)
		if err := f.ctl.KeepSMTPPaused(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		f.send("hello\n", to("a@one.example"), local("b@here"))
		f.wait(time.Second)
		f.stop()

		g := newFixture(t, testRules(), f.store)
		g.wait(time.Second)
		if got := g.seen(); len(got) != 0 {
			t.Errorf("tried by a queue that was paused: %v", got)
		}
		if mda, mta, err := g.ctl.Paused(t.Context()); mda || !mta || err != nil {
			t.Errorf("paused after a restart: mda %v, mta %v, %v", mda, mta, err)
		}
		if smtp, err := g.smtp.SMTPPaused(t.Context()); !smtp || err != nil {
			t.Errorf("smtp is told: %v, %v", smtp, err)
		}
		if changed, err := g.ctl.Pause(t.Context(), envelope.MTA, false); !changed || err != nil {
			t.Errorf("resume: %v, %v", changed, err)
		}
		g.wait(time.Second)
		g.empty()
		g.stop()

		h := newFixture(t, testRules(), f.store)
		defer h.stop()
		if _, mta, err := h.ctl.Paused(t.Context()); mta || err != nil {
			t.Errorf("paused after it was resumed: %v, %v", mta, err)
		}
	})
}

// TestOrders returns, reroutes and holds envelopes by their ids, in every
// phase.
func TestOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.set(down)
		order := func(want int, o Order) {
			t.Helper()
			if n, err := f.ctl.Order(t.Context(), &o); n != want || err != nil {
				t.Errorf("order %d: %d envelopes, %v, want %d", o.Verb, n, err, want)
			}
		}
		f.send("Subject: hi\n\nhello\n", to("late@down.example"))
		f.send("Subject: hi\n\nhello\n", to("later@down.example"))
		f.wait(time.Second)
		var ids []envelope.ID
		for ev := range f.store.List(0) {
			ids = append(ids, ev.ID)
		}
		order(2, Order{Verb: Suspend, IDs: append(ids, 77)})
		order(0, Order{Verb: Suspend, IDs: ids})
		order(2, Order{Verb: Resume, IDs: ids})
		if _, err := f.ctl.Order(t.Context(), &Order{Verb: Reroute, Action: "local", IDs: ids}); err == nil {
			t.Error("mail for a relay was routed to a maildir")
		}
		f.seen()

		// One goes another way at once, and one, which is with an agent, as
		// soon as it is back.
		f.set(func(ev *envelope.Envelope) (Result, error) {
			if ev.Action == "smart" || ev.Type == envelope.MDA {
				return ok(ev)
			}
			return down(ev)
		})
		order(1, Order{Verb: Reroute, Action: "smart", IDs: ids[:1]})
		hold := make(chan struct{})
		f.mu.Lock()
		f.hold = hold
		f.mu.Unlock()
		order(1, Order{Verb: Schedule, IDs: ids[1:]})
		f.wait(time.Second)
		order(1, Order{Verb: Reroute, Action: "smart", IDs: ids[1:]})
		close(hold)
		f.wait(time.Second)
		f.empty()
		if n := strings.Count(f.log.String(), "queue: Reroute"); n != 2 {
			t.Errorf("%d lines about it in the log", n)
		}

		// What is returned is reported to its sender.
		f.set(func(ev *envelope.Envelope) (Result, error) {
			if ev.Flags&envelope.IsBounce != 0 {
				return Result{Outcome: TempFail, Text: "later"}, nil
			}
			return down(ev)
		})
		msg := f.send("Subject: hi\n\nhello\n", to("never@down.example"))
		f.wait(time.Second)
		for ev := range f.store.List(envelope.ID(msg)<<32 - 1) {
			order(1, Order{Verb: Return, IDs: []envelope.ID{ev.ID}})
			break
		}
		f.wait(2 * time.Second)
		if _, body := f.report(); !strings.Contains(body, "never@down.example: Returned by administrator") {
			t.Errorf("report:\n%s", body)
		}
	})
}

// TestDoubleBounce checks that the postmaster hears of what nobody else can be
// told, once: a report about that goes nowhere.
func TestDoubleBounce(t *testing.T) {
	for _, tt := range []struct {
		name string
		deny bool // the report is refused when it is made, or when it is delivered
		want string
	}{
		{"made", true, "and sender@example.org cannot be told of it: 550 Invalid recipient"},
		{"delivered", false, "sender@example.org: 550 5.1.1 no such user"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, testRules(), nil)
				defer f.stop()
				f.set(func(ev *envelope.Envelope) (Result, error) {
					if ev.Rcpt.User == "postmaster" {
						return Result{Outcome: TempFail, Text: "later"}, nil
					}
					return Result{Outcome: PermFail, Status: "5.1.1", Text: "550 5.1.1 no such user"}, nil
				})
				if tt.deny {
					f.refuse = errors.New("550 Invalid recipient")
				}
				f.send("Subject: hi\n\nbody\n", to("a@one.example"))
				f.wait(bounceGather)
				f.mu.Lock()
				f.refuse = nil
				f.mu.Unlock()
				f.wait(5 * time.Second)
				m, body := f.report()
				if got := m.Header.Get("To"); got != "<postmaster@mx.example>" {
					t.Errorf("the report goes to %s", got)
				}
				if !strings.Contains(body, tt.want) {
					t.Errorf("no %q in\n%s", tt.want, body)
				}
				f.set(func(*envelope.Envelope) (Result, error) {
					return Result{Outcome: PermFail, Text: "550 no postmaster"}, nil
				})
				f.seen()
				f.wait(day)
				if got := f.seen(); len(got) != 1 {
					t.Errorf("tries: %v", got)
				}
				f.empty()
			})
		})
	}
}

// TestFairnessOfSenders has one sender queue thousands of mails for a host
// that is slow: the one mail of another is not behind them.
func TestFairnessOfSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		hold := make(chan struct{})
		f.hold = hold
		const n = 3000
		for i := range n {
			f.send("hello\n", to(fmt.Sprintf("u%d@slow.example", i)))
		}
		other := to("a@slow.example")
		other.Sender.User = "other"
		f.send("hello\n", other)
		f.wait(0)
		f.seen()
		close(hold)
		f.wait(0)
		got := f.seen()
		if at := slices.IndexFunc(got, func(tr try) bool { return tr.Rcpt == "a@slow.example" }); at < 0 || at > 100 {
			t.Errorf("the other sender's mail was number %d of %d", at, len(got))
		}
		f.empty()
	})
}

func TestLines(t *testing.T) {
	var l lines
	a, b, walk := from{true, envelope.ParseAddress("a@x")}, from{true, envelope.ParseAddress("b@x")}, from{}
	for i, by := range []from{a, a, a, b, walk, walk} {
		l.push(&task{from: by, msg: envelope.MessageID(i), items: []item{{entry: Entry{Mark: Mark{ID: envelope.ID(i)}}}}})
	}
	second, at := l.find(2)
	if second == nil || second.msg != 2 || at != 0 {
		t.Errorf("found %+v at %d", second, at)
	}
	l.remove(second)
	var got []envelope.MessageID
	for l.count > 0 {
		if l.first().msg != l.turn[0].tasks[0].msg {
			t.Error("the first is not what is next")
		}
		got = append(got, l.pop().msg)
	}
	if want := []envelope.MessageID{0, 3, 4, 1, 5}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if len(l.turn) != 0 || len(l.byFrom) != 0 {
		t.Errorf("left: %v, %v", l.turn, l.byFrom)
	}
}
