package parent

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"smtpd/runtime/imsg"
)

func TestForward(t *testing.T) {
	write := func(home string) error { return os.WriteFile(filepath.Join(home, ".forward"), []byte("bob\n"), 0o644) }
	for _, c := range []struct {
		name string
		set  func(home string) error
		file bool
		err  error
		text string
	}{
		{"none", func(string) error { return nil }, false, nil, ""},
		{"good", write, true, nil, ""},
		{"no home", func(h string) error { return os.Remove(h) }, false, nil, ""},
		{"home is a file", func(h string) error { os.Remove(h); return os.WriteFile(h, nil, 0o600) }, false, ErrPermanent, "not a directory"},
		{"sticky home", func(h string) error { write(h); return os.Chmod(h, 0o700|os.ModeSticky) }, false, ErrTemporary, "sticky"},
		{"link", func(h string) error { return os.Symlink("/etc/passwd", filepath.Join(h, ".forward")) }, false, ErrPermanent, ""},
		{"dangling link", func(h string) error { return os.Symlink("nowhere", filepath.Join(h, ".forward")) }, false, ErrPermanent, ""},
		{"directory", func(h string) error { return os.Mkdir(filepath.Join(h, ".forward"), 0o700) }, false, ErrPermanent, "not a regular file"},
		{"fifo", func(h string) error { return syscall.Mkfifo(filepath.Join(h, ".forward"), 0o600) }, false, ErrPermanent, "not a regular file"},
		{"group writes file", func(h string) error { write(h); return os.Chmod(filepath.Join(h, ".forward"), 0o664) }, false, ErrPermanent, "written by others"},
		{"others write file", func(h string) error { write(h); return os.Chmod(filepath.Join(h, ".forward"), 0o602) }, false, ErrPermanent, "written by others"},
		{"group writes home", func(h string) error { write(h); return os.Chmod(h, 0o770) }, false, ErrPermanent, "others may write to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := filepath.Join(t.TempDir(), "home")
			if err := os.Mkdir(home, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := c.set(home); err != nil {
				t.Fatal(err)
			}
			f, err := forwardClient(t).Forward(t.Context(), Account{Name: "alice", UID: uint32(os.Geteuid()), Home: home})
			if !errors.Is(err, c.err) || (f != nil) != c.file {
				t.Fatalf("Forward = %v, %v; want a file: %v, error %v", f, err, c.file, c.err)
			}
			if c.err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q does not say %q", err, c.text)
			}
			if f != nil {
				defer f.Close()
				if b, err := io.ReadAll(f); string(b) != "bob\n" || err != nil {
					t.Errorf("read %q, %v", b, err)
				}
			}
		})
	}
	t.Run("another's file", func(t *testing.T) {
		home := t.TempDir()
		if err := write(home); err != nil {
			t.Fatal(err)
		}
		_, err := forwardClient(t).Forward(t.Context(), Account{Name: "alice", UID: 999_999, Home: home})
		if !errors.Is(err, ErrPermanent) || !strings.Contains(err.Error(), "belongs to another user") {
			t.Errorf("error %v", err)
		}
	})
}

// forwardClient returns a client of a running parent.
func forwardClient(t *testing.T) *Client {
	t.Helper()
	ours, theirs := imsg.Pipe()
	done := make(chan error, 1)
	go func() { done <- Main(t.Context(), Config{MFA: theirs}) }()
	peer := imsg.NewPeer(ours, nil)
	go peer.Run(t.Context())
	t.Cleanup(func() {
		ours.Close()
		if err := <-done; err != nil {
			t.Errorf("Main = %v", err)
		}
	})
	return NewClient(peer)
}
