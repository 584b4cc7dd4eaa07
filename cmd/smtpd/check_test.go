package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpd/compile/hostfacts"
	"smtpd/lang"
)

// TestCheckOutput holds what smtpd -n prints against the forms that scripts
// know from OpenSMTPD (language.md 3.1). Words after the form are ours.
func TestCheckOutput(t *testing.T) {
	const rule = "match for any reject\n"
	tests := []struct {
		name   string
		conf   string
		status int
		want   string // each line is the beginning of a line printed
	}{
		{"good", rule, 0, "configuration OK"},
		{"warning", "bounce warn-interval 1h, 2h, 3h, 4h, 5h\n" + rule, 0, "warn: F:1: only\nconfiguration OK"},
		{"syntax", "listen\n" + rule, 1, "F:1: syntax error"},
		{"two mistakes", "listen\n" + rule + "match action \"x\"\n", 1, "F:1: syntax error\nF:3: undefined action"},
		{"macro", "listen on $x\n" + rule, 1, "F:1: macro `x`"},
		{"no rules", "listen on lo\n", 1, "warn: no rules"},
		{"stops at once", "listen on lo auth\n" + rule, 1, "smtpd: auth needs TLS"},
		{"undefined pki", "listen on lo tls pki nope\n" + rule, 1, "undefined pki \"nope\"\nsmtpd"},
		{"host", "listen on nosuchif0\n" + rule, 1, "smtpd: nowhere to listen"},
		{"table file", "table t file:/nonexistent/t\n" + rule, 1, "F:1: table <t> cannot be read"},
		{"next token", "listen on lo auth \\\n auth \\\n port 26\n" + rule, 1, "F:3: auth is already given\nsmtpd: auth"},
		{"older generation after a mistake", "table a file:/nonexistent/a\nqueue ttl 5\naccept from any for any relay\nqueue ttl 6\n", 1,
			"F:1: table <a> cannot be read\nF:2: syntax error: the configuration is of generation 2"},
		{"two generations", "match for any action \"x\"\naccept from any for any relay\nqueue ttl 6\n", 1,
			"F:1: undefined action\nF:2: syntax error: `accept` and `match` are of different generations"},
		{"older generation", "listen on lo\ntable a { b }\naccept from any for local deliver to mbox\nexpire 4d\n", 1,
			"F:3: syntax error: the configuration is of generation 2 of the language, which OpenSMTPD 5.3 to 6.0 read; `smtpd-check migrate F`"},
		{"key from standard input", "queue encryption stdin\n" + rule, 1, "smtpd: the key of queue encryption"},
		{"key", "queue encryption 0123456789abcdef0123456789abcdef\n" + rule, 0, "configuration OK"},
	}
	host, err := hostfacts.Parse("facts", "name mail.example.org", os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "smtpd.conf")
			if err := os.WriteFile(file, []byte(tt.conf), 0o644); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			status := checkTo(&out, file, nil, host, false)
			got := strings.Split(strings.TrimSuffix(strings.ReplaceAll(out.String(), file, "F"), "\n"), "\n")
			want := strings.Split(tt.want, "\n")
			ok := status == tt.status && len(got) == len(want)
			for i := range want {
				ok = ok && strings.HasPrefix(got[i], want[i])
			}
			if !ok {
				t.Errorf("status %d and %q, want %d and %q", status, got, tt.status, want)
			}
		})
	}
}

func TestCheckUnreadable(t *testing.T) {
	var out strings.Builder
	status := checkTo(&out, "/nonexistent/smtpd.conf", nil, hostfacts.Unnamed(), false)
	if status != 1 || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), "/nonexistent/smtpd.conf: no such file") {
		t.Errorf("status %d, %q", status, out.String())
	}
}

// TestCheckStrict checks that a word of ours passes, and does not where only
// OpenSMTPD's are wanted.
func TestCheckStrict(t *testing.T) {
	file := filepath.Join(t.TempDir(), "smtpd.conf")
	if err := os.WriteFile(file, []byte("smtp limit max-conn-per-source \\\n 7\nmatch for any reject\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for strict, want := range map[bool]string{false: "configuration OK\n", true: file + ":2: `smtp limit max-conn-per-source` is an addition of ours: OpenSMTPD refuses it\n"} {
		var out strings.Builder
		if status := checkTo(&out, file, nil, hostfacts.Unnamed(), strict); (status == 1) != strict || out.String() != want {
			t.Errorf("strict %v: status %d, %q, want %q", strict, status, out.String(), want)
		}
	}
}

func TestCheckDefines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "smtpd.conf")
	if err := os.WriteFile(file, []byte("nic = \"nosuchif0\"\nlisten on $nic\nmatch for any reject\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if status := checkTo(&out, file, []lang.Define{{Name: "nic", Value: "lo"}}, hostfacts.Unnamed(), false); status != 0 {
		t.Errorf("status %d, %q", status, out.String())
	}
}
