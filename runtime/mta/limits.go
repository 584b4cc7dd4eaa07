package mta

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"smtpd/compile"
)

// Keys of what connections are counted by.
type (
	hostKey      struct{ host netip.Addr }
	routeKey     struct{ source, host netip.Addr } // source invalid: any
	sourceKey    struct{ source netip.Addr }
	domainKey    struct{ domain string }
	relayKey     struct{ relay *relay }
	connectorKey struct {
		relay  *relay
		source netip.Addr
	}
)

// A limit bounds the connections of one key.
type limit struct {
	key   any
	max   int
	delay time.Duration // since the last one began
	again time.Duration // since the last one ended
}

// A usage is what is known of a key.
type usage struct {
	conns        int
	began, ended time.Time
}

// A book counts the connections of the whole component.
type book struct {
	mu      sync.Mutex
	usages  map[any]*usage
	changed chan struct{} // closed when a connection ended
}

func newBook() *book {
	return &book{usages: make(map[any]*usage), changed: make(chan struct{})}
}

// take counts a connection under every limit, or under none if one forbids it.
// Then at is when it may be tried again, zero if not before another connection
// has ended.
func (b *book) take(limits []limit, now time.Time) (ok bool, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := false
	for _, l := range limits {
		u := b.usages[l.key]
		if u == nil {
			continue
		}
		full = full || l.max > 0 && u.conns >= l.max
		for _, t := range []time.Time{u.began.Add(l.delay), u.ended.Add(l.again)} {
			if t.After(now) && t.After(at) {
				at = t
			}
		}
	}
	switch {
	case full:
		return false, time.Time{}
	case !at.IsZero():
		return false, at
	}
	for _, l := range limits {
		u := b.usages[l.key]
		if u == nil {
			u = new(usage)
			b.usages[l.key] = u
		}
		u.conns++
		u.began = now
	}
	return true, time.Time{}
}

// release ends a connection that take counted.
func (b *book) release(limits []limit, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range limits {
		u := b.usages[l.key]
		u.conns--
		u.ended = now
		if u.conns == 0 && l.delay == 0 && l.again == 0 {
			delete(b.usages, l.key)
		}
	}
	b.forget(now)
	b.signal()
}

// notify wakes who waits for a change.
func (b *book) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.signal()
}

func (b *book) signal() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// forget drops what no delay can need any more, once there is much of it.
func (b *book) forget(now time.Time) {
	if len(b.usages) < 10_000 {
		return
	}
	for key, u := range b.usages {
		if u.conns == 0 && now.Sub(u.began) > hostMemory && now.Sub(u.ended) > hostMemory {
			delete(b.usages, key)
		}
	}
}

// conns returns how many connections key has.
func (b *book) conns(key any) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u := b.usages[key]; u != nil {
		return u.conns
	}
	return 0
}

// wait returns a channel that is closed when a connection has ended.
func (b *book) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// Delays that OpenSMTPD has unless told otherwise. They are pauses before it
// talks again to a host that answers, which serve nobody: a host that does not
// answer is left alone by its route's penalty. So they hold only if the
// configuration says another number.
const (
	defaultConnDelayRoute   = 5
	defaultConnDelayRelay   = 2
	defaultReconnDelayRoute = 3
)

// wanted returns a delay unless it is the default.
func wanted(seconds, def int) time.Duration {
	if seconds == def {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// limitsOf returns what a connection of r from source to host counts under.
func limitsOf(r *relay, source, host netip.Addr) []limit {
	l := &r.limits
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	list := []limit{
		{key: hostKey{host}, max: l.MaxConnPerHost, delay: seconds(l.ConnDelayHost)},
		{key: routeKey{source, host}, max: l.MaxConnPerRoute,
			delay: wanted(l.ConnDelayRoute, defaultConnDelayRoute), again: wanted(l.ReconnDelayRoute, defaultReconnDelayRoute)},
		{key: connectorKey{r, source}, max: l.MaxConnPerConnector, delay: seconds(l.ConnDelayConnector)},
		{key: relayKey{r}, max: l.MaxConnPerRelay, delay: wanted(l.ConnDelayRelay, defaultConnDelayRelay)},
		{key: domainKey{r.dest.name}, max: l.MaxConnPerDomain, delay: seconds(l.ConnDelayDomain)},
	}
	if source.IsValid() {
		list = append(list, limit{key: sourceKey{source}, max: l.MaxConnPerSource, delay: seconds(l.ConnDelaySource)})
	}
	return list
}

// limitsFor returns the limits for mail to domain.
func limitsFor(m *compile.MTA, domain string) compile.MTALimits {
	for i := range m.Domains {
		if strings.EqualFold(m.Domains[i].Domain, domain) {
			return m.Domains[i].Limits
		}
	}
	return m.Limits
}
