package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// The names of what components remember from one start to the next. Each is
// two files of the spool: see runtime/memo.
const (
	policiesName = "mta-sts"
	reportsName  = "tls-reports"
)

// memories says which component has which.
var memories = map[string]string{"lka": policiesName, "mta": reportsName}

// memoryName is the name of a file, and of its descriptor.
func memoryName(name string, i int) string { return fmt.Sprintf("%s.%d", name, i) }

// openMemory opens a file of a memory, which it makes if there is none.
func openMemory(spool, name string, i int) (*os.File, error) {
	return os.OpenFile(filepath.Join(spool, memoryName(name, i)), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
}

// memory returns the files of the memory called name.
func (p *parts) memory(name string) (files [2]*os.File, err error) {
	for i := range files {
		if files[i], err = p.remembered(name, i); err != nil {
			return files, err
		}
	}
	return files, nil
}
