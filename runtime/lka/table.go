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

// system is the password file. The default build is free of cgo, and then
// reads no other source of accounts.
type system struct{}

func (system) check(ctx context.Context, s engine.Service, key string) (bool, error) {
	_, ok, err := system{}.lookup(ctx, s, key)
	return ok, err
}

func (system) lookup(_ context.Context, s engine.Service, key string) (string, bool, error) {
	if s != engine.UserInfo {
		return "", false, errService
	}
	if key == "" || strings.ContainsAny(key, ":\n\x00") {
		return "", false, nil
	}
	u, err := user.Lookup(key)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return u.Uid + ":" + u.Gid + ":" + u.HomeDir, true, nil
}

func (system) fetch(context.Context, engine.Service) (string, bool, error) {
	return "", false, errService
}
