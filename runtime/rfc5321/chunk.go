package rfc5321

import "bytes"

// A ChunkReader takes the text of one message that comes in chunks (RFC 3030,
// section 2): lines that end in CRLF, without dots added to them. Where a chunk
// ends says nothing of the text; a line, and even its CRLF, may be cut there.
type ChunkReader struct {
	// BareLF takes LF for a line end as well.
	BareLF bool

	held  []byte // the begin of a line of which more must come
	cr    bool   // the last byte was a CR, whose LF is to come
	inner bool   // in the middle of a line of which a piece was passed on
	line  int    // length of the line so far
	size  int64
}

// wholeLine is how long a line may be that is surely one piece: who judges a
// header sees a name and its colon together.
const wholeLine = 4096

// Size returns how many bytes the message has so far.
func (c *ChunkReader) Size() int64 { return c.size }

// Take passes part of a chunk on to write in pieces as DataReader.Next returns
// them: a line of less than 4096 bytes is one. After an error the message cannot be had any more.
func (c *ChunkReader) Take(p []byte, write func(text []byte, eol bool) error) error {
	c.size += int64(len(p))
	if c.cr && len(p) > 0 {
		if p[0] != '\n' {
			return ErrLineEnd
		}
		c.cr, p = false, p[1:]
		if err := c.piece(nil, true, write); err != nil {
			return err
		}
	}
	for len(p) > 0 {
		text, rest, eol := bytes.Cut(p, []byte("\n"))
		p = rest
		whole, ok := bytes.CutSuffix(text, []byte("\r"))
		if eol && !ok && !c.BareLF || bytes.IndexByte(whole, '\r') >= 0 {
			return ErrLineEnd
		}
		c.cr = ok && !eol
		if len(whole) == 0 && !eol {
			continue
		}
		if err := c.piece(whole, eol, write); err != nil {
			return err
		}
	}
	return nil
}

// piece passes on one piece.
func (c *ChunkReader) piece(text []byte, eol bool, write func(text []byte, eol bool) error) error {
	if c.line += len(text); c.line > MaxTextLine {
		return ErrLineLength
	}
	if eol {
		c.line = 0
	}
	if len(c.held) > 0 || !eol && !c.inner {
		c.held = append(c.held, text...)
		if !eol && len(c.held) < wholeLine {
			return nil
		}
		text, c.held = c.held, c.held[:0]
	}
	c.inner = !eol
	return write(text, eol)
}

// End completes the last line, which need not end in CRLF.
func (c *ChunkReader) End(write func(text []byte, eol bool) error) error {
	switch {
	case c.cr:
		return ErrLineEnd
	case c.inner || len(c.held) > 0:
		return c.piece(nil, true, write)
	}
	return nil
}
