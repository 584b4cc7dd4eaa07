package mta

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/compile"
	"smtpd/runtime/lka"
	"smtpd/runtime/queue"
)

func TestBook(t *testing.T) {
	b := newBook()
	now := time.Unix(1_000_000, 0)
	limits := []limit{{key: "a", max: 2}, {key: "b", max: 5, delay: 10 * time.Second}, {key: "c", again: 3 * time.Second}}
	want := func(what string, at time.Time, key any, until time.Time) {
		t.Helper()
		no := b.take(limits, at)
		if key == nil && no != nil || key != nil && (no == nil || no.key != key || !no.until.Equal(until)) {
			t.Errorf("%s: %+v, want a block by %v until %v", what, no, key, until)
		}
	}
	want("the first", now, nil, time.Time{})
	want("within the delay", now.Add(time.Second), "b", now.Add(10*time.Second))
	want("after the delay", now.Add(10*time.Second), nil, time.Time{})
	want("above the maximum", now.Add(time.Minute), "a", time.Time{})
	b.release(limits, now.Add(time.Minute))
	want("right after the end of another", now.Add(61*time.Second), "c", now.Add(63*time.Second))
	if n := b.conns("a"); n != 1 {
		t.Errorf("%d connections counted, want 1: a refused one was counted", n)
	}
}

// TestBookWait checks who is woken: the first who waits for a key that has
// become free, all if there is room for any number, nobody who has left.
func TestBookWait(t *testing.T) {
	b := newBook()
	woken := func(w *waiter) bool {
		select {
		case <-w.wake:
			return true
		default:
			return false
		}
	}
	limits := []limit{{key: "a", max: 1}, {key: "b", max: 1}}
	b.take(limits, time.Now())
	gone, first, second, other := b.wait([]any{"a"}), b.wait([]any{"a", "b"}), b.wait([]any{"b", "a"}), b.wait([]any{"c"})
	b.leave(gone)
	b.idle(limits)
	if woken(gone) || !woken(first) || woken(second) || woken(other) {
		t.Error("an idle connection does not wake the first who waits for it alone")
	}
	b.release(limits, time.Now())
	if woken(first) || !woken(second) || woken(other) {
		t.Error("the end of a connection does not wake the next one alone")
	}
	b.take(limits, time.Now())
	early, late := b.wait([]any{"a"}), b.wait([]any{"a"})
	b.release(limits, time.Now())
	if b.leave(early); !woken(late) {
		t.Error("who leaves without noticing that it was woken wakes nobody else")
	}
	third := b.wait([]any{"c"})
	b.open("c")
	if !woken(other) || !woken(third) {
		t.Error("an open route does not wake all")
	}
	if len(b.usages["c"].waiting) > 0 {
		t.Error("who was woken still waits")
	}
}

func TestBookMove(t *testing.T) {
	b := newBook()
	old := []limit{{key: "host", max: 1}, {key: "one", max: 1}}
	to := []limit{{key: "host", max: 1}, {key: "two", max: 1, delay: time.Hour}}
	b.take(old, time.Now())
	w := b.wait([]any{"host"})
	if !b.move(old, to) || b.conns("host") != 1 || b.conns("one") != 0 || b.conns("two") != 1 {
		t.Errorf("usages %+v", b.usages)
	}
	select {
	case <-w.wake:
		t.Error("who waits for the host was woken for nothing")
	default:
	}
	if b.move(to, []limit{{key: "host", max: 1}, {key: "full", max: 1}}) != true {
		t.Error("a relay without connections may not have one")
	}
	if b.move(old, []limit{{key: "full", max: 1}}) {
		t.Error("moved above a maximum")
	}
}

// TestRoutes checks that the pause grows with each failure, up to an hour, and
// shrinks again with time; a success ends it.
func TestRoutes(t *testing.T) {
	var rs routes
	key := routeKey{host: netip.MustParseAddr("192.0.2.1")}
	now := time.Unix(1_000_000, 0)
	if s := rs.begin(key, now); s != routeOpen {
		t.Fatalf("new route: %d", s)
	}
	if s := rs.begin(key, now); s != routeBusy {
		t.Errorf("before the first session is ready: %d, want busy", s)
	}
	if rs.ready(key) {
		t.Error("the first session is one after a failure")
	}
	if s := rs.begin(key, now); s != routeOpen || !rs.good(key) {
		t.Errorf("after it: %d, want open", s)
	}
	fail := func(want time.Duration) {
		t.Helper()
		if got := rs.failed(key, now); got != want {
			t.Errorf("disabled for %v, want %v", got, want)
		}
	}
	for _, want := range []time.Duration{15 * time.Second, time.Minute, 135 * time.Second, 240 * time.Second} {
		fail(want)
		fail(want) // another that was under way
		if s := rs.begin(key, now.Add(want-time.Second)); s != routeDisabled || rs.good(key) {
			t.Errorf("within the pause of %v: %d, want disabled", want, s)
		}
		now = now.Add(want)
	}
	now = now.Add(239 * time.Second) // nothing is forgiven yet: it would be after as long again
	fail(375 * time.Second)
	now = now.Add(2 * 375 * time.Second) // one is
	fail(375 * time.Second)
	now = now.Add(24 * time.Hour) // all are
	fail(routeBase)
	for range 100 {
		now = now.Add(time.Hour)
		if got := rs.failed(key, now.Add(-time.Second)); got > routeCap {
			t.Fatalf("disabled for %v", got)
		}
	}
	if !rs.ready(key) || rs.ready(key) {
		t.Error("the first session after a failure is none, or the second is one")
	}
	now = now.Add(routeCap)
	fail(routeBase)
}

func TestWantedDelays(t *testing.T) {
	for seconds, want := range map[int]time.Duration{0: 0, 5: 0, 1: time.Second, 6: 6 * time.Second} {
		if got := wanted(seconds, defaultConnDelayRoute); got != want {
			t.Errorf("wanted(%d) = %v, want %v", seconds, got, want)
		}
	}
}

// A farm is hosts at every address, each of which takes a while for a message.
type farm struct {
	mu     sync.Mutex
	active map[string]int // messages, by what a test counts by
	most   int
	dials  map[string][]time.Time
}

// dial connects to a host of the farm.
func (f *farm) dial(t *testing.T, keys func(source, host, domain string) string) func(context.Context, *net.Dialer, string) (net.Conn, error) {
	return func(_ context.Context, d *net.Dialer, addr string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(addr)
		source := "any"
		if d.LocalAddr != nil {
			source = d.LocalAddr.(*net.TCPAddr).IP.String()
		}
		f.mu.Lock()
		key := keys(source, host, "")
		f.dials[key] = append(f.dials[key], time.Now())
		f.mu.Unlock()
		ours, theirs := net.Pipe()
		go f.serve(theirs, func(domain string) string { return keys(source, host, domain) })
		return ours, nil
	}
}

func (f *farm) serve(c net.Conn, key func(domain string) string) {
	defer c.Close()
	io.WriteString(c, "220 x\r\n")
	r := bufio.NewReader(c)
	k, message := "", false
	for {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return
		case message && line != ".\r\n":
			continue
		case message:
			message = false
			time.Sleep(10 * time.Second)
			f.add(k, -1)
		case strings.HasPrefix(line, "RCPT"):
			_, domain, _ := strings.Cut(strings.TrimSuffix(line, ">\r\n"), "@")
			k = key(domain)
			f.add(k, 1)
		case line == "DATA\r\n":
			message = true
			io.WriteString(c, "354 go\r\n")
			continue
		}
		io.WriteString(c, "250 ok\r\n")
	}
}

func (f *farm) add(key string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active[key] += n
	f.most = max(f.most, f.active[key])
}

// TestLimits sets one limit at a time, and looks at it from the other side: no
// more messages at once, and no connection sooner, than it allows, but as many
// and as soon.
func TestLimits(t *testing.T) {
	host := func(_, host, _ string) string { return host }
	route := func(source, host, _ string) string { return source + host }
	source := func(source, _, _ string) string { return source }
	connector := func(source, _, domain string) string { return source + domain }
	domain := func(_, _, domain string) string { return domain }
	all := compile.MTALimits{SessionMailMax: 1, MaxFailuresPerSession: 25} // so that each message needs a connection
	for _, c := range []struct {
		name    string
		set     func(l *compile.MTALimits)
		key     func(source, host, domain string) string
		domains int
		most    int
		gap     time.Duration // between connections
		again   time.Duration // after the end of one
	}{
		{"max-conn-per-host", func(l *compile.MTALimits) { l.MaxConnPerHost = 2 }, host, 3, 2, 0, 0},
		{"max-conn-per-route", func(l *compile.MTALimits) { l.MaxConnPerRoute = 2 }, route, 3, 2, 0, 0},
		{"max-conn-per-source", func(l *compile.MTALimits) { l.MaxConnPerSource = 2 }, source, 3, 2, 0, 0},
		{"max-conn-per-connector", func(l *compile.MTALimits) { l.MaxConnPerConnector = 2 }, connector, 3, 2, 0, 0},
		{"max-conn-per-relay", func(l *compile.MTALimits) { l.MaxConnPerRelay = 2 }, domain, 3, 2, 0, 0},
		{"max-conn-per-domain", func(l *compile.MTALimits) { l.MaxConnPerDomain = 2 }, domain, 3, 2, 0, 0},
		{"conn-delay-host", func(l *compile.MTALimits) { l.ConnDelayHost = 3 }, host, 3, 0, 3 * time.Second, 0},
		{"conn-delay-route", func(l *compile.MTALimits) { l.ConnDelayRoute = 4 }, route, 3, 0, 4 * time.Second, 0},
		{"conn-delay-source", func(l *compile.MTALimits) { l.ConnDelaySource = 3 }, source, 3, 0, 3 * time.Second, 0},
		{"conn-delay-connector", func(l *compile.MTALimits) { l.ConnDelayConnector = 3 }, source, 1, 0, 3 * time.Second, 0},
		{"conn-delay-relay", func(l *compile.MTALimits) { l.ConnDelayRelay = 3 }, domain, 1, 0, 3 * time.Second, 0},
		{"conn-delay-domain", func(l *compile.MTALimits) { l.ConnDelayDomain = 3 }, domain, 1, 0, 3 * time.Second, 0},
		{"reconn-delay-route", func(l *compile.MTALimits) { l.ReconnDelayRoute, l.MaxConnPerRoute = 4, 1 }, route, 1, 1, 0, 4 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rs := testRules()
				rs.Actions[0].Relay.Src = 1
				rs.MTA.Limits = all
				c.set(&rs.MTA.Limits)
				a, w := newTestAgent(t, rs, 25)
				w.fetch = []string{"192.0.2.1", "192.0.2.2"}
				f := &farm{active: make(map[string]int), dials: make(map[string][]time.Time)}
				a.dial = f.dial(t, c.key)
				for i := range c.domains {
					w.mx[fmt.Sprintf("d%d.example", i)] = []lka.MX{mx("mx1.example", 10, "198.51.100.1"), mx("mx2.example", 10, "198.51.100.2")}
				}
				var wg sync.WaitGroup
				for i := range 24 {
					wg.Go(func() {
						wantOne(t, deliver(t, a, batch(fmt.Sprintf("d%d.example", i%c.domains), "alice")), queue.Delivered, "2.0.0", "250")
					})
				}
				wg.Wait()
				f.mu.Lock() // a connection may still be made that nobody needs any more
				defer f.mu.Unlock()
				if c.most > 0 && f.most != c.most {
					t.Errorf("%d messages at once, want %d", f.most, c.most)
				}
				want := c.gap
				if c.again > 0 {
					want = 10*time.Second + c.again
				}
				least := time.Hour
				for _, times := range f.dials {
					for i := 1; i < len(times); i++ {
						least = min(least, times[i].Sub(times[i-1]))
					}
				}
				if want > 0 && least != want {
					t.Errorf("%v between two connections at least, want %v", least, want)
				}
			})
		})
	}
}

// TestSystemSource checks that max-conn-per-source does not count connections
// from the address that the system chooses, which all mail shares.
func TestSystemSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs := testRules()
		rs.MTA.Limits = compile.MTALimits{SessionMailMax: 1, MaxConnPerSource: 2}
		a, w := newTestAgent(t, rs, 25)
		f := &farm{active: make(map[string]int), dials: make(map[string][]time.Time)}
		a.dial = f.dial(t, func(source, _, _ string) string { return source })
		var wg sync.WaitGroup
		for i := range 5 { // each to a host of its own: nothing else bounds them
			domain := fmt.Sprintf("d%d.example", i)
			w.mx[domain] = []lka.MX{mx("mx."+domain, 10, fmt.Sprintf("198.51.100.%d", i+1))}
		}
		for i := range 5 {
			wg.Go(func() {
				wantOne(t, deliver(t, a, batch(fmt.Sprintf("d%d.example", i), "alice")), queue.Delivered, "2.0.0", "250")
			})
		}
		wg.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.most != 5 {
			t.Errorf("%d messages at once, want 5", f.most)
		}
	})
}
