package parent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// fakePAM is a helper that keeps what it reads in a file beside it, and then
// does what a script says.
func fakePAM(t *testing.T, script string) *pam {
	t.Helper()
	in := installation{libexec: []string{t.TempDir()}}
	path := filepath.Join(in.libexec[0], pamHelper)
	text := "#!/bin/sh\ncat > " + path + ".asked\n" + script + "\n"
	// A process that another test starts now must not hold the file open for
	// writing: nobody could run it.
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte(text), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	p := in.pam()
	if p == nil {
		t.Fatal("the helper is not found")
	}
	return p
}

func TestPAM(t *testing.T) {
	if (installation{libexec: []string{t.TempDir()}}).pam() != nil {
		t.Error("a helper that is not installed")
	}
	tests := []struct {
		script string
		ok     bool
		err    string // "" for none
	}{
		{`printf '\000\003yes'`, true, ""},
		{`printf '\000\002no'`, false, ""},
		{`printf '\000\013no such day'`, false, `PAM: "no such day"`},
		{`printf '\000\003yes'; exit 1`, false, "exit status 1"},
		{`printf '\000\002yes'`, false, "malformed"},
		{`printf '\000\004yes'`, false, "malformed"},
		{`printf 'yes'`, false, "malformed"},
		{``, false, "malformed"},
		{`head -c 100000 /dev/zero`, false, pamHelper},
		{`kill -9 $$`, false, "killed"},
	}
	for _, tt := range tests {
		p := fakePAM(t, tt.script)
		ok, err := p.check(t.Context(), login{"alice", "secret"})
		if ok != tt.ok || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, %v; want %v, %q", tt.script, ok, err, tt.ok, tt.err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the password is in %v", tt.script, err)
		}
		asked, err := os.ReadFile(p.path + ".asked")
		if want := "\x00\x05login\x00\x05alice\x00\x06secret"; err != nil || !bytes.Equal(asked, []byte(want)) {
			t.Errorf("%s: asked %q, %v; want %q", tt.script, asked, err, want)
		}
	}
}

// TestPAMAccount asks who an account is that no file has.
func TestPAMAccount(t *testing.T) {
	tests := []struct{ script, want string }{
		{`printf '\000\01642:43:/home/al'`, `"42:43:/home/al" true <nil>`},
		{`printf '\000\002no'`, `"" false <nil>`},
		{`printf '\000\005later'`, `"" false name services: "later"`},
		{`exit 1`, `"" false `},
	}
	for _, tt := range tests {
		p := fakePAM(t, tt.script)
		value, ok, err := p.account(t.Context(), "alice")
		if got := fmt.Sprintf("%q %v %v", value, ok, err); !strings.HasPrefix(got, tt.want) || ok && err != nil {
			t.Errorf("%s: %s, want %s", tt.script, got, tt.want)
		}
		asked, err := os.ReadFile(p.path + ".asked")
		if want := "\x00\x07account\x00\x05alice"; err != nil || string(asked) != want {
			t.Errorf("asked %q, %v; want %q", asked, err, want)
		}
	}
}

// TestPAMHangs has a helper that does not end: who asked does not wait for it.
func TestPAMHangs(t *testing.T) {
	p := fakePAM(t, "echo > $0.runs; exec sleep 3600")
	if err := syscall.Mkfifo(p.path+".runs", 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := p.check(ctx, login{"alice", "secret"})
		done <- err
	}()
	if _, err := os.ReadFile(p.path + ".runs"); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestPAMUnsafe has a helper that others than root may change.
func TestPAMUnsafe(t *testing.T) {
	p := fakePAM(t, `printf '\000\003yes'`)
	if err := os.Chmod(p.path, 0o775); err != nil {
		t.Fatal(err)
	}
	if ok, err := p.check(t.Context(), login{"alice", "secret"}); ok || err == nil {
		t.Errorf("run although its group may write it: %v, %v", ok, err)
	}
	if _, err := os.Stat(p.path + ".asked"); err == nil {
		t.Error("it was run")
	}
}

// TestPAMForLogins holds that PAM decides, and not the files, if it is there.
func TestPAMForLogins(t *testing.T) {
	for answer, want := range map[string]bool{`\000\003yes`: true, `\000\002no`: false} {
		l := newLogins(linuxAccounts(t), slog.New(slog.DiscardHandler))
		l.pam = fakePAM(t, "printf '"+answer+"'")
		for _, name := range []string{"alice", "of-a-directory"} {
			if got, err := l.check(t.Context(), login{name, "another"}); got != want || err != nil {
				t.Errorf("%s: %v, %v; want %v", name, got, err, want)
			}
		}
	}
}
