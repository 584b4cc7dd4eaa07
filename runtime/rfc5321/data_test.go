package rfc5321

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// readAll reads a message of in and returns its text with LF line ends, and
// what follows it.
func readAll(r *bufio.Reader) (text string, size int64, err error) {
	return drain(NewDataReader(r))
}

func drain(d *DataReader) (text string, size int64, err error) {
	var b strings.Builder
	for {
		piece, eol, err := d.Next()
		if err == io.EOF {
			return b.String(), d.Size(), nil
		}
		if errors.Is(err, ErrLineEnd) {
			if end := d.Discard(); end != nil {
				err = end
			}
		}
		if err != nil {
			return "", 0, err
		}
		b.Write(piece)
		if eol {
			b.WriteByte('\n')
		}
	}
}

// readers give the same bytes in different pieces, into buffers of different
// sizes.
func readers(in string) map[string]*bufio.Reader {
	m := map[string]*bufio.Reader{
		"whole":         bufio.NewReader(strings.NewReader(in)),
		"by byte":       bufio.NewReader(iotest.OneByteReader(strings.NewReader(in))),
		"small":         bufio.NewReaderSize(strings.NewReader(in), 16),
		"small by byte": bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(in)), 16),
	}
	for i := range len(in) {
		m[fmt.Sprintf("split at %d", i)] = bufio.NewReader(io.MultiReader(strings.NewReader(in[:i]), strings.NewReader(in[i:])))
	}
	return m
}

func TestDataReader(t *testing.T) {
	for _, c := range []struct {
		in, text string
		size     int64
	}{
		{".\r\n", "", 0},
		{"\r\n.\r\n", "\n", 2},
		{"a\r\n.\r\n", "a\n", 3},
		{"..\r\n...a\r\n.b\r\n.\r\n", ".\n..a\nb\n", 11},
		{"a.\r\n.\r\n", "a.\n", 4},
		{"exactly sixteen.\r\n..\r\n.\r\n", "exactly sixteen.\n.\n", 21},
		{"fifteen bytes..\r\n.\r\n", "fifteen bytes..\n", 17},
		{"much longer than the small buffer of the test. And a dot.\r\n.\r\n", "much longer than the small buffer of the test. And a dot.\n", 59},
		{"\x00\xff\t\r\n.\r\n", "\x00\xff\t\n", 5},
	} {
		for how, r := range readers(c.in + "QUIT\r\n") {
			text, size, err := readAll(r)
			rest, _ := io.ReadAll(r)
			if err != nil || text != c.text || size != c.size || string(rest) != "QUIT\r\n" {
				t.Errorf("%q %s: got %q, %d, %v, rest %q", c.in, how, text, size, err, rest)
			}
		}
	}
}

// TestDataReaderLineEnds has every line end that is not CRLF. The message is
// refused; the true end is found, and anything that others take for the end
// gives the session up.
func TestDataReaderLineEnds(t *testing.T) {
	for in, want := range map[string]error{
		"a\nb\r\n.\r\n":                ErrLineEnd,
		"a\rb\r\n.\r\n":                ErrLineEnd,
		"a\r\r\nb\r\n.\r\n":            ErrLineEnd,
		"\n\r\n.\r\n":                  ErrAmbiguousEnd,
		"a\r\r\n.\r\n":                 ErrAmbiguousEnd,
		"a\n..\r\n.\r\n":               ErrLineEnd,
		"a\n.b\r\n.\r\n":               ErrLineEnd,
		"a\r\n.b\nc\r\n.\r\n":          ErrLineEnd,
		"long enough line\nb\r\n.\r\n": ErrLineEnd,
		"a\n.\n":                       ErrAmbiguousEnd,
		"a\n.\r\n":                     ErrAmbiguousEnd,
		"a\r.\r\n":                     ErrAmbiguousEnd,
		"a\r\n.\nb\r\n.\r\n":           ErrAmbiguousEnd,
		"a\r\n.\rb\r\n.\r\n":           ErrAmbiguousEnd,
		"a\r.\rb\r\n.\r\n":             ErrAmbiguousEnd,
		"a\r\n.\r\r\nb\r\n.\r\n":       ErrAmbiguousEnd,
		"a\r\r\n.\r\r\n":               ErrAmbiguousEnd,
		".\n":                          ErrAmbiguousEnd,
		"\n.\n":                        ErrAmbiguousEnd,
		"a\nb\r\nc\n.\n":               ErrAmbiguousEnd,
	} {
		for how, r := range readers(in + "QUIT\r\n") {
			_, _, err := readAll(r)
			if !errors.Is(err, want) {
				t.Errorf("%q %s: %v, want %v", in, how, err, want)
			}
			if rest, _ := io.ReadAll(r); want == ErrLineEnd && string(rest) != "QUIT\r\n" {
				t.Errorf("%q %s: left %q", in, how, rest)
			}
		}
	}
}

// TestDataReaderBareLF has the line ends that old devices send.
func TestDataReaderBareLF(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\n.\n":              "a\nb\n",
		"a\r\nb\n..c\n.\r\n":     "a\nb\n.c\n",
		"\n.\n":                  "\n",
		".\n":                    "",
		"seventeen bytes..\n.\n": "seventeen bytes..\n",
	} {
		for how, r := range readers(in + "QUIT\n") {
			d := NewDataReader(r)
			d.BareLF = true
			text, _, err := drain(d)
			rest, _ := io.ReadAll(r)
			if err != nil || text != want || string(rest) != "QUIT\n" {
				t.Errorf("%q %s: got %q, %v, rest %q", in, how, text, err, rest)
			}
		}
	}
	d := NewDataReader(bufio.NewReader(strings.NewReader("a\rb\n.\n")))
	d.BareLF = true
	if _, _, err := drain(d); err == nil {
		t.Error("a bare CR is accepted")
	}
}

func TestDataReaderLineLength(t *testing.T) {
	for n, want := range map[int]error{MaxTextLine - 1: nil, MaxTextLine: nil, MaxTextLine + 1: ErrLineLength} {
		r := bufio.NewReader(strings.NewReader(strings.Repeat("x", n) + "\r\n.\r\n"))
		text, _, err := readAll(r)
		if !errors.Is(err, want) || want == nil && len(text) != n+1 {
			t.Errorf("line of %d bytes: %v, want %v", n, err, want)
		}
	}
}

func TestDataReaderCut(t *testing.T) {
	for _, in := range []string{"", "a", "a\r", "a\r\n", "a\r\n.", "a\r\n.\r", "a\nb", "a\n."} {
		if _, _, err := readAll(bufio.NewReader(strings.NewReader(in))); err == nil || errors.Is(err, ErrLineEnd) {
			t.Errorf("%q: %v, want an unexpected end", in, err)
		}
	}
}

// stuff is what a sender does with a text of lines that end in LF.
func stuff(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, ".") {
			b.WriteByte('.')
		}
		b.WriteString(strings.TrimSuffix(line, "\n") + "\r\n")
	}
	return b.String() + ".\r\n"
}

// FuzzDataReader checks that what the reader accepts has no CR, ends where
// CRLF.CRLF is and nowhere else, and survives being sent on.
func FuzzDataReader(f *testing.F) {
	for _, s := range []string{"hello\r\n.\r\n", ".\r\n", "..leading dot\r\n.\r\n", "bare\nfeed\r\n.\r\n", "a\r\n.\nb\r\n.\r\nRSET\r\n", "a\r\r\n.\r\n"} {
		f.Add([]byte(s), uint16(20))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint16) {
		r := bufio.NewReaderSize(bytes.NewReader(in), int(size%128))
		text, _, err := readAll(r)
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(r)
		message := string(in[:len(in)-len(rest)])
		end := strings.Index("\r\n"+message, "\r\n.\r\n")
		if end != len(message)-3 {
			t.Fatalf("%q was read to %q", in, message)
		}
		if strings.ContainsAny(text, "\r") || strings.Count(text, "\n") != strings.Count(message, "\n")-1 {
			t.Fatalf("%q gave %q", message, text)
		}
		again, _, err := readAll(bufio.NewReader(strings.NewReader(stuff(text))))
		if err != nil || again != text {
			t.Fatalf("%q became %q, %v", text, again, err)
		}
	})
}

func BenchmarkDataReader(b *testing.B) {
	message := stuff(strings.Repeat("A line of a message, as long as most lines of a message.\n", 70))
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	in := strings.NewReader(message)
	r := bufio.NewReaderSize(in, 4096)
	for b.Loop() {
		in.Reset(message)
		r.Reset(in)
		d := NewDataReader(r)
		for {
			if _, _, err := d.Next(); err != nil {
				if err != io.EOF {
					b.Fatal(err)
				}
				break
			}
		}
	}
}
