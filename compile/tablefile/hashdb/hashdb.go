// Package hashdb reads the databases of older aliases and maps: hash files of
// Berkeley DB, as makemap and newaliases of OpenSMTPD write them on Linux. It
// reads all of a file that is in memory and looks nothing up: who wants to know
// what a table holds wants to know all of it.
package hashdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"smtpd/compile/tablefile"
)

// ErrFormat is returned for what is no hash file of version 8 to 10, which
// are the versions of Berkeley DB 4 and 5. The C libraries of the BSDs write an
// older one.
var ErrFormat = errors.New("no hash database of Berkeley DB 4 or 5")

// What a page is, and an item on it.
const (
	pageUnsorted = 2 // a hash page, before version 9
	pageOverflow = 7 // a part of an item
	pageHash     = 13

	itemInline   = 1 // the item is here
	itemOverflow = 3 // it begins on another page
)

// The layout of a file: offsets in the first page, and in any page.
const (
	magicAt, versionAt, sizeAt   = 12, 16, 20
	magic                        = 0x061561
	nextAt, entriesAt, freeAt    = 16, 20, 22
	typeAt, headerSize           = 25, 26
	minPage, maxPage, metaLength = 512, 64 << 10, 72
)

// Parse returns the entries of a database in their normal form. Keys and
// values lose the NUL that is written behind them.
func Parse(data []byte) ([]tablefile.Entry, error) {
	d, err := open(data)
	if err != nil {
		return nil, err
	}
	var entries []tablefile.Entry
	for n := 1; n < d.pages(); n++ {
		page := d.page(n)
		if kind := page[typeAt]; kind != pageUnsorted && kind != pageHash {
			continue
		}
		items, err := d.items(page)
		if err != nil {
			return nil, fmt.Errorf("page %d: %w", n, err)
		}
		for i := 0; i+1 < len(items); i += 2 {
			if len(items[i]) <= tablefile.MaxKey {
				entries = append(entries, tablefile.Entry{Key: items[i], Value: items[i+1]})
			}
		}
	}
	return tablefile.Normalize(entries), nil
}

// A database is a file whose first page was understood.
type database struct {
	data  []byte
	size  int // of a page
	order binary.ByteOrder
	left  int // bytes of items that may still be read
}

func open(data []byte) (*database, error) {
	if len(data) < metaLength {
		return nil, ErrFormat
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if order.Uint32(data[magicAt:]) != magic {
			continue
		}
		version, size := order.Uint32(data[versionAt:]), int(order.Uint32(data[sizeAt:]))
		if version < 8 || version > 10 || size < minPage || size > maxPage || size&(size-1) != 0 || len(data)%size != 0 {
			return nil, ErrFormat
		}
		return &database{data, size, order, len(data)}, nil
	}
	return nil, ErrFormat
}

func (d *database) pages() int { return len(d.data) / d.size }

func (d *database) page(n int) []byte { return d.data[n*d.size : (n+1)*d.size] }

// items returns the keys and values of a page, one after the other.
func (d *database) items(page []byte) ([]string, error) {
	n := int(d.order.Uint16(page[entriesAt:]))
	if headerSize+2*n > d.size {
		return nil, errors.New("more items than fit")
	}
	var items []string
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
func (d *database) item(b []byte) (string, error) {
	switch {
	case b[0] == itemInline:
		b = b[1:]
	case b[0] == itemOverflow && len(b) >= 12:
		var err error
		if b, err = d.chain(int(d.order.Uint32(b[4:])), int(d.order.Uint32(b[8:]))); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("of kind %d, which tables do not have", b[0])
	}
	// The same pages may be named again and again: what they hold is counted.
	if d.left -= len(b); d.left < 0 {
		return "", errors.New("more text than the file has")
	}
	return strings.TrimSuffix(string(b), "\x00"), nil
}

// chain returns an item of a length that is on pages of its own.
func (d *database) chain(n, length int) ([]byte, error) {
	if length < 0 || length > len(d.data) {
		return nil, errors.New("longer than the file")
	}
	var b []byte
	for len(b) < length {
		if n <= 0 || n >= d.pages() || d.page(n)[typeAt] != pageOverflow {
			return nil, errors.New("goes on where nothing is")
		}
		page := d.page(n)
		used := int(d.order.Uint16(page[freeAt:]))
		if used == 0 || headerSize+used > d.size {
			return nil, errors.New("goes on and does not end")
		}
		b = append(b, page[headerSize:headerSize+used]...)
		n = int(d.order.Uint32(page[nextAt:]))
	}
	return b[:length], nil
}
