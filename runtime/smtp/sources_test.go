package smtp

import (
	"net/netip"
	"strings"
	"testing"

	"smtpd/compile"
)

func TestSources(t *testing.T) {
	s := newSources(4, 0)
	for _, step := range []struct {
		addr string
		want bool
	}{
		{"192.0.2.1", true}, {"192.0.2.1", true}, {"192.0.2.1", false}, {"192.0.2.2", true},
		{"2001:db8::1", true}, {"2001:db8::2", true}, {"2001:db8::3", false}, {"2001:db8:0:1::1", true},
		{"127.0.0.1", true}, {"127.0.0.1", true}, {"127.0.0.1", true},
	} {
		if got := s.enter(netip.MustParseAddr(step.addr)); got != step.want {
			t.Errorf("enter %s: %v", step.addr, got)
		}
	}
	s.leave(netip.MustParseAddr("192.0.2.1"))
	if !s.enter(netip.MustParseAddr("192.0.2.1")) {
		t.Error("a source that left may not come back")
	}
	for range 2 {
		s.leave(netip.MustParseAddr("192.0.2.1"))
	}
	if _, ok := s.held[netip.MustParseAddr("192.0.2.1")]; ok {
		t.Error("a source that is gone is kept")
	}
}

func TestNewSources(t *testing.T) {
	for _, tt := range []struct{ sessions, limit, want int }{{100, 0, 50}, {1, 0, 1}, {100, 7, 7}, {10, 200, 200}} {
		if s := newSources(tt.sessions, tt.limit); s.limit != tt.want {
			t.Errorf("%d sessions, limit %d: a source may have %d, want %d", tt.sessions, tt.limit, s.limit, tt.want)
		}
	}
}

// TestSourceLimit checks that a source with half of all sessions is told to
// wait while another is served, and that the end of a session counts.
func TestSourceLimit(t *testing.T) {
	r := newRig(t, withProxy, func(r *rig, _ *compile.Listener) { r.server.sources.limit = 1 })
	header := func(a string) string { return proxyHeader(1, 0x11, addrs(a)...) }
	r.dialProxied(header("192.0.2.9"), "S: 220\n")
	r.dialProxied(header("192.0.2.9"), "S: 421 4.7.0 Too many connections\nclosed\n")
	r.dialProxied(header("192.0.2.8"), "S: 220\nC: QUIT\nS: 221\nclosed\n")
	r.stop()
	if !strings.Contains(r.logs.String(), `msg="smtp connection-limit"`) || len(r.server.sources.held) != 0 {
		t.Errorf("held %v, log:\n%s", r.server.sources.held, r.logs)
	}
}
