package rfc5321

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// MaxTextLine is the longest line of a message in bytes, line end not
// counted. RFC 5321, section 4.5.3.1.6 asks for 1000 at least.
const MaxTextLine = 65535

// Errors of a DataReader.
var (
	// ErrLineEnd says that CR or LF stood alone.
	ErrLineEnd = errors.New("bare CR or LF in message")
	// ErrLineLength says that a line was longer than MaxTextLine.
	ErrLineLength = errors.New("line too long")
	// ErrAmbiguousEnd says that the message holds what some servers take for
	// its end. What follows may be text or commands: the session must close.
	ErrAmbiguousEnd = errors.New("end of message without CRLF")
)

// A DataReader reads the text of one message behind DATA: lines that end in
// CRLF, a dot before each line that begins with one, and a line of one dot
// at the end (RFC 5321, section 4.5.2).
//
// Section 2.3.8 forbids a client to send CR or LF alone, and to accept one
// would let two servers disagree on where a message ends, which is all that
// SMTP smuggling needs. So the first one makes Next fail; Discard then looks
// for the true end, that the session can say why, and gives up at anything
// that another server might have taken for the end.
type DataReader struct {
	// BareLF takes LF for a line end as well, the one before and after the last
	// dot too, for clients that know no better.
	BareLF bool

	r     *bufio.Reader
	inner bool // in the middle of a line
	line  int  // length of the line so far
	size  int64
	err   error // the first failure of Next
}

// NewDataReader returns a DataReader of the text that comes next from r.
func NewDataReader(r *bufio.Reader) *DataReader { return &DataReader{r: r} }

// Size returns how many bytes of the message have been read, counted as RFC
// 1870, section 5 does: each line end is two, a stuffed dot is none.
func (d *DataReader) Size() int64 { return d.size }

// Next returns the next piece of the text, which is valid until the next
// call. A line that fits into the buffer of the reader is one piece; eol says
// that the piece ends a line, and the line end itself is left out. At the end
// of the message err is io.EOF. After ErrLineEnd Discard may be called; no
// other error leaves anything to read.
func (d *DataReader) Next() (text []byte, eol bool, err error) {
	if d.err != nil {
		return nil, false, d.err
	}
	text, eol, err = d.piece()
	if err != nil {
		d.err = err
		return nil, false, err
	}
	d.r.Discard(len(text))
	if eol {
		text = bytes.TrimSuffix(text[:len(text)-1], []byte("\r"))
	}
	if !d.inner && len(text) > 0 && text[0] == '.' {
		if text = text[1:]; eol && len(text) == 0 {
			d.err = io.EOF
			return nil, false, io.EOF
		}
	}
	d.inner = !eol
	d.line += len(text)
	d.size += int64(len(text))
	if d.line > MaxTextLine {
		d.err = ErrLineLength
		return nil, false, d.err
	}
	if eol {
		d.line = 0
		d.size += 2
	}
	return text, eol, nil
}

// piece returns the buffered bytes up to the end of the line, or all that
// the buffer holds of a longer one, without consuming them.
func (d *DataReader) piece() (b []byte, eol bool, err error) {
	for seen := 0; ; seen = len(b) {
		if b, err = d.r.Peek(seen + 1); err != nil {
			break
		}
		b, _ = d.r.Peek(d.r.Buffered())
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			b, eol = b[:seen+i+1], true
			break
		}
	}
	switch {
	case err == io.EOF:
		return nil, false, io.ErrUnexpectedEOF
	case err == bufio.ErrBufferFull:
		// A CR at the very end waits for the LF that should follow it.
		b = bytes.TrimSuffix(b, []byte("\r"))
	case err != nil:
		return nil, false, err
	}
	line, ok := bytes.CutSuffix(b, []byte("\r\n"))
	if !ok && eol && d.BareLF {
		line, ok = b[:len(b)-1], true
	}
	if eol != ok || bytes.IndexByte(line, '\r') >= 0 {
		return nil, false, ErrLineEnd
	}
	return b, eol, nil
}

// Discard reads on to the end of the message, which is CRLF.CRLF. A line of
// one dot between any other line ends, CR CR LF among them, gives
// ErrAmbiguousEnd at once: some server on the way may have taken it for text
// and another for the end.
func (d *DataReader) Discard() error {
	const empty, dot, other = 0, 1, 2
	line, clean := empty, true // what the line holds, and whether CRLF stood before it
	if d.inner {
		line = other
	}
	for {
		c, err := d.r.ReadByte()
		if err != nil {
			return err
		}
		switch {
		case c != '\r' && c != '\n':
			if line == empty && c == '.' {
				line = dot
			} else {
				line = other
			}
			continue
		case c == '\r' && d.follows('\n'):
			d.r.Discard(1)
			if line == dot && clean {
				return nil
			}
			if line == dot {
				return ErrAmbiguousEnd
			}
			// The LF of CR CR LF belongs to nobody's line end but ours.
			line, clean = empty, clean || line != empty
			continue
		case line == dot:
			return ErrAmbiguousEnd
		}
		line, clean = empty, false
	}
}

// follows reports whether the next byte is c.
func (d *DataReader) follows(c byte) bool {
	b, err := d.r.Peek(1)
	return err == nil && b[0] == c
}
