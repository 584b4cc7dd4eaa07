package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"smtpd/compile/engine"
	"smtpd/compile/tableconf"
	"smtpd/runtime/stat"
)

// Limits are what a table costs at most.
type Limits struct {
	Timeout     time.Duration // of a question, from when it is asked
	Connections int           // questions under way at a time
	TTL         time.Duration // how long an answer is remembered
	NegativeTTL time.Duration // and that a key is not there
	Size        int           // answers that are remembered
	Expire      time.Duration // how long a list is gone round
	Refresh     int           // how often something is fetched of it
}

// Standard are the limits of a table whose file says nothing of them.
var Standard = Limits{
	Timeout: 10 * time.Second, Connections: 8, TTL: 30 * time.Second, NegativeTTL: 5 * time.Second, Size: 16384,
	Expire: time.Minute, Refresh: 1000,
}

// LimitsOf returns what the file of a table says of its limits.
func LimitsOf(f *tableconf.File) Limits {
	return Limits{
		Timeout:     f.Duration("timeout", Standard.Timeout),
		Connections: max(f.Number("connections", Standard.Connections), 1),
		TTL:         f.Duration("cache_ttl", Standard.TTL),
		NegativeTTL: f.Duration("cache_negative_ttl", Standard.NegativeTTL),
		Size:        f.Number("cache_size", Standard.Size),
		Expire:      time.Duration(f.Number("fetch_source_expire", int(Standard.Expire/time.Second))) * time.Second,
		Refresh:     f.Number("fetch_source_refresh", Standard.Refresh),
	}
}

// maxWaiting is how many different questions of a table may be under way or
// wait for their turn.
const maxWaiting = 1024

// Errors of a table, whatever its source.
var (
	errTimeout = errors.New("no answer in time")
	errBusy    = errors.New("too many questions wait for the table")
	errClosed  = errors.New("the table is closed")
)

var cacheHits = stat.Counter("smtpd_table_cache_hits_total", "Lookups that were answered from what was remembered.", "table")

// A Table answers from a source.
type Table struct {
	name   string
	limits Limits
	slots  chan struct{} // a question under way holds one

	ctx     context.Context // of the questions
	cancel  context.CancelCauseFunc
	flights sync.WaitGroup

	mu     sync.Mutex
	source Source
	epoch  int // how often all was forgotten
	under  map[question]*flight
	cache  cache
	rounds map[engine.Service]*round
}

// A question is what a source is asked. Equal ones have one answer.
type question struct {
	op      op
	service engine.Service
	key     string
}

type op uint8

const (
	opCheck op = iota + 1
	opLookup
	opList
)

// An answer is what a source says: a value, several for opList, or that there
// is none.
type answer struct {
	value string
	list  []string
	found bool
}

// A flight is a question under way.
type flight struct {
	ctx    context.Context
	done   chan struct{}
	answer answer
	err    error
}

// New returns a table that asks source, with the limits of one whose file says
// nothing of them.
func New(name string, source Source) *Table { return NewLimited(name, source, Standard) }

// NewLimited returns the table called name, which asks source.
func NewLimited(name string, source Source, l Limits) *Table {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Table{
		name: name, limits: l, slots: make(chan struct{}, l.Connections), ctx: ctx, cancel: cancel,
		source: source, under: make(map[question]*flight), cache: cache{size: l.Size}, rounds: make(map[engine.Service]*round),
	}
}

// Close ends the questions under way, and returns when none is left.
func (t *Table) Close() {
	t.cancel(errClosed)
	t.flights.Wait()
	t.source.Close()
}

// Check reports whether the table has a key.
func (t *Table) Check(ctx context.Context, s engine.Service, key string) (bool, error) {
	a, err := t.ask(ctx, question{opCheck, s, key}, true)
	return a.found, err
}

// Lookup returns the value of a key.
func (t *Table) Lookup(ctx context.Context, s engine.Service, key string) (value string, ok bool, err error) {
	a, err := t.ask(ctx, question{opLookup, s, key}, true)
	return a.value, a.found, err
}

// Update forgets all answers, and reports whether the source can be asked.
func (t *Table) Update(ctx context.Context) error {
	t.mu.Lock()
	t.epoch++
	t.cache = cache{size: t.limits.Size}
	t.under = make(map[question]*flight)
	t.rounds = make(map[engine.Service]*round)
	t.mu.Unlock()
	_, err := t.wait(ctx, t.start(func(ctx context.Context) (answer, error) { return answer{}, t.source.Update(ctx) }, nil))
	return err
}

// ask returns the answer to q, from what is remembered if that may be.
func (t *Table) ask(ctx context.Context, q question, remembered bool) (answer, error) {
	t.mu.Lock()
	if a, ok := t.cache.get(q, time.Now()); ok && remembered {
		t.mu.Unlock()
		cacheHits.WithLabelValues(t.name).Inc()
		return a, nil
	}
	f := t.under[q]
	if f == nil {
		if len(t.under) >= maxWaiting {
			t.mu.Unlock()
			return answer{}, errBusy
		}
		epoch := t.epoch
		f = t.start(func(ctx context.Context) (answer, error) { return t.put(ctx, q) }, func(f *flight) {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.epoch != epoch {
				return // what it found may be what was to be forgotten
			}
			delete(t.under, q)
			if f.err == nil {
				t.remember(q, f.answer)
			}
		})
		t.under[q] = f
	}
	t.mu.Unlock()
	return t.wait(ctx, f)
}

// put asks the source.
func (t *Table) put(ctx context.Context, q question) (a answer, err error) {
	switch q.op {
	case opCheck:
		a.found, err = t.source.Check(ctx, q.service, q.key)
	case opLookup:
		a.value, a.found, err = t.source.Lookup(ctx, q.service, q.key)
	case opList:
		l, ok := t.source.(lister)
		if !ok {
			return a, ErrService
		}
		a.list, err = l.List(ctx, q.service)
	}
	return a, err
}

// remember keeps an answer, but no list, which has its own time, and nothing
// whose key holds a password.
func (t *Table) remember(q question, a answer) {
	if q.op == opList || q.service == engine.Auth {
		return
	}
	ttl := t.limits.TTL
	if !a.found {
		ttl = t.limits.NegativeTTL
	}
	if ttl > 0 {
		t.cache.put(q, a, time.Now().Add(ttl))
	}
}

// start has do run when it is its turn. The question outlives whoever asks
// it first: others may wait for it too. The end, if any, is told of the
// outcome before those who wait.
func (t *Table) start(do func(ctx context.Context) (answer, error), end func(f *flight)) *flight {
	ctx, cancel := context.WithTimeoutCause(t.ctx, t.limits.Timeout, errTimeout)
	f := &flight{ctx: ctx, done: make(chan struct{})}
	t.flights.Go(func() {
		defer cancel()
		select {
		case t.slots <- struct{}{}:
			f.answer, f.err = do(ctx)
			<-t.slots
		case <-ctx.Done():
			f.err = context.Cause(ctx)
		}
		if f.err != nil && ctx.Err() != nil {
			f.err = context.Cause(ctx) // whatever words the source has for it
		}
		if end != nil {
			end(f)
		}
		close(f.done)
	})
	return f
}

// wait returns the outcome of a flight, or an error when time is up, even if
// the source does not notice.
func (t *Table) wait(ctx context.Context, f *flight) (answer, error) {
	select {
	case <-f.done:
		return f.answer, f.err
	default:
	}
	select {
	case <-f.done:
		return f.answer, f.err
	case <-f.ctx.Done():
		select {
		case <-f.done: // it ended its context itself
			return f.answer, f.err
		default:
			return answer{}, context.Cause(f.ctx)
		}
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// A round is where a service stands in its list.
type round struct {
	list  []string
	next  int
	calls int
	until time.Time
}

// Fetch returns the next entry of a service, over and over in turn.
func (t *Table) Fetch(ctx context.Context, s engine.Service) (value string, ok bool, err error) {
	if src, goesRound := t.source.(fetcher); goesRound {
		a, err := t.wait(ctx, t.start(func(ctx context.Context) (a answer, err error) {
			a.value, a.found, err = src.Fetch(ctx, s)
			return a, err
		}, nil))
		return a.value, a.found, err
	}
	if value, ok, known := t.step(s, nil); known {
		return value, ok, nil
	}
	a, err := t.ask(ctx, question{op: opList, service: s}, false)
	if err != nil {
		return "", false, err
	}
	value, ok, _ = t.step(s, a.list)
	return value, ok, nil
}

// step goes on in the list of a service, or begins with another list; known
// is false if a new one is needed. Those who waited for the same list share
// it.
func (t *Table) step(s engine.Service, list []string) (value string, ok, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, now := t.rounds[s], time.Now()
	if r == nil || !now.Before(r.until) || r.calls >= t.limits.Refresh {
		if list == nil {
			return "", false, false
		}
		r = &round{list: list, until: now.Add(t.limits.Expire)}
		t.rounds[s] = r
	}
	if len(r.list) == 0 {
		return "", false, true
	}
	value = r.list[r.next%len(r.list)]
	r.next++
	r.calls++
	return value, true, true
}
