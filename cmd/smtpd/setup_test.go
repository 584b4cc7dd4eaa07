package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"smtpd/compile/hostfacts"
	"smtpd/runtime/mfa"
)

func testSetup() *setup {
	return &setup{
		Level: slog.LevelDebug, Form: logForm{Tagged: true, JSON: true}, Rules: []byte("rules"), Paused: []string{"mta", "mda"}, User: "_smtpd",
		Program: "/usr/sbin/smtpd", QueueKey: "key", Resolver: "127.0.0.1:53", Libexec: []string{"/usr/libexec"}, RuleNames: []mfa.RuleName{{Label: "local", Text: "match for local reject"}},
		Certs: []certificate{{"mx", []byte("pem"), true, false}}, Roots: []authority{{"ca", []byte("pem")}},
	}
}

func TestSetup(t *testing.T) {
	want := testSetup()
	got := new(setup)
	if err := got.parse(want.append(nil)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// FuzzSetup checks that what is taken for a setup is one.
func FuzzSetup(f *testing.F) {
	f.Add(testSetup().append(nil))
	f.Add(new(setup).append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := new(setup)
		if s.parse(in) == nil && !bytes.Equal(s.append(nil), in) {
			t.Fatalf("%x became %+v", in, s)
		}
	})
}

const secretive = `table users { "joe" = "1000:1000:/home/joe" }
table owners { "joe" = "joe@example.org" }
table passwords { "joe" = "$6$secret-of-joe" }
table relays { "label" = "user:secret-of-relay" }
table domains { "example.org", "example.net" }
srs key "secret-of-srs-1234"
queue encryption 0123456789secret-of-queue8901234
filter "f" phase mail-from match mail-from { "secret@spam.example" } reject "550 no"
listen on lo filter "f"
action "in" maildir userbase <users>
action "out" relay host "smtps://label@relay.example" auth <relays> srs
match from any for domain <domains> action "in"
match for any action "out"
`

// TestKeep checks that each secret of a configuration goes to the components
// that need it, and to no other.
func TestKeep(t *testing.T) {
	host, err := hostfacts.Parse("facts", "name mail.example.org", os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "smtpd.conf")
	if err := os.WriteFile(conf, []byte(secretive), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	rules, err := load(conf, nil, host, &out)
	if err != nil {
		t.Fatal(err, out.String())
	}
	rules.Tables[0].Config = "password secret-of-server"
	holders := map[string]string{
		"secret-of-server":    "lka",
		"secret-of-joe":       "lka",
		"secret-of-relay":     "lka",
		"secret-of-srs":       "mfa mta",
		"secret-of-queue":     "queue",
		"secret@spam.example": "lka mfa",
		"/home/joe":           "lka mfa",
		"example.net":         "lka mfa",
	}
	parts := make(map[string][]byte)
	for _, r := range roles {
		part := keep(r.name, rules)
		if part == nil {
			continue
		}
		parts[r.name] = part.Append(nil)
		s := setup{Rules: parts[r.name]}
		if _, err := s.rules(); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
	}
	if len(parts) != 6 {
		t.Errorf("%d components keep rules, want 6", len(parts))
	}
	for secret, want := range holders {
		var got []string
		for _, name := range []string{"lka", "mda", "mfa", "mta", "queue", "smtp"} {
			if bytes.Contains(parts[name], []byte(secret)) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s is in %v, want %s", secret, got, want)
		}
	}
}

func TestUntag(t *testing.T) {
	for line, want := range map[string]struct {
		level slog.Level
		text  string
	}{
		"<4>warn: lost":           {slog.LevelWarn, "warn: lost"},
		"<-4>debug: x > y":        {slog.LevelDebug, "debug: x > y"},
		"panic: nil":              {slog.LevelError, "panic: nil"},
		"goroutine 1 [running]:>": {slog.LevelError, "goroutine 1 [running]:>"},
		"<x>y":                    {slog.LevelError, "<x>y"},
	} {
		if level, text := untag([]byte(line)); level != want.level || text != want.text {
			t.Errorf("%q is %v %q", line, level, text)
		}
	}
}
