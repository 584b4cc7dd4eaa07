package lka

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"sync/atomic"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/tablefile"
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
	_ updater = (*helper)(nil)
	_ table   = system{}
)

var errService = errors.New("the table does not serve this")

// A static table is in memory, indexed. One that was read from a file can be
// read again.
type static struct {
	path  string
	kind  compile.Kind
	delim byte
	index atomic.Pointer[engine.Static]
}

func newStatic(t *compile.Table, delim byte) *static {
	s := &static{path: t.Path, kind: t.Kind, delim: delim}
	s.index.Store(engine.NewStatic(t, delim))
	return s
}

func (s *static) check(_ context.Context, svc engine.Service, key string) (bool, error) {
	return s.index.Load().Check(svc, key)
}

func (s *static) lookup(_ context.Context, svc engine.Service, key string) (string, bool, error) {
	return s.index.Load().Lookup(svc, key)
}

func (s *static) fetch(_ context.Context, svc engine.Service) (string, bool, error) {
	return s.index.Load().Fetch(svc)
}

// maxTableFile bounds what an update reads into memory.
const maxTableFile = 1 << 30

// update reads the file again. Unless all of it can be read, and it is a
// table of the kind that the configuration was checked with, what was known
// before stays.
func (s *static) update(context.Context) error {
	if s.path == "" {
		return errors.New("the table is part of the configuration")
	}
	data, err := readLimited(s.path, maxTableFile)
	if err != nil {
		return err
	}
	kind, entries, err := tablefile.Parse(s.path, data)
	switch {
	case err != nil:
		return err
	case kind == tablefile.List && s.kind == compile.Mapping, kind == tablefile.Mapping && s.kind == compile.List && len(entries) > 0:
		return fmt.Errorf("%s: was a list and is now a mapping, or the other way round", s.path)
	}
	s.index.Store(engine.NewStatic(&compile.Table{Entries: entries}, s.delim))
	return nil
}

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
