package rfc5322

import (
	"bytes"
	"errors"
	"io"
	"strings"
)

// Limits of a header section.
const (
	MaxHops  = 100   // Received fields at which a message is a loop
	MaxName  = 1023  // bytes of a field name
	MaxField = 65535 // bytes of a From, To or Cc field with its folds
)

// Errors of a Writer.
var (
	ErrMalformed = errors.New("malformed header section")
	ErrLoop      = errors.New("routing loop detected")
)

// A Writer passes the lines of a message on and watches its header section.
type Writer struct {
	w        io.Writer
	complete *Completion
	author   string // takes the place of the address in From; "" changes nothing

	body    bool // the header section is over
	inner   bool // in the middle of a line
	any     bool // a field has been seen
	kind    kind // of the present field
	size    int  // of the present field
	hops    int
	date    bool
	id      bool
	pending []byte // a field to be completed
}

// A kind is what a field is to us.
type kind uint8

const (
	plain kind = iota
	addresses
	hidden
	author
)

// NewWriter returns a Writer to w. With a Completion the message is one that
// a user submits, and its header is completed on the way; without one not a
// byte is changed.
func NewWriter(w io.Writer, c *Completion) *Writer { return &Writer{w: w, complete: c} }

// Masquerade has the address in From replaced by addr. It is called before
// Write.
func (h *Writer) Masquerade(addr string) { h.author = addr }

// Write takes the next piece of the message, without line end; eol says that
// it ends a line. A line is cut only after more than MaxName bytes. The error
// is ErrMalformed, ErrLoop, or that of the underlying writer.
func (h *Writer) Write(text []byte, eol bool) error {
	if h.body {
		return h.emit(text, eol)
	}
	start := !h.inner
	h.inner = !eol
	if start {
		if err := h.line(text); err != nil {
			return err
		}
		if h.body {
			return h.emit(text, eol)
		}
	}
	return h.field(text, eol)
}

// line looks at the start of a line of the header section.
func (h *Writer) line(text []byte) error {
	switch {
	case len(text) == 0:
		h.body = true
		return h.finish()
	case text[0] == ' ' || text[0] == '\t':
		if !h.any {
			return ErrMalformed
		}
		return nil
	}
	name, ok := fieldName(text)
	if !ok {
		return ErrMalformed
	}
	if err := h.flush(); err != nil {
		return err
	}
	h.any, h.size = true, 0
	return h.begin(name)
}

// begin notes which field begins.
func (h *Writer) begin(name []byte) error {
	h.kind = plain
	switch {
	case is(name, "Received"):
		if h.hops++; h.hops >= MaxHops {
			return ErrLoop
		}
	case is(name, "From") && h.author != "":
		h.kind = author
	case is(name, "From"), is(name, "To"), is(name, "Cc"):
		h.kind = addresses
	case is(name, "Bcc"):
		h.kind = hidden
	case is(name, "Date"):
		h.date = true
	case is(name, "Message-ID"):
		h.id = true
	}
	return nil
}

func is(name []byte, s string) bool { return len(name) == len(s) && bytes.EqualFold(name, []byte(s)) }

// field passes on a piece of the present field, keeps it back, or drops it.
func (h *Writer) field(text []byte, eol bool) error {
	if h.size += len(text); eol {
		h.size++
	}
	switch {
	case (h.kind == addresses || h.kind == author) && h.size > MaxField:
		return ErrMalformed
	case h.kind == plain || h.complete == nil && h.kind != author:
		return h.emit(text, eol)
	case h.kind != hidden:
		h.pending = append(h.pending, text...)
		if eol {
			h.pending = append(h.pending, '\n')
		}
	}
	return nil
}

func (h *Writer) emit(text []byte, eol bool) error {
	_, err := h.w.Write(text)
	if eol && err == nil {
		_, err = io.WriteString(h.w, "\n")
	}
	return err
}

// flush writes the field that was kept back.
func (h *Writer) flush() error {
	if len(h.pending) == 0 {
		return nil
	}
	var field []byte
	if h.kind == author {
		field = replaceAuthor(h.pending, h.author)
	} else {
		field = completeAddresses(h.pending, h.complete.Domain)
	}
	_, err := h.w.Write(field)
	h.pending = h.pending[:0]
	return err
}

// finish ends the header section.
func (h *Writer) finish() error {
	if err := h.flush(); err != nil || h.complete == nil {
		return err
	}
	_, err := h.w.Write(h.complete.missing(h.date, h.id))
	return err
}

// Close ends the message. One that is only a header section is complete, and
// so is one without anything.
func (h *Writer) Close() error {
	if h.body {
		return nil
	}
	h.body = true
	return h.finish()
}

// fieldName returns the name of the field that begins with line: printable
// bytes up to a colon, blanks before which are obsolete but in use.
func fieldName(line []byte) (name []byte, ok bool) {
	n := bytes.IndexByte(line[:min(len(line), MaxName+2)], ':')
	if n < 0 {
		return nil, false
	}
	name = bytes.TrimRight(line[:n], " \t")
	if len(name) == 0 || len(name) > MaxName {
		return nil, false
	}
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return nil, false
		}
	}
	return name, true
}

// sanitize returns s with every byte that could end or fold a line of a
// header replaced.
func sanitize(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
