package smtp

import (
	"context"
	"net"
	"sync"
	"time"
)

// A gate is what pause and resume move: while it is shut no connection is
// taken, and new ones wait in the backlog of the kernel.
type gate struct {
	mu        sync.Mutex
	open      chan struct{} // closed while connections are taken
	shut      bool
	listeners []net.Listener
}

func newGate(listeners []net.Listener, shut bool) *gate {
	g := &gate{open: make(chan struct{}), shut: shut, listeners: listeners}
	if !shut {
		close(g.open)
	}
	return g
}

// pass waits until the gate is open; it returns false when ctx is done first.
func (g *gate) pass(ctx context.Context) bool {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// set shuts or opens the gate and reports whether that changed anything. An
// Accept that is under way is ended by a deadline in the past.
func (g *gate) set(shut bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == shut {
		return false
	}
	g.shut = shut
	var deadline time.Time
	if shut {
		g.open = make(chan struct{})
		deadline = time.Unix(1, 0)
	}
	for _, ln := range g.listeners {
		if d, ok := ln.(interface{ SetDeadline(time.Time) error }); ok {
			d.SetDeadline(deadline)
		}
	}
	if !shut {
		close(g.open)
	}
	return true
}

// isShut reports whether no connection is taken.
func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}
