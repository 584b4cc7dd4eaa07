package mta

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// attemptDelay is how long an address is called alone before the next one of
// the same host is called, too (RFC 8305, section 8).
const attemptDelay = 250 * time.Millisecond

// byHost returns the addresses of each host, those that we talk to least first:
// hosts of one preference share the load (RFC 5321, section 5.1).
func (a *agent) byHost(level []candidate, source netip.Addr) [][]candidate {
	var hosts [][]candidate
	for _, c := range level {
		i := slices.IndexFunc(hosts, func(l []candidate) bool { return l[0].host == c.host })
		if i < 0 {
			i, hosts = len(hosts), append(hosts, nil)
		}
		hosts[i] = append(hosts[i], c)
	}
	conns := func(l []candidate) (n int) {
		for _, c := range l {
			n += a.book.conns(routeKey{source, c.addr})
		}
		return n
	}
	slices.SortStableFunc(hosts, func(x, y []candidate) int { return conns(x) - conns(y) })
	for i := range hosts {
		hosts[i] = a.inTurns(hosts[i], source)
	}
	return hosts
}

// inTurns returns the addresses of a host in the order in which they are
// called: one of each family in turn, beginning with the family that worked
// last, and of a family those that we talk to least.
func (a *agent) inTurns(addrs []candidate, source netip.Addr) []candidate {
	var families [2][]candidate // by that of the first, and the other
	for _, c := range addrs {
		i := 0
		if c.addr.Is4() != addrs[0].addr.Is4() {
			i = 1
		}
		families[i] = append(families[i], c)
	}
	good := func(c candidate) bool { return a.routes.good(routeKey{source, c.addr}) }
	if !slices.ContainsFunc(families[0], good) && slices.ContainsFunc(families[1], good) {
		families[0], families[1] = families[1], families[0]
	}
	var l []candidate
	for _, f := range families {
		slices.SortStableFunc(f, func(x, y candidate) int {
			return a.book.conns(routeKey{source, x.addr}) - a.book.conns(routeKey{source, y.addr})
		})
	}
	for i := range max(len(families[0]), len(families[1])) {
		for _, f := range families {
			if i < len(f) {
				l = append(l, f[i])
			}
		}
	}
	return l
}

// errDisabled is returned for a host that failed a short while ago.
var errDisabled = errors.New("route disabled")

// tryHost opens a session with a host at one of its addresses, if limits and
// their past allow that. What the limits forbid is added to b.
func (a *agent) tryHost(ctx context.Context, r *relay, addrs []candidate, acc access, b *blocks) (*session, error) {
	d, err := a.demandOf(ctx, r, &addrs[0])
	if err != nil {
		a.refused(ctx, r, &addrs[0], err)
		return nil, err
	}
	err = errDisabled
	for len(addrs) > 0 && ctx.Err() == nil {
		s, left, rerr := a.race(ctx, r, addrs, acc, d, b)
		if rerr != nil {
			err = rerr
		}
		if s == nil {
			break
		}
		if s, rerr = a.ready(ctx, s); rerr == nil {
			return s, nil
		}
		addrs, err = left, rerr
	}
	return nil, err
}

// A call is an attempt to connect that has ended.
type call struct {
	s   *session
	err error
}

// race connects to the first of addrs that answers: they are called one after
// the other, but none waits for long for the one before (RFC 8305, section 5).
// Left are those that have not failed. Without a session, err is the last
// failure, nil if nobody was called.
func (a *agent) race(ctx context.Context, r *relay, addrs []candidate, acc access, d demand, b *blocks) (s *session, left []candidate, err error) {
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan call, len(addrs))
	next := time.NewTimer(0)
	defer next.Stop()
	under := 0
	begin := func() {
		for len(addrs) > 0 {
			c := a.begin(r, addrs[0], acc, d, b)
			addrs = addrs[1:]
			if c != nil {
				under++
				a.work.Go(func() { ended <- call{c, c.dial(calling)} })
				next.Reset(attemptDelay)
				return
			}
		}
	}
	for begin(); under > 0; {
		select {
		case <-next.C:
			if s == nil {
				begin()
			}
		case c := <-ended:
			under--
			switch {
			case c.err == nil && s == nil && ctx.Err() == nil:
				s = c.s
				cancel()
			case s != nil || ctx.Err() != nil:
				a.abandon(c)
				left = append(left, c.s.host)
			default:
				err = c.err
				a.disable(c.s, c.err)
				begin()
			}
		}
	}
	return s, append(left, addrs...), err
}

// begin returns a session with c that may be dialled, nil if limits, which are
// added to b, or its past do not allow it.
func (a *agent) begin(r *relay, c candidate, acc access, d demand, b *blocks) *session {
	key := routeKey{acc.source, c.addr}
	switch a.routes.begin(key, time.Now()) {
	case routeDisabled:
		return nil
	case routeBusy:
		b.add(&block{key: key})
		return nil
	}
	limits := limitsOf(r, acc.source, c.addr)
	if no := a.book.take(limits, time.Now()); no != nil {
		a.routes.abandon(key)
		b.add(no)
		return nil
	}
	return &session{a: a, r: r, id: rand.Uint64(), host: c, access: acc, demand: d, limits: limits}
}

// abandon ends a call of which nothing came, for no fault of the host.
func (a *agent) abandon(c call) {
	if c.err == nil {
		c.s.conn.nc.Close()
	}
	connections.WithLabelValues("abandoned").Inc()
	key := c.s.route()
	a.routes.abandon(key)
	a.book.release(c.s.limits, time.Now())
	a.book.open(key)
}

// disable leaves the host of s alone for a while, because of err.
func (a *agent) disable(s *session, err error) {
	key := s.route()
	connections.WithLabelValues("failed").Inc()
	off := a.routes.failed(key, time.Now())
	s.log(a.hard, "mta error", slog.String("reason", printable(err.Error())))
	a.log.Warn("smtp-out: Disabling route", "source", sourceText(s.access.source), "host", s.host.addr.String(),
		"name", s.host.host, "for", off.String())
	a.book.release(s.limits, time.Now())
	a.book.open(key)
}

// enabled logs that a route is used again.
func (a *agent) enabled(key routeKey) {
	a.log.Info("smtp-out: Enabling route", "source", sourceText(key.source), "host", key.host.String())
}

// ready says all that comes before the first message on a session that has just
// connected. If the host fails at TLS that nobody needs it is called again, to
// do without.
func (a *agent) ready(ctx context.Context, s *session) (*session, error) {
	err := s.greet(ctx, false)
	if errors.Is(err, errDowngrade) {
		s.log(ctx, "mta error", slog.String("reason", printable(err.Error())))
		s = &session{a: a, r: s.r, id: rand.Uint64(), host: s.host, access: s.access, demand: s.demand, limits: s.limits}
		if err = s.dial(ctx); err == nil {
			err = s.greet(ctx, true)
		}
	}
	switch {
	case err == nil:
		connections.WithLabelValues("ready").Inc()
		sessionsOpen.Inc()
		if a.routes.ready(s.route()) {
			a.enabled(s.route())
		}
		a.book.open(s.route())
		return s, nil
	case ctx.Err() != nil:
		a.abandon(call{s, err})
	default:
		a.disable(s, err)
	}
	return nil, err
}

// adopt returns a session with one of the best hosts that is idle, but open for
// another relay: domains that share an exchanger share the connections to it.
// It must have come to what r would have asked of it.
func (a *agent) adopt(ctx context.Context, r *relay, hosts []candidate, acc access) *session {
	for i := range hosts {
		c := &hosts[i]
		if c.pref != hosts[0].pref {
			break
		}
		st := a.shareable(r, c, acc)
		if st == nil {
			continue
		}
		d, err := a.demandOf(ctx, r, c)
		if err == nil && a.handOver(st, r, *c, d) {
			return st.s
		}
	}
	return nil
}

// shareable returns an idle session of another relay that goes where one of r
// to c would go, and presents itself in the same way.
func (a *agent) shareable(r *relay, c *candidate, acc access) *seat {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, st := range a.idle[hostKey{c.addr}] {
		s := st.s
		if s.r != r && s.r.action == r.action && s.r.dest.mode == r.dest.mode && s.r.dest.label == r.dest.label &&
			a.portOf(s.r) == a.portOf(r) && s.host.host == c.host && s.access == acc {
			return st
		}
	}
	return nil
}

// handOver makes an idle session one of r, if it is still free, has come to
// what r asks of TLS, and the limits of r allow that.
func (a *agent) handOver(st *seat, r *relay, c candidate, d demand) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := st.s
	limits := limitsOf(r, s.access.source, c.addr)
	if !slices.Contains(s.r.idle, st) || !d.metBy(s) || !a.book.move(st.limits, limits) {
		return false
	}
	a.rise(st)
	st.task <- moved
	s.r, s.host, s.demand, s.limits = r, c, d, limits
	return true
}
