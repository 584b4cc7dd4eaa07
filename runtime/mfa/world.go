package mfa

import (
	"context"
	"io"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/lka"
	"smtpd/runtime/parent"
)

// A client is the world of one recipient: the rules see the client who sent
// it, and the peers answer the rest.
type client struct {
	*agent
	tx engine.Transaction
}

var _ world = (*client)(nil)

func (c *client) decide(ctx context.Context, dest envelope.Address, internal bool) engine.Decision {
	tx := c.tx
	tx.Rcpt = engine.Address(dest)
	if internal {
		tx.Kind = engine.FromInternal
	}
	return c.engine.Decide(ctx, &tx, c.lookups)
}

func (c *client) alias(ctx context.Context, t compile.TableID, key string) (string, bool, error) {
	if s := c.inline[t-1]; s != nil {
		return s.Lookup(engine.Alias, key)
	}
	return c.lookups.Lookup(ctx, t, engine.Alias, key)
}

func (c *client) user(ctx context.Context, t compile.TableID, name string) (lka.UserInfo, bool, error) {
	return c.lookups.UserInfo(ctx, t, name)
}

func (c *client) include(ctx context.Context, path string) (string, bool, error) {
	return c.lookups.Include(ctx, path)
}

func (c *client) forward(ctx context.Context, u lka.UserInfo) (string, bool, error) {
	f, err := c.homes.Forward(ctx, parent.Account{Name: u.Name, UID: u.UID, GID: u.GID, Home: u.Home})
	if f == nil || err != nil {
		return "", false, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxForward))
	return string(data), true, err
}
