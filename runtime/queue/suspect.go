package queue

import (
	"fmt"
	"sync"
	"time"

	"smtpd/runtime/envelope"
)

// How agents that die are dealt with.
const (
	// maxDeaths is how many deaths of an agent a message may be to blame for.
	maxDeaths = 2

	// suspectPause is when a message that an agent had when it died, or that
	// waits until another such has been tried, is handed out again.
	suspectPause = time.Second

	// trialLimit is how long the trial of one message keeps others waiting.
	// One that kills does so soon, one that is slow is only slow.
	trialLimit = 10 * time.Second
)

// suspects finds the messages that kill the agents which try them. An agent
// that dies has many messages, so nobody knows by then which it died of. All
// are suspects; they are tried again one after the other, and the one that is
// on trial when the agent dies again is to blame for that death. So is the
// only one that an agent had. One that is to blame twice is set aside.
type suspects struct {
	mu     sync.Mutex
	with   map[envelope.Type]map[*handing]bool // what agents have
	trials map[envelope.Type]*handing          // the suspect among it
	deaths map[envelope.MessageID]int          // to blame for; of suspects only
}

// A handing is a batch that an agent has.
type handing struct {
	typ     envelope.Type
	msg     envelope.MessageID
	began   time.Time
	shared  bool // the agent had others in the same time
	onTrial bool
}

// begin notes that a batch of msg is handed to an agent. It returns nil if
// that must wait, because msg is a suspect and another one is on trial.
func (s *suspects) begin(typ envelope.Type, msg envelope.MessageID) *handing {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &handing{typ: typ, msg: msg, began: time.Now()}
	if _, h.onTrial = s.deaths[msg]; h.onTrial {
		if t := s.trials[typ]; t != nil && h.began.Sub(t.began) < trialLimit {
			return nil
		}
		if s.trials == nil {
			s.trials = make(map[envelope.Type]*handing)
		}
		s.trials[typ] = h
	}
	if s.with == nil {
		s.with = make(map[envelope.Type]map[*handing]bool)
	}
	if s.with[typ] == nil {
		s.with[typ] = make(map[*handing]bool)
	}
	for other := range s.with[typ] {
		h.shared, other.shared = true, true
	}
	s.with[typ][h] = true
	return h
}

// end notes that an agent has given a batch back, or died with it, and returns
// how many deaths its message is to blame for.
func (s *suspects) end(h *handing, died bool) (deaths int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.with[h.typ], h)
	if s.trials[h.typ] == h {
		delete(s.trials, h.typ)
	}
	if !died {
		delete(s.deaths, h.msg)
		return 0
	}
	if s.deaths == nil {
		s.deaths = make(map[envelope.MessageID]int)
	}
	deaths = s.deaths[h.msg]
	if h.onTrial || !h.shared {
		deaths++
	}
	s.deaths[h.msg] = deaths
	if deaths >= maxDeaths {
		delete(s.deaths, h.msg) // whoever resumes it gives it another chance
	}
	return deaths
}

// quarantine sets ev aside until an administrator resumes it, and says why:
// in the log and in the envelope.
func (s *scheduler) quarantine(ev *envelope.Envelope, deaths int, now time.Time, w *work) {
	set := *ev
	set.Flags |= envelope.Suspended
	set.LastTry, set.Status = now, "4.3.0"
	set.Error = fmt.Sprintf("quarantined: %s died %d times with this message", agentName(ev.Type), deaths)
	s.log.Error("queue: message is quarantined", "evpid", ev.ID, "from", ev.Sender, "to", ev.Dest, "stat", set.Error)
	w.changes.Put = append(w.changes.Put, set)
}

// agentName returns the component that tries envelopes of a type.
func agentName(t envelope.Type) string {
	if t == envelope.MTA {
		return "mta"
	}
	return "mda"
}
