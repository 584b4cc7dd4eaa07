package mta

import (
	"context"

	"smtpd/runtime/imsg"
)

// A Client gives mta the orders of the administrator.
type Client struct{ peer *imsg.Peer }

// NewClient returns a Client that asks over p.
func NewClient(p *imsg.Peer) *Client { return &Client{p} }

// Do has an order carried out.
func (c *Client) Do(ctx context.Context, o Order) (Answer, error) {
	var a Answer
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgOrder, Data: o.Append(nil)})
	if err == nil {
		err = a.parse(m.Data)
	}
	return a, err
}
