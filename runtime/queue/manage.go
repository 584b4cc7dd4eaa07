package queue

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"smtpd/compile"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// A Verb is what an administrator does with envelopes.
type Verb uint8

// The verbs.
const (
	Remove   Verb = iota + 1
	Schedule      // try now
	Suspend       // neither try nor expire, over restarts too
	Resume
	Return  // to the sender, as failed
	Reroute // by another action that relays
)

// An Order is what an administrator does with some envelopes. Those that are
// not there, or that it makes no sense for, are passed over.
type Order struct {
	Verb   Verb
	Action string // of Reroute
	IDs    []envelope.ID
}

// MaxOrder bounds the envelopes of one Order.
const MaxOrder = 1000

// Append appends the encoding of o.
func (o *Order) Append(b []byte) []byte {
	b = imsg.AppendString(append(b, byte(o.Verb)), o.Action)
	return ids(o.IDs).append(b)
}

// ParseOrder returns the Order that Append has encoded.
func ParseOrder(b []byte) (o Order, err error) {
	r := imsg.NewReader(b)
	o.Verb, o.Action = Verb(r.Byte()), r.String()
	o.IDs = make([]envelope.ID, r.Count(8))
	for i := range o.IDs {
		o.IDs[i] = envelope.ID(r.Uint64())
	}
	if o.Verb < Remove || o.Verb > Reroute || len(o.IDs) > MaxOrder {
		r.Fail()
	}
	return o, r.Close()
}

// A Selection names envelopes: one, those of a message, or, zero, all.
type Selection struct {
	Message  envelope.MessageID
	Envelope envelope.ID
}

// Holds reports whether id is one of those that s names.
func (s Selection) Holds(id envelope.ID) bool {
	return (s.Message == 0 || id.Message() == s.Message) && (s.Envelope == 0 || id == s.Envelope)
}

// First returns the id before the first that s can hold.
func (s Selection) First() envelope.ID {
	switch {
	case s.Envelope != 0:
		return s.Envelope - 1
	case s.Message != 0:
		return envelope.ID(s.Message)<<32 - 1
	}
	return 0
}

// Past reports whether no id from this one on is held.
func (s Selection) Past(id envelope.ID) bool {
	return s.Message != 0 && id.Message() > s.Message || s.Envelope != 0 && id > s.Envelope
}

// A Listed is an envelope as a list of the queue shows it.
type Listed struct {
	Envelope envelope.Envelope
	Size     int64 // of the message; 0 if it was not asked for
	InFlight bool
	Why      string // it waits, other than for the time of its next try; or ""
	Error    string // why it cannot be read; then only its ID is known
}

// maxList bounds one answer to List; a longer list is asked for in pieces.
const maxList = 256

// list returns up to q.Count envelopes with a greater id than q.After.
func (a *agent) list(q *listRequest) []Listed {
	l := []Listed{} // as it comes off the wire
	sizes, _ := a.store.(sizer)
	var msg envelope.MessageID
	var size int64
	for ev, err := range a.store.List(q.After) {
		if len(l) >= min(int(q.Count), maxList) {
			break
		}
		if q.Sizes && sizes != nil && ev.ID.Message() != msg {
			msg = ev.ID.Message()
			size, _ = sizes.size(msg) // 0 for what cannot be read
		}
		item := Listed{Envelope: ev, Size: size}
		if err != nil {
			item.Error = err.Error()
		}
		l = append(l, item)
	}
	a.scheduler.mark(l)
	return l
}

func (s *scheduler) mark(l []Listed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range l {
		l[i].InFlight = s.known[l[i].Envelope.ID] == inFlight
		l[i].Why = s.why(&l[i])
	}
}

// why says what an envelope waits for, "" if that is the time of its next try.
func (s *scheduler) why(l *Listed) string {
	ev := &l.Envelope
	_, known := s.terms().life[ev.Action]
	switch {
	case l.Error != "":
		return ""
	case l.InFlight:
		return "it is with " + ev.Type.String()
	case ev.Flags&envelope.Suspended != 0:
		return "it is suspended"
	case !known && ev.Type != envelope.Bounce:
		return fmt.Sprintf("the configuration has no action %q", ev.Action)
	case s.paused[ev.Type]:
		return ev.Type.String() + " is paused"
	case s.known[ev.ID] == ready:
		return "it is due and waits for its turn"
	}
	return ""
}

// held yields the ids of what sel holds.
func (s *scheduler) held(sel Selection) iter.Seq[envelope.ID] {
	return func(yield func(envelope.ID) bool) {
		for ev, err := range s.store.List(sel.First()) {
			if sel.Past(ev.ID) || err == nil && sel.Holds(ev.ID) && !yield(ev.ID) {
				return
			}
		}
	}
}

// manage does o with envelopes, and returns with how many. One that is with
// an agent is dealt with when it comes back.
func (s *scheduler) manage(o order, ids iter.Seq[envelope.ID]) (count int, err error) {
	var w work
	flush := func() {
		if serr := s.save(&w); serr != nil {
			err = serr
		}
		s.release(&w)
		w = work{}
	}
	for id := range ids {
		if s.order(o, id, &w) {
			count++
		}
		if len(w.claimed) >= maxList {
			flush()
		}
		if err != nil {
			return count, err
		}
	}
	flush()
	return count, err
}

// order does o with an envelope, now or by a note for when it comes back, and
// reports whether there was anything to do.
func (s *scheduler) order(o order, id envelope.ID, w *work) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.known[id]
	if at == inFlight || at == ready && (o.verb == Schedule || o.verb == Resume) {
		return s.note(o, id)
	}
	// What named it is older than this moment.
	now, err := s.store.Load(id)
	if err != nil || !o.verb.Fits(&now) {
		return false
	}
	if at == ready && !s.withdraw(&now) {
		return s.note(o, id)
	}
	s.known[id] = inFlight
	w.claimed = append(w.claimed, id)
	s.act(o, &now, &w.changes)
	return true
}

// Fits reports whether there is anything for v to do with ev.
func (v Verb) Fits(ev *envelope.Envelope) bool {
	suspended := ev.Flags&envelope.Suspended != 0
	switch v {
	case Resume:
		return suspended
	case Suspend, Schedule:
		return !suspended
	case Reroute:
		return ev.Type == envelope.MTA
	}
	return true
}

// withdraw takes an envelope that is ready out of what waits for its turn,
// which may be long in coming while a system is paused.
func (s *scheduler) withdraw(ev *envelope.Envelope) bool {
	d := s.dests[s.group(ev)]
	if d == nil {
		return false
	}
	t, at := d.waiting.find(ev.ID)
	if t == nil {
		return false
	}
	t.items = slices.Delete(t.items, at, at+1)
	d.ready--
	if len(t.items) == 0 {
		d.waiting.remove(t)
		if d.byMsg[t.msg] == t {
			delete(d.byMsg, t.msg)
		}
	}
	if d.waiting.count == 0 && d.inTurn {
		d.inTurn = false
		s.turn = slices.DeleteFunc(s.turn, func(o *destination) bool { return o == d })
	}
	s.wantMore(d)
	s.forget(d)
	return true
}

// note keeps o for an envelope that is in memory.
func (s *scheduler) note(o order, id envelope.ID) bool {
	switch o.verb {
	case Schedule:
		return s.known[id] == ready // as it is
	case Resume:
		return false // it is not suspended
	}
	s.orders[id] = o
	return true
}

// act adds to c what o does with an envelope that waits.
func (s *scheduler) act(o order, ev *envelope.Envelope, c *Changes) {
	now := time.Now()
	switch o.verb {
	case Remove:
		s.logRemoved(ev)
		c.Remove = append(c.Remove, ev.ID)
		return
	case Return:
		if err := s.terms().judge.giveBack(c, ev, now); err != nil {
			s.log.Error("queue: returned envelope is not reported", "evpid", ev.ID, "error", err)
		}
		return
	case Reroute:
		s.log.Info("queue: Reroute", "evpid", ev.ID, "from", ev.Sender, "to", ev.Dest, "action", o.action, "was", ev.Action)
		ev.Action, ev.NextTry = o.action, now
	case Suspend:
		ev.Flags |= envelope.Suspended
	case Resume:
		ev.Flags &^= envelope.Suspended
	case Schedule:
		ev.NextTry = now
	}
	c.Put = append(c.Put, *ev)
}

func (s *scheduler) logRemoved(ev *envelope.Envelope) {
	endings.WithLabelValues("removed").Inc()
	s.log.Info(carrierWord(ev)+": Remove", "evpid", ev.ID, "from", ev.Sender, "to", ev.Dest, "rcpt", rcptText(ev),
		"delay", envelope.FormatDelay(time.Since(ev.Created)), "stat", "Removed by administrator")
}

// release lets go of what manage has claimed.
func (s *scheduler) release(w *work) {
	s.mu.Lock()
	for _, id := range w.claimed {
		delete(s.known, id)
	}
	s.mu.Unlock()
	s.add(w.changes.Put)
}

// obey deals with an envelope whose turn it is and that was ordered away
// while it waited for it.
func (s *scheduler) obey(ev *envelope.Envelope, w *work) bool {
	s.mu.Lock()
	o, ordered := s.orders[ev.ID]
	delete(s.orders, ev.ID)
	s.mu.Unlock()
	if !ordered || !o.verb.Fits(ev) {
		return false
	}
	s.act(o, ev, &w.changes)
	return true
}

// obeyLate deals with orders about envelopes that agents had: those that are
// to be tried again are removed, suspended or sent elsewhere instead.
func (s *scheduler) obeyLate(w *work) {
	put := w.changes.Put
	w.changes.Put = nil
	for i := range put {
		if !s.obey(&put[i], w) {
			w.changes.Put = append(w.changes.Put, put[i])
		}
	}
}

// pauseAll stops or resumes handing out envelopes of one type, and reports
// whether that changed anything.
func (s *scheduler) pauseAll(t envelope.Type, on bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused[t] == on {
		return false
	}
	s.paused[t] = on
	if !on {
		for _, d := range s.dests {
			s.offer(d)
		}
		s.dispatch()
	}
	state := map[bool]string{true: "paused", false: "resumed"}[on]
	s.log.Info(t.String() + " " + state)
	return true
}

// serveControl answers control.
func (a *agent) serveControl(ctx context.Context, m imsg.Message) (imsg.Message, error) {
	switch m.Type {
	case msgOpen:
		return a.serveAgents(ctx, m)
	case msgList:
		closeFile(m.File)
		var q listRequest
		if err := q.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		return imsg.Message{Data: listing(a.list(&q)).append(nil)}, nil
	case msgManage:
		closeFile(m.File)
		var q manageRequest
		if err := q.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		n, err := a.scheduler.manage(order{verb: q.Verb}, a.scheduler.held(q.Selection))
		return imsg.Message{Data: imsg.AppendUint32(nil, uint32(n))}, err
	case msgOrder:
		closeFile(m.File)
		o, err := ParseOrder(m.Data)
		if err != nil {
			return imsg.Message{}, err
		}
		if act := a.action(o.Action); o.Verb == Reroute && (act == nil || act.Method != compile.Relay) {
			return imsg.Message{}, fmt.Errorf("the configuration has no action %q that relays", o.Action)
		}
		n, err := a.scheduler.manage(order{o.Verb, o.Action}, slices.Values(o.IDs))
		return imsg.Message{Data: imsg.AppendUint32(nil, uint32(n))}, err
	case msgCheck:
		closeFile(m.File)
		r := imsg.NewReader(m.Data)
		from := r.String()
		if err := r.Close(); err != nil {
			return imsg.Message{}, err
		}
		page, err := a.check(from)
		return imsg.Message{Data: page.append(nil)}, err
	case msgImport:
		defer closeFile(m.File)
		var q Import
		if err := q.Parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		if m.File == nil {
			return imsg.Message{}, errNoFile
		}
		got, err := a.takeOver(&q, m.File)
		if err != nil {
			return imsg.Message{}, err
		}
		return imsg.Message{Data: got.Append(nil)}, nil
	case msgPause:
		closeFile(m.File)
		var q pauseRequest
		if err := q.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		changed, err := a.pause(q.Type, q.On)
		return imsg.Message{Data: imsg.AppendBool(nil, changed)}, err
	case msgKeep:
		closeFile(m.File)
		r := imsg.NewReader(m.Data)
		text := r.String()
		if err := r.Close(); err != nil {
			return imsg.Message{}, err
		}
		return imsg.Message{}, a.pauses.keepRoutes(text)
	case msgPauseSMTP:
		closeFile(m.File)
		r := imsg.NewReader(m.Data)
		on := r.Bool()
		if err := r.Close(); err != nil {
			return imsg.Message{}, err
		}
		return imsg.Message{}, a.pauses.change(func(s *pauseSet) { s.smtp = on })
	case msgPaused:
		closeFile(m.File)
		a.scheduler.mu.Lock()
		defer a.scheduler.mu.Unlock()
		p := &a.scheduler.paused
		return imsg.Message{Data: imsg.AppendBool(imsg.AppendBool(nil, p[envelope.MDA]), p[envelope.MTA])}, nil
	}
	closeFile(m.File)
	return imsg.Message{}, errUnknown(m.Type)
}
