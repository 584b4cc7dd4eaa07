package imsg

import (
	"encoding/binary"
	"errors"
	"time"
)

// ErrPayload is returned for a payload that is not what its type promises:
// too short, too long, or with a field out of range.
var ErrPayload = errors.New("malformed payload")

// AppendUint32, AppendUint64, AppendBool, AppendString, AppendBytes and
// AppendTime are the encodings of payload fields: numbers in native order,
// strings with their length before them.

// AppendUint32 appends 4 bytes.
func AppendUint32(b []byte, v uint32) []byte { return binary.NativeEndian.AppendUint32(b, v) }

// AppendUint64 appends 8 bytes.
func AppendUint64(b []byte, v uint64) []byte { return binary.NativeEndian.AppendUint64(b, v) }

// AppendBool appends one byte.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendString appends a length of 4 bytes and s.
func AppendString(b []byte, s string) []byte { return append(AppendUint32(b, uint32(len(s))), s...) }

// AppendBytes appends a length of 4 bytes and p.
func AppendBytes(b, p []byte) []byte { return append(AppendUint32(b, uint32(len(p))), p...) }

// AppendTime appends t in nanoseconds since 1970; the zero time is 0.
func AppendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return AppendUint64(b, 0)
	}
	return AppendUint64(b, uint64(t.UnixNano()))
}

// AppendStrings appends a count of 4 bytes and each string.
func AppendStrings(b []byte, l []string) []byte {
	b = AppendUint32(b, uint32(len(l)))
	for _, s := range l {
		b = AppendString(b, s)
	}
	return b
}

// A Reader takes the fields of a payload apart. After the first error every
// method returns a zero value; Close reports it, and trailing bytes too.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader returns a Reader of a payload.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

func (r *Reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

// Uint32 returns the next 4 bytes.
func (r *Reader) Uint32() uint32 {
	if p := r.take(4); p != nil {
		return binary.NativeEndian.Uint32(p)
	}
	return 0
}

// Uint64 returns the next 8 bytes.
func (r *Reader) Uint64() uint64 {
	if p := r.take(8); p != nil {
		return binary.NativeEndian.Uint64(p)
	}
	return 0
}

// Byte returns the next byte.
func (r *Reader) Byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

// Bool returns the next byte, which must be 0 or 1.
func (r *Reader) Bool() bool {
	v := r.Byte()
	if v > 1 {
		r.bad = true
	}
	return v == 1
}

// String returns a string.
func (r *Reader) String() string { return string(r.Bytes()) }

// Strings returns strings; nil if there are none.
func (r *Reader) Strings() (l []string) {
	for range r.Count(4) {
		l = append(l, r.String())
	}
	return l
}

// Bytes returns bytes that share the payload's memory.
func (r *Reader) Bytes() []byte {
	n := r.Uint32()
	if uint64(n) > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

// Time returns a time.
func (r *Reader) Time() time.Time {
	if n := r.Uint64(); n != 0 {
		return time.Unix(0, int64(n)).UTC()
	}
	return time.Time{}
}

// Count returns a number of items each of which takes at least min bytes:
// a count that the payload cannot hold is an error, not an allocation.
func (r *Reader) Count(min int) int {
	n := r.Uint32()
	if uint64(n)*uint64(min) > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

// Len returns how many bytes are left.
func (r *Reader) Len() int { return len(r.b) }

// Fail marks the payload as malformed: a field is out of range.
func (r *Reader) Fail() { r.bad = true }

// Close returns ErrPayload if anything was missing, wrong, or left over.
func (r *Reader) Close() error {
	if r.bad || len(r.b) > 0 {
		return ErrPayload
	}
	return nil
}
