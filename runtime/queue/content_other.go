//go:build !linux

package queue

import "os"

// newContent returns an empty file without a name, as content_linux.go does
// in memory.
func newContent() (*os.File, error) {
	f, err := os.CreateTemp("", "message")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
