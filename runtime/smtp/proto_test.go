package smtp

import (
	"bytes"
	"testing"
)

func TestSessionRequestBytes(t *testing.T) {
	if got, want := (sessionRequest{UID: 0x01010101}).append(nil), []byte{1, 1, 1, 1}; !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// FuzzSessionRequest checks that what parses is written back to the same
// bytes.
func FuzzSessionRequest(f *testing.F) {
	f.Add(sessionRequest{1000}.append(nil))
	f.Add([]byte("too long for one"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseSessionRequest(b)
		if err == nil && !bytes.Equal(r.append(nil), b) {
			t.Fatalf("%x became %x", b, r.append(nil))
		}
	})
}
