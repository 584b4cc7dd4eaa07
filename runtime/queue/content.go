package queue

import (
	"os"

	"golang.org/x/sys/unix"
)

// maxInline bounds the content that is kept in the store itself, and that
// travels with its commit. More would be written again by every compaction it
// lives through, and be in memory until then.
const maxInline = 64 << 10

// A contentBuffer gathers the content of a message. What does not fit into it
// goes on in large pieces; the rest goes with the commit.
type contentBuffer struct {
	rest []byte
	next func(piece []byte) error // it keeps nothing of piece
}

// Write adds to the content.
func (c *contentBuffer) Write(p []byte) (total int, err error) {
	for {
		n := min(len(p), maxInline-len(c.rest))
		c.rest = append(c.rest, p[:n]...)
		total += n
		if p = p[n:]; len(p) == 0 {
			return total, nil
		}
		if err := c.next(c.rest); err != nil {
			return total, err
		}
		c.rest = c.rest[:0]
	}
}

// contentFile returns a file of no name that holds b, at its beginning.
func contentFile(b []byte) (*os.File, error) {
	f, err := newContent()
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// duplicate returns a second descriptor of an open file.
func duplicate(fd uintptr, name string) (*os.File, error) {
	second, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(second), name), nil
}
