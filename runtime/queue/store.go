package queue

import (
	"cmp"
	"errors"
	"iter"
	"os"
	"time"

	"smtpd/runtime/envelope"
)

// A Store keeps accepted mail. It is safe for concurrent use. Nothing in it
// assumes that the queue fits into memory, that ids are handed out by one
// node, or that only one node schedules.
type Store interface {
	// Has reports whether anything of a message of this id is stored.
	Has(id envelope.MessageID) (bool, error)
	// Append adds to the content of a message that is not committed. It is
	// for what is larger than maxInline, and may wait for the disk.
	Append(id envelope.MessageID, piece []byte) error
	// Discard forgets what was appended. So does a crash.
	Discard(id envelope.MessageID)
	// Commit stores a message, all of it or nothing, and returns when it is
	// on disk. After an error nothing of it is left.
	Commit(m *Message) error
	// Apply changes envelopes, all of them or none, and returns when that
	// is on disk; mere removals may get there a little later, but not after
	// what is committed later. A message whose last envelope goes is removed.
	Apply(c *Changes) error
	// Open returns the content of a message, at its beginning.
	Open(id envelope.MessageID) (*os.File, error)
	// Load returns an envelope.
	Load(id envelope.ID) (envelope.Envelope, error)
	// Walk visits the envelopes that wait for a time, in the order of Mark.
	Walk(r Range) iter.Seq2[Entry, error]
	// List visits all envelopes with a greater id than after, in the order
	// of their ids. One that cannot be read comes as an error, and the
	// visit goes on.
	List(after envelope.ID) iter.Seq2[envelope.Envelope, error]
	Close() error
}

// A keeper is a Store that also keeps what the queue itself is to remember over
// restarts.
type keeper interface {
	// setting returns what was kept under a name, nil if nothing was.
	setting(name string) ([]byte, error)
	// keep returns when the value is on disk.
	keep(name string, value []byte) error
}

// A sizer is a Store that knows the size of a message without reading it.
type sizer interface {
	size(id envelope.MessageID) (int64, error)
}

// ErrNotFound is returned, wrapped, for a message or an envelope that is not
// in the store.
var ErrNotFound = errors.New("not in the queue")

// ErrDamaged is returned, wrapped, for a record that cannot be read. It has
// been set aside: it stays in the store as evidence and takes no part in the
// service.
var ErrDamaged = errors.New("damaged record")

// A Message is what Commit stores.
type Message struct {
	ID        envelope.MessageID
	Content   []byte // of at most maxInline, behind what was appended
	Envelopes []envelope.Envelope

	// Reported are the envelopes that a report stands for: they go in the
	// step that brings it, so that there is exactly one.
	Reported []envelope.ID
}

// Changes are what Apply does in one step.
type Changes struct {
	Put    []envelope.Envelope // new ones, of a stored message, or new states
	Remove []envelope.ID       // those already gone are passed over
	Stray  []Entry             // found by Walk, without an envelope that can be read
}

func (c *Changes) empty() bool { return len(c.Put)+len(c.Remove)+len(c.Stray) == 0 }

// A Destination is what envelopes are grouped by: what they wait for and
// what limits them.
type Destination struct {
	Type   envelope.Type
	Action string
	Name   string // domain for mta, user for mda
}

// A Grouping names the destination of an envelope. The store keeps what it
// said when the envelope was last written.
type Grouping func(*envelope.Envelope) Destination

// A Mark is a place in the order of a walk.
type Mark struct {
	Due time.Time
	ID  envelope.ID
}

func (m Mark) compare(o Mark) int {
	return cmp.Or(m.Due.Compare(o.Due), cmp.Compare(m.ID, o.ID))
}

// An Entry is an envelope that waits.
type Entry struct {
	Mark
	Dest Destination
}

// A Range says what Walk visits.
type Range struct {
	Dest  *Destination // nil: all destinations
	After Mark         // zero: from the first
}

// due returns when something is to be done about ev, and false if nothing is:
// an envelope is tried, or expires, whichever comes first.
func due(ev *envelope.Envelope) (time.Time, bool) {
	if ev.Flags&envelope.Suspended != 0 {
		return time.Time{}, false
	}
	at := ev.NextTry
	if !ev.Expires.IsZero() && ev.Expires.Before(at) {
		at = ev.Expires
	}
	// At the precision of the keys, so that what was put is what is found.
	return time.Unix(0, int64(nanos(at))).UTC(), true
}
