package queue

import (
	"encoding/binary"
	"fmt"
	"time"

	"smtpd/runtime/envelope"
)

// Keys of the store. Numbers in them are big-endian, so that their order is
// that of the numbers.
//
//	m msgid                  what is known of a message's content
//	c msgid                  the content, if it is small
//	e evpid                  an envelope, before it its destination
//	d due evpid              an envelope waits until due; the value is its destination
//	r destination due evpid  the same, by destination
//	x e evpid, x c msgid     a record that could not be read, as it was found
//	s name                   a setting of the queue itself
const (
	keyMessage     = 'm'
	keyContent     = 'c'
	keyEnvelope    = 'e'
	keyDue         = 'd'
	keyDestination = 'r'
	keyAside       = 'x'
	keySetting     = 's'
)

func messageKey(id envelope.MessageID) []byte {
	return binary.BigEndian.AppendUint32([]byte{keyMessage}, uint32(id))
}

func contentKey(id envelope.MessageID) []byte {
	return binary.BigEndian.AppendUint32([]byte{keyContent}, uint32(id))
}

func envelopeKey(id envelope.ID) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyEnvelope}, uint64(id))
}

func settingKey(name string) []byte { return append([]byte{keySetting}, name...) }

func asideKey(key []byte) []byte { return append([]byte{keyAside}, key...) }

// appendMark appends the part of an index key by which it is ordered.
func appendMark(b []byte, m Mark) []byte {
	b = binary.BigEndian.AppendUint64(b, nanos(m.Due))
	return binary.BigEndian.AppendUint64(b, uint64(m.ID))
}

// nanos returns a time as keys order it.
func nanos(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(t.UnixNano(), 0))
}

const markSize = 16

func parseMark(b []byte) (Mark, error) {
	if len(b) != markSize {
		return Mark{}, fmt.Errorf("index key of %d bytes: %w", len(b), ErrDamaged)
	}
	return Mark{
		Due: time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC(),
		ID:  envelope.ID(binary.BigEndian.Uint64(b[8:])),
	}, nil
}

func dueKey(m Mark) []byte { return appendMark([]byte{keyDue}, m) }

func destinationKey(d Destination, m Mark) []byte {
	return appendMark(appendDestination([]byte{keyDestination}, d), m)
}

// appendDestination appends the encoding of d. No encoding begins another.
func appendDestination(b []byte, d Destination) []byte {
	b = append(b, byte(d.Type))
	b = binary.AppendUvarint(b, uint64(len(d.Action)))
	b = append(b, d.Action...)
	b = binary.AppendUvarint(b, uint64(len(d.Name)))
	return append(b, d.Name...)
}

// parseDestination returns a destination and what follows it.
func parseDestination(b []byte) (Destination, []byte, error) {
	errBad := fmt.Errorf("destination: %w", ErrDamaged)
	if len(b) == 0 || b[0] > byte(envelope.Bounce) {
		return Destination{}, nil, errBad
	}
	d := Destination{Type: envelope.Type(b[0])}
	b = b[1:]
	for _, s := range [...]*string{&d.Action, &d.Name} {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return Destination{}, nil, errBad
		}
		*s = string(b[size : size+int(n)])
		b = b[size+int(n):]
	}
	return d, b, nil
}

// after returns the smallest key that is greater than every key that begins
// with prefix, whose last byte is not 0xff.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
