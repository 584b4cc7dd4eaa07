package mfa

import (
	"context"
	"strings"
	"sync"

	"smtpd/compile"
	"smtpd/compile/expand"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// A mailbox is where a copy of a message ends up. Two envelopes of one
// message with the same mailbox would put the same mail there twice.
type mailbox struct {
	typ    envelope.Type
	notify envelope.Notify // reports that differ need an envelope each
	place  place
	user   string
	sub    string
	exec   string
	as     envelope.Execute

	// Of relayed mail, and wherever the addresses decide what is done.
	dest, rcpt envelope.Address
}

// A place is what of an action decides where mail goes.
type place struct {
	name     string // of a relay action: its options are its own
	method   compile.Method
	argument string
	user     string
	userbase compile.TableID
	wrapper  string
}

func mailboxOf(ev *envelope.Envelope, a *compile.Action) mailbox {
	m := mailbox{typ: ev.Type, notify: ev.Notify, user: ev.LocalUser, sub: ev.SubAddress, as: ev.Execute, exec: ev.Exec}
	switch {
	case ev.Type == envelope.MTA:
		m.place.name = a.Name
		m.dest = envelope.Address{User: ev.Dest.User, Domain: strings.ToLower(ev.Dest.Domain)}
		return m
	case ev.Execute == envelope.ByAction:
		m.place = place{method: a.Method, argument: a.Argument, user: a.User, userbase: a.Userbase, wrapper: a.Wrapper}
	}
	if addressDecides(ev, a) {
		m.dest, m.rcpt = ev.Dest, ev.Rcpt
	}
	return m
}

// addressDecides reports whether a local delivery may do different things
// for different addresses of one user: then each needs its own. A command
// finds the addresses in its environment.
func addressDecides(ev *envelope.Envelope, a *compile.Action) bool {
	switch ev.Execute {
	case envelope.Command:
		return true
	case envelope.File:
		return namesAddress(ev.Exec)
	}
	return a.Method == compile.MDA || a.Wrapper != "" || a.RcptTo || namesAddress(a.Argument)
}

func namesAddress(format string) bool {
	format = strings.ToLower(format)
	return strings.Contains(format, "%{dest") || strings.Contains(format, "%{rcpt")
}

// An addressed copy is an envelope and the action that it names.
type addressed struct {
	envelope envelope.Envelope
	action   *compile.Action
}

// A transaction remembers where a message already goes, so that a mailbox
// which several recipients lead to gets one copy.
type transaction struct {
	message envelope.MessageID

	mu   sync.Mutex
	seen map[mailbox]envelope.ID
}

// submit puts those of copies into the queue that lead somewhere new, and
// returns the envelopes that carry the recipient.
func (t *transaction) submit(ctx context.Context, q envelopes, msg envelope.MessageID, copies []addressed) ([]envelope.ID, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []envelope.ID
	var fresh []envelope.Envelope
	var boxes []mailbox
	chosen := make(map[mailbox]bool)
	size := 0
	for i := range copies {
		ev := &copies[i].envelope
		box := mailboxOf(ev, copies[i].action)
		if id, ok := t.seen[box]; ok {
			ids = append(ids, id)
			continue
		}
		if !chosen[box] {
			chosen[box] = true
			fresh, boxes = append(fresh, *ev), append(boxes, box)
			size += len(ev.Append(nil)) + 8
		}
	}
	switch {
	case len(fresh) == 0:
		return ids, nil
	case size > imsg.MaxMessage-64:
		// In two messages it would not be all or nothing.
		return nil, expand.Refuse(expand.ReplyListTemp, "the expansion takes %d bytes", size)
	}
	added, err := q.Submit(ctx, msg, fresh)
	switch {
	case err != nil:
		return nil, expand.Refuse(expand.ReplyTemporary, "submit to queue: %w", err)
	case len(added) != len(fresh):
		return nil, expand.Refuse(expand.ReplyTemporary, "queue took %d of %d envelopes", len(added), len(fresh))
	}
	if t.seen == nil {
		t.seen = make(map[mailbox]envelope.ID, len(boxes))
	}
	for i, box := range boxes {
		t.seen[box] = added[i]
	}
	return append(ids, added...), nil
}

// transactions holds the transaction of each session. Nobody says when one
// ends: the next of the session takes its place, and of idle sessions the
// older half is forgotten when there are too many. The worst that comes of
// that is a second copy.
type transactions struct {
	mu         sync.Mutex
	young, old map[uint64]*transaction
}

const maxTransactions = 4096 // in each half

// of returns the transaction of a session's message.
func (ts *transactions) of(session uint64, msg envelope.MessageID) *transaction {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.young[session]
	if t == nil {
		if t = ts.old[session]; t != nil {
			ts.keep(session, t)
		}
	}
	if t == nil || t.message != msg {
		t = &transaction{message: msg}
		ts.keep(session, t)
	}
	return t
}

// drop forgets the transaction of a session.
func (ts *transactions) drop(session uint64) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.young, session)
	delete(ts.old, session)
}

func (ts *transactions) keep(session uint64, t *transaction) {
	if ts.young == nil || len(ts.young) >= maxTransactions {
		ts.old, ts.young = ts.young, make(map[uint64]*transaction)
	}
	ts.young[session] = t
}
