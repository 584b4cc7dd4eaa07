package mta

import (
	"sync"

	"smtpd/runtime/envelope"
)

// maxDeferredDomains bounds the domains for which envelopes are remembered.
const maxDeferredDomains = 10_000

// deferred remembers the envelopes that no host of their domain answered for.
// When one does they need not wait for their next try.
type deferred struct {
	mu  sync.Mutex
	ids map[string][]envelope.ID // by domain
}

// add remembers an envelope, if less than most are of its domain.
func (d *deferred) add(domain string, id envelope.ID, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, known := d.ids[domain]
	if len(l) >= most || !known && len(d.ids) >= maxDeferredDomains {
		return
	}
	if d.ids == nil {
		d.ids = make(map[string][]envelope.ID)
	}
	d.ids[domain] = append(l, id)
}

// take returns the envelopes of a domain, and forgets them.
func (d *deferred) take(domain string) []envelope.ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.ids[domain]
	delete(d.ids, domain)
	return l
}

// reached has the envelopes of a domain tried that were put off because it did
// not answer.
func (a *agent) reached(domain string) {
	if l := a.deferred.take(domain); len(l) > 0 {
		a.work.Go(func() {
			if err := a.queue.Hurry(a.hard, l); err != nil && a.hard.Err() == nil {
				a.log.Warn("mta: mail that was put off is not tried at once", "domain", domain, "error", err)
			}
		})
	}
}
