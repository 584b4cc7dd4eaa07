package smtp

import (
	"context"
	"errors"
	"fmt"
	"os"

	"smtpd/runtime/imsg"
)

// A Client asks the SMTP server for what it offers other components.
type Client struct{ peer *imsg.Peer }

// NewClient returns a Client that speaks over p.
func NewClient(p *imsg.Peer) *Client { return &Client{p} }

// Session opens a session of the local submission socket for a process of
// user uid. The file is a stream socket on which the server greets; the
// caller closes it or hands it on.
func (c *Client) Session(ctx context.Context, uid uint32) (*os.File, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeSession, Data: sessionRequest{uid}.append(nil)})
	if err != nil {
		return nil, fmt.Errorf("open a local session: %w", err)
	}
	if m.File == nil {
		return nil, errors.New("open a local session: the answer carries no descriptor")
	}
	return m.File, nil
}

// Pause stops or resumes taking connections, and reports whether that changed
// anything.
func (c *Client) Pause(ctx context.Context, on bool) (bool, error) {
	return c.flag(ctx, imsg.Message{Type: typePause, Data: pauseRequest{on}.append(nil)})
}

// Paused reports whether no connections are taken.
func (c *Client) Paused(ctx context.Context) (bool, error) {
	return c.flag(ctx, imsg.Message{Type: typePaused})
}

func (c *Client) flag(ctx context.Context, q imsg.Message) (bool, error) {
	m, err := c.peer.Call(ctx, q)
	if err != nil {
		return false, err
	}
	if m.File != nil {
		m.File.Close()
	}
	r := imsg.NewReader(m.Data)
	v := r.Bool()
	return v, r.Close()
}
