package crypto

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// freeze returns a copy of a key file that no later write to the file can
// reach. The kernel makes it: not a byte of the key comes into this process.
func freeze(f *os.File) (*os.File, error) {
	fd, err := unix.MemfdCreate("key", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	copied := os.NewFile(uintptr(fd), f.Name())
	for size := 0; size <= maxKey; {
		n, err := unix.Sendfile(fd, int(f.Fd()), nil, maxKey+1-size)
		if err != nil {
			copied.Close()
			return nil, os.NewSyscallError("sendfile", err)
		}
		if n == 0 {
			if _, err := copied.Seek(0, io.SeekStart); err != nil {
				copied.Close()
				return nil, err
			}
			return copied, nil
		}
		size += n
	}
	copied.Close()
	return nil, fmt.Errorf("is larger than %d bytes", maxKey)
}
