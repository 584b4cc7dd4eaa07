package mfa

import (
	"context"
	"errors"
	"fmt"
	"io"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/expand"
	"smtpd/runtime/parent"
)

// A client is the world of one recipient: the rules see the client who sent
// it, and the peers answer the rest.
type client struct {
	*agent
	view *view
	tx   engine.Transaction
}

var _ expand.World = (*client)(nil)

// Decide implements expand.World.
func (c *client) Decide(ctx context.Context, dest engine.Address, internal bool) engine.Decision {
	tx := c.tx
	tx.Rcpt = dest
	if internal {
		tx.Kind = engine.FromInternal
	}
	d := c.view.engine.Decide(ctx, &tx, c.lookups)
	c.count(d)
	c.recent.add(&tx, d)
	return d
}

// Alias implements expand.World.
func (c *client) Alias(ctx context.Context, t compile.TableID, key string) (string, bool, error) {
	if s := c.inline[t-1]; s != nil {
		return s.Lookup(engine.Alias, key)
	}
	return c.lookups.Lookup(ctx, t, engine.Alias, key)
}

// User implements expand.World.
func (c *client) User(ctx context.Context, t compile.TableID, name string) (expand.Account, bool, error) {
	if t != 0 && c.inline[t-1] != nil {
		value, ok, err := c.inline[t-1].Lookup(engine.UserInfo, name)
		if !ok || err != nil {
			return expand.Account{}, false, err
		}
		u, err := expand.ParseAccount(name, value)
		return u, true, err
	}
	u, ok, err := c.lookups.UserInfo(ctx, t, name)
	return expand.Account(u), ok, err
}

// Include implements expand.World.
func (c *client) Include(ctx context.Context, path string) (string, bool, error) {
	return c.lookups.Include(ctx, path)
}

// Forward implements expand.World.
func (c *client) Forward(ctx context.Context, u expand.Account) (string, bool, error) {
	f, err := c.homes.Forward(ctx, parent.Account{Name: u.Name, UID: u.UID, GID: u.GID, Home: u.Home})
	if errors.Is(err, parent.ErrPermanent) {
		err = fmt.Errorf("%w: %w", expand.ErrForbidden, err)
	}
	if f == nil || err != nil {
		return "", false, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, expand.MaxForward))
	return string(data), true, err
}
