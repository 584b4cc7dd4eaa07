package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"smtpd/runtime/parent"
)

// offlineSpool returns a spool whose daemon does not run.
func offlineSpool(t *testing.T) (spool, dir string) {
	t.Helper()
	spool = t.TempDir()
	dir = filepath.Join(spool, parent.OfflineDir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, os.ModeSticky|0o733); err != nil {
		t.Fatal(err)
	}
	return spool, dir
}

func storeMail(t *testing.T, spool, text string, args ...string) (status int, said string) {
	t.Helper()
	var err bytes.Buffer
	status = run(&terminal{in: strings.NewReader(text), err: &err, spool: spool}, "sendmail", args)
	return status, err.String()
}

// TestStore checks what sendmail leaves for a daemon that does not run: the
// arguments, then the message as it came.
func TestStore(t *testing.T) {
	spool, dir := offlineSpool(t)
	const text = "From me Mon\nSubject: s\nBcc: x@y.example\n\nhello\n.\nend"
	if status, said := storeMail(t, spool, text, "-t", "-F", "Me and you", "-oi", "you@example.org"); status != exitOK || said != "" {
		t.Fatalf("status %d, %q", status, said)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	info, err := files[0].Info()
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	at, random, _ := strings.Cut(info.Name(), ".")
	if _, err := strconv.Atoi(at); err != nil || len(random) < 20 {
		t.Errorf("it is called %q", info.Name())
	}
	got, err := os.ReadFile(filepath.Join(dir, info.Name()))
	if want := "-S|-t|-F|Me and you|-oi|you@example.org\n" + text; err != nil || string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestStoreNot checks that a message which nobody would pick up is not said to
// be kept.
func TestStoreNot(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		args  []string
		want  string
	}{
		"bar in an argument":     {nil, []string{"a|b@example.org"}, "arguments cannot be written down"},
		"line end in one":        {nil, []string{"-F", "a\nb", "you"}, "arguments cannot be written down"},
		"too many arguments":     {nil, []string{strings.Repeat("x", parent.OfflineLine)}, "arguments cannot be written down"},
		"no directory":           {func(t *testing.T, dir string) { os.Remove(dir) }, []string{"you"}, "no such file"},
		"others may list it":     {func(t *testing.T, dir string) { os.Chmod(dir, os.ModeSticky|0o777) }, []string{"you"}, "not a directory of mode 1733"},
		"others may remove mail": {func(t *testing.T, dir string) { os.Chmod(dir, 0o733) }, []string{"you"}, "not a directory of mode 1733"},
		"a link": {func(t *testing.T, dir string) {
			os.Rename(dir, dir+"2")
			os.Symlink(dir+"2", dir)
		}, []string{"you"}, "not a directory of mode 1733"},
		"a file": {func(t *testing.T, dir string) {
			os.Remove(dir)
			os.WriteFile(dir, nil, 0o600)
		}, []string{"you"}, "not a directory of mode 1733"},
		"another user's daemon": {func(t *testing.T, dir string) {
			if os.Geteuid() != 0 {
				t.Skip("only root gives a directory away")
			}
			os.Chown(dir, 61001, 61001)
		}, []string{"you"}, "sends no mail of other users"},
	} {
		t.Run(name, func(t *testing.T) {
			spool, dir := offlineSpool(t)
			if c.spoil != nil {
				c.spoil(t, dir)
			}
			status, said := storeMail(t, spool, "hello\n", c.args...)
			if status != exitTempFail || !strings.Contains(said, "not sent and not kept") || !strings.Contains(said, c.want) {
				t.Errorf("status %d, %q", status, said)
			}
			if files, err := os.ReadDir(dir); err == nil && len(files) > 0 {
				t.Errorf("%v is left", files)
			}
		})
	}
}

// TestOpenStored checks that of a directory into which anybody puts anything
// only a user's own message is opened, and that none of the rest holds it up.
func TestOpenStored(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(name string, mode os.FileMode) {
		if err := os.WriteFile(name, []byte("-S|you\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("good", 0o600)
	for name, c := range map[string]struct {
		make func() error
		want string
	}{
		"link":      {func() error { return os.Symlink("good", "link") }, "too many levels of symbolic links"},
		"fifo":      {func() error { return syscall.Mkfifo("fifo", 0o600) }, "not a regular file"},
		"directory": {func() error { return os.Mkdir("directory", 0o700) }, "not a regular file"},
		"readable":  {func() error { write("readable", 0o604); return nil }, "mode is not 0600"},
		"set-id":    {func() error { write("set-id", os.ModeSetuid|0o600); return nil }, "mode is not 0600"},
		"two names": {func() error { write("two names", 0o600); return os.Link("two names", "other") }, "more than one name"},
		"huge": {func() error {
			write("huge", 0o600)
			return os.Truncate("huge", parent.OfflineSize+parent.OfflineLine+1)
		}, "too large"},
		"not there":  {func() error { return nil }, "no such file"},
		"of another": {func() error { write("of another", 0o600); return os.Chown("of another", 61001, 61001) }, "belongs to another user"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.make(); err != nil {
				t.Skip(err)
			}
			f, err := openStored(name)
			if err == nil {
				f.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
	f, err := openStored("good")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// TestSendStoredKeeps checks that a message which is not sent stays as it is.
func TestSendStoredKeeps(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("HOME", t.TempDir())
	for name, c := range map[string]struct {
		text   string
		status int
	}{
		"1.NotRunning":  {"-S|you\nSubject: s\n\n", exitTempFail},
		"1.NoRecipient": {"-S\nSubject: s\n\n", exitSoftware},
		"1.NoLine":      {"-S|you", exitSoftware},
		"1.LongLine":    {strings.Repeat("x", parent.OfflineLine) + "\n\n", exitSoftware},
		"1.BadOption":   {"-S|-Z\n\n", exitFailed},
		"1.Empty":       {"", exitSoftware},
	} {
		if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		if status := SendStored(name, ".", &said); status != c.status || said.Len() == 0 {
			t.Errorf("%s: status %d, %q", name, status, &said)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != c.text {
			t.Errorf("%s is now %q, %v", name, got, err)
		}
	}
}

// TestPasses checks after which errors of a session a message is kept to be
// sent later, and after which it is the caller's again.
func TestPasses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&gosmtp.SMTPError{Code: 451}, true},
		{fmt.Errorf("sender: %w", &gosmtp.SMTPError{Code: 421}), true},
		{&gosmtp.SMTPError{Code: 550}, false},
		{io.EOF, true},
		{io.ErrUnexpectedEOF, true},
		{&net.OpError{Op: "write", Err: syscall.EPIPE}, true},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, true},
		{errors.New("smtp: a line must not contain CR or LF"), false},
	} {
		if got := passes(c.err); got != c.want {
			t.Errorf("%v passes: %v", c.err, got)
		}
	}
}
