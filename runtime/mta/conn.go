package mta

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// A conn is the wire of a session. Commands gather in a buffer until a reply
// is waited for, so that what belongs together is sent together.
type conn struct {
	nc      net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	timeout time.Duration
}

func newConn(nc net.Conn, timeout time.Duration) *conn {
	c := &conn{timeout: timeout}
	c.use(nc)
	return c
}

// use makes nc the connection, and forgets what was buffered of the one before:
// what a host sent in clear is not believed after TLS began.
func (c *conn) use(nc net.Conn) {
	c.nc = nc
	c.r = bufio.NewReaderSize(nc, 2*maxReplyLine)
	c.w = bufio.NewWriterSize(nc, 64<<10)
}

// send adds a command to those that go out next.
func (c *conn) send(parts ...string) {
	for _, p := range parts {
		// An address or parameter with a line end would be a second command.
		// None gets this far; if one does, it must not get further.
		if strings.ContainsAny(p, "\r\n\x00") {
			p = strings.Map(func(r rune) rune {
				if r == '\r' || r == '\n' || r == 0 {
					return '?'
				}
				return r
			}, p)
		}
		c.w.WriteString(p)
	}
	c.w.WriteString("\r\n")
}

// flush sends what has gathered. Nothing may have come that was not asked for:
// such text would be taken for the answer to the next command.
func (c *conn) flush() error {
	if c.w.Buffered() == 0 {
		return nil
	}
	if c.r.Buffered() > 0 {
		return errTooMuch
	}
	c.nc.SetDeadline(time.Now().Add(c.timeout))
	return wireError(c.w.Flush())
}

// recv returns the reply to the oldest command that has none yet.
func (c *conn) recv() (reply, error) {
	if err := c.flush(); err != nil {
		return reply{}, err
	}
	c.nc.SetDeadline(time.Now().Add(c.timeout))
	r, err := readReply(c.r)
	return r, wireError(err)
}

// cmd sends a command and returns its reply.
func (c *conn) cmd(parts ...string) (reply, error) {
	c.send(parts...)
	return c.recv()
}

// wireError returns err in the words that logs and reports use.
func wireError(err error) error {
	var timeout net.Error
	switch {
	case err == nil, errors.Is(err, errTooLong), errors.Is(err, errBadReply), errors.Is(err, errTooMuch):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errClosed
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return errTimeout
	}
	return fmt.Errorf("IO Error: %w", err)
}

// handshake begins TLS.
func (c *conn) handshake(config *tls.Config) (tls.ConnectionState, error) {
	t := tls.Client(c.nc, config)
	t.SetDeadline(time.Now().Add(c.timeout))
	if err := t.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	c.use(t)
	return t.ConnectionState(), nil
}

// sendMessage sends content and the final dot, in one stream: lines end in
// CRLF whatever they ended in, and those that begin with a dot get another
// (RFC 5321, section 4.5.2).
//
// A bare CR ends a line, too. To pass it on would let the next server see
// another end of the message than this one.
func (c *conn) sendMessage(content io.Reader) error {
	r := getReader(content)
	defer putReader(r)
	start := true // of a line
	for {
		part, err := r.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return fmt.Errorf("%w: %w", errContent, err)
		}
		if err == bufio.ErrBufferFull && part[len(part)-1] == '\r' {
			// Whether an LF follows decides what it is.
			part = part[:len(part)-1]
			r.UnreadByte()
		}
		if len(part) > 0 {
			c.nc.SetDeadline(time.Now().Add(c.timeout))
			start = c.writeLines(part, start)
			if _, werr := c.w.Write(nil); werr != nil { // of any write before
				return wireError(werr)
			}
		}
		if err == io.EOF {
			break
		}
	}
	if !start {
		c.w.WriteString("\r\n")
	}
	c.w.WriteString(".\r\n")
	return c.flush()
}

// writeLines writes part of a message, which ends in the only LF it may hold,
// and reports whether a line starts after it.
func (c *conn) writeLines(part []byte, start bool) bool {
	body, lf := bytes.CutSuffix(part, []byte("\n"))
	if lf {
		body = bytes.TrimSuffix(body, []byte("\r"))
	}
	for {
		line, rest, cr := bytes.Cut(body, []byte("\r"))
		if start && len(line) > 0 && line[0] == '.' {
			c.w.WriteByte('.')
		}
		c.w.Write(line)
		start = start && len(line) == 0
		if !cr {
			break
		}
		c.w.WriteString("\r\n")
		start, body = true, rest
	}
	if lf {
		c.w.WriteString("\r\n")
		start = true
	}
	return start
}
