package mta

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"smtpd/compile"
	"smtpd/runtime/lka"
)

// A destination is where a relay sends.
type destination struct {
	smarthost
	name   string // domain or host, for logs and limits
	byMX   bool   // name is a domain, to be asked for its MX
	backup string // by MX: this host's name there; only better ones are used
}

// A relayID tells relays apart; the action says all that destination does not.
type relayID struct {
	action string
	dest   destination
}

// A relay is a place that mail is sent to, with the tasks that wait for it and
// the sessions that take them. Its fields are guarded by the agent's mutex.
type relay struct {
	a      *agent
	id     relayID
	dest   destination
	action *compile.Action
	limits compile.MTALimits

	waiting    []*task
	idle       []*seat // sessions without a task, the last used last
	conns      int     // sessions, and those that would become one
	connecting int     // of these, not ready
	blocked    bool    // one of these waits for the limits
}

// A seat is where an idle session waits for a task; nil tells it to end, and
// moved that it belongs to another relay.
type seat struct {
	s      *session
	limits []limit
	task   chan *task
}

var moved = new(task)

// sit makes an idle session known. The agent's mutex is held, as for all that
// concerns seats.
func (a *agent) sit(s *session) *seat {
	st := &seat{s, s.limits, make(chan *task, 1)}
	s.rested = true
	s.r.idle = append(s.r.idle, st)
	for _, l := range st.limits {
		a.idle[l.key] = append(a.idle[l.key], st)
	}
	if l := a.idle[allKey{}]; len(l) > maxIdle {
		a.endIdle(l[0])
	}
	return st
}

// rise takes st back, and reports whether it was still free.
func (a *agent) rise(st *seat) bool {
	i := slices.Index(st.s.r.idle, st)
	if i < 0 {
		return false
	}
	st.s.r.idle = slices.Delete(st.s.r.idle, i, i+1)
	for _, l := range st.limits {
		seats := a.idle[l.key]
		i := slices.Index(seats, st)
		if seats = slices.Delete(seats, i, i+1); len(seats) == 0 {
			delete(a.idle, l.key)
		} else {
			a.idle[l.key] = seats
		}
	}
	return true
}

// makeRoom ends the session that has been idle longest under one of keys: a
// connection kept for mail that may come must not keep out mail that is here.
func (a *agent) makeRoom(keys []any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, key := range keys {
		if l := a.idle[key]; len(l) > 0 {
			a.endIdle(l[0])
			return
		}
	}
}

// endIdle ends an idle session.
func (a *agent) endIdle(st *seat) {
	a.rise(st)
	st.task <- nil
}

// maxIdle is how many sessions may be idle at a time: a queue that empties to
// thousands of hosts must not leave as many connections.
const maxIdle = 1000

// submit gives t to an idle session, or lets it wait for one.
func (a *agent) submit(action *compile.Action, dest destination, t *task) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := relayID{action.Name, dest}
	r := a.relays[id]
	if r == nil {
		r = &relay{a: a, id: id, dest: dest, action: action, limits: limitsFor(&a.rules.MTA, dest.name)}
		a.relays[id] = r
		relaysKnown.Inc()
	}
	for n := len(r.idle); n > 0; n = len(r.idle) {
		st := r.idle[n-1]
		a.rise(st)
		if st.s.paused() {
			st.task <- nil
			continue
		}
		st.task <- t
		return
	}
	r.waiting = append(r.waiting, t)
	tasksWaiting.Inc()
	r.grow(0)
}

// grow starts as many sessions as the waiting tasks are worth, but for those
// that a session is about to take.
func (r *relay) grow(taken int) {
	tasks := len(r.waiting) - taken
	for r.a.stop.Err() == nil && !r.blocked && r.connecting < tasks && (r.conns <= 2 || 2*r.conns < tasks) {
		r.conns++
		r.connecting++
		r.a.work.Go(r.run)
	}
}

// run is the life of a session.
func (r *relay) run() {
	s, err := r.a.connect(r.a.stop, r, nil, true)
	if !r.connected(err) {
		return
	}
	s.serve()
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	r.conns--
	r.grow(0)
	r.forget()
}

// connected notes that a session is ready, or that none came of it. With the
// last hope the waiting tasks go, too.
func (r *relay) connected(err error) bool {
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	r.connecting--
	if err == nil {
		r.grow(1) // more may now be had of a host that has answered
		return true
	}
	r.conns--
	if r.conns == 0 && !errors.Is(err, errBlocked) && r.a.stop.Err() == nil {
		var f *failure
		if !errors.As(err, &f) {
			f = &failure{status: "4.4.0", text: err.Error()}
		}
		for _, t := range r.waiting {
			t.fail(f)
		}
		tasksWaiting.Sub(float64(len(r.waiting)))
		r.waiting = nil
	}
	r.forget()
	return false
}

// forget drops a relay without sessions and tasks.
func (r *relay) forget() {
	if r.conns == 0 && len(r.waiting) == 0 && r.a.relays[r.id] == r {
		delete(r.a.relays, r.id)
		relaysKnown.Dec()
	}
}

// next returns the next task for a session, or nil if none comes while it may
// stay idle. It calls last once the session is there to be found: who waits
// for the end of one task to bring the next must not meet a relay without an
// idle session.
func (r *relay) next(s *session, last func()) *task {
	a := r.a
	a.mu.Lock()
	if len(r.waiting) > 0 && a.stop.Err() == nil {
		t := r.waiting[0]
		r.waiting[0] = nil
		r.waiting = r.waiting[1:]
		tasksWaiting.Dec()
		a.mu.Unlock()
		last()
		return t
	}
	s.conn.rest()
	st := a.sit(s)
	a.mu.Unlock()
	last()
	a.book.idle(st.limits) // who waits may want this session, or its place

	keep := time.NewTimer(time.Duration(r.limits.SessionKeepalive) * time.Second)
	defer keep.Stop()
	select {
	case t := <-st.task:
		return t
	case <-keep.C:
	case <-a.stop.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rise(st) {
		return nil
	}
	return <-st.task // it came at the same moment
}

// withdraw takes t back if no session has taken it, and reports whether.
func (a *agent) withdraw(t *task) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.relays {
		if i := slices.Index(r.waiting, t); i >= 0 {
			r.waiting = slices.Delete(r.waiting, i, i+1)
			tasksWaiting.Dec()
			r.forget()
			return true
		}
	}
	return false
}

// putBack makes t the next task. If no more are begun it fails for now.
func (r *relay) putBack(t *task) {
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	if r.a.stop.Err() != nil {
		t.fail(&failure{status: "4.3.2", text: "service is stopping"})
		return
	}
	r.waiting = slices.Insert(r.waiting, 0, t)
	tasksWaiting.Inc()
}

// block asks to wait for the limits. One session of a relay does, so that
// there is one to go on; more would only wait for each other.
func (r *relay) block() bool {
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	if r.blocked || len(r.waiting) == 0 {
		return false
	}
	r.blocked = true
	return true
}

func (r *relay) unblock() {
	r.a.mu.Lock()
	defer r.a.mu.Unlock()
	r.blocked = false
}

// A candidate is a host that may take the mail of a relay.
type candidate struct {
	host string // its name, verified with TLS
	pref uint16
	addr netip.Addr

	secure    bool           // DNSSEC vouches for its being one, and for its address
	canonical string         // where aliases of its name led; "" without any
	sts       *lka.STSPolicy // of the domain; nil for none
	listed    bool           // sts has it
}

// errBlocked is returned by connect when the limits allow no connection now.
var errBlocked = errors.New("connection limits reached")

// blockedCheck is how long who is blocked waits at most before it looks again:
// what it waited for may have gone to another, who could not use it.
const blockedCheck = 5 * time.Second

// connect returns a session with the best host that may be had and is not in
// tried, from the first source of which there is one. If only limits stand in
// the way it waits for them, if wait says so.
func (a *agent) connect(ctx context.Context, r *relay, tried map[netip.Addr]bool, wait bool) (*session, error) {
	hosts, err := a.resolve(ctx, r)
	if err != nil {
		return nil, err
	}
	var full *way    // the first that only limits close
	var why *failure // the most telling one of the others
	var used []netip.Addr
	// A table hands its sources out in turn, to other sessions in between.
	for again := 0; again <= len(used); again++ {
		acc, err := a.access(ctx, r)
		if slices.Contains(used, acc.source) {
			continue
		}
		used = append(used, acc.source)
		w := &way{acc: acc}
		var s *session
		if err == nil {
			w.hosts, err = a.usable(r, hosts, acc.source, tried)
		}
		if err == nil {
			s, w.blocks, err = a.obtain(ctx, r, w.hosts, acc)
		}
		var f *failure
		switch {
		case err == nil:
			return s, nil
		case errors.Is(err, errBlocked):
			full = cmp.Or(full, w)
		case !errors.As(err, &f):
			return nil, err
		case why == nil || f.unreached:
			why = f
		}
		if r.action.Relay.Src == 0 || f != nil && !f.bySource {
			break
		}
	}
	switch {
	case full == nil:
		return nil, why
	case !wait || !r.block():
		return nil, errBlocked
	}
	defer r.unblock()
	return a.await(ctx, r, full)
}

// A way is how a session could be had of hosts but for blocks.
type way struct {
	hosts  []candidate
	acc    access
	blocks blocks
}

// await returns a session by a way that limits close, once they let it through.
func (a *agent) await(ctx context.Context, r *relay, closed *way) (s *session, err error) {
	hosts, acc, b := closed.hosts, closed.acc, closed.blocks
	for err = errBlocked; errors.Is(err, errBlocked); {
		w := a.book.wait(b.keys)
		keys := b.keys
		s, b, err = a.obtain(ctx, r, hosts, acc) // for what ended meanwhile
		if errors.Is(err, errBlocked) && slices.Equal(keys, b.keys) {
			if s = a.adopt(ctx, r, hosts, acc); s != nil { // better than to end it
				a.book.leave(w)
				return s, nil
			}
			a.makeRoom(b.keys)
			b.wait(ctx, w)
			s, b, err = a.obtain(ctx, r, hosts, acc)
		}
		a.book.leave(w)
	}
	return s, err
}

// obtain returns a session that another relay does not need, or a new one.
func (a *agent) obtain(ctx context.Context, r *relay, hosts []candidate, acc access) (*session, blocks, error) {
	if s := a.adopt(ctx, r, hosts, acc); s != nil {
		return s, blocks{}, nil
	}
	return a.tryHosts(ctx, r, hosts, acc)
}

// blocks is what keeps a relay from connecting to hosts.
type blocks struct {
	keys  []any // of limits
	until time.Time
}

func (b *blocks) add(more *block) {
	b.keys = append(b.keys, more.key)
	if b.until.IsZero() || !more.until.IsZero() && more.until.Before(b.until) {
		b.until = more.until
	}
}

// wait returns when b may have changed.
func (b *blocks) wait(ctx context.Context, w *waiter) {
	again := blockedCheck
	if !b.until.IsZero() {
		again = min(again, time.Until(b.until))
	}
	alarm := time.NewTimer(again)
	defer alarm.Stop()
	select {
	case <-w.wake:
	case <-alarm.C:
	case <-ctx.Done():
	}
}

// usable returns those of hosts that mail of r may go to from source and that
// are not in tried.
func (a *agent) usable(r *relay, hosts []candidate, source netip.Addr, tried map[netip.Addr]bool) ([]candidate, error) {
	if a.pauses.has(source, r.dest.name) {
		return nil, &failure{status: "4.3.2", text: "All routes to destination blocked", bySource: true}
	}
	if len(hosts) == 0 {
		return nil, &failure{status: "4.4.4", text: "No MX found for destination"}
	}
	family := r.limits.Family
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(c candidate) bool {
		is4 := c.addr.Is4()
		return source.IsValid() && source.Is4() != is4 || family == "inet4" && !is4 || family == "inet6" && is4
	})
	if len(hosts) == 0 {
		return nil, &failure{status: "4.4.4", text: "Address family mismatch on destination MXs", bySource: true}
	}
	hosts = slices.DeleteFunc(hosts, func(c candidate) bool { return tried[c.addr] })
	if len(hosts) == 0 {
		return nil, &failure{status: "4.4.4", text: "No valid route to destination"}
	}
	return hosts, nil
}

// tryHosts tries hosts, best preference first. A worse preference is only
// tried if all of the better ones failed: a host that is busy with our own
// sessions is no reason to bother its backup.
func (a *agent) tryHosts(ctx context.Context, r *relay, hosts []candidate, acc access) (s *session, b blocks, err error) {
	var why *policyError // of the last host that would not do what is asked
	for len(hosts) > 0 && len(b.keys) == 0 {
		n := slices.IndexFunc(hosts, func(c candidate) bool { return c.pref != hosts[0].pref })
		if n < 0 {
			n = len(hosts)
		}
		for _, addrs := range a.byHost(hosts[:n], acc.source) {
			s, err := a.tryHost(ctx, r, addrs, acc, &b)
			switch {
			case err == nil:
				return s, b, nil
			case ctx.Err() != nil:
				return nil, b, ctx.Err()
			}
			errors.As(err, &why)
		}
		hosts = hosts[n:]
	}
	switch {
	case len(b.keys) > 0:
		return nil, b, errBlocked
	case why != nil:
		return nil, b, &failure{status: "4.7.5", text: why.Error(), policy: why.policy}
	}
	return nil, b, &failure{status: "4.4.1", text: "Network error on destination MXs", bySource: true, unreached: true}
}
