package mta

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

// TestDeferred checks that mail which no host answered for is tried at once when
// one does, no more of it than the configuration has remembered, and once.
func TestDeferred(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close() // nobody is there
	rs := testRules()
	rs.MTA.MaxDeferred = 2
	a, w := newTestAgent(t, rs, netip.MustParseAddrPort(addr).Port())
	evs := batch("remote.example", "a", "b", "c")
	for _, r := range deliver(t, a, evs) {
		wantOne(t, []queue.Result{r}, queue.TempFail, "4.4.1", "Network error on destination MXs")
	}
	new(remote).start(t, addr, nil)
	order(t, a, Order{Verb: ResumeRoute, Number: 1})
	for range 2 {
		wantOne(t, deliver(t, a, batch("remote.example", "d")), queue.Delivered, "2.0.0", "250")
	}
	if got := <-w.hurried; !slices.Equal(got, []envelope.ID{evs[0].ID, evs[1].ID}) {
		t.Errorf("hurried %v", got)
	}
	if len(w.hurried) > 0 {
		t.Errorf("hurried again: %v", <-w.hurried)
	}
}
