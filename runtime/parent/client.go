package parent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"smtpd/runtime/imsg"
)

// ErrTemporary and ErrPermanent are returned, wrapped, by Forward for a
// .forward that must not be used: now, or as it is.
var (
	ErrTemporary = errors.New("temporary failure")
	ErrPermanent = errors.New("permanent failure")
)

// A Client asks parent to act for a user.
type Client struct{ peer *imsg.Peer }

// NewClient returns a Client that asks over p.
func NewClient(p *imsg.Peer) *Client { return &Client{p} }

// Deliver runs one delivery of content, which it reads from the start and
// takes ownership of. An error means that parent could not be asked: a
// temporary failure. If ctx ends first the delivery may still happen.
func (c *Client) Deliver(ctx context.Context, d Delivery, content *os.File) (Result, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeDeliver, Data: appendDelivery(nil, d), File: content})
	if err != nil {
		return Result{}, fmt.Errorf("deliver %v: %w", d.ID, err)
	}
	if m.File != nil {
		m.File.Close()
	}
	return parseResult(m.Data)
}

// Forward opens the .forward in the home of u. A nil file without an error
// means that there is none. The errors are ErrTemporary and ErrPermanent.
func (c *Client) Forward(ctx context.Context, u Account) (*os.File, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeForward, Data: appendAccount(nil, u)})
	if err != nil {
		return nil, fmt.Errorf("open .forward of %s: %w: %w", u.Name, ErrTemporary, err)
	}
	r, err := parseForwardReply(m.Data)
	if err == nil && r.State == forwardFile && m.File != nil {
		return m.File, nil
	}
	if m.File != nil {
		m.File.Close()
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("open .forward of %s: %w: %w", u.Name, ErrTemporary, err)
	case r.State == forwardNone:
		return nil, nil
	case r.State == forwardPerm:
		return nil, fmt.Errorf("open .forward of %s: %w: %s", u.Name, ErrPermanent, r.Text)
	default:
		return nil, fmt.Errorf("open .forward of %s: %w: %s", u.Name, ErrTemporary, r.Text)
	}
}

// Account returns the account that the name services of the system have for a
// name, uid:gid:home; none if there is nobody to ask.
func (c *Client) Account(ctx context.Context, name string) (value string, ok bool, err error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeAccount, Data: imsg.AppendString(nil, name)})
	if err != nil {
		return "", false, fmt.Errorf("look for an account: %w", err)
	}
	if m.File != nil {
		m.File.Close()
	}
	r := imsg.NewReader(m.Data)
	ok, value = r.Bool(), r.String()
	return value, ok, r.Close()
}

// Login reports whether password is that of the system's account user. An
// error says nothing about it: a temporary failure.
func (c *Client) Login(ctx context.Context, user, password string) (bool, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeLogin, Data: login{user, password}.append(nil)})
	if err != nil {
		return false, fmt.Errorf("check the password of an account: %w", err)
	}
	if m.File != nil {
		m.File.Close()
	}
	r := imsg.NewReader(m.Data)
	ok := r.Bool()
	return ok, r.Close()
}
