package parent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"smtpd/runtime/envelope"
)

// testUID stands for the account that the tests' agents run as: nobody's, so
// that tests behave the same for root and for a user.
const testUID = 4242

// newTestAgent returns an agent that believes to be testUID and a home.
func newTestAgent(t *testing.T) (*agent, string) {
	t.Helper()
	a, err := newAgent(Config{ServerName: "mx.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	a.uid = testUID
	return a, t.TempDir()
}

func testDelivery(home string, m Method, target string) Delivery {
	return Delivery{
		As: Account{Name: "alice", UID: testUID, GID: testUID, Home: home}, User: "alice",
		Method: m, Target: target,
		Header: "Return-Path: <bob@example.net>\nDelivered-To: alice@example.org\n",
		Sender: envelope.Address{User: "bob", Domain: "example.net"},
		Rcpt:   envelope.Address{User: "alice", Domain: "example.org"},
		Dest:   envelope.Address{User: "alice", Domain: "mail.example.org"},
	}
}

const testMessage = "Subject: hello\n\nFrom here on it is text.\n.\nlast\n"

// testContent returns a file with text, as the queue would hand it out.
func testContent(t *testing.T, text string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "content")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return f
}

func deliver(t *testing.T, a *agent, d Delivery, text string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return a.deliver(ctx, d, testContent(t, text))
}

func wantDelivered(t *testing.T, r Result) {
	t.Helper()
	if r != delivered {
		t.Fatalf("result = %+v, want success", r)
	}
}

// files returns the names of what is in dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// only returns the content of the only file in dir.
func only(t *testing.T, dir string) string {
	t.Helper()
	names := files(t, dir)
	if len(names) != 1 {
		t.Fatalf("%s holds %d files, want 1: %v", dir, len(names), names)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestIdentity(t *testing.T) {
	account := func(uid uint32) Account { return Account{Name: "alice", UID: uid} }
	for _, c := range []struct {
		name   string
		uid    int
		as     Account
		method Method
		want   Outcome
		text   string
	}{
		{"itself", testUID, account(testUID), Maildir, 0, ""},
		{"another user", testUID, account(7), Maildir, TempFail, "user id 7"},
		{"another user's command", testUID, account(7), Command, TempFail, "runs as 4242"},
		{"lmtp touches no file", testUID, account(7), LMTP, 0, ""},
		{"maildir of root", testUID, account(0), Maildir, PermFail, "MDA not allowed to deliver to: alice"},
		{"command of root", 0, account(0), Command, PermFail, "MDA not allowed to deliver to: alice"},
		{"lmtp of root", testUID, account(0), LMTP, PermFail, "MDA not allowed to deliver to: alice"},
		{"mailbox of root", testUID, account(0), Mbox, TempFail, "give alice an alias"},
		{"maildir by root", 0, account(7), Maildir, TempFail, "this process is root"},
		{"mbox by root", 0, account(7), Mbox, TempFail, "this process is root"},
		{"lmtp by root", 0, account(7), LMTP, TempFail, "this process is root"},
		{"command by root", 0, account(7), Command, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &agent{uid: c.uid}
			err := a.mayActAs(Delivery{As: c.as, Method: c.method})
			if c.want == 0 {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			r := failure(err)
			if r.Outcome != c.want || !strings.Contains(r.Text, c.text) {
				t.Errorf("result = %+v, want outcome %d and a text with %q", r, c.want, c.text)
			}
		})
	}
}

func TestLocalPath(t *testing.T) {
	a := &agent{start: "/srv/mail"}
	for path, want := range map[string]string{
		"/srv/mail":         ".",
		"/srv/mail/alice":   "alice",
		"/srv/mail/a/b":     "a/b",
		"/srv/mailman/x":    "/srv/mailman/x",
		"/home/alice/Mail":  "/home/alice/Mail",
		"/srv/mail/../else": "/srv/else",
		"home/alice":        "home/alice",
	} {
		if got := a.local(a.absolute(path)); got != want {
			t.Errorf("local(%q) = %q, want %q", path, got, want)
		}
	}
	root := &agent{start: "/"}
	if got := root.local("/etc"); got != "etc" {
		t.Errorf("from the root directory /etc opens as %q, want etc", got)
	}
}

// TestClosedParents delivers below a start directory whose parents the
// process may not walk: an ordinary account in a checkout of root's.
func TestClosedParents(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("directory modes do not stop root")
	}
	closed := t.TempDir()
	start := filepath.Join(closed, "start")
	if err := os.MkdirAll(filepath.Join(start, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(start)
	a, _ := newTestAgent(t)
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(closed, 0o700) })
	wantDelivered(t, deliver(t, a, testDelivery(filepath.Join(start, "home"), Maildir, "Maildir"), testMessage))
}
