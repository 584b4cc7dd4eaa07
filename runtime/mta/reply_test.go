package mta

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestReadReply(t *testing.T) {
	for _, c := range []struct {
		in, text, status string
		code             int
	}{
		{"250 2.1.5 ok\r\n", "250 2.1.5 ok", "2.1.5", 250},
		{"250 ok\n", "250 ok", "2.0.0", 250},
		{"250\r\n", "250", "2.0.0", 250},
		{"550 5.1.1 no such user\r\n", "550 5.1.1 no such user", "5.1.1", 550},
		{"450 5.1.1 contradicts\r\n", "450 5.1.1 contradicts", "4.0.0", 450},
		{"550 5.1.1000 long\r\n", "550 5.1.1000 long", "5.0.0", 550},
		{"550 5.x.1 letters\r\n", "550 5.x.1 letters", "5.0.0", 550},
		{"550-5.1.1 multi\r\n550-5.1.1 line\r\n550 5.1.1 unknown\r\n", "550-5.1.1 multi line unknown", "5.1.1", 550},
		{"550-multi\r\n550 5.1.1 line\r\n", "550-multi 5.1.1 line", "5.0.0", 550},
		{"354 go\r\n", "354 go", "3.0.0", 354},
		{"550 a\x00b\rc\x1b[2J\xe9\r\n", "550 a?b?c?[2J?", "5.0.0", 550},
	} {
		r, err := readReply(bufio.NewReaderSize(strings.NewReader(c.in), 2*maxReplyLine))
		if err != nil || r.code != c.code || r.text != c.text || r.status != c.status {
			t.Errorf("readReply(%q) = %d, %q, %q, %v; want %d, %q, %q", c.in, r.code, r.text, r.status, err, c.code, c.text, c.status)
		}
	}
}

func TestReadReplyErrors(t *testing.T) {
	for in, want := range map[string]error{
		"":                    io.EOF,
		"250":                 io.EOF,
		"250-a\r\n":           io.EOF,
		"\r\n":                errBadReply,
		"25\r\n":              errBadReply,
		"2500 x\r\n":          errBadReply,
		"250_x\r\n":           errBadReply,
		"abc x\r\n":           errBadReply,
		"999 x\r\n":           errBadReply,
		"100 x\r\n":           errBadReply,
		" 250 x\r\n":          errBadReply,
		"250-a\r\n550 b\r\n":  errBadReply,
		"HTTP/1.1 200 OK\r\n": errBadReply,
		"250 " + strings.Repeat("x", maxReplyLine) + "\r\n": errTooLong,
		strings.Repeat("2", 1<<20):                          errTooLong,
		strings.Repeat("250-x\r\n", maxReplyLines+1):        errTooLong,
	} {
		if _, err := readReply(bufio.NewReaderSize(strings.NewReader(in), 2*maxReplyLine)); !errors.Is(err, want) {
			t.Errorf("readReply(%.40q) = %v, want %v", in, err, want)
		}
	}
}

// FuzzReadReply checks that whatever a host says becomes one bounded line of
// printable text and a class that the code agrees with.
func FuzzReadReply(f *testing.F) {
	f.Add("250 ok\r\n")
	f.Add("550-5.1.1 a\r\n550 5.1.1 b\r\n")
	f.Add("\x00\r\n\r250 x\n")
	f.Fuzz(func(t *testing.T, in string) {
		r, err := readReply(bufio.NewReaderSize(strings.NewReader(in), 2*maxReplyLine))
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n\x00") {
				t.Fatalf("error %q", err)
			}
			return
		}
		if r.code < 200 || r.code > 599 || len(r.text) > maxReplyText || !validStatus(strings.Replace(r.status, "3.", "4.", 1)) || int(r.status[0]-'0') != r.code/100 {
			t.Fatalf("%q gave %+v", in, r)
		}
		for _, text := range append(r.lines, r.text) {
			if text != printable(text) {
				t.Fatalf("%q gave %q", in, text)
			}
		}
	})
}
