package mta

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"smtpd/compile"
)

// Keys of what connections are counted by.
type (
	allKey       struct{}
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
	waiting      []*waiter // first come, first served
}

// A waiter waits for a connection under some key to end, or to be idle.
type waiter struct {
	keys []any
	wake chan struct{} // capacity 1
}

// A block says why a connection was not counted.
type block struct {
	key   any       // of the limit
	until time.Time // zero: until another connection has ended
}

// A book counts the connections of the whole component.
type book struct {
	mu     sync.Mutex
	usages map[any]*usage
	swept  time.Time
}

func newBook() *book { return &book{usages: make(map[any]*usage)} }

// of returns the usage of key. The mutex is held.
func (b *book) of(key any) *usage {
	u := b.usages[key]
	if u == nil {
		u = new(usage)
		b.usages[key] = u
	}
	return u
}

// take counts a connection under every limit, or under none if one forbids it:
// then it returns which, and until when.
func (b *book) take(limits []limit, now time.Time) *block {
	b.mu.Lock()
	defer b.mu.Unlock()
	var no *block
	for _, l := range limits {
		u := b.usages[l.key]
		if u == nil {
			continue
		}
		if l.max > 0 && u.conns >= l.max {
			return &block{key: l.key}
		}
		for _, t := range []time.Time{u.began.Add(l.delay), u.ended.Add(l.again)} {
			if t.After(now) && (no == nil || t.After(no.until)) {
				no = &block{l.key, t}
			}
		}
	}
	if no != nil {
		return no
	}
	for _, l := range limits {
		u := b.of(l.key)
		u.conns++
		u.began = now
	}
	return nil
}

// move counts a connection that was counted under old under limits instead, if
// these allow one more of those that it is not counted under yet. It begins
// nothing, so no delay holds.
func (b *book) move(old, limits []limit) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range limits {
		if u := b.usages[l.key]; u != nil && l.max > 0 && u.conns >= l.max && !holds(old, l.key) {
			return false
		}
	}
	for _, l := range limits {
		if !holds(old, l.key) {
			b.of(l.key).conns++
		}
	}
	b.end(slices.DeleteFunc(slices.Clone(old), func(l limit) bool { return holds(limits, l.key) }))
	return true
}

func holds(limits []limit, key any) bool {
	return slices.ContainsFunc(limits, func(l limit) bool { return l.key == key })
}

// release ends a connection that take counted.
func (b *book) release(limits []limit, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range limits {
		b.usages[l.key].ended = now
	}
	b.end(limits)
	b.forget(now)
}

// end takes a connection out of the counts, and wakes who waited for that. The
// mutex is held.
func (b *book) end(limits []limit) {
	for _, l := range limits {
		u := b.usages[l.key]
		u.conns--
		u.wakeOne()
		if u.conns == 0 && l.delay == 0 && l.again == 0 && len(u.waiting) == 0 {
			delete(b.usages, l.key)
		}
	}
}

// wakeOne wakes the waiter that has waited longest.
func (u *usage) wakeOne() {
	if len(u.waiting) == 0 {
		return
	}
	select {
	case u.waiting[0].wake <- struct{}{}:
	default: // by another key
	}
	u.waiting = u.waiting[1:]
}

// idle says that a connection has nothing to do: a waiter may want it, or its
// place.
func (b *book) idle(limits []limit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range limits {
		if u := b.usages[l.key]; u != nil {
			u.wakeOne()
		}
	}
}

// open says that any number of connections may be had under key.
func (b *book) open(key any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u := b.usages[key]; u != nil {
		for len(u.waiting) > 0 {
			u.wakeOne()
		}
	}
}

// wait returns a waiter for any of keys. What ends right before is missed: who
// waits looks again first.
func (b *book) wait(keys []any) *waiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &waiter{keys: keys, wake: make(chan struct{}, 1)}
	for _, key := range keys {
		u := b.of(key)
		u.waiting = append(u.waiting, w)
	}
	return w
}

// leave takes back wait. If w has been woken and has not noticed, another is
// woken in its place.
func (b *book) leave(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	woken := len(w.wake) > 0
	for _, key := range w.keys {
		u := b.usages[key]
		if u == nil {
			continue
		}
		if i := slices.Index(u.waiting, w); i >= 0 {
			u.waiting = slices.Delete(u.waiting, i, i+1)
		}
		if woken {
			u.wakeOne()
		}
	}
}

// forget drops what no delay can need any more, once there is much of it.
func (b *book) forget(now time.Time) {
	if len(b.usages) < sweepFrom || now.Sub(b.swept) < sweepEvery {
		return
	}
	b.swept = now
	for key, u := range b.usages {
		if u.conns == 0 && len(u.waiting) == 0 && now.Sub(u.began) > hostMemory && now.Sub(u.ended) > hostMemory {
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
		{key: allKey{}, max: r.a.most},
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

// mostConns returns how many connections this process may have: what the system
// lets it open, less what it needs for messages and links.
func mostConns() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return defaultMost
	}
	return int(min(max(uint64(l.Cur)/2, 50), 20_000))
}

// defaultMost is for systems that do not say.
const defaultMost = 400

// limitsFor returns the limits for mail to domain.
func limitsFor(m *compile.MTA, domain string) compile.MTALimits {
	for i := range m.Domains {
		if strings.EqualFold(m.Domains[i].Domain, domain) {
			return m.Domains[i].Limits
		}
	}
	return m.Limits
}
