package envelope

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// version begins every encoded envelope. A change of the fields below is a
// new version, and Parse goes on reading the old ones.
const version = 1

// ErrMalformed is returned, wrapped, for bytes that are no envelope.
var ErrMalformed = errors.New("malformed envelope")

// ErrVersion is returned, wrapped, for an envelope of a version that this
// program does not know.
var ErrVersion = errors.New("unknown envelope version")

// Append appends the encoding of e, which is the same on every machine: a
// version, then every field in order, numbers in the variable length form
// and strings with their length before them. Text from the network is data
// here, never structure. One envelope has one encoding.
func (e *Envelope) Append(b []byte) []byte {
	b = append(b, version)
	w := writer{b}
	e.fields(&w)
	return w.b
}

// Parse returns the envelope that Append has encoded.
func Parse(b []byte) (Envelope, error) {
	if len(b) == 0 {
		return Envelope{}, fmt.Errorf("no bytes: %w", ErrMalformed)
	}
	if b[0] != version {
		return Envelope{}, fmt.Errorf("version %d: %w", b[0], ErrVersion)
	}
	r := reader{b: b[1:]}
	var e Envelope
	e.fields(&r)
	if r.bad || len(r.b) > 0 {
		return Envelope{}, fmt.Errorf("%d bytes: %w", len(b), ErrMalformed)
	}
	return e, nil
}

// A coder writes or reads one field.
type coder interface {
	number(v *uint64, limit uint64)
	text(s *string)
}

// fields passes every field to c. Reading and writing share it, so that they
// cannot disagree.
func (e *Envelope) fields(c coder) {
	field(c, &e.ID, math.MaxUint64)
	field(c, &e.Type, Bounce)
	field(c, &e.Flags, math.MaxUint8)
	for _, s := range [...]*string{
		&e.Action, &e.Tag, &e.SMTPName, &e.Helo, &e.RDNS, &e.Source, &e.User,
		&e.Sender.User, &e.Sender.Domain, &e.Rcpt.User, &e.Rcpt.Domain, &e.Dest.User, &e.Dest.Domain,
	} {
		c.text(s)
	}
	for _, t := range [...]*time.Time{&e.Created, &e.Expires, &e.LastTry, &e.LastBounce, &e.NextTry, &e.Arrival, &e.Deadline} {
		moment(c, t)
	}
	field(c, &e.Tries, math.MaxUint32)
	field(c, &e.Notify, math.MaxUint8)
	for _, s := range [...]*string{
		&e.Ret, &e.EnvID, &e.ORcpt, &e.Error, &e.Status, &e.Remote,
		&e.LocalUser, &e.SubAddress,
	} {
		c.text(s)
	}
	field(c, &e.Execute, File)
	c.text(&e.Exec)
	field(c, &e.BounceKind, Relayed)
	field(c, &e.BounceDelay, math.MaxInt64)
}

type number interface {
	~uint8 | ~uint32 | ~uint64 | ~int64
}

func field[T number](c coder, v *T, limit T) {
	n := uint64(*v)
	c.number(&n, uint64(limit))
	*v = T(n)
}

// moment codes the nanoseconds since 1970; 0 is the zero time. Times that
// this cannot hold, before 1970 and after 2262, do not occur in a queue.
func moment(c coder, t *time.Time) {
	var n uint64
	if !t.IsZero() {
		n = uint64(max(t.UnixNano(), 0))
	}
	c.number(&n, math.MaxInt64)
	*t = time.Time{}
	if n != 0 {
		*t = time.Unix(0, int64(n)).UTC()
	}
}

type writer struct{ b []byte }

func (w *writer) number(v *uint64, _ uint64) { w.b = binary.AppendUvarint(w.b, *v) }

func (w *writer) text(s *string) {
	w.b = binary.AppendUvarint(w.b, uint64(len(*s)))
	w.b = append(w.b, *s...)
}

type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number(v *uint64, limit uint64) {
	n, size := binary.Uvarint(r.b)
	// A longer form than needed would give one envelope two encodings.
	if size <= 0 || size > 1 && r.b[size-1] == 0 || n > limit {
		r.bad, r.b, n, size = true, nil, 0, 0
	}
	r.b = r.b[size:]
	*v = n
}

func (r *reader) text(s *string) {
	var n uint64
	r.number(&n, uint64(len(r.b)))
	if n > uint64(len(r.b)) {
		r.bad, r.b, n = true, nil, 0
	}
	*s = string(r.b[:n])
	r.b = r.b[n:]
}
