package queue

import (
	"os"

	"golang.org/x/sys/unix"
)

// newContent returns an empty file in memory. It has no name, so that nobody
// else can open it, and it ends with its last descriptor.
func newContent() (*os.File, error) {
	fd, err := unix.MemfdCreate("message", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "message"), nil
}
