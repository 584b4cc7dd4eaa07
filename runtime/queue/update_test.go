package queue

import (
	"context"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/compile"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// TestUpdate replaces rules and components. What the old smtp has begun it
// can finish; what is due goes to the new agents, and mail whose action came
// with the new rules is found.
func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := testRules()
		rules.Actions = rules.Actions[:2] // no local delivery
		updates := make(chan Update)
		c := Config{Rules: rules, Updates: updates}
		c.Store = NewMemoryStore(func(ev *envelope.Envelope) Destination { return Destination{ev.Type, ev.Action, ev.Dest.Domain} })
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer func() { cancel(); wg.Wait() }()
		connect := func(to *imsg.Conn, h imsg.Handler) *Client {
			var other imsg.Conn
			*to, other = imsg.Pipe()
			p := imsg.NewPeer(other, h)
			wg.Go(func() { p.Run(ctx) })
			return NewClient(p)
		}
		first, second := new(carrier), new(carrier)
		oldSMTP, oldMFA := connect(&c.SMTP, nil), connect(&c.MFA, nil)
		connect(&c.MTA, DelivererHandler(first))
		connect(&c.MDA, DelivererHandler(first))
		wg.Go(func() {
			if err := Main(ctx, c); err != nil {
				t.Error(err)
			}
		})

		begin := func(smtp, mfa *Client, ev envelope.Envelope) (envelope.MessageID, error) {
			msg, f, err := smtp.Create(ctx)
			if err != nil {
				return 0, err
			}
			io.WriteString(f, "hello\n")
			_, err = mfa.Submit(ctx, msg, []envelope.Envelope{ev})
			return msg, err
		}
		// One is under way while everything is replaced, and one is delivered.
		msg, err := begin(oldSMTP, oldMFA, to("a@one.example"))
		if err != nil {
			t.Fatal(err)
		}
		done, err := begin(oldSMTP, oldMFA, to("b@one.example"))
		if err == nil {
			err = oldSMTP.Commit(ctx, done)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := begin(oldSMTP, oldMFA, local("u@here")); err == nil {
			t.Error("mail was taken for an action that is not there")
		}
		synctest.Wait()

		u := Update{Rules: testRules()}
		inForce := make(chan struct{})
		u.Done = func() { close(inForce) }
		newSMTP, newMFA := connect(&u.SMTP, nil), connect(&u.MFA, nil)
		connect(&u.MTA, DelivererHandler(second))
		connect(&u.MDA, DelivererHandler(second))
		updates <- u
		<-inForce
		if err := oldSMTP.Commit(ctx, msg); err != nil {
			t.Errorf("what was under way: %v", err)
		}
		if _, err := begin(oldSMTP, oldMFA, local("u@here")); err == nil {
			t.Error("the old mfa submits to an action that it cannot know")
		}
		msg, err = begin(newSMTP, newMFA, local("u@here"))
		if err == nil {
			err = newSMTP.Commit(ctx, msg)
		}
		if err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if got := first.got(); !slices.Equal(got, []string{"b@one.example"}) {
			t.Errorf("the old agents had %q", got)
		}
		if got := second.got(); !slices.Equal(got, []string{"a@one.example", "u@here"}) {
			t.Errorf("the new agents had %q", got)
		}
	})
}

// TestUpdateBringsAction has mail wait for an action that is gone until a
// reload brings it back.
func TestUpdateBringsAction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, testRules(), nil)
		f.set(down)
		f.send("hello\n", to("a@down.example"))
		f.wait(0)
		f.stop()

		rules := testRules()
		rules.Actions = rules.Actions[1:]
		updates := make(chan Update)
		agent := new(carrier)
		c := Config{Rules: rules, Store: f.store, Updates: updates}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer func() { cancel(); wg.Wait() }()
		serve := func() imsg.Conn {
			a, b := imsg.Pipe()
			wg.Go(func() { imsg.NewPeer(b, DelivererHandler(agent)).Run(ctx) })
			return a
		}
		c.MTA = serve()
		wg.Go(func() { Main(ctx, c) })
		time.Sleep(day)
		if got := agent.got(); len(got) > 0 {
			t.Errorf("tried without an action: %q", got)
		}
		u := Update{Rules: &compile.Ruleset{Actions: testRules().Actions}, Done: func() {}}
		u.MTA = serve()
		updates <- u
		time.Sleep(time.Second)
		if got := agent.got(); !slices.Equal(got, []string{"a@down.example"}) {
			t.Errorf("tried once the action was there: %q", got)
		}
	})
}

// A carrier delivers everything and remembers to whom.
type carrier struct {
	mu    sync.Mutex
	rcpts []string
}

func (r *carrier) Deliver(_ context.Context, batch []envelope.Envelope) ([]Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var l []Result
	for i := range batch {
		r.rcpts = append(r.rcpts, batch[i].Dest.String())
		l = append(l, Result{ID: batch[i].ID, Outcome: Delivered})
	}
	return l, nil
}

func (r *carrier) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := slices.Clone(r.rcpts)
	slices.Sort(l)
	return l
}
