package proc

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"

	"smtpd/runtime/imsg"
)

// highFD is above the descriptors that a process is started with: what is to
// live until it runs must not be in their places.
const highFD = 16

// An executable is the program of this process, held open: what is started
// later is the same program, whatever has been installed in its place.
type executable struct {
	file *os.File // nil: the system cannot run what a descriptor names
	path string
}

func openExecutable() (*executable, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program: %w", err)
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return &executable{path: path}, nil
	}
	defer f.Close()
	high, err := duplicate(f)
	if err != nil {
		return nil, fmt.Errorf("hold the program open: %w", err)
	}
	return &executable{high, fmt.Sprintf("/proc/self/fd/%d", high.Fd())}, nil
}

func (e *executable) close() {
	if e.file != nil {
		e.file.Close()
	}
}

// mostInherited is above the descriptors with which shells, service managers
// and the like start programs.
const mostInherited = 1024

// CloseInherited keeps from the programs that this process starts whatever it
// was started with itself, but for the standard descriptors.
func CloseInherited() {
	for fd := 3; fd < mostInherited; fd++ {
		unix.CloseOnExec(fd) // of those that are not open there is nothing to say
	}
}

// duplicate returns a second descriptor of f, above highFD.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	err = raw.Control(func(old uintptr) {
		fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, highFD)
	})
	if err := errors.Join(err, dupErr); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// socketpair returns two connected sockets, above highFD.
func socketpair() (a, b *os.File, err error) {
	var low [2]*os.File
	if low[0], low[1], err = imsg.Socketpair("link"); err != nil {
		return nil, nil, err
	}
	defer low[0].Close()
	defer low[1].Close()
	if a, err = duplicate(low[0]); err != nil {
		return nil, nil, err
	}
	if b, err = duplicate(low[1]); err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// buildID returns what tells this program from one built otherwise: the note
// of the linker, or else what the build recorded.
var buildID = sync.OnceValue(func() string {
	path, err := os.Executable()
	if _, statErr := os.Stat("/proc/self/exe"); statErr == nil {
		path = "/proc/self/exe"
	}
	if err == nil {
		if id := buildNote(path); id != "" {
			return id
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.String()
	}
	return "unknown"
})

func buildNote(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	note := f.Section(".note.go.buildid")
	if note == nil || note.Size > 4096 {
		return ""
	}
	b, err := note.Data()
	if err != nil {
		return ""
	}
	return string(b)
}

// A Program is this program, held open.
type Program struct {
	Path string // it can be started here, also by a user who could not reach it

	exe *executable
}

// Hold returns the program of this process. It is to be called before the
// process becomes another.
func Hold() (*Program, error) {
	e, err := openExecutable()
	if err != nil {
		return nil, err
	}
	return &Program{e.path, e}, nil
}
