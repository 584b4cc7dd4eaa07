package mfa

import (
	"context"

	"smtpd/runtime/envelope"
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
	if m.File != nil {
		m.File.Close()
	}
	var v verdict
	if err := v.parse(m.Data); err != nil {
		return "", nil, err
	}
	return v.Reply, v.IDs, nil
}

// Phase asks the built-in filters of a listener. An error means that the
// agent could not be asked, or that a condition could not be evaluated: a
// temporary failure.
func (c *Client) Phase(ctx context.Context, p Phase) (PhaseVerdict, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgPhase, Data: p.append(nil)})
	if err != nil {
		return PhaseVerdict{}, err
	}
	if m.File != nil {
		m.File.Close()
	}
	var v PhaseVerdict
	err = v.parse(m.Data)
	return v, err
}
