package mta

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A conn is the wire of a session. Commands gather in a buffer until a reply
// is waited for, so that what belongs together is sent together.
type conn struct {
	nc      net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	timeout time.Duration

	report *report
	secret bool // what is sent is not to be seen in reports
}

func newConn(nc net.Conn, timeout time.Duration) *conn {
	c := &conn{timeout: timeout}
	c.use(nc)
	return c
}

// use makes nc the connection, and forgets what was buffered of the one before:
// what a host sent in clear is not believed after TLS began.
func (c *conn) use(nc net.Conn) {
	c.nc, c.r, c.w = nc, nil, nil
	c.wake()
}

// Buffers are shared by the sessions that have something to say: most are idle
// at most times.
var (
	replyReaders   = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 2*maxReplyLine) }}
	commandWriters = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 16<<10) }}
)

// wake gets buffers for a connection that has none.
func (c *conn) wake() {
	if c.r == nil {
		c.r, c.w = replyReaders.Get().(*bufio.Reader), commandWriters.Get().(*bufio.Writer)
		c.r.Reset(c.nc)
		c.w.Reset(c.nc)
	}
}

// rest gives the buffers back. If the host has said more than it was asked they
// stay, for that to be noticed.
func (c *conn) rest() {
	if c.r == nil || c.r.Buffered() > 0 || c.w.Buffered() > 0 {
		return
	}
	c.r.Reset(nil)
	c.w.Reset(nil)
	replyReaders.Put(c.r)
	commandWriters.Put(c.w)
	c.r, c.w = nil, nil
}

// send adds a command to those that go out next.
func (c *conn) send(parts ...string) {
	if c.report != nil {
		c.report.happened("protocol-client", c.shown(parts))
	}
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

// shown returns a command as reports show it.
func (c *conn) shown(parts []string) string {
	switch {
	case !c.secret:
		return strings.Join(parts, "")
	case len(parts) == 2:
		return parts[0] + "********" // a verb and what only the host is to know
	case strings.HasPrefix(parts[0], "AUTH "):
		return parts[0]
	}
	return "********"
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
	c.report.reportReply(r)
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
func (c *conn) sendMessage(content io.Reader) error {
	if _, err := c.sendLines(content, true, math.MaxInt64); err != nil {
		return err
	}
	c.send(".")
	return c.flush()
}

// sendChunk sends content as the only chunk of a message (RFC 3030, section
// 2): size bytes, which is what it has with the line ends of sendMessage. If it
// has not, the host still waits, and must not be told anything else.
func (c *conn) sendChunk(content io.Reader, size int64) error {
	c.send("BDAT ", strconv.FormatInt(size, 10), " LAST")
	n, err := c.sendLines(content, false, size)
	switch {
	case err != nil:
		return err
	case n != size:
		return fmt.Errorf("%w: it has %d bytes instead of %d", errContent, n, size)
	}
	return c.flush()
}

// sendLines sends content but for what is beyond limit, and returns how many
// bytes that would have been in all.
//
// A bare CR ends a line, too. To pass it on would let the next server see
// another end of the message than this one.
func (c *conn) sendLines(content io.Reader, stuff bool, limit int64) (int64, error) {
	r := getReader(content)
	defer putReader(r)
	l := lineWriter{w: c.w, stuff: stuff, limit: limit, start: true}
	for {
		part, err := r.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return l.n, fmt.Errorf("%w: %w", errContent, err)
		}
		if err == bufio.ErrBufferFull && part[len(part)-1] == '\r' {
			// Whether an LF follows decides what it is.
			part = part[:len(part)-1]
			r.UnreadByte()
		}
		if len(part) > 0 {
			if c.w.Available() < len(part) {
				c.nc.SetDeadline(time.Now().Add(c.timeout))
			}
			l.write(part)
			if _, werr := c.w.Write(nil); werr != nil { // of any write before
				return l.n, wireError(werr)
			}
		}
		if err == io.EOF {
			break
		}
	}
	if !l.start {
		l.put(crlf)
	}
	return l.n, nil
}

var (
	crlf = []byte("\r\n")
	dot  = []byte(".")
)

// A lineWriter gives the lines of a message the ends that they have on the
// wire.
type lineWriter struct {
	w     *bufio.Writer
	stuff bool  // give a line that begins with a dot another
	limit int64 // how much is written
	n     int64 // how much there was to write
	start bool  // a line starts here
}

func (l *lineWriter) put(p []byte) {
	if l.n += int64(len(p)); l.n <= l.limit {
		l.w.Write(p)
	}
}

// write writes part of a message, which ends in the only LF it may hold.
func (l *lineWriter) write(part []byte) {
	body, lf := bytes.CutSuffix(part, crlf[1:])
	if lf {
		body = bytes.TrimSuffix(body, crlf[:1])
	}
	for {
		line, rest, cr := bytes.Cut(body, crlf[:1])
		if l.stuff && l.start && len(line) > 0 && line[0] == '.' {
			l.put(dot)
		}
		l.put(line)
		l.start = l.start && len(line) == 0
		if !cr {
			break
		}
		l.put(crlf)
		l.start, body = true, rest
	}
	if lf {
		l.put(crlf)
		l.start = true
	}
}
