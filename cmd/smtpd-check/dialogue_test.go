package main

import (
	"strings"
	"testing"
)

func TestPath(t *testing.T) {
	for arg, want := range map[string]string{
		"TO:<a@b.example>":               "a@b.example",
		"to: <a@b.example> NOTIFY=NEVER": "a@b.example",
		`TO:<"a>b"@c.example>`:           `"a>b"@c.example`,
		`TO:<"a\">"@c.example>`:          `"a\">"@c.example`,
		"TO:<>":                          "",
	} {
		if got, err := path(arg, "TO:"); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", arg, got, err, want)
		}
	}
	for _, arg := range []string{"", "TO:", "TO:a@b.example", "TO:<a@b.example", `TO:<"a>@b.example`, "FROM:<a@b.example>"} {
		if got, err := path(arg, "TO:"); err == nil {
			t.Errorf("%s: %q, want an error", arg, got)
		}
	}
}

// FuzzDialogue holds that each recipient stands in a line that names one.
func FuzzDialogue(f *testing.F) {
	f.Add("C: EHLO x\nS: 250 ok\nMAIL FROM:<>\nRCPT TO:<a@b.example>\nDATA\nx\n.\nQUIT\n")
	f.Add("AUTH PLAIN AGEAYg==\nRSET\n")
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		_ = dialogue(strings.NewReader(text), described{}, func(d described) error {
			n++
			if !strings.Contains(text, "<"+d.RcptTo+">") {
				t.Errorf("recipient %q is not in the text", d.RcptTo)
			}
			return nil
		})
		if lines := strings.Count(strings.ToUpper(text), "RCPT"); n > lines {
			t.Errorf("%d recipients in %d lines", n, lines)
		}
	})
}
