package mda

import (
	"context"
	"math/rand/v2"
	"sync"
)

// turns hands out the right to run a session: at most total in all and
// perUser for one user. Users with waiting mail are served in turn, so that
// one with much of it does not keep the others waiting.
type turns struct {
	total, perUser int

	mu      sync.Mutex
	running int
	users   map[string]*user
	ready   []*user // those who wait and are below their limit, next first
}

// A user is somebody with sessions that run or wait.
type user struct {
	name    string
	id      uint64 // for logs; the same as long as there is a session
	running int
	waiting []chan struct{}
	ready   bool // in turns.ready
}

func newTurns(total, perUser int) *turns {
	return &turns{total: total, perUser: perUser, users: make(map[string]*user)}
}

// take waits until it is the turn of a session for name, and returns the
// user's id. The caller must then call release.
func (t *turns) take(ctx context.Context, name string) (id uint64, err error) {
	c := make(chan struct{}, 1)
	t.mu.Lock()
	u := t.users[name]
	if u == nil {
		u = &user{name: name, id: rand.Uint64()}
		t.users[name] = u
		usersActive.Inc()
	}
	u.waiting = append(u.waiting, c)
	waiting.Inc()
	t.makeReady(u)
	t.dispatch()
	t.mu.Unlock()

	select {
	case <-c:
		return u.id, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	for i, w := range u.waiting {
		if w == c {
			u.waiting = append(u.waiting[:i], u.waiting[i+1:]...)
			waiting.Dec()
			t.forget(u)
			t.mu.Unlock()
			return 0, ctx.Err()
		}
	}
	t.mu.Unlock()
	t.release(name) // it came at the same moment
	return 0, ctx.Err()
}

// release ends a session for name.
func (t *turns) release(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.users[name]
	u.running--
	t.running--
	running.Dec()
	t.makeReady(u)
	t.dispatch()
	t.forget(u)
}

func (t *turns) makeReady(u *user) {
	if !u.ready && len(u.waiting) > 0 && u.running < t.perUser {
		u.ready = true
		t.ready = append(t.ready, u)
	}
}

// dispatch starts what may start.
func (t *turns) dispatch() {
	for t.running < t.total && len(t.ready) > 0 {
		u := t.ready[0]
		t.ready = t.ready[1:]
		u.ready = false
		if len(u.waiting) == 0 {
			t.forget(u)
			continue
		}
		u.waiting[0] <- struct{}{}
		u.waiting = u.waiting[1:]
		u.running++
		t.running++
		waiting.Dec()
		running.Inc()
		t.makeReady(u) // behind all others
	}
}

// forget drops a user without sessions.
func (t *turns) forget(u *user) {
	if u.running == 0 && len(u.waiting) == 0 && !u.ready && t.users[u.name] == u {
		delete(t.users, u.name)
		usersActive.Dec()
	}
}
