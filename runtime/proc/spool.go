package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Prepare makes the directory of the spool and gives it to a. Others may
// enter it, to reach the submission socket, but not list it.
func Prepare(dir string, a Account) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("prepare spool: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("prepare spool: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("prepare spool: %s is no directory", dir)
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(dir, a.UID, a.GID); err != nil {
			return fmt.Errorf("prepare spool: %w", err)
		}
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() != 0 && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("prepare spool: %s belongs to user %d, this is user %d", dir, owner.Uid, os.Geteuid())
	}
	return os.Chmod(dir, 0o711)
}

// A Lock keeps a spool to one daemon.
type Lock struct{ f *os.File }

// Acquire takes the lock of the spool in dir, for a daemon that will run as a.
func Acquire(dir string, a Account) (*Lock, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock spool: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer f.Close()
		return nil, fmt.Errorf("another smtpd%s uses the spool %s", holder(f), dir)
	}
	if err == nil && os.Geteuid() == 0 {
		err = f.Chown(a.UID, a.GID)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock spool: %w", err)
	}
	return &Lock{f}, nil
}

// holder says which process has the lock, as far as it wrote it down.
func holder(f *os.File) string {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	pid := strings.TrimSpace(string(b[:n]))
	if _, err := strconv.Atoi(pid); err != nil {
		return ""
	}
	return ", process " + pid + ","
}

// Release gives the lock up.
func (l *Lock) Release() { l.f.Close() }
