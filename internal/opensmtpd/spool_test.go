package opensmtpd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"smtpd/runtime/envelope"
)

// The spools in testdata were made by OpenSMTPD 6.8: two messages from a
// client, for a relay that answers to nobody and for local users, one of them a
// command and one a file, and one from the null sender.
const testKey = "0123456789abcdef0123456789abcdef"

func openSpool(t *testing.T, name, key string) *Spool {
	t.Helper()
	s, err := Open(name, func() (string, error) { return key, nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSpool(t *testing.T) {
	ann := envelope.ParseAddress("ann@example.org")
	common := envelope.Envelope{
		Type: envelope.MTA, Action: "out", Tag: "in", SMTPName: "mx.example.com", Helo: "client.example.org", RDNS: "localhost",
		Source: "127.0.0.1", Sender: ann, Tries: 1, Error: "Network error on destination MXs", Status: "4.0.0",
	}
	to := func(ev envelope.Envelope, rcpt string) envelope.Envelope {
		ev.Rcpt, ev.Dest = envelope.ParseAddress(rcpt), envelope.ParseAddress(rcpt)
		return ev
	}
	dsn := common
	dsn.Notify, dsn.Ret, dsn.EnvID, dsn.ORcpt = envelope.NotifySuccess|envelope.NotifyFailure, "HDRS", "abc+2B1", "rfc822;x@y.example"
	null := common
	null.Sender, null.Helo = envelope.Address{}, "client"
	local := common
	local.Type, local.Action, local.Tries, local.Error, local.Status, local.LocalUser = envelope.MDA, "local", 0, "", "", "root"
	command := local
	command.LocalUser, command.Execute, command.Exec = "opensmtpd", envelope.Command, "cat >/dev/null"
	file := command
	file.Execute, file.Exec = envelope.File, "/var/mail/box"
	want := map[string]envelope.Envelope{}
	for rcpt, ev := range map[string]envelope.Envelope{
		"a@one.example": dsn, "b@two.example": dsn, "c@one.example": null,
		"root@example.com": local, "cmd@example.com": command, "box@example.com": file,
	} {
		want[rcpt] = to(ev, rcpt)
	}
	for _, name := range []string{"plain", "packed", "sealed", "both"} {
		t.Run(name, func(t *testing.T) {
			got := make(map[string]envelope.Envelope)
			for m, err := range openSpool(t, filepath.Join("testdata", name), testKey).Messages() {
				if err != nil {
					t.Fatalf("message %s: %v", m.Name, err)
				}
				var content bytes.Buffer
				if err := m.CopyContent(&content); err != nil {
					t.Error(err)
				}
				if s := content.String(); !strings.HasPrefix(s, "Received: from ") || !strings.Contains(s, "\n\nhello\n") {
					t.Errorf("message %s: %q", m.Name, s)
				}
				for _, ev := range m.Envelopes {
					if ev.ID.Message() != m.ID || ev.Created.IsZero() {
						t.Errorf("envelope %v of %v", ev.ID, ev.Created)
					}
					ev.ID, ev.Created = 0, time.Time{}
					got[ev.Dest.String()] = ev.Envelope
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestKey checks that nothing is taken for mail without the key.
func TestKey(t *testing.T) {
	for key, want := range map[string]string{
		"short": "key of 5 bytes", strings.Repeat("x", 32): "encrypted with another key",
	} {
		for m, err := range openSpool(t, "testdata/sealed", key).Messages() {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s with key %q: %v", m.Name, key, err)
			}
		}
	}
	s, err := Open("testdata/sealed", func() (string, error) { return "", errors.New("nobody knows it") })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for m, err := range s.Messages() {
		if err == nil || !strings.Contains(err.Error(), "nobody knows it") {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}

// spoolOf makes a spool of files.
func spoolOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	simple = "version: 3\ntype: mta\nctime: 1700000000\nsender: @\nrcpt: a@b\ndest: a@b\n"
	id     = "0a0b0c0d00000001"
)

// TestLeft is about messages that are not taken, and that others are.
func TestLeft(t *testing.T) {
	dir := spoolOf(t, map[string]string{
		"queue/0a/0a0b0c0d/" + id:            simple,
		"queue/0a/0a0b0c0d/message":          "hello\n",
		"queue/0b/0b000000/message":          "no envelope\n",
		"queue/0c/0c000000/0c00000000000001": simple,
		"queue/0d/0d000000/message":          "a bad envelope beside a good one\n",
		"queue/0d/0d000000/0d00000000000001": simple,
		"queue/0d/0d000000/0d00000000000002": simple + "?\n",
		"queue/0e/0e000000/message":          "an envelope of another message\n",
		"queue/0e/0e000000/0d00000000000001": simple,
		"queue/0f/lost+found/x":              "",
		"offline/1.x":                        "",
	})
	if err := os.MkdirAll(filepath.Join(dir, "queue/10/10000000"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"message", "1000000000000001"} { // a link leads out of the spool
		if err := os.Symlink(filepath.Join(dir, "queue/0a/0a0b0c0d", id), filepath.Join(dir, "queue/10/10000000", name)); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		"0a0b0c0d": "", "0b000000": "no envelope", "0c000000": "no content", "0d000000": "0d00000000000002: a line without a name",
		"0e000000": "not the name of an envelope of this message", "lost+found": "not the name of a message", "10000000": "no regular file",
	}
	s := openSpool(t, dir, testKey)
	seen := 0
	for m, err := range s.Messages() {
		text, ok := want[m.Name]
		if seen++; !ok || (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", m.Name, err, text)
		}
		if err == nil {
			if err := m.Done(); err != nil {
				t.Error(err)
			}
		}
	}
	if seen != len(want) {
		t.Errorf("%d messages, want %d", seen, len(want))
	}
	if _, err := os.Stat(filepath.Join(dir, "imported/0a0b0c0d", id)); err != nil {
		t.Error(err)
	}
	if n, err := s.Offline(); n != 1 || err != nil {
		t.Errorf("offline: %d, %v", n, err)
	}
	if _, err := Open(t.TempDir(), nil); err == nil {
		t.Error("an empty directory is a spool")
	}
}

func TestVersion2(t *testing.T) {
	base := "version: 2\ntype: %s\nsmtpname: mx\nhelo: pc\nhostname: pc.example\nsockaddr: IPv6:2001:db8::1\nsender: ann@example.org\n" +
		"rcpt: list@example.com\ndest: bob@example.com\nctime: 1700000000\nlast-try: 1700000100\nlast-bounce: 0\nexpire: 3600\nretry: 2\nflags: authenticated|internal\n"
	common := envelope.Envelope{
		SMTPName: "mx", Helo: "pc", RDNS: "pc.example", Source: "[2001:db8::1]", Sender: envelope.ParseAddress("ann@example.org"),
		Rcpt: envelope.ParseAddress("list@example.com"), Dest: envelope.ParseAddress("bob@example.com"),
		Created: time.Unix(1700000000, 0).UTC(), LastTry: time.Unix(1700000100, 0).UTC(), Expires: time.Unix(1700003600, 0).UTC(), Tries: 2,
		Flags: envelope.Authenticated | envelope.Internal,
	}
	for _, tt := range []struct {
		name, typ, more string
		change          func(*Envelope)
	}{
		{"relay", "mta", "mta-relay: smtp://relay.example\nmta-relay-flags: tls\nesc-class: 4\nesc-code: 71\n", func(ev *Envelope) {
			ev.Type, ev.Relay, ev.Status = envelope.MTA, "smtp://relay.example", "4.7.1"
		}},
		{"maildir", "mda", "mda-buffer: ~/Maildir\nmda-method: maildir\nmda-user: bob\nmda-usertable: <getpwnam>\n", func(ev *Envelope) {
			ev.Type, ev.LocalUser = envelope.MDA, "bob"
		}},
		{"command", "mda", "mda-buffer: procmail -f -\nmda-method: mda\nmda-user: bob\n", func(ev *Envelope) {
			ev.Type, ev.LocalUser, ev.Execute, ev.Exec = envelope.MDA, "bob", envelope.Command, "procmail -f -"
		}},
		{"file", "mda", "mda-buffer: /var/mail/x\nmda-method: filename\nmda-user: bob\n", func(ev *Envelope) {
			ev.Type, ev.LocalUser, ev.Execute, ev.Exec = envelope.MDA, "bob", envelope.File, "/var/mail/x"
		}},
		{"report", "bounce", "bounce-type: warn\nbounce-delay: 14400\nbounce-expire: 345600\ndsn-orcpt: x=y@z\ndsn-notify: 4\n", func(ev *Envelope) {
			ev.Type, ev.BounceKind, ev.BounceDelay, ev.ORcpt, ev.Notify = envelope.Bounce, envelope.Delayed, 4*time.Hour, "rfc822;x+3Dy@z", envelope.NotifyDelay
			ev.Expires = time.Time{} // that of our reports
		}},
	} {
		got, err := ParseEnvelope([]byte(strings.Replace(base, "%s", tt.typ, 1) + tt.more))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		want := Envelope{Envelope: common}
		tt.change(&want)
		if d := cmp.Diff(&want, got); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

func TestRefused(t *testing.T) {
	for change, want := range map[string]string{
		"version: 3>version: 4":                            "not an envelope of version 2 or 3",
		"version: 3>":                                      "",
		"type: mta>":                                       `field "type" is missing`,
		"type: mta>type: MTA":                              `field "type": an unknown word`,
		"type: mta>type: bounce":                           `field "bounce-type" is missing`,
		"ctime: 1700000000>":                               `field "ctime" is missing`,
		"ctime: 1700000000>ctime: -1":                      `field "ctime": no number`,
		"ctime: 1700000000>ctime: 1e99":                    `field "ctime": no number`,
		"dest: a@b>dest: ab":                               `field "dest": no address`,
		"dest: a@b>dest: @":                                `field "dest" is missing`,
		"dest: a@b>dest: a@b\nexpire: 5":                   `field "expire" is unknown in version 3`,
		"dest: a@b>dest: a@b\nflags: junk":                 `field "flags": an unknown word`,
		"dest: a@b>dest: a@b\nsockaddr: ?":                 `field "sockaddr": no address`,
		"dest: a@b>dest: a@b\nesc-class: 5\nesc-code: 100": `field "esc-code"`,
		"dest: a@b>dest: a@b\ndsn-notify: 99":              `field "dsn-notify"`,
	} {
		from, to, _ := strings.Cut(change, ">")
		if to != "" {
			to += "\n"
		}
		text := strings.Replace(simple, from+"\n", to, 1)
		if text == simple {
			t.Fatalf("%q changes nothing", change)
		}
		if _, err := ParseEnvelope([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", change, err, want)
		}
	}
}
