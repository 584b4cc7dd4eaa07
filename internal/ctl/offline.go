package ctl

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"smtpd/runtime/parent"
)

// errNotKept is returned when a message cannot be kept for a daemon that does
// not run.
var errNotKept = errors.New("the message is not sent and not kept")

// argumentEnd stands between the arguments in the first line of a stored
// message.
const argumentEnd = "|"

// store keeps m, and the arguments of sendmail, in the directory of the spool
// from which the daemon takes mail when it starts. When it returns nil they
// are on disk.
func (t *terminal) store(m *message, args []string) error {
	line := strings.Join(append([]string{"-S"}, args...), argumentEnd)
	if strings.Count(line, argumentEnd) != len(args) || strings.ContainsAny(line, "\n\x00") || len(line) >= parent.OfflineLine {
		return fmt.Errorf("%w: its arguments cannot be written down", errNotKept)
	}
	dir := filepath.Join(t.spool, parent.OfflineDir)
	if err := mayStore(dir); err != nil {
		return fmt.Errorf("%w: %w", errNotKept, err)
	}
	if err := m.storeIn(dir, line+"\n"); err != nil {
		return fmt.Errorf("%w: %w", errNotKept, err)
	}
	return nil
}

// mayStore returns an error unless dir is what the daemon made, and the daemon
// that made it can take the file of this user from there.
func mayStore(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR, st.Mode&0o7777 != parent.OfflineMode:
		return fmt.Errorf("%s is not a directory of mode %o", dir, parent.OfflineMode)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, whose daemon sends no mail of other users", dir, st.Uid)
	}
	return nil
}

// storeIn writes the message, with a line before it, to a new file in dir. It
// gets its name when it is complete: the daemon may be looking.
func (m *message) storeIn(dir, line string) (err error) {
	size, err := m.file.Seek(0, io.SeekEnd)
	if err == nil && size > parent.OfflineSize {
		err = fmt.Errorf("it is larger than %d bytes", parent.OfflineSize)
	}
	if err != nil {
		return err
	}
	if _, err := m.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	name := filepath.Join(dir, fmt.Sprintf("%d.%s", time.Now().Unix(), rand.Text()))
	partial := name + parent.OfflinePartial
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			os.Remove(partial)
			os.Remove(name)
		}
	}()
	if _, err := io.WriteString(f, line); err != nil {
		return err
	}
	if _, err := io.Copy(f, m.file); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(partial, name); err != nil {
		return err
	}
	// Users cannot read the directory, so they cannot sync it. File systems
	// with a journal write the new name with the file.
	return f.Sync()
}

// SendStored does what sendmail was asked to do with the message in the file
// called name in the current directory, as the user that this process is, and
// removes the file when the daemon has the message. It is called by a process
// that the daemon has started as the owner of the file.
func SendStored(name, spool string, out io.Writer) int {
	t := &terminal{out: out, err: out, spool: spool, stored: true}
	f, err := openStored(name)
	if err != nil {
		fmt.Fprintf(out, "sendmail: stored message: %v\n", err)
		return exitSoftware
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, parent.OfflineLine)
	line, err := in.ReadSlice('\n')
	if err != nil {
		fmt.Fprintf(out, "sendmail: stored message: no line of arguments: %v\n", err)
		return exitSoftware
	}
	args := strings.Split(strings.TrimSuffix(string(line), "\n"), argumentEnd)
	t.in = io.LimitReader(in, parent.OfflineSize)
	status := sendmail(t, args)
	if status != exitOK {
		return status
	}
	if err := os.Remove(name); err != nil {
		fmt.Fprintf(out, "sendmail: the message was sent, but will be again: %v\n", err)
		return exitSoftware
	}
	return exitOK
}

// openStored opens the file called name if it can only be what this user had
// sendmail store. Anybody can put anything into the directory: a link to a
// secret, a FIFO that is never written to, another name of a file.
func openStored(name string) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = errors.New("not a regular file")
	case st.Mode&0o7777 != 0o600:
		err = errors.New("its mode is not 0600")
	case st.Nlink != 1:
		err = errors.New("it has more than one name")
	case int(st.Uid) != os.Geteuid():
		err = errors.New("it belongs to another user")
	case st.Size > parent.OfflineSize+parent.OfflineLine:
		err = errors.New("it is too large")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}
