package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// A scheduler decides when and with whom each envelope is tried. The store
// holds all of them in the order in which they are due; the scheduler holds
// those that are due now, and no more than its window of them. One goroutine
// walks the store, whenever something there is due or room has come for what
// was left there; each batch that is handed out is a goroutine of its own.
//
// Envelopes are taken from one destination after the other, so that one with
// a million envelopes, or one that answers slowly, holds up no other.
type scheduler struct {
	store  Store
	terms  func() *terms
	log    *slog.Logger
	inject func(ctx context.Context, group []envelope.Envelope) error
	group  Grouping
	limit  func(Destination) int // of batches in flight

	suspects suspects

	wake chan struct{} // capacity 1: the walk has something to do

	mu       sync.Mutex
	work     context.Context // of batches; nil: none is begun
	batches  sync.WaitGroup
	known    map[envelope.ID]phase // what is in memory
	orders   map[envelope.ID]order // of the administrator, for those
	inflight int
	dests    map[Destination]*destination
	turn     []*destination // those that have something ready and may send it
	refill   []Destination  // those with more in the store than in memory
	paused   [envelope.Bounce + 1]bool
	missing  map[string]bool // actions that are gone, once reported

	place   Mark      // how far the walk has come
	rewound bool      // place was set back during a step of the walk
	next    time.Time // when the first envelope behind place is due; zero: unknown
	stalled bool      // the walk waits for room
}

// A destination is what envelopes of one Destination wait in.
type destination struct {
	name    Destination
	waiting lines
	byMsg   map[envelope.MessageID]*task
	ready   int  // envelopes in waiting
	running int  // batches in flight
	inTurn  bool // is in scheduler.turn
	more    bool // the store has due envelopes that are not in memory
	queued  bool // is in scheduler.refill
}

// A task is what is ready of one message for one destination.
type task struct {
	dest  *destination
	from  from
	msg   envelope.MessageID
	items []item
}

// An item is an envelope that is ready. ev is nil if it came from a walk:
// its envelope is loaded when it is its turn.
type item struct {
	entry Entry
	ev    *envelope.Envelope
}

// A phase is where an envelope is that is in memory.
type phase uint8

const (
	ready    phase = iota + 1 // waits for its turn
	inFlight                  // with an agent, or its results are being stored
	arriving                  // is being stored for the first time: no walk takes it
)

// An order is what is to be done with an envelope, now or when it comes back.
type order struct {
	verb   Verb
	action string // of Reroute
}

// Sizes of what is in memory.
const (
	maxReady = 1000 // envelopes of one destination; more wait in the store
	lowReady = 500  // at which more is fetched
	maxBatch = 1000 // envelopes handed out together
)

// clockCheck bounds how long the scheduler trusts a timer: timers do not
// follow a clock that is set. It looks at the time then, and not at the disk.
const clockCheck = time.Minute

// announce says that evs are about to be stored. A walk that saw one of them
// before add does would hand it out, and add would do so again.
func (s *scheduler) announce(evs []envelope.Envelope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range evs {
		s.known[evs[i].ID] = arriving
	}
}

// retract says that evs were not stored.
func (s *scheduler) retract(evs []envelope.Envelope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range evs {
		delete(s.known, evs[i].ID)
	}
}

// add takes envelopes that were stored just now, or stored anew.
func (s *scheduler) add(evs []envelope.Envelope) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range evs {
		ev := &evs[i]
		if s.known[ev.ID] == arriving {
			delete(s.known, ev.ID)
		}
		at, ok := due(ev)
		if !ok {
			continue
		}
		e := Entry{Mark{at, ev.ID}, s.group(ev)}
		switch {
		case at.After(now):
			s.expect(e.Mark)
		case len(s.known) >= s.terms().window:
			s.leave(e.Mark)
		default:
			s.take(e, ev)
		}
	}
	s.dispatch()
}

// expect makes sure that the walk comes to m, which is in the future.
func (s *scheduler) expect(m Mark) {
	if m.compare(s.place) <= 0 { // the clock was set back
		s.leave(m)
		return
	}
	if s.soonest(m.Due) {
		s.poke()
	}
}

// leave makes sure that the walk finds m when there is room.
func (s *scheduler) leave(m Mark) {
	if m.compare(s.place) <= 0 {
		s.place = Mark{m.Due.Add(-1), 0}
		s.rewound = true
	}
	if !s.stalled { // otherwise finish wakes the walk
		s.soonest(m.Due)
		s.poke()
	}
}

// soonest lowers the time of the next walk to at, and reports whether it did.
func (s *scheduler) soonest(at time.Time) bool {
	if s.next.IsZero() || at.Before(s.next) {
		s.next = at
		return true
	}
	return false
}

func (s *scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take puts an envelope that is due into memory, unless its destination has
// enough there.
func (s *scheduler) take(e Entry, ev *envelope.Envelope) {
	if s.known[e.ID] != 0 || !s.deliverable(e) {
		return
	}
	d := s.dests[e.Dest]
	if d == nil {
		d = &destination{name: e.Dest, byMsg: make(map[envelope.MessageID]*task)}
		s.dests[e.Dest] = d
	}
	by := fromOf(ev)
	crowded := d.ready >= maxReady
	if crowded && by.known && d.waiting.byFrom[by] == nil {
		crowded = d.ready >= 2*maxReady // others have taken the room
	}
	if crowded {
		d.more = true
		return
	}
	t := d.byMsg[e.ID.Message()]
	if t == nil || len(t.items) >= maxBatch {
		t = &task{dest: d, from: by, msg: e.ID.Message()}
		d.byMsg[t.msg] = t
		d.waiting.push(t)
	}
	t.items = append(t.items, item{e, ev})
	d.ready++
	s.known[e.ID] = ready
	s.offer(d)
}

// deliverable reports whether the action of e exists. Envelopes of one that
// does not wait in the store until it does, whatever their age.
func (s *scheduler) deliverable(e Entry) bool {
	if _, ok := s.terms().life[e.Dest.Action]; ok || e.Dest.Type == envelope.Bounce {
		return true
	}
	if !s.missing[e.Dest.Action] {
		s.missing[e.Dest.Action] = true
		s.log.Warn("queue: no such action; its envelopes wait until the configuration has it", "evpid", e.ID, "action", e.Dest.Action)
	}
	return false
}

// offer gives d a turn if it has something to send and may.
func (s *scheduler) offer(d *destination) {
	if !d.inTurn && d.waiting.count > 0 && d.running < s.limit(d.name) && !s.paused[d.name.Type] {
		d.inTurn = true
		s.turn = append(s.turn, d)
	}
}

// dispatch hands out what may be handed out.
func (s *scheduler) dispatch() {
	for len(s.turn) > 0 && s.work != nil {
		d := s.turn[0]
		if !s.paused[d.name.Type] && s.inflight > 0 && s.inflight+len(d.waiting.first().items) > s.terms().maxInflight {
			return
		}
		s.turn[0] = nil
		s.turn = s.turn[1:]
		d.inTurn = false
		if s.paused[d.name.Type] {
			continue
		}
		t := d.waiting.pop()
		if d.byMsg[t.msg] == t {
			delete(d.byMsg, t.msg)
		}
		d.ready -= len(t.items)
		d.running++
		s.inflight += len(t.items)
		inFlights.Set(float64(s.inflight))
		known.Set(float64(len(s.known)))
		for i := range t.items {
			s.known[t.items[i].entry.ID] = inFlight
		}
		s.offer(d)
		s.wantMore(d)
		ctx := s.work
		s.batches.Go(func() { s.run(ctx, t) })
	}
}

// wantMore has the walk fetch what a destination has left in the store.
func (s *scheduler) wantMore(d *destination) {
	if d.more && !d.queued && d.ready <= lowReady {
		d.queued = true
		s.refill = append(s.refill, d.name)
		s.poke()
	}
}

// run carries out a task and stores what came of it.
func (s *scheduler) run(ctx context.Context, t *task) {
	w := work{claimed: make([]envelope.ID, len(t.items))}
	for i := range t.items {
		w.claimed[i] = t.items[i].entry.ID
	}
	batch := s.load(t, &w)
	if len(batch) > 0 {
		s.try(ctx, t.dest.name.Type, batch, &w)
	}
	s.obeyLate(&w)
	stuck := s.save(&w)
	s.finish(t, &w, stuck)
}

// work is what a task has led to.
type work struct {
	changes Changes
	moved   []item        // of another destination since they were stored
	claimed []envelope.ID // in memory as in flight
}

// load returns the envelopes of t that are to be tried now. Those that have
// expired, are gone, or cannot be read are dealt with in w.
func (s *scheduler) load(t *task, w *work) []envelope.Envelope {
	now := time.Now()
	batch := make([]envelope.Envelope, 0, len(t.items))
	for _, it := range t.items {
		ev, ok := s.loadOne(it, w)
		if !ok || s.obey(&ev, w) {
			continue
		}
		// What a walk saw may have changed until now.
		if at, ok := due(&ev); !ok || at.After(now) {
			continue
		}
		if d := s.group(&ev); d != t.dest.name {
			w.moved = append(w.moved, item{Entry{it.entry.Mark, d}, &ev})
			continue
		}
		if !ev.Expires.IsZero() && !now.Before(ev.Expires) {
			if err := s.terms().judge.expire(&w.changes, &ev, now); err != nil {
				s.log.Error("queue: expired envelope is not reported", "evpid", ev.ID, "error", err)
			}
			continue
		}
		batch = append(batch, ev)
	}
	return batch
}

func (s *scheduler) loadOne(it item, w *work) (envelope.Envelope, bool) {
	if it.ev != nil {
		return *it.ev, true
	}
	ev, err := s.store.Load(it.entry.ID)
	switch {
	case err == nil:
		return ev, true
	case errors.Is(err, ErrDamaged):
		s.log.Error("queue: invalid envelope, set aside", "evpid", it.entry.ID, "error", err)
		w.changes.Stray = append(w.changes.Stray, it.entry)
	case errors.Is(err, ErrNotFound):
		w.changes.Stray = append(w.changes.Stray, it.entry)
	default:
		s.log.Error("queue: envelope waits, it cannot be read", "evpid", it.entry.ID, "error", err)
	}
	return ev, false
}

// try hands batch out and judges the results.
func (s *scheduler) try(ctx context.Context, typ envelope.Type, batch []envelope.Envelope, w *work) {
	if typ == envelope.Bounce {
		s.report(ctx, batch, w)
		return
	}
	h := s.suspects.begin(typ, batch[0].ID.Message())
	if h == nil {
		putOff(w, batch, time.Now().Add(suspectPause))
		return
	}
	results, err := s.terms().carriers[typ].Deliver(ctx, batch)
	now := time.Now()
	deaths := s.suspects.end(h, errors.Is(err, imsg.ErrLost) && !s.stopping())
	byID := make(map[envelope.ID]*Result, len(results))
	for i := range results {
		byID[results[i].ID] = &results[i]
	}
	for i := range batch {
		ev := &batch[i]
		r := byID[ev.ID]
		switch {
		case r == nil && deaths >= maxDeaths:
			s.quarantine(ev, deaths, now, w)
			continue
		case r == nil:
			s.untried(ev, err, now, w)
			continue
		}
		if err := s.terms().judge.settle(&w.changes, ev, r, now); err != nil {
			s.log.Error("queue: result is not reported", "evpid", ev.ID, "error", err)
		}
	}
}

// retryUntried is when an envelope that an agent was asked to try, and did
// not, is handed out again: what the agent misses is mostly a component that
// is being started again.
const retryUntried = 5 * time.Second

// untried puts off an envelope that no agent has tried. It does not count as
// a try. When the queue stops the envelope stays as it is.
func (s *scheduler) untried(ev *envelope.Envelope, err error, now time.Time, w *work) {
	if s.stopping() {
		return
	}
	if err == nil {
		err = errors.New("the agent said nothing about it")
	}
	s.log.Warn("queue: envelope was not tried", "evpid", ev.ID, "error", err)
	pause := retryUntried
	if errors.Is(err, imsg.ErrClosed) {
		pause = suspectPause
	}
	putOff(w, []envelope.Envelope{*ev}, now.Add(pause))
}

func putOff(w *work, batch []envelope.Envelope, until time.Time) {
	for _, ev := range batch {
		ev.NextTry = until
		w.changes.Put = append(w.changes.Put, ev)
	}
}

// save stores what w changes, and returns an error if it could not.
func (s *scheduler) save(w *work) error {
	if w.changes.empty() {
		return nil
	}
	if err := s.store.Apply(&w.changes); err != nil {
		s.log.Error("queue: results cannot be stored; the envelopes are not tried again before a restart", "error", err)
		return fmt.Errorf("store results: %w", err)
	}
	inQueue.Sub(float64(len(w.changes.Remove)))
	return nil
}

// finish lets go of the envelopes of t. If their results are not stored they
// stay known: to try again what was perhaps delivered would be worse than to
// wait.
func (s *scheduler) finish(t *task, w *work, stuck error) {
	s.mu.Lock()
	d := t.dest
	d.running--
	s.inflight -= len(t.items)
	inFlights.Set(float64(s.inflight))
	if stuck == nil {
		for _, id := range w.claimed {
			delete(s.known, id)
			delete(s.orders, id)
		}
		for _, it := range w.moved {
			s.take(it.entry, it.ev)
		}
	}
	known.Set(float64(len(s.known)))
	s.offer(d)
	s.wantMore(d)
	s.forget(d)
	if s.stalled && len(s.known) <= s.terms().window/2 {
		s.stalled = false
		s.next = time.Time{}
		s.poke()
	}
	s.dispatch()
	s.mu.Unlock()
	if stuck == nil {
		s.add(w.changes.Put)
	}
}

// forget drops a destination that nothing waits for.
func (s *scheduler) forget(d *destination) {
	if d.running == 0 && d.waiting.count == 0 && !d.more && s.dests[d.name] == d {
		delete(s.dests, d.name)
	}
}

func (s *scheduler) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.work == nil
}

// loop walks the store until ctx is done, and then waits for the batches in
// flight, which end with work.
func (s *scheduler) loop(ctx, work context.Context) {
	s.mu.Lock()
	s.work = work
	s.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.wake:
			s.walk()
		case <-timer.C:
			s.walk()
		}
		timer.Reset(s.pause())
	}
	s.mu.Lock()
	s.work = nil
	s.mu.Unlock()
	s.batches.Wait()
}

// pause returns how long nothing is due.
func (s *scheduler) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next.IsZero() {
		return clockCheck
	}
	return min(max(time.Until(s.next), 0), clockCheck)
}

// reconsider looks at everything anew: other rules may have what envelopes
// have waited for.
func (s *scheduler) reconsider() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing = make(map[string]bool)
	s.place, s.rewound = Mark{}, true
	for _, d := range s.dests {
		s.offer(d)
	}
	s.poke()
}

// walk brings into memory what is due, as far as there is room.
func (s *scheduler) walk() {
	from, refill, ok := s.begin()
	for _, d := range refill {
		s.fetch(d)
	}
	if !ok {
		return
	}
	whole := true
	for e, err := range s.store.Walk(Range{After: from}) {
		if err != nil {
			s.log.Error("queue: entry of the schedule cannot be read", "error", err)
			continue
		}
		if whole = s.visit(e); !whole {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if whole {
		s.soonest(time.Now().Add(idle))
	}
	s.dispatch()
}

// idle is when the walk is due if nothing is: whatever is added calls it.
const idle = 24 * time.Hour

// begin returns where a walk starts, what to fetch first, and whether
// anything can be due.
func (s *scheduler) begin() (from Mark, refill []Destination, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refill, s.refill = s.refill, nil
	if !s.rewound && (s.stalled || !s.next.IsZero() && time.Now().Before(s.next)) {
		return Mark{}, refill, false
	}
	s.rewound, s.stalled, s.next = false, false, time.Time{}
	return s.place, refill, true
}

// visit takes e if it is due, and reports whether the walk goes on.
func (s *scheduler) visit(e Entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.rewound:
		s.poke()
		return false
	case e.Due.After(time.Now()):
		s.soonest(e.Due)
		return false
	case len(s.known) >= s.terms().window:
		s.stalled = true
		s.next = time.Now().Add(idle) // finish wakes the walk
		return false
	}
	if e.ID.Message() != s.place.ID.Message() {
		s.dispatch() // not before: all of a message goes together
	}
	s.place = e.Mark
	s.take(e, nil)
	return true
}

// fetch brings more of what waits for a destination into memory.
func (s *scheduler) fetch(name Destination) {
	s.mu.Lock()
	if d := s.dests[name]; d != nil {
		d.queued, d.more = false, false // what is left there from now on sets it again
	}
	s.mu.Unlock()
	for e, err := range s.store.Walk(Range{Dest: &name}) {
		if err != nil {
			s.log.Error("queue: entry of the schedule cannot be read", "error", err)
			continue
		}
		if e.Due.After(time.Now()) || !s.fetched(e) {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dispatch()
}

// fetched takes e, and reports whether its destination has room for more.
func (s *scheduler) fetched(e Entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(e, nil)
	d := s.dests[e.Dest]
	return d == nil || !d.more
}
