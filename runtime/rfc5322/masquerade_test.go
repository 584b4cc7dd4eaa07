package rfc5322

import (
	"strings"
	"testing"
	"time"
)

// TestMasquerade checks that no address but the given one is left in From,
// and that nothing else changes.
func TestMasquerade(t *testing.T) {
	for from, want := range map[string]string{
		"From: joe@example.org":                          "From: <sam@example.com>",
		"From: Joe <joe@example.org>":                    "From: Joe <sam@example.com>",
		"from:\t\"Joe, <x@y>\" <joe@example.org> (work)": "from:\t\"Joe, <x@y>\" <sam@example.com>",
		"From: Joe\n <joe@example.org>":                  "From: Joe\n <sam@example.com>",
		"From: a <a@b>, c <c@d>":                         "From: <sam@example.com>",
		"From: team: a <a@b>;":                           "From: <sam@example.com>",
		"From: \"open <a@b>":                             "From: <sam@example.com>",
		"From:":                                          "From: <sam@example.com>",
		"Reply-To: joe@example.org":                      "Reply-To: joe@example.org",
	} {
		for _, c := range []*Completion{nil, {Domain: "d", Date: time.Unix(0, 0)}} {
			var b strings.Builder
			w := NewWriter(&b, c)
			w.Masquerade("sam@example.com")
			for line := range strings.SplitSeq(from+"\nDate: x\nMessage-ID: y\n\nFrom: body", "\n") {
				if err := w.Write([]byte(line), true); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if all := want + "\nDate: x\nMessage-ID: y\n\nFrom: body\n"; b.String() != all {
				t.Errorf("%q became %q, want %q", from, b.String(), all)
			}
		}
	}
}

// TestMasqueradeLast has From end a message without a body.
func TestMasqueradeLast(t *testing.T) {
	var b strings.Builder
	w := NewWriter(&b, nil)
	w.Masquerade("sam@example.com")
	if err := w.Write([]byte("From: joe@example.org"), true); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil || b.String() != "From: <sam@example.com>\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}
