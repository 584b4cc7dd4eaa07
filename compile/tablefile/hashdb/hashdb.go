// Package hashdb reads the databases that makemap and newaliases write, and
// have written: constant databases, which are ours, and those of Berkeley DB
// that OpenSMTPD has, on Linux (version 4 or 5, hash and btree) and on the BSDs
// (1.85, hash). It reads all of a file that is in memory and looks nothing up:
// who wants to know what a table holds wants to know all of it.
//
// What must never happen here: a file that costs more time or memory than its
// size, whatever is in it.
package hashdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"smtpd/compile/tablefile"
	"smtpd/compile/tablefile/cdb"
)

// ErrFormat is returned for what is no database of a kind that is known.
var ErrFormat = errors.New("no database that makemap writes: neither a constant database nor one of Berkeley DB 1.85, 4 or 5")

// Parse returns the entries of a database in their normal form.
func Parse(data []byte) ([]tablefile.Entry, error) {
	if o, err := openOld(data); err == nil {
		return o.entries()
	}
	if d, err := open(data); err == nil {
		return d.entries()
	}
	return parseConstant(data)
}

func parseConstant(data []byte) ([]tablefile.Entry, error) {
	f, err := cdb.Open(data)
	if err != nil {
		return nil, ErrFormat
	}
	var entries []tablefile.Entry
	for key, value := range f.All() {
		entries = append(entries, tablefile.Entry{Key: key, Value: value})
	}
	slices.Reverse(entries) // of a key that is there twice the first counts
	return tablefile.Normalize(entries), nil
}

// pair returns an entry of a database of Berkeley DB. Keys and values lose the
// NUL that is written behind them.
func pair(key, value []byte) tablefile.Entry {
	return tablefile.Entry{Key: strings.TrimSuffix(string(key), "\x00"), Value: strings.TrimSuffix(string(value), "\x00")}
}

// What a page is, and an item on it.
const (
	pageUnsorted = 2 // a hash page, before version 9
	pageLeaf     = 5 // of a btree
	pageOverflow = 7 // a part of an item
	pageHash     = 13

	itemInline   = 1 // the item is here
	itemOverflow = 3 // it begins on another page
)

// The layout of a file: offsets in the first page, and in any page.
const (
	magicAt, versionAt, sizeAt   = 12, 16, 20
	magicHash, magicBtree        = 0x061561, 0x053162
	nextAt, entriesAt, freeAt    = 16, 20, 22
	typeAt, headerSize           = 25, 26
	minPage, maxPage, metaLength = 512, 64 << 10, 72
)

// entries returns what all pages hold.
func (d *database) entries() ([]tablefile.Entry, error) {
	var entries []tablefile.Entry
	for n := 1; n < d.pages(); n++ {
		page := d.page(n)
		var items [][]byte
		var err error
		switch kind := page[typeAt]; {
		case !d.btree && (kind == pageUnsorted || kind == pageHash):
			items, err = d.items(page)
		case d.btree && kind == pageLeaf:
			items, err = d.leafItems(page)
		}
		if err != nil {
			return nil, fmt.Errorf("page %d: %w", n, err)
		}
		for i := 0; i+1 < len(items); i += 2 {
			entries = append(entries, pair(items[i], items[i+1]))
		}
	}
	return tablefile.Normalize(entries), nil
}

// A database is a file whose first page was understood.
type database struct {
	data  []byte
	btree bool
	size  int // of a page
	order binary.ByteOrder
	left  int // bytes of items that may still be read
}

func open(data []byte) (*database, error) {
	if len(data) < metaLength {
		return nil, ErrFormat
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		magic := order.Uint32(data[magicAt:])
		if magic != magicHash && magic != magicBtree {
			continue
		}
		version, size := order.Uint32(data[versionAt:]), int(order.Uint32(data[sizeAt:]))
		if version < 8 || version > 10 || size < minPage || size > maxPage || size&(size-1) != 0 || len(data)%size != 0 {
			return nil, ErrFormat
		}
		return &database{data, magic == magicBtree, size, order, len(data)}, nil
	}
	return nil, ErrFormat
}

func (d *database) pages() int { return len(d.data) / d.size }

func (d *database) page(n int) []byte { return d.data[n*d.size : (n+1)*d.size] }

// items returns the keys and values of a page, one after the other.
func (d *database) items(page []byte) ([][]byte, error) {
	n := int(d.order.Uint16(page[entriesAt:]))
	if headerSize+2*n > d.size {
		return nil, errors.New("more items than fit")
	}
	var items [][]byte
	end := d.size
	for i := range n {
		at := int(d.order.Uint16(page[headerSize+2*i:]))
		if at < headerSize+2*n || at >= end {
			return nil, fmt.Errorf("item %d is in no place for one", i)
		}
		item, err := d.item(page[at:end])
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
		items = append(items, item)
		end = at
	}
	return items, nil
}

// item returns one item, which may go on elsewhere.
func (d *database) item(b []byte) ([]byte, error) {
	switch {
	case b[0] == itemInline:
		return d.count(b[1:])
	case b[0] == itemOverflow && len(b) >= 12:
		return d.chain(d.order.Uint32(b[4:]), d.order.Uint32(b[8:]))
	}
	return nil, fmt.Errorf("of kind %d, which tables do not have", b[0])
}

// leafItems returns the keys and values of a leaf, one after the other.
func (d *database) leafItems(page []byte) ([][]byte, error) {
	n := int(d.order.Uint16(page[entriesAt:]))
	if headerSize+2*n > d.size {
		return nil, errors.New("more items than fit")
	}
	var items [][]byte
	for i := range n {
		at := int(d.order.Uint16(page[headerSize+2*i:]))
		if at < headerSize+2*n || at+3 > d.size {
			return nil, fmt.Errorf("item %d is in no place for one", i)
		}
		item, err := d.leafItem(page[at:])
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
		items = append(items, item)
	}
	return items, nil
}

// leafItem returns the item that b begins with.
func (d *database) leafItem(b []byte) ([]byte, error) {
	length := int(d.order.Uint16(b))
	switch {
	case b[2] == itemInline && 3+length <= len(b):
		return d.count(b[3 : 3+length])
	case b[2] == itemOverflow && len(b) >= 12:
		return d.chain(d.order.Uint32(b[4:]), d.order.Uint32(b[8:]))
	}
	return nil, fmt.Errorf("of kind %d, which tables do not have", b[2])
}

// count returns b if the file can have so much text: the same place may be
// named again and again.
func (d *database) count(b []byte) ([]byte, error) {
	if d.left -= len(b); d.left < 0 {
		return nil, errors.New("more text than the file has")
	}
	return b, nil
}

// chain returns an item of a length that is on pages of its own.
func (d *database) chain(from, length uint32) ([]byte, error) {
	if int64(length) > int64(d.left) {
		return nil, errors.New("more text than the file has")
	}
	var b []byte
	for n := int64(from); len(b) < int(length); {
		if n <= 0 || n >= int64(d.pages()) || d.page(int(n))[typeAt] != pageOverflow {
			return nil, errors.New("goes on where nothing is")
		}
		page := d.page(int(n))
		used := int(d.order.Uint16(page[freeAt:]))
		if used == 0 || headerSize+used > d.size {
			return nil, errors.New("goes on and does not end")
		}
		b = append(b, page[headerSize:headerSize+used]...)
		n = int64(d.order.Uint32(page[nextAt:]))
	}
	return d.count(b[:length])
}
