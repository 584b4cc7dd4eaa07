package queue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"smtpd/runtime/envelope"
)

// A reception holds the messages that are being received: their envelopes in
// memory, and their content in memory or, as far as it is large, in the store,
// which forgets it unless it is committed.
type reception struct {
	store Store
	space func() error // why nothing can be taken now; nil: it can
	room  func() error // the same, of this very moment

	announce, retract func([]envelope.Envelope) // before a commit, and after one that failed

	mu   sync.Mutex
	open map[envelope.MessageID]*incoming
}

// An incoming is a message before its commit.
type incoming struct {
	id      envelope.MessageID
	created time.Time
	low     uint32 // lower half of the id of the last envelope
	evs     []envelope.Envelope
	from    *client        // nil: a report, which is made here
	flags   envelope.Flags // of all of its envelopes

	writing sync.Mutex
	ended   bool // no content is taken any more
}

// maxEnvelopes bounds what one message may bring: far more than a recipient
// limit and the expansion of aliases allow.
const maxEnvelopes = 1 << 17

// create begins a message of a client, or, without one, a report. A report is made even when there is little room:
// it takes the place of what it reports.
func (r *reception) create(from *client) (*incoming, error) {
	if from != nil {
		if err := r.space(); err != nil {
			return nil, err
		}
	}
	in := &incoming{created: time.Now(), low: rand.Uint32(), from: from}
	for range 100 {
		id := newMessageID()
		stored, err := r.store.Has(id)
		if err != nil {
			return nil, fmt.Errorf("create message: %w", err)
		}
		if !stored && r.enter(id, in) {
			return in, nil
		}
	}
	return nil, errors.New("create message: no free id")
}

// write adds to the content of a message. Uploads alone could fill the disk,
// so each piece of one is weighed.
func (r *reception) write(msg envelope.MessageID, piece []byte) error {
	r.mu.Lock()
	in := r.open[msg]
	r.mu.Unlock()
	if in == nil {
		return fmt.Errorf("content of message %v: %w", msg, ErrNotFound)
	}
	in.writing.Lock()
	defer in.writing.Unlock()
	if in.ended {
		return fmt.Errorf("content of message %v: %w", msg, ErrNotFound)
	}
	if in.from != nil {
		if err := r.room(); err != nil {
			return err
		}
	}
	return r.store.Append(msg, piece)
}

// end waits for a write under way, and lets no other come.
func (in *incoming) end() {
	in.writing.Lock()
	defer in.writing.Unlock()
	in.ended = true
}

func newMessageID() envelope.MessageID {
	for {
		if id := envelope.MessageID(rand.Uint32()); id != 0 {
			return id
		}
	}
}

func (r *reception) enter(id envelope.MessageID, in *incoming) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open[id] != nil {
		return false
	}
	in.id = id
	r.open[id] = in
	return true
}

// submit adds envelopes to a message, all of them or none. life is how long
// they live, by action: of each that there is.
func (r *reception) submit(msg envelope.MessageID, evs []envelope.Envelope, life map[string]time.Duration) ([]envelope.ID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.open[msg]
	if in == nil {
		return nil, fmt.Errorf("submit to message %v: %w", msg, ErrNotFound)
	}
	if len(in.evs)+len(evs) > maxEnvelopes {
		return nil, fmt.Errorf("submit to message %v: more than %d envelopes", msg, maxEnvelopes)
	}
	for i := range evs {
		ev := &evs[i]
		if _, ok := life[ev.Action]; !ok || ev.Type != envelope.MDA && ev.Type != envelope.MTA {
			return nil, fmt.Errorf("submit to message %v: no %v action %q", msg, ev.Type, ev.Action)
		}
	}
	if len(in.evs) == 0 && in.from != nil {
		// It may have been begun long ago, and kept for this.
		if err := r.space(); err != nil {
			return nil, err
		}
		in.created = time.Now()
	}
	ids := make([]envelope.ID, len(evs))
	for i := range evs {
		in.add(evs[i], life[evs[i].Action])
		ids[i] = in.evs[len(in.evs)-1].ID
	}
	return ids, nil
}

// withdraw takes all envelopes from a message.
func (r *reception) withdraw(msg envelope.MessageID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.open[msg]
	if in == nil {
		return fmt.Errorf("withdraw envelopes of message %v: %w", msg, ErrNotFound)
	}
	in.evs = nil
	return nil
}

// add completes ev. All envelopes of a message are of one age, so that they
// are due together and go together.
func (in *incoming) add(ev envelope.Envelope, life time.Duration) {
	if in.low++; in.low == 0 {
		in.low++
	}
	ev.ID = envelope.ID(in.id)<<32 | envelope.ID(in.low)
	ev.Created, ev.NextTry, ev.Expires = in.created, in.created, in.created.Add(life)
	ev.LastTry, ev.LastBounce, ev.Tries = time.Time{}, time.Time{}, 0
	ev.Flags |= in.flags
	in.evs = append(in.evs, ev)
}

// commit stores a message that takes the place of reported, with the rest of
// its content, and returns its envelopes when it is on disk. Whatever comes of
// it, the message is no longer open.
func (r *reception) commit(msg envelope.MessageID, rest []byte, reported []envelope.ID) ([]envelope.Envelope, error) {
	in := r.leave(msg)
	if in == nil {
		return nil, fmt.Errorf("commit message %v: %w", msg, ErrNotFound)
	}
	if len(in.evs) == 0 {
		r.store.Discard(msg)
		if in.from == nil {
			return nil, errNoRecipient
		}
		return nil, fmt.Errorf("commit message %v: no envelope", msg)
	}
	began := time.Now()
	r.announce(in.evs)
	err := r.store.Commit(&Message{ID: msg, Content: rest, Envelopes: in.evs, Reported: reported})
	if err != nil {
		r.retract(in.evs)
		return in.evs, err
	}
	from := "client"
	if in.from == nil {
		from = "report"
	}
	countQueued(from, in.evs, began)
	inQueue.Sub(float64(len(reported)))
	return in.evs, nil
}

// leave takes a message out of the reception; nil if it is not there.
func (r *reception) leave(msg envelope.MessageID) *incoming {
	r.mu.Lock()
	in := r.open[msg]
	delete(r.open, msg)
	r.mu.Unlock()
	if in != nil {
		in.end()
	}
	return in
}

// rollback forgets a message.
func (r *reception) rollback(msg envelope.MessageID) {
	if r.leave(msg) != nil {
		r.store.Discard(msg)
	}
}

// abandon forgets all messages that are being received from a client: it is
// gone.
func (r *reception) abandon(from *client) {
	r.mu.Lock()
	var left []envelope.MessageID
	for id, in := range r.open {
		if in.from == from {
			left = append(left, id)
		}
	}
	r.mu.Unlock()
	for _, id := range left {
		r.rollback(id)
	}
}
