package web

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpd/internal/where"
	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

// A route is where envelopes go, as a row of the queue shows it.
type route struct {
	Type   envelope.Type
	Domain string
}

// ages are the columns of the queue: an envelope is in the first that it is
// younger than, and in the last if there is none.
var ages = [...]struct {
	Name  string
	Under time.Duration
}{
	{"10 min", 10 * time.Minute}, {"1 h", time.Hour}, {"4 h", 4 * time.Hour}, {"1 day", 24 * time.Hour}, {"older", 0},
}

// A crowd is the envelopes of one route.
type crowd struct {
	route
	Count, Held, InFlight uint64
	Ages                  [len(ages)]uint64
	Oldest                time.Time
	Error                 string // of the last try that failed
	tried                 time.Time
}

// A survey is a queue in numbers.
type survey struct {
	At     time.Time
	Took   time.Duration
	All    crowd
	Crowds []crowd // the largest first
	Rest   crowd   // of routes that were too many or too small
	Broken uint64  // cannot be read

	byRoute map[route]*crowd
}

// maxRoutes is how many routes are counted apart. When there are twice as
// many the smaller half becomes part of the rest, so memory is bounded whatever
// the queue holds; a route that comes back after that has lost its first
// envelopes, which matters to none of the large ones.
const maxRoutes = 2000

// add counts an envelope.
func (s *survey) add(l *queue.Listed) {
	if l.Error != "" {
		s.Broken++
		return
	}
	ev := &l.Envelope
	r := route{ev.Type, strings.ToLower(ev.Dest.Domain)}
	c := s.byRoute[r]
	if c == nil {
		if len(s.byRoute) >= 2*maxRoutes {
			s.shrink(maxRoutes)
		}
		c = &crowd{route: r}
		s.byRoute[r] = c
	}
	c.add(l, s.At)
	s.All.add(l, s.At)
}

func (c *crowd) add(l *queue.Listed, now time.Time) {
	ev := &l.Envelope
	c.Count++
	switch where.State(l) {
	case "held":
		c.Held++
	case "inflight":
		c.InFlight++
	}
	age := now.Sub(ev.Created)
	i := 0
	for i < len(ages)-1 && age >= ages[i].Under {
		i++
	}
	c.Ages[i]++
	if c.Oldest.IsZero() || ev.Created.Before(c.Oldest) {
		c.Oldest = ev.Created
	}
	if ev.Error != "" && !ev.LastTry.Before(c.tried) {
		c.Error, c.tried = shorten(ev.Error), ev.LastTry
	}
}

// merge adds another crowd, whose reasons are not kept.
func (c *crowd) merge(o *crowd) {
	c.Count, c.Held, c.InFlight = c.Count+o.Count, c.Held+o.Held, c.InFlight+o.InFlight
	for i := range o.Ages {
		c.Ages[i] += o.Ages[i]
	}
	if c.Oldest.IsZero() || !o.Oldest.IsZero() && o.Oldest.Before(c.Oldest) {
		c.Oldest = o.Oldest
	}
}

// shrink keeps the n largest crowds, and returns them.
func (s *survey) shrink(n int) []*crowd {
	all := slices.SortedFunc(maps.Values(s.byRoute), func(a, b *crowd) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Domain, b.Domain), cmp.Compare(a.Type, b.Type))
	})
	n = min(n, len(all))
	for _, c := range all[n:] {
		s.Rest.merge(c)
		delete(s.byRoute, c.route)
	}
	return all[:n]
}

// shownRoutes is how many rows a page has.
const shownRoutes = 100

// look counts all of the queue.
func look(d Daemon) (*survey, error) {
	began := time.Now()
	s := &survey{At: began, byRoute: make(map[route]*crowd)}
	for l, err := range d.List(queue.Selection{}) {
		if err != nil {
			return nil, err
		}
		s.add(&l)
	}
	for _, c := range s.shrink(shownRoutes) {
		s.Crowds = append(s.Crowds, *c)
	}
	s.byRoute, s.Took = nil, time.Since(began)
	return s, nil
}

// A surveyor counts the queue for all who look at it. A count of a long queue
// takes time, so one is shown again until as long has passed as nineteen
// others would take: whoever looks, the daemon is busy with it for a twentieth
// of its time at most.
type surveyor struct {
	mu   sync.Mutex // held while the queue is counted: others want to know, too
	last *survey
}

const (
	surveyKept  = 2 * time.Second
	surveyShare = 20
)

func (s *surveyor) get(now time.Time, look func() (*survey, error)) (*survey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && now.Sub(s.last.At) < max(surveyKept, surveyShare*s.last.Took) {
		return s.last, nil
	}
	n, err := look()
	if err == nil {
		s.last = n
	}
	return n, err
}

// forget has the next one who looks see what has been changed, unless that
// takes long.
func (s *surveyor) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && s.last.Took < time.Second {
		s.last = nil
	}
}
