package queue

import (
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// An orderedFS keeps a crash from leaving the name of a file without the
// file. Pebble creates a file and then a marker that names it, and syncs the
// directory once, after both: a disk may hold the second without the first
// then, and the store could not be opened again.
type orderedFS struct {
	vfs.FS
	failed *failure
}

// A failure is when Pebble last failed to do what it does in the background.
type failure struct {
	mu sync.Mutex
	at time.Time
}

// retryPause is how long a table waits after a failure. Pebble tries again at
// once, for as long as a disk is full: it would do and log nothing else.
const retryPause = time.Second

func (f *failure) happened() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = time.Now()
}

// wait returns when the last failure is long enough ago.
func (f *failure) wait() {
	f.mu.Lock()
	left := retryPause - time.Since(f.at)
	f.mu.Unlock()
	time.Sleep(left)
}

// Create syncs the directory before it makes a marker there, and does not make
// tables one after the other that cannot be written.
func (o orderedFS) Create(name string, use vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(name, ".sst") {
		o.failed.wait()
	}
	if strings.HasPrefix(o.PathBase(name), "marker.") {
		if err := syncDir(o.FS, o.PathDir(name)); err != nil {
			return nil, err
		}
	}
	f, err := o.FS.Create(name, use)
	return countedLog(f, name), err
}

// ReuseForWrite makes an old log a new one.
func (o orderedFS) ReuseForWrite(from, to string, use vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := o.FS.ReuseForWrite(from, to, use)
	return countedLog(f, to), err
}

// countedLog counts the flushes of f if it is a log.
func countedLog(f vfs.File, name string) vfs.File {
	if f == nil || !strings.HasSuffix(name, ".log") {
		return f
	}
	return logFile{f}
}

// A logFile is a log whose flushes are counted.
type logFile struct{ vfs.File }

// SyncData returns when what was written is on disk.
func (l logFile) SyncData() error {
	flushed.Inc()
	return l.File.SyncData()
}

// Unwrap lets Pebble find what is below.
func (o orderedFS) Unwrap() vfs.FS { return o.FS }
