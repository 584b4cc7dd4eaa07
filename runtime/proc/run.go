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

// Locals runs components as groups of goroutines of this process until its
// context ends or one of them does. The front is stopped first: it takes work
// from outside, and what it has promised it finishes with the help of the
// rest. Components come in generations, of which a reload starts another.
type Locals struct {
	front, rest         context.Context
	stopFront, stopRest context.CancelFunc
	fronts, rests       sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// NewLocals returns one without components.
func NewLocals(ctx context.Context) *Locals {
	l := new(Locals)
	l.rest, l.stopRest = context.WithCancel(context.WithoutCancel(ctx))
	l.front, l.stopFront = context.WithCancel(ctx)
	return l
}

// A Generation is components that were started together.
type Generation struct {
	l       *Locals
	fronts  sync.WaitGroup
	stop    context.CancelFunc // of its rest
	retired bool               // under Locals.mu
}

// Start starts components.
func (l *Locals) Start(front, rest []Component) *Generation {
	g := &Generation{l: l}
	ctx, stop := context.WithCancel(l.rest)
	g.stop = stop
	for _, c := range rest {
		l.rests.Go(func() { g.run(ctx, c) })
	}
	for _, c := range front {
		g.fronts.Add(1)
		l.fronts.Go(func() {
			defer g.fronts.Done()
			g.run(l.front, c)
		})
	}
	return g
}

// run runs one component. An error, or an end before that of service, is the
// end of all.
func (g *Generation) run(ctx context.Context, c Component) {
	err := c.Main(ctx)
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	switch {
	case err != nil:
		err = fmt.Errorf("%s: %w", c.Name, err)
	case g.retired:
		return
	case g.l.front.Err() == nil:
		err = fmt.Errorf("%s: ended by itself", c.Name)
	}
	if err != nil {
		g.l.errs = append(g.l.errs, err)
	}
	g.l.stopFront()
}

// Retire lets the components of g end: those at the front when they like, the
// rest when those have.
func (g *Generation) Retire() {
	g.l.mu.Lock()
	g.retired = true
	g.l.mu.Unlock()
	go func() {
		g.fronts.Wait()
		g.stop()
	}()
}

// Wait returns when all components have ended, with what went wrong.
func (l *Locals) Wait() error {
	<-l.front.Done()
	l.fronts.Wait()
	l.stopRest()
	l.rests.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.errs...)
}
