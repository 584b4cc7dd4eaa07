//go:build darwin || freebsd

package control

import (
	"os"

	"golang.org/x/sys/unix"
)

func socketUser(fd int) (uint32, error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, os.NewSyscallError("getsockopt(LOCAL_PEERCRED)", err)
	}
	return cred.Uid, nil
}
