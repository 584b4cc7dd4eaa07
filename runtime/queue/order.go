package queue

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// An orderedFS keeps a crash from leaving the name of a file without the
// file. Pebble creates a file and then a marker that names it, and syncs the
// directory once, after both: a disk may hold the second without the first
// then, and the store could not be opened again.
type orderedFS struct{ vfs.FS }

// Create syncs the directory before it makes a marker there.
func (o orderedFS) Create(name string, use vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(o.PathBase(name), "marker.") {
		if err := syncDir(o.FS, o.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return o.FS.Create(name, use)
}

// Unwrap lets Pebble find what is below.
func (o orderedFS) Unwrap() vfs.FS { return o.FS }
