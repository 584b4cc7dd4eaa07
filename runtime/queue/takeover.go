package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"smtpd/compile"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// An Import is a message of another mail server that is to be taken over. Its
// envelopes and its content are in a file: see WriteImport.
type Import struct {
	Relay, Local string // actions for envelopes of which the configuration has none
	Try          bool   // only say what would be done
}

// Append appends the encoding of q.
func (q *Import) Append(b []byte) []byte {
	return imsg.AppendBool(imsg.AppendString(imsg.AppendString(b, q.Relay), q.Local), q.Try)
}

// Parse reads what Append has written.
func (q *Import) Parse(b []byte) error {
	r := imsg.NewReader(b)
	*q = Import{r.String(), r.String(), r.Bool()}
	return r.Close()
}

// An Imported is what became of it.
type Imported struct {
	ID      envelope.MessageID // which the message has here
	Already bool               // it was taken over before
}

// Append appends the encoding of i.
func (i *Imported) Append(b []byte) []byte {
	return imsg.AppendBool(imsg.AppendUint32(b, uint32(i.ID)), i.Already)
}

// Parse reads what Append has written.
func (i *Imported) Parse(b []byte) error {
	r := imsg.NewReader(b)
	*i = Imported{envelope.MessageID(r.Uint32()), r.Bool()}
	return r.Close()
}

// maxImport bounds the envelopes of one message.
const maxImport = 32 << 20

// WriteImport writes the envelopes of a message as an import wants them; the
// content follows, to the end of the file. Envelopes without a time to expire
// live as long as their action lets them.
func WriteImport(w io.Writer, evs []envelope.Envelope) error {
	b := envelopes(evs).append(make([]byte, 4))
	if len(b) > maxImport {
		return fmt.Errorf("%d envelopes are too many for one message", len(evs))
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err := w.Write(b)
	return err
}

// takeOver stores a message of another mail server, as if it had come just
// now, but of its own age.
func (a *agent) takeOver(q *Import, f *os.File) (*Imported, error) {
	evs, at, err := readImport(f)
	if err != nil {
		return nil, err
	}
	t, now := a.current.Load(), time.Now()
	for i := range evs {
		if err := t.adopt(&evs[i], q, now); err != nil {
			return nil, fmt.Errorf("envelope %v: %w", evs[i].ID, err)
		}
	}
	got, err := a.nameImport(evs)
	if err != nil || got.Already || q.Try {
		return got, err
	}
	if err := a.reception.space(); err != nil {
		return nil, err
	}
	content := contentBuffer{next: func(piece []byte) error { return a.store.Append(got.ID, piece) }}
	if _, err := io.Copy(&content, io.NewSectionReader(f, at, 1<<62)); err != nil {
		a.store.Discard(got.ID)
		return nil, fmt.Errorf("content: %w", err)
	}
	began := time.Now()
	a.scheduler.announce(evs)
	if err := a.store.Commit(&Message{ID: got.ID, Content: content.rest, Envelopes: evs}); err != nil {
		a.scheduler.retract(evs)
		return nil, err
	}
	countQueued("import", evs, began)
	a.log.Info("queue: Import", "msgid", got.ID, "envelopes", len(evs))
	a.scheduler.add(evs)
	return got, nil
}

// readImport returns the envelopes of an import, and where its content begins.
func readImport(f *os.File) (evs []envelope.Envelope, at int64, err error) {
	var head [4]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return nil, 0, fmt.Errorf("envelopes: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxImport {
		return nil, 0, fmt.Errorf("envelopes of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, int64(len(head))); err != nil {
		return nil, 0, fmt.Errorf("envelopes: %w", err)
	}
	var l envelopes
	if err := l.parse(b); err != nil {
		return nil, 0, fmt.Errorf("envelopes: %w", err)
	}
	if len(l) == 0 {
		return nil, 0, errors.New("a message without envelopes")
	}
	seen := make(map[envelope.ID]bool)
	for i := range l {
		id := l[i].ID
		if id.Message() != l[0].ID.Message() || id.Message() == 0 || uint32(id) == 0 || seen[id] {
			return nil, 0, fmt.Errorf("envelope %v is not one of its own of message %v", id, l[0].ID.Message())
		}
		seen[id] = true
	}
	return l, int64(len(head)) + int64(n), nil
}

// adopt completes an envelope that another mail server made.
func (t *terms) adopt(ev *envelope.Envelope, q *Import, now time.Time) error {
	if ev.Type == envelope.Bounce {
		// The report is made here: it lives as if it were ordered now.
		ev.Created, ev.Expires, ev.NextTry = now, now.Add(t.judge.life), now
		return nil
	}
	if ev.Type != envelope.MDA && ev.Type != envelope.MTA {
		return errors.New("its type is unknown")
	}
	was := ev.Action
	if !t.carries(ev) {
		ev.Action = q.Local
		if ev.Type == envelope.MTA {
			ev.Action = q.Relay
		}
	}
	switch {
	case t.carries(ev):
	case ev.Action != "":
		return fmt.Errorf("the configuration has no action %q for %v", ev.Action, ev.Type)
	default:
		return fmt.Errorf("the configuration has no action %q for %v; name one that is to take its place", was, ev.Type)
	}
	if ev.Expires.IsZero() {
		ev.Expires = ev.Created.Add(t.life[ev.Action])
	}
	n := time.Duration(min(ev.Tries, 1000))
	ev.NextTry = ev.Created.Add(base(ev.Type) * n * n)
	if ev.Created.After(now) {
		ev.NextTry = now // that clock was ahead of ours
	}
	return nil
}

// carries reports whether the action of ev is one for its type.
func (t *terms) carries(ev *envelope.Envelope) bool {
	for i := range t.rules.Actions {
		if act := &t.rules.Actions[i]; act.Name == ev.Action {
			return (act.Method == compile.Relay) == (ev.Type == envelope.MTA)
		}
	}
	return false
}

// nameImport finds out whether a message is here already, and gives it another
// id if its own is that of another message.
func (a *agent) nameImport(evs []envelope.Envelope) (*Imported, error) {
	got := &Imported{ID: evs[0].ID.Message()}
	for n := 0; ; n++ {
		taken, err := a.store.Has(got.ID)
		if err != nil || !taken {
			return got, err
		}
		for i := range evs {
			if here, err := a.store.Load(evs[i].ID); err == nil && here.Created.Equal(evs[i].Created) && here.Dest == evs[i].Dest {
				got.Already = true
				return got, nil
			}
		}
		if n == 100 {
			return nil, errors.New("no free id for the message")
		}
		got.ID = newMessageID()
		for i := range evs {
			evs[i].ID = envelope.ID(got.ID)<<32 | evs[i].ID&0xffffffff
		}
	}
}
