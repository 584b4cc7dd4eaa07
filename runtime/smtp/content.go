package smtp

import (
	"bufio"
	"bytes"
	"io"
	"sync"

	"smtpd/runtime/rfc5322"
)

// writers are what message content is gathered in before it is written.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 32<<10) }}

// A content takes the lines of a message to the queue, by way of the programs
// if they want to see them, and behind the fields that we add.
type content struct {
	stored counter
	w      *bufio.Writer
	to     sink
	detour *detour // nil without programs
	broken error   // why nothing can be stored
}

// openContent begins the content of s.tx.
func (s *session) openContent() *content {
	c := &content{w: writers.Get().(*bufio.Writer)}
	c.stored.w = s.tx.content
	c.w.Reset(&c.stored)
	h := rfc5322.NewWriter(c.w, s.completion())
	if s.at.masquerade && s.holdsToSenders() && !s.tx.sender.IsNull() {
		h.Masquerade(s.tx.sender.String())
	}
	c.to = h
	if s.asks(phaseDataLine) {
		c.through(s, h)
	} else {
		c.w.Write(s.trace())
	}
	return c
}

// through sends the lines through the programs, which see the fields that
// stand before the message too.
func (c *content) through(s *session, h *rfc5322.Writer) {
	if c.detour, c.broken = s.newDetour(h); c.broken != nil {
		c.broken, c.detour = contentError{c.broken}, nil
		return
	}
	c.to = c.detour
	for line := range bytes.Lines(s.trace()) {
		if c.broken = c.to.Write(bytes.TrimSuffix(line, []byte("\n")), true); c.broken != nil {
			return
		}
	}
}

// Write takes a piece of a line.
func (c *content) Write(text []byte, eol bool) error {
	if c.broken != nil {
		return c.broken
	}
	return c.to.Write(text, eol)
}

// Close ends the message; it does not make it durable.
func (c *content) Close() error {
	if c.broken != nil {
		return c.broken
	}
	if err := c.to.Close(); err != nil {
		return err
	}
	return c.w.Flush()
}

// size returns how many bytes the queue has got.
func (c *content) size() int64 { return c.stored.n }

// release lets go of what c holds; it may be called again.
func (c *content) release() {
	if c.detour != nil {
		c.detour.end()
		c.detour = nil
	}
	if c.w != nil {
		c.w.Reset(nil)
		writers.Put(c.w)
		c.w = nil
	}
}

// A counter counts what is written, and marks errors as those of storing.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	if err != nil {
		err = contentError{err}
	}
	return n, err
}
