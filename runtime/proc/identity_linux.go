package proc

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// anyUser lets a process that is not root act for users: it may change its
// user and groups, and has no other right of root.
func anyUser(a *syscall.SysProcAttr) error {
	a.AmbientCaps = []uintptr{unix.CAP_SETUID, unix.CAP_SETGID}
	return nil
}
