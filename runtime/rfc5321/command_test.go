package rfc5321

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct{ in, verb, arg string }{
		{"NOOP", "NOOP", ""},
		{"noop", "NOOP", ""},
		{"Mail FROM:<a@b>", "MAIL", "FROM:<a@b>"},
		{"MAIL  FROM:<a@b>", "MAIL", " FROM:<a@b>"},
		{"", "", ""},
		{"QUIT ", "QUIT", ""},
		{"MAIL FROM:<ü@b>", "MAIL", "FROM:<ü@b>"},
	} {
		verb, arg, err := Split(c.in)
		if err != nil || verb != c.verb || arg != c.arg {
			t.Errorf("Split(%q) = %q, %q, %v", c.in, verb, arg, err)
		}
	}
	for _, in := range []string{"NOOP\r", "NO\x00OP", "\x16\x03\x01", "EHLO ü", "NOOP ü", "MAIL FROM:<\xff@b>", "ma\u0131l FROM:<a@b>", "MAIL FROM:<a\x7f@b>"} {
		if _, _, err := Split(in); err == nil {
			t.Errorf("Split(%q) accepts it", in)
		}
	}
}

func TestParseParams(t *testing.T) {
	got, err := ParseParams("  size=10 BODY=8bitmime  X-1 RET=HDRS")
	want := []Param{{"SIZE", "10", true}, {"BODY", "8bitmime", true}, {"X-1", "", false}, {"RET", "HDRS", true}}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, in := range []string{"SIZE=1", " SIZE=1 SIZE=2", " =1", " SIZE=", " SIZE==1", " -A=1", " A_B", " a=\x7f", strings.Repeat(" A", 17)} {
		if got, err := ParseParams(in); err == nil {
			t.Errorf("ParseParams(%q) = %v, want an error", in, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "1024": 1024, "9223372036854775807": 1<<63 - 1, "99999999999999999999": 1<<63 - 1} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "-1", "+1", "1k", "0x1", "100000000000000000000"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", in, got)
		}
	}
}

func TestParseNotify(t *testing.T) {
	for in, want := range map[string]Notify{
		"NEVER":                 {Never: true},
		"success,Failure,DELAY": {Success: true, Failure: true, Delay: true},
	} {
		if got, err := ParseNotify(in); err != nil || got != want {
			t.Errorf("ParseNotify(%q) = %v, %v", in, got, err)
		}
	}
	for in, want := range map[string]error{"NEVER,SUCCESS": ErrNotify, "": ErrSyntax, "ALWAYS": ErrSyntax, "DELAY,": ErrSyntax} {
		if _, err := ParseNotify(in); !errors.Is(err, want) {
			t.Errorf("ParseNotify(%q) = %v, want %v", in, err, want)
		}
	}
}

func TestParseORcpt(t *testing.T) {
	for in, want := range map[string]string{
		"rfc822;a@b": "rfc822;a@b", "rfc822;a+2Bb@c": "rfc822;a+2Bb@c", "utf-8;x": "utf-8;x",
		"utf-8;ü@x.example": `utf-8;\x{FC}@x.example`, `UTF-8;\x{FC}@x`: `UTF-8;\x{FC}@x`,
		"": "", "a@b": "", ";a": "", "rfc822;": "", "rfc822;a b": "", "rfc822;a+2b": "", "rfc822;a+2": "", "rfc822;a=b": "",
		"rfc822;ü@b": "", "utf-8;": "", "utf-8;ü =": "",
	} {
		got, err := ParseORcpt(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseORcpt(%q) = %q, %v", in, got, err)
		}
	}
}

func TestParseChunk(t *testing.T) {
	for _, c := range []struct {
		in   string
		size int64
		last bool
		ok   bool
	}{
		{"0", 0, false, true}, {"86", 86, false, true}, {"0 LAST", 0, true, true}, {"10 last", 10, true, true},
		{"", 0, false, false}, {"-1", 0, false, false}, {"+1", 0, false, false}, {"1 ", 0, false, false}, {"1  LAST", 0, false, false},
		{"1 LAST x", 0, false, false}, {"x", 0, false, false}, {"99999999999999999999", 0, false, false}, {"9223372036854775807", 0, false, false},
		{"1\tLAST", 0, false, false}, {"0x10", 0, false, false},
	} {
		size, last, err := ParseChunk(c.in)
		if (err == nil) != c.ok || c.ok && (size != c.size || last != c.last) {
			t.Errorf("ParseChunk(%q) = %d, %v, %v", c.in, size, last, err)
		}
	}
}

// FuzzCommand checks that no line makes the parsers panic, and that what they
// accept is printable.
func FuzzCommand(f *testing.F) {
	f.Add("MAIL FROM:<a@b> SIZE=1 RET=FULL ENVID=x")
	f.Add("RCPT TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb")
	f.Fuzz(func(t *testing.T, line string) {
		_, arg, err := Split(line)
		if err != nil {
			return
		}
		params, err := ParseParams(arg)
		if err != nil {
			return
		}
		for _, p := range params {
			if strings.ContainsAny(p.Name+p.Value, " \r\n\t\x00") {
				t.Fatalf("parameter %q of %q", p, line)
			}
			ParseSize(p.Value)
			ParseNotify(p.Value)
			if o, err := ParseORcpt(p.Value); err == nil && !IsASCII(o) {
				t.Fatalf("ORCPT %q of %q", o, line)
			}
		}
	})
}
