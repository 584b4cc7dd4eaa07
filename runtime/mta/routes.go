package mta

import (
	"sync"
	"time"
)

const (
	routeBase  = 15 * time.Second
	routeCap   = time.Hour
	hostMemory = 4 * time.Hour // how long what a host did is remembered

	// What is old is looked for when there is so much, and then so often.
	sweepFrom  = 10_000
	sweepEvery = time.Minute
)

// A route is the way from a source to a host, and how it fared.
type route struct {
	id       uint32 // for the administrator
	name     string // of the host, by reverse lookup
	valid    bool   // a session has been ready since the last failure
	trying   bool   // a first session is being set up
	failures int    // since the last success, less what has been forgiven
	errors   int    // in all
	until    time.Time
	used     time.Time
}

// pause returns how long a route is left alone after its last failure.
func (r *route) pause() time.Duration {
	return min(routeBase*time.Duration(r.failures*r.failures), routeCap)
}

// forgive takes off a failure for each pause that has passed since the end of
// the last one: a host that failed much yesterday may fail once today.
func (r *route) forgive(now time.Time) {
	for r.failures > 0 && !now.Before(r.until.Add(r.pause())) {
		r.until = r.until.Add(r.pause())
		r.failures--
	}
}

// routes remembers which hosts do not answer.
type routes struct {
	mu     sync.Mutex
	routes map[routeKey]*route
	swept  time.Time
	last   uint32 // id
}

// A routeState is whether a route may be used.
type routeState uint8

const (
	routeOpen     routeState = iota + 1
	routeBusy                // its first session is not ready yet
	routeDisabled            // it failed a short while ago
)

// begin asks to use a route. If it is open the caller must report what came of
// it with ready, failed or abandon.
func (rs *routes) begin(key routeKey, now time.Time) routeState {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.routes[key]
	switch {
	case r == nil:
		if rs.routes == nil {
			rs.routes = make(map[routeKey]*route)
		}
		rs.forget(now)
		rs.last++
		r = &route{id: rs.last}
		rs.routes[key] = r
		routesKnown.Set(float64(len(rs.routes)))
	case now.Before(r.until):
		return routeDisabled
	case r.trying:
		return routeBusy
	}
	r.used = now
	r.trying = !r.valid
	return routeOpen
}

// ready says that a session over the route is ready, and reports whether the
// one before it was not.
func (rs *routes) ready(key routeKey) (again bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.routes[key]
	if r == nil {
		return false
	}
	again = r.failures > 0
	r.valid, r.trying, r.failures = true, false, 0
	return again
}

// failed disables the route for a time that grows with each failure, and
// returns it.
func (rs *routes) failed(key routeKey, now time.Time) time.Duration {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.routes[key]
	if r == nil {
		return 0
	}
	r.valid, r.trying = false, false
	r.errors++
	if now.Before(r.until) { // others failed while this was under way: it is one and the same
		return r.until.Sub(now)
	}
	r.forgive(now)
	r.failures = min(r.failures+1, maxFailures)
	r.until = now.Add(r.pause())
	return r.pause()
}

// maxFailures is how many are counted: with so many the pause is routeCap.
const maxFailures = 16

// good reports whether the last session over the route was ready.
func (rs *routes) good(key routeKey) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.routes[key]
	return r != nil && r.valid
}

// abandon says that nothing was learnt.
func (rs *routes) abandon(key routeKey) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.routes[key]; r != nil {
		r.trying = false
	}
}

// forget drops routes not used for long, once there are many.
func (rs *routes) forget(now time.Time) {
	if len(rs.routes) < sweepFrom || now.Sub(rs.swept) < sweepEvery {
		return
	}
	rs.swept = now
	for key, r := range rs.routes {
		if !r.trying && now.Sub(r.used) > hostMemory {
			delete(rs.routes, key)
		}
	}
}

// named notes the reverse name of a host.
func (rs *routes) named(key routeKey, name string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.routes[key]; r != nil {
		r.name = name
	}
}

// enable ends the pause of the route with that id, and reports whether there
// was one.
func (rs *routes) enable(id uint32, now time.Time) (routeKey, bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for key, r := range rs.routes {
		if r.id == id && now.Before(r.until) {
			r.until = now
			return key, true
		}
	}
	return routeKey{}, false
}

// each calls f with every route.
func (rs *routes) each(f func(key routeKey, r *route)) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for key, r := range rs.routes {
		f(key, r)
	}
}
