package mta

import (
	"net/netip"
	"testing"
	"time"
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
	rs.ready(key)
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
	rs.ready(key)
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
