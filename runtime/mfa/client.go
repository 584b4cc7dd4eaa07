package mfa

import (
	"context"
	"errors"
	"os"

	"smtpd/compile"
	"smtpd/runtime/envelope"
	"smtpd/runtime/filter"
	"smtpd/runtime/imsg"
)

// A Client asks the filter agent.
type Client struct{ peer *imsg.Peer }

// NewClient returns a Client that asks over p.
func NewClient(p *imsg.Peer) *Client { return &Client{p} }

// Rcpt resolves a recipient and puts its envelopes into the queue, not yet
// committed. reply is empty if the recipient is accepted; ids are then the
// envelopes that carry it. Otherwise reply is the line to answer with, such
// as "550 Invalid recipient", and nothing was queued. An error means that the
// agent could not be asked: a temporary failure.
func (c *Client) Rcpt(ctx context.Context, r Rcpt) (reply string, ids []envelope.ID, err error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgRcpt, Data: r.append(nil)})
	if err != nil {
		return "", nil, err
	}
	closeFile(m.File)
	var v verdict
	if err := v.parse(m.Data); err != nil {
		return "", nil, err
	}
	return v.Reply, v.IDs, nil
}

// Phase asks the filters of a listener. An error means that the
// agent could not be asked, or that a condition could not be evaluated: a
// temporary failure.
func (c *Client) Phase(ctx context.Context, p Phase) (PhaseVerdict, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgPhase, Data: p.append(nil)})
	if err != nil {
		return PhaseVerdict{}, err
	}
	closeFile(m.File)
	var v PhaseVerdict
	err = v.parse(m.Data)
	return v, err
}

// Open makes a session known to the programs of its listener or relay action.
// It returns the events that they want to hear of and the phases that they want to be asked
// about; filter.DataLine among those means the message.
func (c *Client) Open(ctx context.Context, id compile.FilterID, session uint64) (events, phases []string, err error) {
	q := sessionRef{id, session}
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgOpen, Data: q.append(nil)})
	if err != nil {
		return nil, nil, err
	}
	closeFile(m.File)
	var w wanted
	err = w.parse(m.Data)
	return w.Events, w.Phases, err
}

// Tell reports what has happened in a session, and returns when the programs
// will hear of it before anything that is asked or told later.
func (c *Client) Tell(ctx context.Context, id compile.FilterID, session uint64, events []filter.Event) error {
	h := happened{sessionRef{id, session}, events}
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgEvents, Data: h.append(nil)})
	closeFile(m.File)
	return err
}

// Message returns a stream socket for the message of a session: lines that
// are written there, dot-stuffed and with LF, the last a dot, come back as
// the programs have made them. If the end comes before the dot they failed.
func (c *Client) Message(ctx context.Context, id compile.FilterID, session uint64) (*os.File, error) {
	q := sessionRef{id, session}
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgMessage, Data: q.append(nil)})
	if err == nil && m.File == nil {
		err = errors.New("mfa answered without a descriptor")
	}
	return m.File, err
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}
