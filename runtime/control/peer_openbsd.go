package control

import (
	"os"

	"golang.org/x/sys/unix"
)

// socketUser reads the beginning of a struct sockpeercred, whose first member
// is the user: getsockopt(2) fills no more than it is given room for.
func socketUser(fd int) (uint32, error) {
	uid, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, os.NewSyscallError("getsockopt(SO_PEERCRED)", err)
	}
	return uint32(uid), nil
}
