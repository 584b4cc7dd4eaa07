package parent

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openForward opens the .forward in the home of u, or returns nil if there is
// none. What it says decides where mail goes and what runs as u, so it must be
// a file that nobody but u could have put there: no link, not somebody else's,
// not in a directory that others write to.
func (a *agent) openForward(u Account) (*os.File, error) {
	if u.Home == "" {
		return nil, nil
	}
	home, err := unix.Open(a.local(a.absolute(u.Home)), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, a.homeError(u, err)
	}
	defer unix.Close(home)
	var dir unix.Stat_t
	if err := unix.Fstat(home, &dir); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", u.Home, ErrTemporary, err)
	}
	if dir.Mode&unix.S_ISVTX != 0 {
		// The owner's way to say: I am editing my files, keep my mail.
		return nil, fmt.Errorf("%s is sticky: %w", u.Home, ErrTemporary)
	}

	// O_NONBLOCK: a FIFO of that name must not hold us up.
	fd, err := unix.Openat(home, ".forward", unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s/.forward: %w: %w", u.Home, kindOf(err), err)
	}
	f := os.NewFile(uintptr(fd), ".forward")
	if err := a.checkForward(u, fd, &dir); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// homeError says what a home that cannot be opened means. One that is missing
// holds no .forward; one that this process may not enter may well hold one,
// and mail must not pass it by.
func (a *agent) homeError(u Account, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EACCES) && a.uid != 0:
		return fmt.Errorf("%s: %w: %w", u.Home, ErrTemporary, err)
	}
	return fmt.Errorf("%s: %w: %w", u.Home, kindOf(err), err)
}

// kindOf returns ErrTemporary for what this process or the disk is to blame
// for, else ErrPermanent.
func kindOf(err error) error {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.EIO, unix.ENOMEM} {
		if errors.Is(err, e) {
			return ErrTemporary
		}
	}
	return ErrPermanent
}

// checkForward returns an error unless the file fd, in the directory dir, can
// only be the work of u.
func (a *agent) checkForward(u Account, fd int, dir *unix.Stat_t) error {
	const othersWrite = 0o022
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("%s/.forward: %w: %w", u.Home, ErrTemporary, err)
	}
	wrong := ""
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		wrong = "is not a regular file"
	case st.Uid != u.UID:
		wrong = "belongs to another user"
	case st.Mode&othersWrite != 0:
		wrong = "may be written by others"
	case dir.Uid != u.UID && dir.Uid != 0:
		wrong = "is in a directory of another user"
	case dir.Mode&othersWrite != 0:
		wrong = "is in a directory that others may write to"
	default:
		return nil
	}
	return fmt.Errorf("%s/.forward %s: %w", u.Home, wrong, ErrPermanent)
}
