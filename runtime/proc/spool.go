package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Prepare makes the directory of the spool and gives it to a. Others may
// enter it, to reach the submission socket, but not list it.
func Prepare(dir string, a Account) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("prepare spool: %w", err)
	}
	info, err := claim(dir, a)
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() != 0 && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("prepare spool: %s belongs to user %d, this is user %d", dir, owner.Uid, os.Geteuid())
	}
	return os.Chmod(dir, 0o711)
}

// claim gives a directory to a, if this is root, and says what it was before.
func claim(dir string, a Account) (fs.FileInfo, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("prepare spool: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("prepare spool: %s is no directory", dir)
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(dir, a.UID, a.GID); err != nil {
			return nil, fmt.Errorf("prepare spool: %w", err)
		}
	}
	return info, nil
}

// Share makes the directory in the spool into which every user may put files:
// a's, where nobody else can list it or take what is another's. The directory
// that holds it has been prepared for a.
func Share(dir string, a Account) error {
	err := os.Mkdir(dir, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("prepare spool: %w", err)
	}
	if _, err := claim(dir, a); err != nil {
		return err
	}
	return os.Chmod(dir, os.ModeSticky|0o733)
}

// Divide makes what a daemon of several processes needs in its spool, which
// is root's: "store", the root directory of the queue, and "empty", that of
// processes which need no file. What a daemon of one process has left there is
// given to the queue.
func Divide(dir string, queue Account) error {
	for name, mode := range map[string]os.FileMode{"store": 0o700, "empty": 0o555} {
		err := os.Mkdir(filepath.Join(dir, name), mode)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("prepare spool: %w", err)
		}
	}
	return hand(filepath.Join(dir, "store"), queue)
}

// hand gives a directory and all that is in it to a, unless a has it. Its
// present owner may try to have us give away something else: no link is
// followed, and no file that has a second name is touched.
func hand(dir string, a Account) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("prepare spool: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok {
		return fmt.Errorf("prepare spool: %s is no directory", dir)
	}
	if int(st.Uid) == a.UID {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("prepare spool: %w", err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || info.Mode().IsRegular() && st.Nlink != 1 {
			return fmt.Errorf("%s has more than one name", path)
		}
		return root.Lchown(path, a.UID, a.GID)
	})
	if err != nil {
		return fmt.Errorf("prepare spool: give %s to %s: %w", dir, a.Name, err)
	}
	return nil
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
	err = lock(f)
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

// leavePatience bounds how long the processes of a daemon that was killed are
// waited for: they end by themselves.
const leavePatience = 20 * time.Second

// lock takes the lock of f. If the daemon that wrote its number there is gone,
// it waits for the rest of it.
func lock(f *os.File) error {
	for end := time.Now().Add(leavePatience); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
		if pid := holderPID(f); pid == 0 || syscall.Kill(pid, 0) != syscall.ESRCH {
			return err
		}
	}
}

// holderPID returns the number that is written in a lock, 0 if there is none.
func holderPID(f *os.File) int {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}

// holder says which process has the lock, as far as it wrote it down.
func holder(f *os.File) string {
	if pid := holderPID(f); pid != 0 {
		return fmt.Sprintf(", process %d,", pid)
	}
	return ""
}

// Release gives the lock up.
func (l *Lock) Release() { l.f.Close() }
