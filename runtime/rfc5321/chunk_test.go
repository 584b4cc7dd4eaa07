package rfc5321

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// chunks passes a message on in chunks.
func chunks(c *ChunkReader, parts ...string) (string, error) {
	var b strings.Builder
	write := func(text []byte, eol bool) error {
		b.Write(text)
		if eol {
			b.WriteByte('\n')
		}
		return nil
	}
	for _, p := range parts {
		if err := c.Take([]byte(p), write); err != nil {
			return "", err
		}
	}
	err := c.End(write)
	return b.String(), err
}

// TestChunkReader cuts each message in two and in three at every byte.
func TestChunkReader(t *testing.T) {
	for _, c := range []struct {
		in, text string
		err      error
	}{
		{"", "", nil},
		{"a\r\nb\r\n", "a\nb\n", nil},
		{"a\r\n.\r\nb\r\n", "a\n.\nb\n", nil},
		{"no end", "no end\n", nil},
		{"\r\n\r\n", "\n\n", nil},
		{"\x00\xff\r\n", "\x00\xff\n", nil},
		{"a\nb\r\n", "", ErrLineEnd},
		{"a\rb\r\n", "", ErrLineEnd},
		{"a\r\r\n", "", ErrLineEnd},
		{"a\r", "", ErrLineEnd},
		{"\n", "", ErrLineEnd},
	} {
		for i := range len(c.in) + 1 {
			for j := i; j <= len(c.in); j++ {
				r := new(ChunkReader)
				text, err := chunks(r, c.in[:i], c.in[i:j], "", c.in[j:])
				if !errors.Is(err, c.err) || err == nil && (text != c.text || r.Size() != int64(len(c.in))) {
					t.Errorf("%q | %q | %q: %q, %v, size %d", c.in[:i], c.in[i:j], c.in[j:], text, err, r.Size())
				}
			}
		}
	}
	if text, err := chunks(&ChunkReader{BareLF: true}, "a\nb", "\n.\n"); text != "a\nb\n.\n" || err != nil {
		t.Errorf("bare LF: %q, %v", text, err)
	}
}

// TestChunkReaderWholeLines checks that a line comes in one piece however it
// was cut, unless it is long.
func TestChunkReaderWholeLines(t *testing.T) {
	long := strings.Repeat("x", wholeLine)
	in := "Subject: x\r\n\r\n" + long + "\r\nlast"
	var got []string
	r := new(ChunkReader)
	write := func(text []byte, _ bool) error {
		got = append(got, string(text))
		return nil
	}
	for i := range len(in) {
		if err := r.Take([]byte(in[i:i+1]), write); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.End(write); err != nil {
		t.Fatal(err)
	}
	if want := []string{"Subject: x", "", long, "", "last"}; !slices.Equal(got, want) {
		t.Errorf("pieces %q", got)
	}
}

func TestChunkReaderLineLength(t *testing.T) {
	for n, want := range map[int]error{MaxTextLine: nil, MaxTextLine + 1: ErrLineLength} {
		line := strings.Repeat("x", n)
		if _, err := chunks(new(ChunkReader), line[:n/2], line[n/2:]); !errors.Is(err, want) {
			t.Errorf("line of %d: %v", n, err)
		}
	}
}

// FuzzChunkReader checks that it does not matter where a message is cut, and
// that it is read as DATA would read it.
func FuzzChunkReader(f *testing.F) {
	f.Add("Subject: x\r\n\r\n.\r\nMAIL FROM:<a@b>\r\n", uint16(5))
	f.Add("bare\nfeed\r\n", uint16(4))
	f.Fuzz(func(t *testing.T, in string, cut uint16) {
		n := min(int(cut), len(in))
		whole, err := chunks(new(ChunkReader), in)
		parts, cutErr := chunks(new(ChunkReader), in[:n], in[n:])
		if whole != parts && err == nil || !errors.Is(cutErr, err) {
			t.Fatalf("%q: whole %q, %v; cut at %d %q, %v", in, whole, err, n, parts, cutErr)
		}
		if err != nil {
			return
		}
		if strings.ContainsRune(whole, '\r') || stuff(whole) != stuff(strings.ReplaceAll(in, "\r\n", "\n")) {
			t.Fatalf("%q gave %q", in, whole)
		}
	})
}
