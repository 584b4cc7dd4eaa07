package smtp

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// minRate is how slow a client may send, in bytes a second, once it has used
// up one timeout on a command or a message, unless the configuration says
// otherwise. One that sends a byte now and then, to hold a session, ends soon
// after.
const minRate = 128

// errInterrupted is what reading gives after interrupt.
var errInterrupted = errors.New("interrupted")

// A patientConn limits how long its peer may take: for one read or write, and
// for all reads since begin.
type patientConn struct {
	net.Conn
	timeout     time.Duration
	rate        int           // bytes a second
	most        time.Duration // for all reads since begin, however fast; 0: no limit
	began       time.Time
	read        int64 // since began
	interrupted atomic.Bool
}

// begin starts the time of a new command or message.
func (c *patientConn) begin() { c.began, c.read = time.Now(), 0 }

// last returns when the time for all reads since begin is over.
func (c *patientConn) last() time.Time {
	d := c.timeout + time.Duration(c.read)*time.Second/time.Duration(c.rate)
	if c.most > 0 {
		d = min(d, c.most)
	}
	return c.began.Add(d)
}

// endless reports whether a command or message has taken the most it may.
func (c *patientConn) endless() bool { return c.most > 0 && time.Since(c.began) >= c.most }

// slow reports whether the time for all reads since begin is over: a read that
// came to its end then was not of a silent client.
func (c *patientConn) slow() bool { return c.read > 0 && !time.Now().Before(c.last()) }

// expect sets when a read ends. It returns false if c is interrupted.
func (c *patientConn) expect(until time.Time) bool {
	c.Conn.SetReadDeadline(until)
	// Looked at after the deadline is set: interrupt stores, then sets it.
	return !c.interrupted.Load()
}

// Read is called by one goroutine at a time.
func (c *patientConn) Read(p []byte) (int, error) {
	last := c.last()
	if idle := time.Now().Add(c.timeout); idle.Before(last) {
		last = idle
	}
	if !c.expect(last) {
		return 0, errInterrupted
	}
	n, err := c.Conn.Read(p)
	c.read += int64(n)
	if err != nil && c.interrupted.Load() {
		err = errInterrupted
	}
	return n, err
}

func (c *patientConn) Write(p []byte) (int, error) {
	c.Conn.SetWriteDeadline(time.Now().Add(c.timeout))
	return c.Conn.Write(p)
}

// interrupt ends the present and every later Read, from any goroutine.
func (c *patientConn) interrupt() {
	c.interrupted.Store(true)
	c.Conn.SetReadDeadline(time.Unix(1, 0))
}

// linger makes sure that the peer can read the last reply: closing while
// unread input waits would reset the connection and lose it.
func (c *patientConn) linger() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
	buf := make([]byte, 4096)
	for range lingerReads {
		if _, err := c.Conn.Read(buf); err != nil {
			return
		}
	}
}

const (
	lingerTime  = 2 * time.Second
	lingerReads = 256
)
