package main

import (
	"io"
	"path/filepath"
	"testing"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/oshost"
	"smtpd/lang"
)

// TestQuickstartFindings checks that smtpd-check has nothing to say of what
// quickstart writes, neither on this host nor of the rules.
func TestQuickstartFindings(t *testing.T) {
	dir := t.TempDir()
	if status := runQuickstart([]string{"example.org", "--etc", dir}, io.Discard, io.Discard); status != 0 {
		t.Fatalf("status %d", status)
	}
	f, found := lang.Parse(filepath.Join(dir, "smtpd.conf"), lang.Options{})
	host := oshost.New()
	rs, compiled := compile.Compile(f, host)
	if rs == nil {
		t.Fatal(compiled)
	}
	found = append(found, compiled...)
	for _, d := range append(found, analyze.Lint(f, rs, host)...) {
		t.Error(d)
	}
	if r := analyze.Relay(rs, analyze.RelayOptions{}); r.Verdict != analyze.Proved {
		t.Errorf("a stranger may be able to relay: %+v", r)
	}
}

func TestIsHostName(t *testing.T) {
	for name, want := range map[string]bool{
		"example.org": true, "mail.example.org": true, "xn--mnchen-3ya.example": true, "1.example": true,
		"localhost": false, "": false, ".": false, "a..b": false, "-a.example": false, "a-.example": false,
		"a b.example": false, `a".example`: false, "münchen.example": false,
	} {
		if got := isHostName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
