package smtp

import (
	"context"
	"net/netip"
	"time"

	"smtpd/runtime/lka"
)

// How long a session waits for the name of its client. The greeting does not
// wait for a dead resolver; the first MAIL gives it a little longer, because
// rules may ask for the name.
const (
	greetingPatience = time.Second
	lookupPatience   = 4 * time.Second
)

// A reverse is the name of a client, perhaps not known yet.
type reverse struct {
	done    chan struct{} // closed when found and forward are set
	settled bool          // wait has returned for good
	found   string
	forward lka.FCrDNS
}

// lookUpName starts to look for the name of a client. For the local socket it
// is this host's.
func (s *server) lookUpName(ctx context.Context, addr netip.Addr, at *endpoint) *reverse {
	r := &reverse{done: make(chan struct{}), forward: lka.Error}
	if at.local || !addr.IsValid() {
		r.found, r.forward = s.rules.ServerName, lka.Pass
		close(r.done)
		return r
	}
	go func() {
		defer close(r.done)
		ctx, cancel := context.WithTimeout(ctx, greetingPatience+lookupPatience)
		defer cancel()
		name, forward, err := s.names.PTR(ctx, addr)
		if err == nil {
			r.found, r.forward = name, forward
		}
	}()
	return r
}

// wait returns when the name is known, and after d at the latest.
func (r *reverse) wait(d time.Duration) {
	if r.settled {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-r.done:
		r.settled = true
	case <-t.C:
	}
}

// name returns the client's name, "" if it has none or none is known.
func (r *reverse) name() string {
	select {
	case <-r.done:
		return r.found
	default:
		return ""
	}
}

// confirmed reports whether the name leads back to the client. One that is not
// known in time is like one that the DNS failed to tell.
func (r *reverse) confirmed() lka.FCrDNS {
	select {
	case <-r.done:
		return r.forward
	default:
		return lka.Error
	}
}

// text returns the name as logs show it.
func (r *reverse) text() string {
	if n := r.name(); n != "" {
		return n
	}
	return "<unknown>"
}
