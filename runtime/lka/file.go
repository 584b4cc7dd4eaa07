package lka

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// readLimited returns the content of a regular file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	data, _, err := readRegular(path, limit)
	return data, err
}

// readRegular returns the content of a regular file of at most limit bytes,
// and what the file was when it was opened. A device or a pipe in its place
// would never end, or never begin.
func readRegular(path string, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s: not a regular file", path)
	}
	data := make([]byte, 0, min(info.Size(), limit)+bytes.MinRead)
	b := bytes.NewBuffer(data)
	_, err = b.ReadFrom(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, nil, err
	case int64(b.Len()) > limit:
		return nil, nil, fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b.Bytes(), info, nil
}
