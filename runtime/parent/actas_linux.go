package parent

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// ManyUsers says that a process here can act in the file system for one user
// after the other without being root.
const ManyUsers = true

// actAs runs f with the rights that a user has in the file system: files are
// opened, made and counted as those of uid and gid, which has no other group.
// The process must have been given the right to that, and no other, and be in
// no group besides its own.
//
// It is the thread that acts for the user, for as long as f runs. So f must do
// what it does to files itself: a goroutine that it starts runs on another
// thread and has the process's own rights.
func actAs(uid, gid uint32, f func()) error {
	runtime.LockOSThread()
	if err := assume(int(uid), int(gid)); err != nil {
		return err // the thread stays locked, and ends with the goroutine
	}
	f()
	if err := assume(unix.Geteuid(), unix.Getegid()); err != nil {
		return err
	}
	runtime.UnlockOSThread()
	return nil
}

// assume gives this thread another identity in the file system, and makes sure
// of it: the calls themselves do not say whether they did anything.
func assume(uid, gid int) error {
	const query = -1
	unix.SetfsgidRetGid(gid)
	unix.SetfsuidRetUid(uid)
	nowGID, _ := unix.SetfsgidRetGid(query)
	nowUID, _ := unix.SetfsuidRetUid(query)
	if nowUID != uid || nowGID != gid {
		return fmt.Errorf("act as user id %d, group id %d: the thread is %d, %d", uid, gid, nowUID, nowGID)
	}
	return nil
}
