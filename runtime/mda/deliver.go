package mda

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpd/compile"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/parent"
	"smtpd/runtime/queue"
)

// An agent delivers envelopes; it is the queue's Deliverer.
type agent struct {
	stop      context.Context // ends when nothing new is to be begun
	rules     *compile.Ruleset
	log       *slog.Logger
	mailboxes string
	aliasUser string
	actions   map[string]*compile.Action
	wrappers  map[string]string // name to command
	program   string            // this one, for wrappers
	turns     *turns

	queue    messages
	accounts accounts
	parent   deliverer
}

// What the agent asks of its peers; each is a Client, or faked in a test.
type (
	messages interface {
		Open(ctx context.Context, msg envelope.MessageID) (*os.File, error)
	}
	accounts interface {
		UserInfo(ctx context.Context, t compile.TableID, name string) (lka.UserInfo, bool, error)
	}
	deliverer interface {
		Deliver(ctx context.Context, d parent.Delivery, content *os.File) (parent.Result, error)
	}
)

var _ queue.Deliverer = (*agent)(nil)

// Deliver delivers each envelope of batch and returns when all are done. There
// is no result for one that was not begun before mda was told to stop.
func (a *agent) Deliver(ctx context.Context, batch []envelope.Envelope) ([]queue.Result, error) {
	results := make([]queue.Result, len(batch))
	var wg sync.WaitGroup
	for i := range batch {
		wg.Go(func() {
			ev := &batch[i]
			envelopesHeld.WithLabelValues().Inc()
			defer envelopesHeld.WithLabelValues().Dec()
			var t turn
			if r, ok := a.deliver(ctx, ev, &t); ok {
				results[i] = r
				a.count(ev, &r, t.took)
				a.logDelivery(ctx, ev, t.id, &r)
			}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(results, func(r queue.Result) bool { return r.Outcome == 0 }), nil
}

// A refusal is why an envelope cannot be handed to parent.
type refusal struct {
	outcome      queue.Outcome
	status, text string
}

func (r *refusal) Error() string { return r.text }

// tempFail returns a refusal; but if one of args is the error of a component
// that is being started again, it says that nothing was tried.
func tempFail(format string, args ...any) error {
	for _, a := range args {
		if err, ok := a.(error); ok && errors.Is(err, imsg.ErrClosed) {
			return err
		}
	}
	return &refusal{queue.TempFail, "4.3.0", fmt.Sprintf(format, args...)}
}

// A turn is when a delivery is made.
type turn struct {
	id   uint64        // the user's, for logs
	took time.Duration // 0: it never came
}

// deliver carries one envelope through to its end; ok is false if it was not
// begun.
func (a *agent) deliver(ctx context.Context, ev *envelope.Envelope, t *turn) (result queue.Result, ok bool) {
	r, err := a.attempt(ctx, ev, t)
	if err == nil {
		outcome := map[parent.Outcome]queue.Outcome{
			parent.Delivered: queue.Delivered, parent.TempFail: queue.TempFail, parent.PermFail: queue.PermFail,
		}[r.Outcome]
		return queue.Result{ID: ev.ID, Outcome: outcome, Status: r.Status, Text: r.Text}, true
	}
	var no *refusal
	if !errors.As(err, &no) {
		if ctx.Err() != nil || a.stop.Err() != nil || errors.Is(err, imsg.ErrClosed) {
			return queue.Result{}, false
		}
		no = &refusal{queue.TempFail, "4.3.0", err.Error()}
	}
	return queue.Result{ID: ev.ID, Outcome: no.outcome, Status: no.status, Text: oneLine(no.text)}, true
}

// attempt prepares the delivery of ev and has parent run it in its turn.
func (a *agent) attempt(ctx context.Context, ev *envelope.Envelope, t *turn) (r parent.Result, err error) {
	action, ok := a.actions[ev.Action]
	if !ok {
		return r, tempFail("action %q is not configured any more", ev.Action)
	}
	d, err := a.prepare(ctx, ev, action)
	if err != nil {
		return r, err
	}
	asked := time.Now()
	waits, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.stop, cancel)()
	if t.id, err = a.turns.take(waits, ev.LocalUser); err != nil {
		return r, err
	}
	began := time.Now()
	waitTime.WithLabelValues().Observe(began.Sub(asked).Seconds())
	defer func() {
		a.turns.release(ev.LocalUser)
		t.took = time.Since(began)
	}()

	content, err := a.queue.Open(ctx, ev.ID.Message())
	if err != nil {
		return r, tempFail("message is not available: %v", err)
	}
	again, err := looped(io.NewSectionReader(content, 0, math.MaxInt64), ev)
	if again {
		err = &refusal{queue.Loop, "5.4.6", "Loop detected"}
	}
	if err != nil {
		content.Close()
		return r, err
	}
	return a.parent.Deliver(ctx, d, content)
}

// prepare finds out who delivers ev, and how.
func (a *agent) prepare(ctx context.Context, ev *envelope.Envelope, action *compile.Action) (parent.Delivery, error) {
	account, err := a.account(ctx, ev, action)
	if err != nil {
		return parent.Delivery{}, err
	}
	as, err := a.identity(ctx, account, action)
	if err != nil {
		return parent.Delivery{}, err
	}
	d := parent.Delivery{
		ID: ev.ID, As: parent.Account(as), User: account.Name, Header: trace(ev),
		Sender: ev.Sender, Rcpt: ev.Rcpt, Dest: ev.Dest, SubAddress: ev.SubAddress,
	}
	f := &fields{
		sender: ev.Sender, rcpt: ev.Rcpt, dest: ev.Dest,
		username: account.Name, directory: account.Home, delimiter: a.rules.SMTP.SubAddrDelim,
	}
	text, err := a.method(&d, ev, action)
	if err == nil {
		d.Target, err = f.expand(text)
	}
	if err == nil && action.Wrapper != "" {
		err = a.wrap(&d, f, action)
	}
	var no *refusal
	if err != nil && !errors.As(err, &no) {
		err = &refusal{queue.PermFail, "5.3.5", fmt.Sprintf("mda command line could not be expanded: %v", err)}
	}
	return d, err
}

// method sets how d is delivered and returns what its target is expanded from.
func (a *agent) method(d *parent.Delivery, ev *envelope.Envelope, action *compile.Action) (string, error) {
	switch {
	case ev.Execute == envelope.Command:
		d.Method = parent.Command
		return ev.Exec, nil
	case ev.Execute == envelope.File:
		d.Method = parent.Mbox
		return ev.Exec, nil
	}
	switch action.Method {
	case compile.MBox:
		d.Method = parent.Mbox
		return a.mailboxes + "/%{user.username}", nil
	case compile.Maildir:
		d.Method, d.Junk = parent.Maildir, action.Junk
		if action.Argument == "" {
			return "~/Maildir", nil
		}
		return action.Argument, nil
	case compile.LMTP:
		d.Method, d.RcptTo = parent.LMTP, action.RcptTo
		return action.Argument, nil
	case compile.MDA:
		d.Method = parent.Command
		return action.Argument, nil
	}
	return "", tempFail("action %q does not deliver to users", action.Name)
}

// wrap puts action's wrapper around the command of d, or around the one that
// does what d's method does.
func (a *agent) wrap(d *parent.Delivery, f *fields, action *compile.Action) (err error) {
	command, ok := a.wrappers[action.Wrapper]
	if !ok {
		return tempFail("wrapper %q is not configured any more", action.Wrapper)
	}
	wrapped := *f
	wrapped.wrapper, wrapped.command = true, parent.AgentCommand(a.program, *d)
	d.Wrapper, err = wrapped.expand(command)
	return err
}

// account returns the user that ev is for.
func (a *agent) account(ctx context.Context, ev *envelope.Envelope, action *compile.Action) (lka.UserInfo, error) {
	u, ok, err := a.accounts.UserInfo(ctx, action.Userbase, ev.LocalUser)
	if err == nil && ev.Execute != envelope.ByAction && ev.LocalUser == a.aliasUser {
		u, ok, err = a.aliasAccount(ctx, u, ok)
	}
	switch {
	case err != nil:
		return u, tempFail("user %s: %v", ev.LocalUser, err)
	case !ok:
		return u, &refusal{queue.PermFail, "5.1.1", "user unknown: " + ev.LocalUser}
	}
	return u, nil
}

// aliasAccount returns who runs the commands of aliases, where u is what the
// userbase has under that name, if ok. A daemon that is not root can only be
// itself; its account need not be in any userbase, but may be, if a user runs
// it: then u is that user, with a home.
func (a *agent) aliasAccount(ctx context.Context, u lka.UserInfo, ok bool) (lka.UserInfo, bool, error) {
	uid := os.Geteuid()
	switch {
	case uid != 0 && (!ok || u.UID != uint32(uid)):
		return lka.UserInfo{Name: a.aliasUser, UID: uint32(uid), GID: uint32(os.Getegid()), Home: "/"}, true, nil
	case uid == 0 && !ok:
		return a.accounts.UserInfo(ctx, 0, a.aliasUser)
	}
	return u, ok, nil
}

// identity returns who runs the delivery to u: the action's user, or u.
func (a *agent) identity(ctx context.Context, u lka.UserInfo, action *compile.Action) (lka.UserInfo, error) {
	if action.User == "" {
		return u, nil
	}
	as, ok, err := a.accounts.UserInfo(ctx, 0, action.User)
	switch {
	case err != nil:
		return as, tempFail("user %s: %v", action.User, err)
	case !ok:
		return as, &refusal{queue.PermFail, "5.3.5", "delivery user '" + action.User + "' does not exist"}
	}
	return as, nil
}

// logDelivery writes the line per attempt that operators search for.
func (a *agent) logDelivery(ctx context.Context, ev *envelope.Envelope, id uint64, r *queue.Result) {
	result := r.Outcome
	if result == queue.Loop {
		result = queue.PermFail
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "mda delivery",
		slog.String("session", fmt.Sprintf("%016x", id)),
		slog.String("evpid", ev.ID.String()),
		slog.String("from", "<"+ev.Sender.String()+">"),
		slog.String("to", "<"+ev.Dest.String()+">"),
		slog.String("rcpt", "<"+ev.Rcpt.String()+">"),
		slog.String("user", ev.LocalUser),
		slog.String("delay", envelope.FormatDelay(time.Since(ev.Created))),
		slog.String("result", result.String()),
		slog.String("stat", strings.TrimSpace(r.Text)),
	)
}
