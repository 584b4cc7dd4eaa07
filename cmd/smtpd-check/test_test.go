package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPolicyPage runs the examples of docs/policy-tests.md.
func TestPolicyPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "policy-tests.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := fenced(string(page))
	if len(blocks) != 3 || blocks[0].kind != "smtpd.conf" {
		t.Fatalf("the page has other blocks: %+v", blocks)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "smtpd.conf")
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(conf, blocks[0].text)
	write(filepath.Join(dir, "first.smtptest"), blocks[1].text)
	// The second example goes on with the tables of the first.
	tables, _, _ := strings.Cut(blocks[1].text, "test ")
	write(filepath.Join(dir, "second.smtptest"), tables+blocks[2].text)
	var out, errs bytes.Buffer
	status := run([]string{"test", conf}, &streams{in: strings.NewReader(""), out: &out, err: &errs})
	if status != good || out.String() != "5 tests, 0 failed\n" {
		t.Errorf("status %d, %s%s", status, out.String(), errs.String())
	}
}

// TestSuggestedTests puts the tests that --mutate suggests into the file and
// checks that it then has nothing more to suggest.
func TestSuggestedTests(t *testing.T) {
	dir := t.TempDir()
	conf, tests := filepath.Join(dir, "smtpd.conf"), filepath.Join(dir, "a.smtptest")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(conf, `table nets { "192.0.2.0/24", "2001:db8::/32" }
action "in" maildir
action "out" relay host "smart.example"
match from any helo "bad.example" for any reject
match from any mail-from regex "^spam.*@" for any reject
match from any tls for domain { "example.org", "*.example.org" } action "in"
match !from src <nets> auth "bob" for any action "out"
match from rdns "mx.trusted.example" for any rcpt-to "@partner.example" action "out"
match tag "IN" from local for local action "in"
match from local for any action "out"
`)
	write(tests, `test "outsider cannot relay" { from 203.0.113.9 rcpt-to "x@elsewhere.example" expect reject }`+"\n")
	command := func() (int, string) {
		t.Helper()
		var out, errs bytes.Buffer
		status := run([]string{"test", "--mutate", conf}, &streams{in: strings.NewReader(""), out: &out, err: &errs})
		if errs.Len() > 0 {
			t.Fatal(errs.String())
		}
		return status, out.String()
	}
	status, out := command()
	if status != remarks {
		t.Fatalf("status %d:\n%s", status, out)
	}
	old, err := os.ReadFile(tests)
	if err != nil {
		t.Fatal(err)
	}
	_, suggested, _ := strings.Cut(out, "\ntest ")
	var b strings.Builder
	for line := range strings.Lines("test " + suggested) {
		if strings.HasPrefix(line, "test ") || strings.HasPrefix(line, "\t") || line == "}\n" {
			b.WriteString(line)
		}
	}
	write(tests, string(old)+b.String())
	if status, out := command(); status != good {
		t.Errorf("status %d with the suggested tests:\n%s", status, out)
	} else if strings.Contains(out, "# no transaction") {
		t.Log(out)
	}
}
