package proc

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A Component is a part of the daemon: Main runs until its context ends.
type Component struct {
	Name string
	Main func(ctx context.Context) error
}

// Local runs components as groups of goroutines of this process until ctx
// ends or one of them does. The front is stopped first: it takes work from
// outside, and what it has promised it finishes with the help of the rest.
func Local(ctx context.Context, front, rest []Component) error {
	restCtx, stopRest := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRest()
	frontCtx, stopFront := context.WithCancel(ctx)
	defer stopFront()
	// A component of the rest may end when those that it serves have.
	helpers := start(restCtx, frontCtx, stopFront, rest)
	err := start(frontCtx, frontCtx, stopFront, front)()
	stopRest()
	return errors.Join(err, helpers())
}

// start starts components. When one ends it calls ended; the function that it
// returns waits for all and tells what went wrong: an error, or an end before
// that of service.
func start(ctx, service context.Context, ended func(), components []Component) (wait func() error) {
	var wg sync.WaitGroup
	errs := make([]error, len(components))
	for i, c := range components {
		wg.Go(func() {
			defer ended()
			err := c.Main(ctx)
			switch {
			case err != nil:
				errs[i] = fmt.Errorf("%s: %w", c.Name, err)
			case service.Err() == nil:
				errs[i] = fmt.Errorf("%s: ended by itself", c.Name)
			}
		})
	}
	return func() error {
		wg.Wait()
		return errors.Join(errs...)
	}
}
