package queue

import (
	"context"
	"errors"
	"strings"
	"time"

	"smtpd/runtime/envelope"
)

// report sends what batch, envelopes of type Bounce of one message, has to
// tell. What else there is to tell of the message goes with it, due or not,
// so that a sender gets one report where there can be one.
func (s *scheduler) report(ctx context.Context, batch []envelope.Envelope, w *work) {
	batch = append(batch, s.gather(batch[0].ID.Message(), w)...)
	for _, group := range reportGroups(batch) {
		s.settleReport(group, s.inject(ctx, group), w)
	}
}

// gather claims the other reports about a message that wait.
func (s *scheduler) gather(msg envelope.MessageID, w *work) []envelope.Envelope {
	var more []envelope.Envelope
	for ev, err := range s.store.List(envelope.ID(msg)<<32 - 1) {
		if err != nil {
			continue // it is reported when it is its turn
		}
		if ev.ID.Message() != msg || len(more) >= maxBatch {
			break
		}
		if ev.Type == envelope.Bounce && ev.Flags&envelope.Suspended == 0 && s.claim(ev.ID, w) {
			more = append(more, ev)
		}
	}
	return more
}

func (s *scheduler) claim(id envelope.ID, w *work) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[id] != 0 {
		return false
	}
	s.known[id] = inFlight
	w.claimed = append(w.claimed, id)
	return true
}

// reportGroups parts batch into what one report can say: to one sender, from
// one server, of one kind.
func reportGroups(batch []envelope.Envelope) [][]envelope.Envelope {
	type key struct {
		kind   envelope.BounceKind
		delay  time.Duration
		server string
		sender envelope.Address
	}
	place := make(map[key]int)
	var groups [][]envelope.Envelope
	for _, ev := range batch {
		k := key{ev.BounceKind, ev.BounceDelay, ev.SMTPName, ev.Sender}
		i, ok := place[k]
		if !ok {
			i = len(groups)
			place[k] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], ev)
	}
	return groups
}

// settleReport adds to w what becomes of group after err. A report that was
// sent has taken its envelopes away already.
func (s *scheduler) settleReport(group []envelope.Envelope, err error, w *work) {
	if err == nil || s.stopping() {
		return
	}
	final := strings.HasPrefix(err.Error(), "5")
	outcome := TempFail
	if final {
		outcome = PermFail
	}
	s.log.Warn("queue: "+outcome.String()+" injecting failure report", "msgid", group[0].ID.Message(),
		"to", group[0].Sender, "envelopes", len(group), "stat", err)
	now := time.Now()
	for i := range group {
		r := Result{ID: group[i].ID, Outcome: outcome, Text: err.Error()}
		if jerr := s.terms().judge.settle(&w.changes, &group[i], &r, now); jerr != nil {
			s.log.Error("queue: result is not kept", "evpid", r.ID, "error", jerr)
		}
	}
}

// errNoRecipient is what a report without an envelope comes to.
var errNoRecipient = errors.New("550 no recipient for the report")
