package hashdb

import (
	"encoding/binary"
	"errors"
	"fmt"

	"smtpd/compile/tablefile"
)

// An old is a hash file of Berkeley DB 1.85. It begins with a header, whose
// numbers have the high byte first wherever it was written. Bucket after
// bucket follows, each a chain of pages: one of its own, and overflow pages,
// which lie between those of buckets, as many as the header says there are
// behind each power of two of them.
//
// A page is an array of 16-bit numbers from its start and text from its end:
//
//	n, (place of key, place of value)..., free space, where it ends
//
// n counts the places. A pair whose second number is below oldReal is none:
// it leads to the next page, or is a part of a pair too large for a page.
type old struct {
	data     []byte
	size     int              // of a page
	order    binary.ByteOrder // of the numbers on pages
	header   int              // pages that the header takes
	buckets  int
	overflow [oldSpares]int // overflow pages before each power of two
	left     int            // pages that may still be read
	found    []tablefile.Entry
}

// The header: places of its numbers.
const (
	oldMagicAt, oldVersionAt, oldOrderAt    = 0, 4, 8
	oldSizeAt, oldBucketsAt, oldHeaderAt    = 12, 40, 60
	oldSparesAt, oldSpares, oldHeaderLength = 68, 32, 260

	oldVersion = 2
	oldMinPage = 64
)

// What the second number of a pair can be instead of a place.
const (
	oldNext      = 0 // the first one is the address of the next page
	oldPartKey   = 1 // a part of a key
	oldWholeKey  = 2 // the end of a key; of a value, a part
	oldWholePair = 3 // the end of a key and, there or further on, its value; of a value, the end
	oldReal      = 4
)

var errOldPage = errors.New("no page of a hash database")

func openOld(data []byte) (*old, error) {
	if len(data) < oldHeaderLength {
		return nil, ErrFormat
	}
	number := func(at int) uint32 { return binary.BigEndian.Uint32(data[at:]) }
	o := &old{data: data, size: int(number(oldSizeAt))}
	switch number(oldOrderAt) {
	case 1234:
		o.order = binary.LittleEndian
	case 4321:
		o.order = binary.BigEndian
	default:
		return nil, ErrFormat
	}
	if number(oldMagicAt) != magicHash || number(oldVersionAt) != oldVersion ||
		number(oldSizeAt) > maxPage || o.size < oldMinPage || o.size&(o.size-1) != 0 {
		return nil, ErrFormat
	}
	// No number of pages is larger than that of those in the file.
	o.left = len(data) / o.size
	limit := uint32(o.left)
	last, header := number(oldBucketsAt), number(oldHeaderAt)
	if last >= limit || header < 1 || header > limit {
		return nil, ErrFormat
	}
	o.buckets, o.header = int(last)+1, int(header)
	for i := range o.overflow {
		o.overflow[i] = int(min(number(oldSparesAt+4*i), limit))
	}
	return o, nil
}

func (o *old) entries() ([]tablefile.Entry, error) {
	for b := range o.buckets {
		if err := o.chain(b); err != nil {
			return nil, fmt.Errorf("bucket %d: %w", b, err)
		}
	}
	return tablefile.Normalize(o.found), nil
}

// chain reads the pages of a bucket.
func (o *old) chain(bucket int) error {
	n := o.place(bucket)
	if (n+1)*o.size > len(o.data) {
		return nil // never written
	}
	p, err := o.page(n)
	for p.b != nil && err == nil {
		p, err = o.pairs(p)
	}
	return err
}

// place returns the page of a bucket.
func (o *old) place(bucket int) int {
	n := bucket + o.header
	if bucket > 0 {
		n += o.overflow[log2(bucket+1)-1]
	}
	return n
}

// log2 returns the power of two that is n or the next above it.
func log2(n int) int {
	i := 0
	for 1<<i < n {
		i++
	}
	return i
}

// An oldPage is a page whose places lie within it.
type oldPage struct {
	b     []byte
	order binary.ByteOrder
	n     int // places
}

func (o *old) page(n int) (oldPage, error) {
	if o.left--; o.left < 0 {
		return oldPage{}, errors.New("more pages than the file has")
	}
	if n < o.header || (n+1)*o.size > len(o.data) {
		return oldPage{}, errors.New("goes on where nothing is")
	}
	p := oldPage{b: o.data[n*o.size : (n+1)*o.size], order: o.order}
	p.n = p.at(0)
	if p.n%2 != 0 || 2*(p.n+3) > o.size && p.n > 0 {
		return oldPage{}, errOldPage
	}
	return p, nil
}

// at returns a number of the page.
func (p *oldPage) at(i int) int { return int(p.order.Uint16(p.b[2*i:])) }

// text returns what lies between two places.
func (p *oldPage) text(from, to int) ([]byte, error) {
	if from < 2*(p.n+1) || from > to || to > len(p.b) {
		return nil, errOldPage
	}
	return p.b[from:to], nil
}

// next returns the overflow page that the page is followed by, or none. Its
// address has in its upper five bits behind which power of two of buckets it
// lies, and below them how far.
func (o *old) next(p oldPage) (oldPage, error) {
	addr := p.at(p.n - 1)
	return o.page(o.place(1<<(addr>>11)-1) + addr&0x7ff)
}

// pairs takes the pairs of a page and returns the page after it.
func (o *old) pairs(p oldPage) (next oldPage, err error) {
	end := len(p.b)
	for i := 1; i < p.n; i += 2 {
		key, value := p.at(i), p.at(i+1)
		switch {
		case value == oldNext && i+1 == p.n:
			return o.next(p)
		case value < oldReal && i == 1:
			return o.large(p)
		}
		k, err := p.text(key, end)
		if err != nil {
			return oldPage{}, err
		}
		v, err := p.text(value, key)
		if err != nil {
			return oldPage{}, err
		}
		o.found = append(o.found, pair(k, v))
		end = value
	}
	return oldPage{}, nil
}

// large takes a pair that has pages of its own, of which p is the first, and
// returns the page after them.
func (o *old) large(p oldPage) (next oldPage, err error) {
	var key, value []byte
	for {
		part, err := p.text(p.at(1), len(p.b))
		if err != nil {
			return oldPage{}, err
		}
		key = append(key, part...)
		if mark := p.at(2); mark != oldPartKey && (p.n != 4 || mark != oldWholeKey && mark != oldWholePair) {
			return oldPage{}, errOldPage
		} else if mark != oldPartKey {
			break
		}
		if p, err = o.next(p); err != nil || p.n < 2 {
			return oldPage{}, errors.Join(err, errOldPage)
		}
	}
	if p.at(2) == oldWholePair {
		// The last number is the place of the value, where the page has room for
		// some of it. It has all of it if there is room left.
		part, err := p.text(p.at(4), p.at(1))
		if err != nil {
			return oldPage{}, err
		}
		value = append(value, part...)
		if free := p.at(p.n + 1); free != 0 {
			o.found = append(o.found, pair(key, value))
			return o.next(p)
		}
	}
	if p, err = o.next(p); err != nil {
		return oldPage{}, err
	}
	if p.n == 0 { // some releases fill the page before to the last byte
		o.found = append(o.found, pair(key, value))
		return oldPage{}, nil
	}
	return o.largeValue(p, key, value)
}

// largeValue takes the pages of a value, of which p is the next.
func (o *old) largeValue(p oldPage, key, value []byte) (next oldPage, err error) {
	for {
		if p.n < 2 {
			return oldPage{}, errOldPage
		}
		part, err := p.text(p.at(1), len(p.b))
		if err != nil {
			return oldPage{}, err
		}
		value = append(value, part...)
		switch p.at(2) {
		case oldWholePair:
			o.found = append(o.found, pair(key, value))
			if p.n == 2 {
				return oldPage{}, nil
			}
			return o.next(p)
		case oldWholeKey:
		default:
			return oldPage{}, errOldPage
		}
		if p, err = o.next(p); err != nil {
			return oldPage{}, err
		}
	}
}
