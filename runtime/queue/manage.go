package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

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
)

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
	InFlight bool
	Why      string // it waits, other than for the time of its next try; or ""
	Error    string // why it cannot be read; then only its ID is known
}

// maxList bounds one answer to List; a longer list is asked for in pieces.
const maxList = 256

// list returns up to n envelopes with a greater id than after.
func (a *agent) list(after envelope.ID, n int) []Listed {
	l := []Listed{} // as it comes off the wire
	for ev, err := range a.store.List(after) {
		if len(l) >= min(n, maxList) {
			break
		}
		item := Listed{Envelope: ev}
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

// manage does verb with what sel holds, and returns with how many envelopes.
// One that is with an agent is dealt with when it comes back.
func (s *scheduler) manage(verb Verb, sel Selection) (count int, err error) {
	var w work
	flush := func() {
		if serr := s.save(&w); serr != nil {
			err = serr
		}
		s.release(&w)
		w = work{}
	}
	for ev, lerr := range s.store.List(sel.First()) {
		if err != nil || lerr != nil || !sel.Holds(ev.ID) {
			if err != nil || sel.Past(ev.ID) {
				break
			}
			continue
		}
		if s.order(verb, &ev, &w) {
			count++
		}
		if len(w.claimed) >= maxList {
			flush()
		}
	}
	flush()
	return count, err
}

// order does verb with ev, now or by a note for when it comes back, and
// reports whether there was anything to do.
func (s *scheduler) order(verb Verb, ev *envelope.Envelope, w *work) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.known[ev.ID]
	if at == inFlight || at == ready && (verb == Schedule || verb == Resume) {
		return s.note(verb, ev.ID)
	}
	// The list that showed ev is older than this moment.
	now, err := s.store.Load(ev.ID)
	suspended := now.Flags&envelope.Suspended != 0
	if err != nil || verb == Resume && !suspended || verb != Resume && verb != Remove && suspended {
		return false
	}
	if at == ready && !s.withdraw(&now) {
		return s.note(verb, ev.ID)
	}
	s.known[ev.ID] = inFlight
	w.claimed = append(w.claimed, ev.ID)
	s.act(verb, &now, &w.changes)
	return true
}

// withdraw takes an envelope that is ready out of what waits for its turn,
// which may be long in coming while a system is paused.
func (s *scheduler) withdraw(ev *envelope.Envelope) bool {
	d := s.dests[s.group(ev)]
	if d == nil {
		return false
	}
	for i, t := range d.tasks {
		at := slices.IndexFunc(t.items, func(it item) bool { return it.entry.ID == ev.ID })
		if at < 0 {
			continue
		}
		t.items = slices.Delete(t.items, at, at+1)
		d.ready--
		if len(t.items) == 0 {
			d.tasks = slices.Delete(d.tasks, i, i+1)
			if d.byMsg[t.msg] == t {
				delete(d.byMsg, t.msg)
			}
		}
		if len(d.tasks) == 0 && d.inTurn {
			d.inTurn = false
			s.turn = slices.DeleteFunc(s.turn, func(o *destination) bool { return o == d })
		}
		s.wantMore(d)
		s.forget(d)
		return true
	}
	return false
}

// note keeps verb for an envelope that is in memory.
func (s *scheduler) note(verb Verb, id envelope.ID) bool {
	switch verb {
	case Remove:
		s.orders[id] = orderRemove
	case Suspend:
		s.orders[id] = orderSuspend
	case Schedule:
		return s.known[id] == ready // as it is
	case Resume:
		return false // it is not suspended
	}
	return true
}

// act adds to c what verb does with an envelope that waits.
func (s *scheduler) act(verb Verb, ev *envelope.Envelope, c *Changes) {
	switch verb {
	case Remove:
		s.logRemoved(ev)
		c.Remove = append(c.Remove, ev.ID)
		return
	case Suspend:
		ev.Flags |= envelope.Suspended
	case Resume:
		ev.Flags &^= envelope.Suspended
	case Schedule:
		ev.NextTry = time.Now()
	}
	c.Put = append(c.Put, *ev)
}

func (s *scheduler) logRemoved(ev *envelope.Envelope) {
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
	o := s.orders[ev.ID]
	delete(s.orders, ev.ID)
	s.mu.Unlock()
	switch o {
	case orderRemove:
		s.act(Remove, ev, &w.changes)
	case orderSuspend:
		s.act(Suspend, ev, &w.changes)
	}
	return o != 0
}

// obeyLate deals with orders about envelopes that agents had: those that are
// to be tried again are removed or suspended instead.
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
		return imsg.Message{Data: listing(a.list(q.After, int(q.Count))).append(nil)}, nil
	case msgManage:
		closeFile(m.File)
		var q manageRequest
		if err := q.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		n, err := a.scheduler.manage(q.Verb, q.Selection)
		return imsg.Message{Data: imsg.AppendUint32(nil, uint32(n))}, err
	case msgPause:
		closeFile(m.File)
		var q pauseRequest
		if err := q.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		return imsg.Message{Data: imsg.AppendBool(nil, a.scheduler.pauseAll(q.Type, q.On))}, nil
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
