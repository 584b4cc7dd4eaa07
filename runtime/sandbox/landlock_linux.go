package sandbox

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// What may be done below a path. There is no right here to run a program or
// to make a device, a socket or a link.
const (
	reading landlock.AccessFSSet = ll.AccessFSReadFile | ll.AccessFSReadDir
	writing landlock.AccessFSSet = reading | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRefer |
		ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir
)

// firstTSync is the version of landlock that restricts all threads at once,
// and firstRefer the one with a right to rename from one directory into
// another: before it nobody may.
const (
	firstRefer = 2
	firstTSync = 8
)

// restrictPaths closes the file system but for the paths of c, TCP but for
// what r dials, and the way to processes that are not of this sandbox.
func restrictPaths(r rights, c Config, log *slog.Logger) error {
	version, err := ll.LandlockGetABIVersion()
	if err != nil || version < firstRefer {
		log.Warn("sandbox: this kernel has no landlock: only seccomp, the root directory and the user confine the process")
		return nil
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/task", os.Getpid())); version < firstTSync && err != nil {
		// The threads to restrict are found there.
		log.Warn("sandbox: landlock of this kernel needs /proc: only seccomp, the root directory and the user confine the process")
		return nil
	}
	config := landlock.V9.BestEffort() // later ones close UDP, which seccomp does
	var rules []landlock.Rule
	if r.dial&tcp != 0 || r.bind {
		config.HandledAccessNet = 0 // it closes ports, and any may be the next host's
	}
	if r.files != noFiles {
		rules = append(rules, landlock.PathAccess(accessSet(r.files, r.dial), below(c.Root, c.Paths)...))
	}
	return config.Restrict(rules...)
}

// accessSet returns what files and sockets below a path are for.
func accessSet(files access, dial family) landlock.AccessFSSet {
	set := reading
	if files == writeFiles {
		set = writing
	}
	if dial&local != 0 {
		set |= ll.AccessFSResolveUnix
	}
	return set
}

// below returns paths as they are seen from outside root.
func below(root string, paths []string) []string {
	var all []string
	for _, p := range paths {
		all = append(all, filepath.Join("/", root, p))
	}
	return all
}
