package mfa

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// asControl returns a Client that asks a as control does.
func asControl(t *testing.T, a *agent) *Client {
	ours, theirs := imsg.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	p := imsg.NewPeer(ours, nil)
	for _, p := range []*imsg.Peer{p, imsg.NewPeer(theirs, a.handleControl)} {
		go func() {
			p.Run(ctx)
			done <- struct{}{}
		}()
	}
	t.Cleanup(func() {
		cancel()
		<-done
		<-done
	})
	return NewClient(p)
}

// TestRecent checks that the last decisions are told, the latest first, and
// why each was made: by which rule, and what the rules before it wanted.
func TestRecent(t *testing.T) {
	a := newTestAgent(&peers{users: []string{"alice"}})
	for i := range a.rules.Rules {
		a.names = append(a.names, RuleName{Label: string(rune('a' + i)), Text: "rule"})
	}
	c := asControl(t, a)
	if l, err := c.Recent(t.Context()); err != nil || len(l) != 0 {
		t.Fatalf("before any decision: %v, %v", l, err)
	}
	for range maxRecent {
		a.rcpt(t.Context(), testRcpt(9, "alice@maildir.example"))
	}
	a.rcpt(t.Context(), testRcpt(9, "alice@command.example"))
	l, err := c.Recent(t.Context())
	if err != nil || len(l) != maxRecent {
		t.Fatalf("%d decisions, %v; want %d", len(l), err, maxRecent)
	}
	if n := l[0].Number; n != maxRecent+1 || l[len(l)-1].Number != 2 {
		t.Errorf("they are from %d to %d", n, l[len(l)-1].Number)
	}
	e, err := c.Explain(t.Context(), l[0].Number)
	if err != nil {
		t.Fatal(err)
	}
	want := Decided{
		Number: maxRecent + 1, At: l[0].At, Source: "2001:db8::25", Helo: "client.net", Tag: "ext", User: "sam",
		Sender: envelope.Address{User: "sam", Domain: "client.net"}, Rcpt: envelope.Address{User: "alice", Domain: "command.example"},
		Outcome: engine.Accept, Rule: a.names[len(e.Passed)],
	}
	if diff := cmp.Diff(want, e.Decided); diff != "" {
		t.Error(diff)
	}
	if len(e.Passed) == 0 || e.Changed || e.More != 0 {
		t.Fatalf("explanation %+v", e)
	}
	for i, p := range e.Passed {
		if p.Rule != a.names[i] || p.Value != `"command.example"` || !strings.HasPrefix(p.Criterion, "for domain") {
			t.Errorf("rule %d was passed over as %+v", i, p)
		}
	}
	for _, n := range []uint64{0, 1, maxRecent + 2} {
		if _, err := c.Explain(t.Context(), n); err == nil {
			t.Errorf("decision %d was explained", n)
		}
	}
}

// TestDecidedBounds checks that what a client sends takes no more than a frame
// of the socket, and comes back as it was.
func TestDecidedBounds(t *testing.T) {
	a := newTestAgent(&peers{})
	long := strings.Repeat("x", 100_000)
	a.recent.add(&engine.Transaction{
		Kind: engine.FromAddress, Helo: long, Tag: long, User: long, RDNS: long,
		Sender: engine.Address{User: long, Domain: long}, Rcpt: engine.Address{User: long, Domain: long},
	}, engine.Decision{Outcome: engine.NoRule, Rule: -1})
	d, ok := a.decided(1)
	b := d.Append(nil)
	if !ok || len(b) > imsg.MaxData {
		t.Fatalf("%v, %d bytes", ok, len(b))
	}
	var again Decided
	r := imsg.NewReader(b)
	again.Read(r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, again, cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Error(diff)
	}
}
