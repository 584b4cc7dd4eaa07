package web

import (
	"sync"
	"time"
)

// A sample is what the daemon had counted at a moment.
type sample struct {
	at                        time.Time
	ok, tempfail, permfail    uint64 // tries, since it started
	accepted, refused         uint64 // recipients, likewise
	queued, inFlight, clients uint64 // now
}

// sampleOf picks what the plots show.
func sampleOf(n numbers, at time.Time) sample {
	const tries, rcpts = "smtpd_queue_deliveries_total", "smtpd_smtp_recipients_total"
	accepted := n.sum(rcpts, "result", "accepted")
	return sample{
		at: at, ok: n.sum(tries, "result", "ok"), tempfail: n.sum(tries, "result", "tempfail"),
		permfail: n.sum(tries, "result", "permfail") + n.sum(tries, "result", "loop"),
		accepted: accepted, refused: n.sum(rcpts) - accepted,
		queued: n.sum("smtpd_queue_envelopes"), inFlight: n.sum("smtpd_queue_inflight_envelopes"), clients: n.sum("smtpd_smtp_sessions"),
	}
}

const (
	sampleEvery = 10 * time.Second
	maxSamples  = int(6 * time.Hour / sampleEvery)
)

// A history is the last samples, the oldest first; the memory that it takes is
// taken at once.
type history struct {
	mu   sync.Mutex
	ring [maxSamples]sample
	n    int // samples ever
}

func (h *history) add(s sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ring[h.n%maxSamples] = s
	h.n++
}

// since returns the samples that are not older than a moment.
func (h *history) since(t time.Time) []sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	var l []sample
	for i := max(0, h.n-maxSamples); i < h.n; i++ {
		if s := h.ring[i%maxSamples]; !s.at.Before(t) {
			l = append(l, s)
		}
	}
	return l
}

// A period is what happened between two moments.
type period struct {
	From                   time.Time
	OK, TempFail, PermFail uint64
	Accepted, Refused      uint64
	Queued                 uint64 // the most at a time
	Known                  bool   // somebody looked
}

// periods divides the time before now into n equal parts.
func periods(l []sample, now time.Time, span time.Duration, n int) []period {
	width := span / time.Duration(n)
	first := now.Truncate(width).Add(width - span)
	all := make([]period, n)
	for i := range all {
		all[i].From = first.Add(time.Duration(i) * width)
	}
	for i := range l {
		k := int(l[i].at.Sub(first) / width)
		if k < 0 || k >= n || l[i].at.Before(first) {
			continue
		}
		p := &all[k]
		p.Queued, p.Known = max(p.Queued, l[i].queued), true
		if i > 0 {
			p.add(&l[i-1], &l[i])
		}
	}
	return all
}

// add counts what happened from one sample to the next.
func (p *period) add(a, b *sample) {
	p.OK += grown(a.ok, b.ok)
	p.TempFail += grown(a.tempfail, b.tempfail)
	p.PermFail += grown(a.permfail, b.permfail)
	p.Accepted += grown(a.accepted, b.accepted)
	p.Refused += grown(a.refused, b.refused)
}

// grown returns by how much a counter has grown. One that is less than it was
// has begun again with the daemon.
func grown(a, b uint64) uint64 {
	if b < a {
		return b
	}
	return b - a
}
