package main

import (
	"os"
	"strings"
	"testing"

	"smtpd/compile/hostfacts"
)

// TestMigrateGuide converts what the guide shows, which must come out as it
// shows it.
func TestMigrateGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/migrate.md")
	if err != nil {
		t.Fatal(err)
	}
	guide := string(text)
	shown := 0
	for {
		_, rest, ok := strings.Cut(guide, "\nBefore:\n\n")
		if !ok {
			break
		}
		before, rest := indented(rest)
		_, rest, ok = strings.Cut(rest, "After:\n\n")
		if !ok {
			t.Fatalf("a Before without After:\n%s", before)
		}
		after, rest := indented(rest)
		guide = rest
		shown++
		m := converted(t, "smtpd.conf", []byte(before), hostfacts.Unnamed())
		if got := string(m.texts[0].Data); got != after {
			t.Errorf("the guide shows another result than this:\n%s", got)
		}
	}
	if shown < 3 {
		t.Errorf("the guide shows %d conversions", shown)
	}
}

// indented returns the lines that a text begins with and that are indented,
// and the rest of it.
func indented(text string) (block, rest string) {
	var b strings.Builder
	for {
		line, after, _ := strings.Cut(text, "\n")
		code, ok := strings.CutPrefix(line, "    ")
		if !ok {
			return b.String(), text
		}
		b.WriteString(code + "\n")
		text = after
	}
}
