// Package memo keeps what a component remembers from one start to the next, in
// two files that it is given as descriptors: a component that may open no file
// can have a memory all the same.
//
// What is saved replaces what was saved before, in the file that does not hold
// it. So whenever the machine stops, one of the two is whole.
package memo

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
)

// MaxSize bounds what is read.
const MaxSize = 64 << 20

// A Memo is a pair of files. The nil Memo remembers nothing.
type Memo struct {
	files      [2]*os.File
	generation uint64 // of what is in files[generation%2]
}

// Open returns the memory that is in files, and what was saved last: nil if
// that is nothing, or damaged in both. The files are the Memo's to close; if
// there are none it is nil.
func Open(files [2]*os.File) (*Memo, []byte, error) {
	if files[0] == nil || files[1] == nil {
		return nil, nil, nil
	}
	m := &Memo{files: files}
	var last []byte
	var errs []error
	for i, f := range files {
		generation, data, err := read(f)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Name(), err))
		}
		if generation > m.generation && int(generation%2) == i {
			m.generation, last = generation, data
		}
	}
	return m, last, errors.Join(errs...)
}

// A file begins with a line that says which generation it is, and that it is
// whole.
const header = "smtpd memo %d %x\n"

func sumOf(generation uint64, data []byte) []byte {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d\n", generation)
	sum.Write(data)
	return sum.Sum(nil)
}

// read returns what f holds; generation 0 is nothing, or not the whole.
func read(f *os.File) (generation uint64, data []byte, err error) {
	text, err := io.ReadAll(io.LimitReader(io.NewSectionReader(f, 0, math.MaxInt64), MaxSize))
	if err != nil {
		return 0, nil, err
	}
	first, body, _ := strings.Cut(string(text), "\n")
	var sum []byte
	if _, err := fmt.Sscanf(first+"\n", header, &generation, &sum); err != nil {
		return 0, nil, nil
	}
	if string(sum) != string(sumOf(generation, []byte(body))) {
		return 0, nil, nil
	}
	return generation, []byte(body), nil
}

// Save replaces what was saved before. When it returns nil the data is on
// stable storage; after an error what was saved before still is.
func (m *Memo) Save(data []byte) error {
	if m == nil {
		return nil
	}
	next := m.generation + 1
	f := m.files[next%2]
	text := append(fmt.Appendf(nil, header, next, sumOf(next, data)), data...)
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(text))); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	m.generation = next
	return nil
}

// Close closes the files.
func (m *Memo) Close() {
	if m != nil {
		m.files[0].Close()
		m.files[1].Close()
	}
}
