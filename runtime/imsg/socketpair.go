package imsg

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// Socketpair returns the ends of a stream socket. No program that is started
// at the same time inherits them.
func Socketpair(name string) (a, b *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// Stream is Socketpair with one end to be used here and one to be given away.
func Stream(name string) (ours net.Conn, theirs *os.File, err error) {
	a, theirs, err := Socketpair(name)
	if err != nil {
		return nil, nil, err
	}
	defer a.Close()
	if ours, err = net.FileConn(a); err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return ours, theirs, nil
}

// FileConn returns the connection of which f, which it closes, is an end.
func FileConn(f *os.File) (Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("no local socket")
	}
	return NewUnix(u), nil
}
