package mta

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A sink is a connection that keeps what is written.
type sink struct {
	net.Conn
	bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) { return s.Buffer.Write(p) }
func (s *sink) Read([]byte) (int, error)    { return 0, io.EOF }
func (s *sink) SetDeadline(time.Time) error { return nil }

func sendTo(t testing.TB, content string) string {
	t.Helper()
	s := new(sink)
	if err := newConn(s, time.Second).sendMessage(strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return s.Buffer.String()
}

func TestSendMessage(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	for content, want := range map[string]string{
		"":                   ".\r\n",
		"a":                  "a\r\n.\r\n",
		"a\n":                "a\r\n.\r\n",
		"a\r\n":              "a\r\n.\r\n",
		".\n":                "..\r\n.\r\n",
		".a\n..b\n":          "..a\r\n...b\r\n.\r\n",
		"\n.\n":              "\r\n..\r\n.\r\n",
		"a\n.\r\nb":          "a\r\n..\r\nb\r\n.\r\n",
		"a\r.\rb\n":          "a\r\n..\r\nb\r\n.\r\n",
		"a\r":                "a\r\n.\r\n",
		"a\r\r\n":            "a\r\n\r\n.\r\n",
		"\r.\r\n":            "\r\n..\r\n.\r\n",
		long + "\n.\n":       long + "\r\n..\r\n.\r\n",
		long[1:] + "\r\n.\n": long[1:] + "\r\n..\r\n.\r\n",
		long[1:] + "\r.":     long[1:] + "\r\n..\r\n.\r\n",
		long + ".\n":         long + ".\r\n.\r\n",
		long + long:          long + long + "\r\n.\r\n",
	} {
		checkChunk(t, content, strings.ReplaceAll(strings.TrimSuffix("\r\n"+want, ".\r\n"), "\r\n.", "\r\n")[2:])
		if got := sendTo(t, content); got != want {
			t.Errorf("%.20q (%d bytes) was sent as %.30q (%d bytes), want %d bytes", content, len(content), got, len(got), len(want))
		}
	}
}

// FuzzSendMessage checks that the receiver sees one message, with the lines
// that were sent, whatever these are.
func FuzzSendMessage(f *testing.F) {
	f.Add("a\n.\nb\r\n.\r\nMAIL FROM:<x>\r\n")
	f.Add("\r.\r\n")
	f.Fuzz(func(t *testing.T, content string) {
		wire := sendTo(t, content)
		rest := strings.ReplaceAll(wire, "\r\n", "")
		if strings.ContainsAny(rest, "\r\n") {
			t.Fatalf("%q: a bare line end in %q", content, wire)
		}
		if !strings.HasSuffix("\r\n"+wire, "\r\n.\r\n") || strings.Count("\r\n"+wire, "\r\n.\r\n") != 1 {
			t.Fatalf("%q: the end is not once and last in %q", content, wire)
		}
		got, err := io.ReadAll(textproto.NewReader(bufio.NewReader(strings.NewReader(wire))).DotReader())
		if err != nil {
			t.Fatal(err)
		}
		want := strings.ReplaceAll(strings.ReplaceAll(content, "\r\n", "\n"), "\r", "\n")
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if string(got) != want {
			t.Fatalf("%q arrived as %q", content, got)
		}
		checkChunk(t, content, strings.ReplaceAll(want, "\n", "\r\n"))
	})
}

// checkChunk checks that content is sent as want in a chunk that says how long
// that is.
func checkChunk(t *testing.T, content, want string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b, err := inspect(file)
	if err != nil {
		t.Fatal(err)
	}
	s := new(sink)
	if err := newConn(s, time.Second).sendChunk(io.NewSectionReader(file, 0, math.MaxInt64), b.size); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("BDAT %d LAST\r\n%s", len(want), want); s.Buffer.String() != want {
		t.Fatalf("%q was sent as %q, want %q", content, s.Buffer.String(), want)
	}
}

// TestSendChunkWrong checks that a content which is not as long as was said
// ends the dialogue, and is not read as commands.
func TestSendChunkWrong(t *testing.T) {
	for _, size := range []int64{0, 5, 7} {
		s := new(sink)
		if err := newConn(s, time.Second).sendChunk(strings.NewReader("RSET\n"), size); !errors.Is(err, errContent) {
			t.Errorf("size %d: %v", size, err)
		}
		if _, data, _ := strings.Cut(s.Buffer.String(), "\r\n"); int64(len(data)) > size {
			t.Errorf("size %d: sent %q", size, s.Buffer.String())
		}
	}
}

func TestSendHidesLineEnds(t *testing.T) {
	s := new(sink)
	c := newConn(s, time.Second)
	c.send("RCPT TO:<a\r\nDATA\r\n@b>")
	if err := c.flush(); err != nil || s.Buffer.String() != "RCPT TO:<a??DATA??@b>\r\n" {
		t.Errorf("sent %q, %v", s.Buffer.String(), err)
	}
}
