package queue

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxInline bounds the content that is kept in the store itself. More would
// be written again by every compaction it lives through.
const maxInline = 64 << 10

// small returns the whole content of m, which is size bytes.
func (m *Message) small(size int64) ([]byte, error) {
	if m.Content == nil {
		return m.Small, nil
	}
	b := make([]byte, size)
	if n, err := m.Content.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read content: %w", err)
	}
	return b, nil
}

func (m *Message) size() (int64, error) {
	if m.Content == nil {
		if len(m.Small) > maxInline {
			return 0, fmt.Errorf("content of %d bytes without a file", len(m.Small))
		}
		return int64(len(m.Small)), nil
	}
	st, err := m.Content.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
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

// duplicate returns a second descriptor of the open file f.
func duplicate(f *os.File) (*os.File, error) {
	return duplicateFd(f.Fd(), f.Name())
}

func duplicateFd(fd uintptr, name string) (*os.File, error) {
	second, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(second), name), nil
}
