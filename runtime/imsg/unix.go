package imsg

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// unixConn carries frames over a Unix stream socket.
type unixConn struct {
	c *net.UnixConn

	wmu  sync.Mutex
	wbuf []byte

	room  []byte // that what is read comes into
	rbuf  []byte // the unread bytes of it
	oob   []byte
	files []*os.File // received and not yet claimed by a frame
}

// NewUnix returns a Conn over c, which it then owns.
func NewUnix(c *net.UnixConn) Conn {
	return &unixConn{c: c, oob: make([]byte, unix.CmsgSpace(4*16))}
}

// Send writes frames; those without a descriptor share one write.
func (u *unixConn) Send(frames ...Frame) error {
	u.wmu.Lock()
	defer u.wmu.Unlock()
	var err error
	for i, f := range frames {
		if err == nil && f.File != nil {
			err = u.flush()
		}
		if err == nil {
			u.wbuf, err = appendFrame(u.wbuf, f)
		}
		if f.File == nil {
			continue
		}
		if err == nil {
			err = u.writeFile(f.File)
		}
		f.File.Close()
		frames[i].File = nil
	}
	if err == nil {
		err = u.flush()
	}
	u.wbuf = u.wbuf[:0]
	return err
}

func (u *unixConn) flush() error {
	if len(u.wbuf) == 0 {
		return nil
	}
	_, err := u.c.Write(u.wbuf)
	u.wbuf = u.wbuf[:0]
	return err
}

// writeFile sends what is buffered with f attached to its first byte.
func (u *unixConn) writeFile(f *os.File) error {
	n, _, err := u.c.WriteMsgUnix(u.wbuf, unix.UnixRights(int(f.Fd())), nil)
	if err != nil {
		return err
	}
	u.wbuf = u.wbuf[:copy(u.wbuf, u.wbuf[n:])]
	return u.flush()
}

// Recv returns the next frame.
func (u *unixConn) Recv() (Frame, error) {
	if err := u.fill(HeaderSize); err != nil {
		return Frame{}, err
	}
	f, n, file, err := parseHeader(u.rbuf)
	if err != nil {
		return Frame{}, err
	}
	if err := u.fill(HeaderSize + n); err != nil {
		return Frame{}, err
	}
	f.Data = append([]byte(nil), u.rbuf[HeaderSize:HeaderSize+n]...)
	u.rbuf = u.rbuf[HeaderSize+n:]
	if file {
		if len(u.files) == 0 {
			return Frame{}, fmt.Errorf("no descriptor came with it: %w", ErrFrame)
		}
		f.File = u.files[0]
		u.files = u.files[1:]
	}
	return f, nil
}

// maxFiles bounds the descriptors that wait for their frames: whoever sends
// more is not of this protocol, and would use up all that the process may
// have.
const maxFiles = 64

// fill reads until at least n bytes are buffered. After an error the
// descriptors that no frame has claimed are closed.
func (u *unixConn) fill(n int) error {
	err := u.read(n)
	if err != nil {
		for _, f := range u.files {
			f.Close()
		}
		u.files = nil
	}
	return err
}

func (u *unixConn) read(n int) error {
	for len(u.rbuf) < n {
		if u.room == nil {
			u.room = make([]byte, 4*MaxSize)
		}
		if len(u.rbuf) == 0 || cap(u.rbuf)-len(u.rbuf) < MaxSize {
			u.rbuf = u.room[:copy(u.room, u.rbuf)]
		}
		m, oobn, flags, _, err := u.c.ReadMsgUnix(u.rbuf[len(u.rbuf):cap(u.rbuf)], u.oob)
		if oobn > 0 {
			if perr := u.claim(u.oob[:oobn]); perr != nil {
				return perr
			}
		}
		switch {
		case errors.Is(err, io.EOF) && len(u.rbuf) > 0:
			return io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return io.EOF
		case err != nil:
			return err
		case flags&unix.MSG_CTRUNC != 0:
			return fmt.Errorf("too many descriptors: %w", ErrFrame)
		case m == 0:
			return io.EOF
		}
		u.rbuf = u.rbuf[:len(u.rbuf)+m]
	}
	return nil
}

// claim keeps the descriptors of a control message for the frames that
// announce them.
func (u *unixConn) claim(oob []byte) error {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("control message: %w", err)
	}
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fmt.Errorf("control message: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			u.files = append(u.files, os.NewFile(uintptr(fd), "imsg"))
		}
	}
	if len(u.files) > maxFiles {
		return fmt.Errorf("%d descriptors without a frame: %w", len(u.files), ErrFrame)
	}
	return nil
}

func (u *unixConn) Close() error {
	return u.c.Close()
}
