package backend

import (
	"context"
	"errors"

	"smtpd/compile/engine"
)

// A Source asks for one table. It is safe for concurrent use, and gives up
// when the context ends. That a key is not there is an answer and no error.
type Source interface {
	Check(ctx context.Context, s engine.Service, key string) (bool, error)
	Lookup(ctx context.Context, s engine.Service, key string) (value string, ok bool, err error)
	// Update drops what was kept from before, such as connections, and
	// reports whether the source can be asked.
	Update(ctx context.Context) error
	Close()
}

// A lister is a Source that knows all entries that a service goes round.
type lister interface {
	Source
	List(ctx context.Context, s engine.Service) ([]string, error)
}

// A fetcher is a Source that goes round itself.
type fetcher interface {
	Source
	Fetch(ctx context.Context, s engine.Service) (value string, ok bool, err error)
}

// ErrService is the error of what a table does not serve.
var ErrService = errors.New("the table does not serve this")
