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
	if ok, _ := b.take(limits, now); !ok {
		t.Fatal("first connection refused")
	}
	if ok, at := b.take(limits, now.Add(time.Second)); ok || !at.Equal(now.Add(10*time.Second)) {
		t.Errorf("within the delay: %v, %v", ok, at)
	}
	if ok, _ := b.take(limits, now.Add(10*time.Second)); !ok {
		t.Error("after the delay refused")
	}
	if ok, at := b.take(limits, now.Add(time.Minute)); ok || !at.IsZero() {
		t.Errorf("above the maximum: %v, %v", ok, at)
	}
	changed := b.wait()
	b.release(limits, now.Add(time.Minute))
	select {
	case <-changed:
	default:
		t.Error("a release wakes nobody")
	}
	if ok, at := b.take(limits, now.Add(61*time.Second)); ok || !at.Equal(now.Add(63*time.Second)) {
		t.Errorf("right after the end of another: %v, %v", ok, at)
	}
	if n := b.conns("a"); n != 1 {
		t.Errorf("%d connections counted, want 1: a refused one was counted", n)
	}
}

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
	if s := rs.begin(key, now); s != routeOpen {
		t.Errorf("after it: %d, want open", s)
	}
	// The pause grows with each failure, up to an hour, and a success ends it.
	for i, want := range []time.Duration{15 * time.Second, time.Minute, 135 * time.Second, 240 * time.Second} {
		if got := rs.failed(key, now); got != want {
			t.Errorf("failure %d: disabled for %v, want %v", i+1, got, want)
		}
	}
	if s := rs.begin(key, now.Add(239*time.Second)); s != routeDisabled {
		t.Errorf("within the pause: %d, want disabled", s)
	}
	for range 100 {
		if got := rs.failed(key, now); got > routeCap {
			t.Fatalf("disabled for %v", got)
		}
	}
	if s := rs.begin(key, now.Add(routeCap)); s != routeOpen {
		t.Errorf("after the pause: %d, want open", s)
	}
	rs.ready(key)
	if got := rs.failed(key, now); got != routeBase {
		t.Errorf("after a success: disabled for %v, want %v", got, routeBase)
	}
}

func TestWantedDelays(t *testing.T) {
	for seconds, want := range map[int]time.Duration{0: 0, 5: 0, 1: time.Second, 6: 6 * time.Second} {
		if got := wanted(seconds, defaultConnDelayRoute); got != want {
			t.Errorf("wanted(%d) = %v, want %v", seconds, got, want)
		}
	}
}
