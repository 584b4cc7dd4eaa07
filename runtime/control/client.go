package control

import (
	"errors"
	"fmt"
	"net"
	"os"

	"smtpd/runtime/imsg"
)

// A Client is a local program that talks to the daemon. It asks one thing at
// a time.
type Client struct{ conn imsg.Conn }

// Dial connects to the socket at path.
func Dial(path string) (*Client, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &Client{imsg.NewUnix(c)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) call(typ uint32) (imsg.Frame, error) {
	sent := c.conn.Send(imsg.Frame{Type: typ, ID: 1})
	f, err := c.conn.Recv() // also when nothing could be sent: a refusal says why
	if err != nil && sent != nil {
		err = sent
	}
	if err == nil && f.Type != typ {
		err = errors.New("unexpected answer")
		if f.Type == typeFailed {
			err = errors.New(string(f.Data))
		}
	}
	return f, err
}

// Session returns a stream socket on which the SMTP server greets.
func (c *Client) Session() (*os.File, error) {
	f, err := c.call(typeSession)
	if err == nil && f.File == nil {
		err = errors.New("no descriptor came")
	}
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	return f.File, nil
}

// Status returns how the daemon does.
func (c *Client) Status() (Status, error) {
	var s Status
	f, err := c.call(typeStatus)
	if err == nil {
		err = s.parse(f.Data)
	}
	if err != nil {
		return s, fmt.Errorf("ask for the status: %w", err)
	}
	return s, nil
}
