package lka

import (
	"context"
	"errors"
	"os/user"
	"strings"

	"smtpd/compile/engine"
	"smtpd/runtime/lka/backend"
)

// A table answers lookups. A key that is absent is an answer, not an error:
// ok is false. An error means that the table could not say. Keys come folded
// to lower case and no longer than tablefile.MaxKey.
type table interface {
	check(ctx context.Context, s engine.Service, key string) (bool, error)
	lookup(ctx context.Context, s engine.Service, key string) (value string, ok bool, err error)
	fetch(ctx context.Context, s engine.Service) (value string, ok bool, err error)
}

// An updater is a table that can be read anew.
type updater interface {
	table
	update(ctx context.Context) error
}

var (
	_ updater = (*static)(nil)
	_ updater = remote{}
	_ table   = system{}
)

// errService says that a table is asked for what it does not have.
var errService = backend.ErrService

// system is the password file. The daemon is free of cgo and reads no other
// source of accounts: who is not in it is looked for beyond it.
type system struct{ beyond *backend.Table }

func (t system) check(ctx context.Context, s engine.Service, key string) (bool, error) {
	_, ok, err := t.lookup(ctx, s, key)
	return ok, err
}

func (t system) lookup(ctx context.Context, s engine.Service, key string) (string, bool, error) {
	if s != engine.UserInfo {
		return "", false, errService
	}
	if key == "" || strings.ContainsAny(key, ":\n\x00") {
		return "", false, nil
	}
	u, err := user.Lookup(key)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		return t.beyond.Lookup(ctx, s, key)
	}
	if err != nil {
		return "", false, err
	}
	return u.Uid + ":" + u.Gid + ":" + u.HomeDir, true, nil
}

func (system) fetch(context.Context, engine.Service) (string, bool, error) {
	return "", false, errService
}
