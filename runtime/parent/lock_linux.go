package parent

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock locks f for writing by the whole file, if nobody else has. The lock
// belongs to the open file: unlike one of the process it keeps out the other
// deliveries of this process too, and mail readers that lock with fcntl.
func tryLock(f *os.File) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}
