package smtp

import (
	"cmp"
	"net/netip"
	"sync"
	"time"
)

// failureMemory is how long a wrong password counts against its source.
const failureMemory = 10 * time.Minute

// maxGuessers bounds the sources that are remembered.
const maxGuessers = 1 << 16

// A guesses counts wrong passwords of each source, over all its sessions.
type guesses struct {
	limit int
	mu    sync.Mutex
	from  map[netip.Addr]guesser
}

// A guesser is a source with wrong passwords since a time.
type guesser struct {
	wrong int
	since time.Time
}

func newGuesses(limit int) *guesses {
	return &guesses{limit: cmp.Or(limit, maxSourceAuthFailures), from: make(map[netip.Addr]guesser)}
}

// allows reports whether a source may try another password. What runs on this
// host, such as webmail, tries those of many people.
func (g *guesses) allows(a netip.Addr) bool {
	if !a.IsValid() || a.IsLoopback() {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	x, ok := g.from[sourceOf(a)]
	return !ok || x.wrong < g.limit || time.Since(x.since) > failureMemory
}

// count notes a wrong password.
func (g *guesses) count(a netip.Addr) {
	if !a.IsValid() || a.IsLoopback() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	x := g.from[sourceOf(a)]
	if now.Sub(x.since) > failureMemory {
		x = guesser{since: now}
	}
	x.wrong++
	if len(g.from) >= maxGuessers {
		g.forget(now)
	}
	g.from[sourceOf(a)] = x
}

// forget makes room: those whose time is over go, and if there are none, all.
func (g *guesses) forget(now time.Time) {
	for a, x := range g.from {
		if now.Sub(x.since) > failureMemory {
			delete(g.from, a)
		}
	}
	if len(g.from) >= maxGuessers {
		clear(g.from)
	}
}
