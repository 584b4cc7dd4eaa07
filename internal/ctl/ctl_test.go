package ctl

import (
	"bytes"
	"io"
	"os/user"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-crypt/crypt"
	"github.com/google/go-cmp/cmp"

	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

func TestFind(t *testing.T) {
	for _, c := range []struct {
		args  string
		words string
		names []string
	}{
		{"show queue", "show queue", nil},
		{"sh q", "show queue", nil},
		{"sh q 0a1b2c3d", "show queue <id>", []string{"0a1b2c3d"}},
		{"sc all", "schedule all", nil},
		{"rem 0a1b2c3d00000001", "remove <id>", []string{"0a1b2c3d00000001"}},
		{"p e a", "pause envelope all", nil},
		{"p mt", "pause mta", nil},
		{"pause mta from ::1 for a.example", "pause mta from <string> for <string>", []string{"::1", "a.example"}},
		{"resume route 3", "resume route <string>", []string{"3"}},
		{"show tls a.example", "show tls-reports <string>", []string{"a.example"}},
		{"res s", "resume smtp", nil},
		{"l v", "log verbose", nil}, // as ever, although lookup begins so as well
		{"loo t s k", "lookup <string> <string> <string>", []string{"t", "s", "k"}},
		{"e", "encrypt", nil},
		{"e all", "encrypt <string>", []string{"all"}},
		{"s q", "", nil}, // schedule or show
		{"p m", "", nil}, // mda or mta
		{"pause", "", nil},
		{"remove 12", "", nil},
		{"remove 00000000", "", nil},
		{"show queue all", "", nil},
		{"show queue 0a1b2c3d more", "", nil},
		{"", "", nil},
		{"nothing", "", nil},
		{"profile imsg", "", nil},
		{"untrace all", "", nil},
		{"spf w -4", "spf walk -4", nil},
	} {
		got, names, possible := find(strings.Fields(c.args))
		switch {
		case c.words == "" && (got != nil || len(possible) == 0):
			t.Errorf("%q means %v, of %v", c.args, got, possible)
		case c.words != "" && (got == nil || got.words != c.words || !slices.Equal(names, c.names)):
			t.Errorf("%q means %+v %q, want %s", c.args, got, names, c.words)
		}
	}
	if _, _, possible := find([]string{"pause", "m"}); !slices.Equal(possible, []string{"pause mda", "pause mta", "pause mta from <string> for <string>"}) {
		t.Errorf("possibilities are %q", possible)
	}
}

func TestGetopt(t *testing.T) {
	for _, c := range []struct {
		args string
		want string // letters with arguments, then operands
		err  bool
	}{
		{"-f me you", "f=me| you", false},
		{"-fme -t -- -you", "f=me|t=| -you", false},
		{"-oi -om you", "o=i|o=m| you", false},
		{"-tif me you -v", "t=|i=|f=me| you -v", false},
		{"-E -Ex you", "E=|E=x| you", false},
		{"- you", " - you", false},
		{"-f", "", true},
		{"-Z", "", true},
		{"-:", "", true},
	} {
		var got strings.Builder
		rest, err := getopt(strings.Fields(c.args), "E::f:io:tv", func(letter byte, arg string) {
			got.WriteString(string(letter) + "=" + arg + "|")
		})
		got.WriteString(" " + strings.Join(rest, " "))
		if (err != nil) != c.err || err == nil && got.String() != c.want {
			t.Errorf("%q: %q, %v", c.args, got.String(), err)
		}
	}
}

// TestMessage checks what sendmail makes of what it reads.
func TestMessage(t *testing.T) {
	long := strings.Repeat("x", longLine)
	for name, c := range map[string]struct {
		in, out string
		from    string
		rcpts   []string
	}{
		"plain": {
			"From: A <a@b.example>\nTo: c@d.example\n\nhello\n.\nend\n",
			"From: A <a@b.example>\nTo: c@d.example\n\nhello\n.\nend\n",
			"a@b.example", []string{"c@d.example"},
		},
		"recipients": {
			"To: one@x.example,\n\tTwo <two@x.example>\nCc: three, Four <four>\nBcc: five@x.example\n\n",
			"To: one@x.example,\n\tTwo <two@x.example>\nCc: three, Four <four>\nFROM\n\n",
			"", []string{"one@x.example", "two@x.example", "three", "four", "five@x.example"},
		},
		"mbox and return path": {
			"From me Mon Jan  1 00:00:00 2024\nReturn-Path: <x@y>\nSubject: s\n\nb\n",
			"Subject: s\nFROM\n\nb\n", "", nil,
		},
		"no header":    {"hello\nyou\n", "FROM\n\nhello\nyou\n", "", nil},
		"empty":        {"", "FROM\n\n", "", nil},
		"header alone": {"Subject: s", "Subject: s\nFROM\n\n", "", nil},
		"CRLF":         {"Subject: s\r\n\r\nb\r\n", "Subject: s\nFROM\n\nb\r\n", "", nil},
		"long line": {
			"Subject: s\n\n" + long + "=\n",
			"Subject: s\nFROM\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\n" +
				"Content-Disposition: inline\nContent-Transfer-Encoding: quoted-printable\n\n" +
				strings.Repeat(strings.Repeat("x", 75)+"=\r\n", 13) + strings.Repeat("x", 15) + "=3D\r\n",
			"", nil,
		},
		"long line, encoded": {
			"Content-Transfer-Encoding: 8bit\n\n" + long + "\n",
			"Content-Transfer-Encoding: 8bit\nFROM\n\n" + long + "\n", "", nil,
		},
	} {
		m, err := readMessage(strings.NewReader(c.in))
		if err != nil {
			t.Fatal(err)
		}
		s := submission{from: "me", name: "M. E."}
		author := s.author(m, &user.User{})
		var b bytes.Buffer
		if err := m.write(&b, author); err != nil {
			t.Fatal(err)
		}
		m.close()
		want := strings.Replace(c.out, "FROM", "From: \"M. E.\" <me>", 1)
		if d := cmp.Diff(want, b.String()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if m.from != c.from || !slices.Equal(m.rcpts, c.rcpts) {
			t.Errorf("%s: from %q to %q", name, m.from, m.rcpts)
		}
	}
}

func TestHugeHeader(t *testing.T) {
	field := "X: " + strings.Repeat("x", 100) + "\n"
	if _, err := readMessage(strings.NewReader(strings.Repeat(field, maxHeader/len(field)+2))); err == nil {
		t.Error("a header section of more than a megabyte is kept in memory")
	}
}

// TestQueueLine checks that no remote host makes fields or lines.
func TestQueueLine(t *testing.T) {
	ev := envelope.Envelope{
		ID: 0x0a1b2c3d_00000001, Type: envelope.MTA, Flags: envelope.Authenticated | envelope.Suspended, Source: "[2001:db8::1]",
		Rcpt: envelope.Address{User: "a|b", Domain: "c.example"}, Dest: envelope.Address{User: "d", Domain: "e.example"},
		Created: time.Unix(1000, 0), Expires: time.Unix(2000, 0), Tries: 3, Error: "451 no\nmore|or less",
	}
	want := "0a1b2c3d00000001|inet6|mta|auth,suspend|@|a?b@c.example|d@e.example|1000|2000|0|3|pending||451 no?more?or less\n"
	if got := queueLine(&queue.Listed{Envelope: ev}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := queueLine(&queue.Listed{Envelope: envelope.Envelope{ID: 7}, Error: "damaged"}); strings.Count(got, "|") != 13 {
		t.Errorf("an envelope that cannot be read: %s", got)
	}
	for line := range strings.Lines(envelopeText(&ev)) {
		if !strings.Contains(line, ": ") {
			t.Errorf("line %q of an envelope is no field", line)
		}
	}
}

func TestEncrypt(t *testing.T) {
	var out bytes.Buffer
	term := &terminal{in: strings.NewReader("secret\nother\n"), out: &out, err: io.Discard}
	if status := run(term, "smtpctl", []string{"encrypt"}); status != exitOK {
		t.Fatal(status)
	}
	hashes := strings.Fields(out.String())
	if len(hashes) != 2 {
		t.Fatalf("%q", hashes)
	}
	for i, password := range []string{"secret", "other"} {
		if ok, err := crypt.CheckPassword(password, hashes[i]); !ok || err != nil {
			t.Errorf("%s is not the hash of %s: %v", hashes[i], password, err)
		}
	}
}

func TestNotRunning(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		status int
		text   string
	}{
		{"smtpctl", []string{"show", "status"}, exitFailed, "smtpctl: smtpd doesn't seem to be running\n"},
		{"mailq", nil, exitFailed, "smtpctl: smtpd doesn't seem to be running\n"},
		{"sendmail", []string{"you"}, exitTempFail, "sendmail: smtpd doesn't seem to be running; the message is not sent and not kept: "},
		{"sendmail", nil, exitSoftware, "sendmail: no recipients\n"},
	} {
		var text bytes.Buffer
		term := &terminal{in: strings.NewReader("hello\n"), out: io.Discard, err: &text, spool: t.TempDir()}
		if status := run(term, c.name, c.args); status != c.status || !strings.HasPrefix(text.String(), c.text) {
			t.Errorf("%s %q: status %d, %q", c.name, c.args, status, text.String())
		}
	}
}

func TestNotHere(t *testing.T) {
	for _, args := range [][]string{{"-q"}} {
		var text bytes.Buffer
		term := &terminal{in: strings.NewReader("hello\n"), out: io.Discard, err: &text, spool: t.TempDir()}
		if status := run(term, "sendmail", args); status != exitSoftware || !strings.Contains(text.String(), "not implemented") {
			t.Errorf("sendmail %q: status %d, %q", args, status, text.String())
		}
	}
}
