package lka

import (
	"context"
	"sync/atomic"

	"smtpd/compile/engine"
	"smtpd/runtime/lka/backend"
	"smtpd/runtime/parent"
)

// nameServices know the accounts of the system that no file has: parent asks
// them, where it can. A backend.Table stands before it, so that a directory which
// hangs, or a guesser of names, costs little.
type nameServices struct {
	parent atomic.Pointer[parent.Client] // nil: nobody can be asked
}

var _ backend.Source = (*nameServices)(nil)

// Lookup implements backend.Source.
func (a *nameServices) Lookup(ctx context.Context, _ engine.Service, key string) (value string, ok bool, err error) {
	p := a.parent.Load()
	if p == nil {
		return "", false, nil
	}
	return p.Account(ctx, key)
}

// Check implements backend.Source.
func (a *nameServices) Check(ctx context.Context, s engine.Service, key string) (bool, error) {
	_, ok, err := a.Lookup(ctx, s, key)
	return ok, err
}

// Update implements backend.Source.
func (*nameServices) Update(context.Context) error { return nil }

// Close implements backend.Source.
func (*nameServices) Close() {}
