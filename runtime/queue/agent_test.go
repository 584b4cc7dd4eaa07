package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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
	log   *bytes.Buffer
	stop  func()

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

func tempfail(*envelope.Envelope) (Result, error) {
	return Result{Outcome: TempFail, Status: "4.4.1", Text: "Network error on destination MXs"}, nil
}

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
	connect(&c.MTA, DelivererHandler(f))
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
		file.Close()
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
		if d := cmp.Diff(want, got); d != "" {
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

// TestOutage holds a destination down for longer than mail lives, and
// compares every try with the law of the original: creation + 400 s × n².
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		defer f.stop()
		f.set(tempfail)
		f.send("Subject: hi\n\nbody\n", to("a@down.example"))
		var want []try
		for n := time.Duration(0); n*n*400*time.Second < 4*day; n++ {
			want = append(want, try{n * n * 400 * time.Second, "a@down.example"})
		}
		f.wait(4*day - 2*time.Second)
		got := f.seen()
		delayed := 0
		for i := len(got) - 1; i >= 0; i-- {
			if got[i].Rcpt == "sender@example.org" {
				delayed++
				got = append(got[:i], got[i+1:]...)
			}
		}
		if d := cmp.Diff(want, got[:min(len(got), len(want))]); d != "" {
			t.Error("tries (-law +got)", d)
		}
		if len(got) != len(want) {
			t.Errorf("%d tries to destination, want %d", len(got), len(want))
		}
		_ = delayed
	})
}

var _ = fmt.Sprint
var _ = mail.ReadMessage
