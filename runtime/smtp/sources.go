package smtp

import (
	"net/netip"
	"sync"

	"smtpd/compile/engine"
)

// A sources counts the sessions of each source, so that one alone cannot keep
// all others out.
type sources struct {
	limit int
	mu    sync.Mutex
	held  map[netip.Addr]int
}

// newSources gives one source limit sessions or, if that is 0, half of all n.
func newSources(n, limit int) *sources {
	if limit == 0 {
		limit = max(n/2, 1)
	}
	return &sources{limit: limit, held: make(map[netip.Addr]int)}
}

// sourceOf returns what counts as one source: an IPv4 address, or the network
// that one IPv6 host can choose its addresses from.
func sourceOf(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, _ := a.Prefix(64) // an IPv6 address has one
	return p.Addr()
}

// mayEndInLF reports whether the client may end lines in LF alone, as old
// devices do. If the table cannot tell it may not.
func (s *session) mayEndInLF() bool {
	from := s.srv.rules.SMTP.BareLFFrom
	if from == 0 || !s.addr.IsValid() {
		return false
	}
	ok, err := s.srv.names.Check(s.ctx, from, engine.NetAddr, s.addr.String())
	if err != nil {
		s.warn("smtp: check bare-lf-from", err)
	}
	return ok && err == nil
}

// enter counts a session, and reports whether the source may have it. This
// host may have all: what it runs is ours.
func (s *sources) enter(a netip.Addr) bool {
	if !a.IsValid() || a.IsLoopback() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[sourceOf(a)] >= s.limit {
		return false
	}
	s.held[sourceOf(a)]++
	return true
}

// leave ends a session that entered.
func (s *sources) leave(a netip.Addr) {
	if !a.IsValid() || a.IsLoopback() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[sourceOf(a)]--; s.held[sourceOf(a)] == 0 {
		delete(s.held, sourceOf(a))
	}
}
