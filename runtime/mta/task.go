package mta

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/queue"
)

// A task is one message on its way to one destination: all its recipients
// there, in one transaction.
type task struct {
	ctx       context.Context // of who waits for it
	envelopes []envelope.Envelope
	sender    envelope.Address // as the action rewrites it
	outcomes  []outcome        // of the envelopes
	tried     map[netip.Addr]bool
	done      chan struct{}
}

// An outcome is what became of an envelope so far, and where.
type outcome struct {
	queue.Result
	again   bool // another host may take it
	untried bool // the queue is to hear nothing of it, and hands it out again

	unreached bool // no host could be talked to

	session uint64 // for logs, as the rest; 0 if there was none
	source  string // local address
	relay   string // the host
	policy  policy // for TLS
	secured string // how TLS went
}

func newTask(ctx context.Context, sender envelope.Address, batch []envelope.Envelope) *task {
	return &task{
		ctx:       ctx,
		envelopes: batch,
		sender:    sender,
		outcomes:  make([]outcome, len(batch)),
		tried:     make(map[netip.Addr]bool),
		done:      make(chan struct{}),
	}
}

// pending returns the indices of the envelopes that may yet be delivered.
func (t *task) pending() []int {
	var l []int
	for i := range t.outcomes {
		if o := &t.outcomes[i]; o.Outcome == 0 || o.again {
			l = append(l, i)
		}
	}
	return l
}

// set notes what became of envelope i.
func (t *task) set(i int, o outcome) {
	o.ID = t.envelopes[i].ID
	t.outcomes[i] = o
}

// fail ends the task: what no host has spoken of fails with f.
func (t *task) fail(f *failure) {
	for i := range t.outcomes {
		if t.outcomes[i].Outcome == 0 {
			t.set(i, f.outcome())
		}
	}
	close(t.done)
}

// finish ends the task with what is known.
func (t *task) finish() { t.fail(&failure{status: "4.4.0", text: "No valid route to destination"}) }

// A failure is why mail does not reach any host.
type failure struct {
	permanent bool
	status    string
	text      string
	untried   bool   // nothing was tried: a component that was asked is being started again
	bySource  bool   // another source may fare better
	unreached bool   // no host could be talked to
	policy    policy // for TLS, if it is the reason
}

// unanswered returns the failure that err of another component stands for.
func unanswered(err error, status, text string) *failure {
	return &failure{status: status, text: text, untried: errors.Is(err, imsg.ErrClosed)}
}

func (f *failure) Error() string { return f.text }

func (f *failure) outcome() outcome {
	o := queue.TempFail
	if f.permanent {
		o = queue.PermFail
	}
	return outcome{
		Result:  queue.Result{Outcome: o, Status: f.status, Text: printable(f.text)},
		untried: f.untried, unreached: f.unreached, policy: f.policy,
	}
}

// replied returns the outcome that reply r of a host stands for.
func replied(r reply) outcome {
	o := outcome{Result: queue.Result{Outcome: queue.TempFail, Status: r.status, Text: r.text}, again: true}
	switch {
	case r.ok():
		o.Outcome, o.again = queue.Delivered, false
	case r.permanent():
		o.Outcome, o.again = queue.PermFail, false
	case r.code/100 != 4: // in place of an answer
		o.Status = "4.5.0"
	}
	return o
}

// broken returns the outcome of a dialogue that err ended.
func broken(err error) outcome {
	return outcome{Result: queue.Result{Outcome: queue.TempFail, Status: "4.4.2", Text: printable(err.Error())}, again: true}
}

// pause waits unless ctx ends first.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
