// Package cdb makes and reads constant databases: files of keys and values in
// which one is found by looking at two places, whatever their number. The
// format is Daniel J. Bernstein's (https://cr.yp.to/cdb/cdb.txt), which other
// mail systems read and write too:
//
//	256 heads of tables   position, number of slots
//	entries               length of key, length of value, key, value
//	256 tables            slots: hash of a key, position of its entry
//
// Every number has 32 bits, the low byte first. It opens no file.
//
// What must never happen here: a file that someone damaged, or made to do
// damage, answered from as if it were whole, or read beyond its end.
package cdb

import (
	"encoding/binary"
	"errors"
	"iter"
	"math"

	"smtpd/compile/tablefile"
)

// The layout.
const (
	tables   = 256
	headSize = 8
	slotSize = 8
	lenSize  = 8
	start    = tables * headSize // where entries begin
)

// Errors of Encode and Open.
var (
	ErrTooLarge = errors.New("more than the 4 GB that a constant database can hold")
	ErrFormat   = errors.New("no constant database, or a damaged one")
)

// hash is the one of the format.
func hash(key string) uint32 {
	h := uint32(5381)
	for i := range len(key) {
		h = (h<<5 + h) ^ uint32(key[i])
	}
	return h
}

// A slot says where the entry of a key begins; position 0 is that of none.
type slot struct{ hash, at uint32 }

// Encode returns a database of entries. A key that is there twice has its
// first value.
func Encode(entries []tablefile.Entry) ([]byte, error) {
	size := uint64(start)
	for i := range entries {
		size += uint64(lenSize + len(entries[i].Key) + len(entries[i].Value) + 2*slotSize)
	}
	if size > math.MaxUint32 || size > math.MaxInt {
		return nil, ErrTooLarge
	}
	b := make([]byte, start, size)
	var slots [tables][]slot
	for i := range entries {
		e := &entries[i]
		h := hash(e.Key)
		slots[h%tables] = append(slots[h%tables], slot{h, uint32(len(b))})
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Key)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Value)))
		b = append(append(b, e.Key...), e.Value...)
	}
	for n, l := range slots {
		binary.LittleEndian.PutUint32(b[n*headSize:], uint32(len(b)))
		binary.LittleEndian.PutUint32(b[n*headSize+4:], uint32(2*len(l)))
		b = appendTable(b, l)
	}
	return b, nil
}

// appendTable appends a table with twice as many slots as there are entries,
// so that few are looked at.
func appendTable(b []byte, l []slot) []byte {
	table := make([]slot, 2*len(l))
	for _, s := range l {
		i := int(s.hash>>8) % len(table)
		for table[i].at != 0 {
			i = (i + 1) % len(table)
		}
		table[i] = s
	}
	for _, s := range table {
		b = binary.LittleEndian.AppendUint32(b, s.hash)
		b = binary.LittleEndian.AppendUint32(b, s.at)
	}
	return b
}

// A File is a database in memory.
type File struct {
	data []byte
	end  uint32 // of the entries
}

// Open returns the database that data is. All of it is looked at, once: that
// heads, entries and tables follow each other without a gap, and that every
// slot leads to an entry. The format has no other sign to know it by.
func Open(data []byte) (*File, error) {
	if len(data) < start || uint64(len(data)) > math.MaxUint32 {
		return nil, ErrFormat
	}
	f := &File{data: data, end: binary.LittleEndian.Uint32(data)}
	at := uint64(f.end)
	for n := range uint32(tables) {
		pos, slots := f.head(n)
		if slots > 0 && uint64(pos) != at {
			return nil, ErrFormat
		}
		at += uint64(slots) * slotSize
	}
	if f.end < start || at != uint64(len(data)) || !f.isWhole() {
		return nil, ErrFormat
	}
	return f, nil
}

// isWhole reports whether entries fill their part of the file, and as many
// slots lead to them as there are.
func (f *File) isWhole() bool {
	n := 0
	at := uint32(start)
	for at < f.end {
		e, ok := f.entry(at)
		if !ok {
			return false
		}
		at = e.next
		n++
	}
	for ; at < uint32(len(f.data)); at += slotSize {
		switch to := f.uint32(at + 4); {
		case to == 0:
			continue
		case to < start || to >= f.end:
			return false
		}
		n--
	}
	return n == 0
}

func (f *File) uint32(at uint32) uint32 { return binary.LittleEndian.Uint32(f.data[at:]) }

func (f *File) head(n uint32) (pos, slots uint32) {
	return f.uint32(n * headSize), f.uint32(n*headSize + 4)
}

// An entry is a part of the file.
type entry struct {
	key, value []byte
	next       uint32 // where the entry after it begins
}

// entry returns what is at a position below the end of the entries.
func (f *File) entry(at uint32) (entry, bool) {
	rest := f.data[at:f.end]
	if len(rest) < lenSize {
		return entry{}, false
	}
	k, v := uint64(f.uint32(at)), uint64(f.uint32(at+4))
	size := lenSize + k + v
	if size > uint64(len(rest)) {
		return entry{}, false
	}
	return entry{rest[lenSize : lenSize+k], rest[lenSize+k : size], at + uint32(size)}, true
}

// All returns the entries in their order in the file.
func (f *File) All() iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		for at := uint32(start); at < f.end; {
			e, _ := f.entry(at)
			if !yield(string(e.key), string(e.value)) {
				return
			}
			at = e.next
		}
	}
}
