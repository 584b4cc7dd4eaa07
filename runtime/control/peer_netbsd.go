package control

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// localPeerEID is LOCAL_PEEREID of unix(4), an option of level 0, and unpcbid
// its answer.
const localPeerEID = 3

type unpcbid struct {
	pid        int32
	euid, egid uint32
}

func socketUser(fd int) (uint32, error) {
	var id unpcbid
	size := uint32(unsafe.Sizeof(id))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), 0, localPeerEID, uintptr(unsafe.Pointer(&id)), uintptr(unsafe.Pointer(&size)), 0)
	switch {
	case errno != 0:
		return 0, os.NewSyscallError("getsockopt(LOCAL_PEEREID)", errno)
	case size != uint32(unsafe.Sizeof(id)):
		return 0, os.NewSyscallError("getsockopt(LOCAL_PEEREID)", unix.EINVAL)
	}
	return id.euid, nil
}
