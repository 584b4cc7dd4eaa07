package rfc5322

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// pass writes text, lines that end in LF, through a Writer; a line longer
// than piece goes in pieces.
func pass(text string, piece int, c *Completion) (string, error) {
	var out bytes.Buffer
	w := NewWriter(&out, c)
	for line := range strings.Lines(text) {
		line, eol := strings.CutSuffix(line, "\n")
		for len(line) > piece {
			if err := w.Write([]byte(line[:piece]), false); err != nil {
				return "", err
			}
			line = line[piece:]
		}
		if err := w.Write([]byte(line), eol); err != nil {
			return "", err
		}
	}
	err := w.Close()
	return out.String(), err
}

// TestTransit checks that nothing is changed in mail that only passes.
func TestTransit(t *testing.T) {
	for _, text := range []string{
		"", "\n", "A: b\n", "A: b\n\nbody\n", "A: b\n\tfold\n \n\nbody: not a field\n no fold\n",
		"Bcc: x\nFrom: a\nTo : b\n\n", "X:\n\n\n\n", "\nbody only\n", "Received: a\n\n" + strings.Repeat("Received: b\n", 200),
		strings.Repeat("n", MaxName) + ": x\n\n",
	} {
		if got, err := pass(text, 4096, nil); err != nil || got != text {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	for text, want := range map[string]error{
		" fold first\n\n":    ErrMalformed,
		"\tfold first\n\n":   ErrMalformed,
		"no field\n\n":       ErrMalformed,
		"A: b\nno field\n\n": ErrMalformed,
		"From me@example.org Mon Jan 1 00:00:00 2026\n\n": ErrMalformed,
		": x\n\n":    ErrMalformed,
		"A b: x\n\n": ErrMalformed,
		"Ä: x\n\n":   ErrMalformed,
		strings.Repeat("n", MaxName+1) + ": x\n\n":          ErrMalformed,
		"To: " + strings.Repeat("a,\n ", MaxField/4) + "\n": ErrMalformed,
		strings.Repeat("received: x\n", MaxHops):            ErrLoop,
	} {
		if _, err := pass(text, 4096, nil); !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", text, err, want)
		}
	}
	if _, err := pass(strings.Repeat("Received: x\n", MaxHops-1), 4096, nil); err != nil {
		t.Errorf("%d hops: %v", MaxHops-1, err)
	}
}

var noon = time.Date(2026, 11, 3, 12, 0, 0, 0, time.FixedZone("CET", 3600))

func TestCompletion(t *testing.T) {
	const date, id = "Date: x\n", "message-id: <x@y>\n"
	for _, c := range []struct{ in, want string }{
		{"From: a\n", "From: a@d\n"},
		{"From: a@b\n", "From: a@b\n"},
		{"To: a, b@c,d\n", "To: a@d, b@c,d@d\n"},
		{"Cc: Alice <a>, Bob <b@c>\n", "Cc: Alice <a@d>, Bob <b@c>\n"},
		{"To: \"Smith, J\" <j> (a, comment)\n", "To: \"Smith, J\" <j@d> (a, comment)\n"},
		{"To: \"x@y\" <j>\n", "To: \"x@y\" <j@d>\n"},
		{"To: a (comment)\n", "To: a@d (comment)\n"},
		{"To: a,\n\tb,\n c\n", "To: a@d,\n\tb@d,\n c@d\n"},
		{"To:\n a\n", "To:\n a@d\n"},
		{"To: \"john doe\"\n", "To: \"john doe\"@d\n"},
		{"To: undisclosed-recipients:;\n", "To: undisclosed-recipients:;\n"},
		{"To: friends: a, b;, c\n", "To: friends: a, b;, c@d\n"},
		{"To: <>, , \n", "To: <>, , \n"},
		{"To: a, \"open, b\n", "To: a@d, \"open, b\n"},
		{"To: a, (open, b\n", "To: a@d, (open, b\n"},
		{"To: a, <open\n", "To: a@d, <open\n"},
		{"To: <@r:a@b>\n", "To: <@r:a@b>\n"},
		{"to: a\nTO: b\n", "to: a@d\nTO: b@d\n"},
		{"Bcc: a,\n b\nX: y\n", "X: y\n"},
		{"X: a, b\nTo: a\n", "X: a, b\nTo: a@d\n"},
		{"Reply-To: a\n", "Reply-To: a\n"},
	} {
		for _, piece := range []int{4096, 1100} {
			got, err := pass(c.in+date+id+"\nTo: a\n", piece, &Completion{Domain: "d", Date: noon})
			if want := c.want + date + id + "\nTo: a\n"; err != nil || got != want {
				t.Errorf("%q became %q, %v, want %q", c.in, got, err, want)
			}
		}
	}
}

func TestMissingFields(t *testing.T) {
	c := &Completion{Domain: "d", Date: noon}
	for _, in := range []string{"Subject: x\n\nbody\n", "Subject: x\n", ""} {
		got, err := pass(in, 4096, c)
		if err != nil || !strings.Contains(got, "Date: Tue, 3 Nov 2026 12:00:00 +0100 (CET)\nMessage-ID: <") || !strings.Contains(got, "@d>\n") {
			t.Errorf("%q became %q, %v", in, got, err)
		}
	}
}

func TestReceived(t *testing.T) {
	full := Received{
		Helo: "client.example", RDNS: "host.example", Source: Bracket(netip.MustParseAddr("2001:db8::1")), Name: "mx.example",
		Proto: "ESMTPSA", ID: "00abcdef", TLS: "TLSv1.3:TLS_AES_256_GCM_SHA384:256:NO", Auth: "yes user=al\nice", For: "a@b", Date: noon,
	}
	if got, want := string(full.Append(nil)), "Received: from client.example (host.example [2001:db8::1])\n"+
		"\tby mx.example (OpenSMTPD) with ESMTPSA id 00abcdef (TLSv1.3:TLS_AES_256_GCM_SHA384:256:NO) auth=yes user=al?ice\n"+
		"\tfor <a@b>;\n\tTue, 3 Nov 2026 12:00:00 +0100 (CET)\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	bare := Received{Helo: "x", Source: Bracket(netip.Addr{}), Name: "mx", Proto: "SMTP", ID: "00000001", Date: noon}
	if got, want := string(bare.Append(nil)), "Received: from x (<unknown> [local])\n\tby mx (OpenSMTPD) with SMTP id 00000001;\n\tTue, 3 Nov 2026 12:00:00 +0100 (CET)\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	bare.MaskSrc = true
	if got := string(bare.Append(nil)); !strings.HasPrefix(got, "Received: \n\tby mx ") {
		t.Errorf("got\n%s", got)
	}
}

// FuzzWriter checks that mail in transit keeps every byte, and that a
// completed header is one that passes again and needs nothing more.
func FuzzWriter(f *testing.F) {
	f.Add("From: a\nTo: \"b, c\" <d>, e: f;\nBcc: x\n\nbody\n")
	f.Add("Received: x\n\tfold\n\n")
	f.Add("To: (((,\\\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(text, "\r", "")
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		got, err := pass(text, 4096, nil)
		if err == nil && got != text {
			t.Fatalf("%q became %q", text, got)
		}
		c := &Completion{Domain: "d.example", Date: noon}
		once, err := pass(text, 4096, c)
		if err != nil {
			return
		}
		twice, err := pass(once, 4096, c)
		if err != nil || twice != once && len(once) < MaxField {
			t.Fatalf("%q became %q, then %q, %v", text, once, twice, err)
		}
	})
}
