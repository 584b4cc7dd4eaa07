package control

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/queue"
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

// ErrIncompatible is returned, wrapped, when the daemon hangs up on a request:
// it does not know it, or this user may not ask.
var ErrIncompatible = errors.New("the daemon does not answer this request")

func (c *Client) call(typ uint32, data []byte) (imsg.Frame, error) {
	return c.pass(typ, data, nil)
}

// pass is call with a descriptor, which it closes.
func (c *Client) pass(typ uint32, data []byte, file *os.File) (imsg.Frame, error) {
	sent := c.conn.Send(imsg.Frame{Type: typ, ID: 1, Data: data, File: file})
	f, err := c.recv(typ) // also when nothing could be sent: a refusal says why
	if err != nil && sent != nil && !errors.As(err, new(Refusal)) {
		err = sent
	}
	return f, err
}

// A Refusal is what the daemon says when it does not do what it was asked.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// recv returns the next frame of an answer.
func (c *Client) recv(typ uint32) (imsg.Frame, error) {
	f, err := c.conn.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return f, ErrIncompatible
	case err != nil:
		return f, err
	case f.Type == typeFailed:
		return f, Refusal(f.Data)
	case f.Type != typ:
		return f, errors.New("unexpected answer")
	}
	return f, nil
}

// Session returns a stream socket on which the SMTP server greets.
func (c *Client) Session() (*os.File, error) {
	f, err := c.call(typeSession, nil)
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
	f, err := c.call(typeStatus, nil)
	if err == nil {
		err = s.parse(f.Data)
	}
	if err != nil {
		return s, fmt.Errorf("ask for the status: %w", err)
	}
	return s, nil
}

// List visits the envelopes of sel in the order of their ids, as they come.
// The connection is of no use after a visit that did not reach the end.
func (c *Client) List(sel queue.Selection) iter.Seq2[queue.Listed, error] {
	return c.list(listRequest{Selection: sel})
}

// ListSized is List, with the sizes of the messages.
func (c *Client) ListSized(sel queue.Selection) iter.Seq2[queue.Listed, error] {
	return c.list(listRequest{sel, true})
}

func (c *Client) list(q listRequest) iter.Seq2[queue.Listed, error] {
	return func(yield func(queue.Listed, error) bool) {
		f, err := c.call(typeList, q.append(nil))
		for ; err == nil && len(f.Data) > 0; f, err = c.recv(typeList) {
			r := imsg.NewReader(f.Data)
			for r.Len() > 0 && err == nil {
				var l queue.Listed
				if l, err = readListed(r); err == nil && !yield(l, nil) {
					return
				}
			}
			if err = errors.Join(err, r.Close()); err != nil {
				break
			}
		}
		if err != nil {
			yield(queue.Listed{}, fmt.Errorf("list the queue: %w", err))
		}
	}
}

// Manage does verb with the envelopes of sel, and returns with how many.
func (c *Client) Manage(verb queue.Verb, sel queue.Selection) (int, error) {
	f, err := c.call(typeManage, manageRequest{verb, sel}.append(nil))
	if err != nil {
		return 0, fmt.Errorf("change the queue: %w", err)
	}
	r := imsg.NewReader(f.Data)
	n := r.Uint32()
	return int(n), r.Close()
}

// Order has o done, and returns with how many envelopes it was.
func (c *Client) Order(o *queue.Order) (int, error) {
	f, err := c.call(typeOrder, o.Append(nil))
	if err != nil {
		return 0, fmt.Errorf("change the queue: %w", err)
	}
	r := imsg.NewReader(f.Data)
	n := r.Uint32()
	return int(n), r.Close()
}

// Pause stops or resumes a system, and reports whether that changed anything.
func (c *Client) Pause(s System, on bool) (bool, error) {
	f, err := c.call(typePause, pauseRequest{s, on}.append(nil))
	if err != nil {
		return false, fmt.Errorf("pause or resume %v: %w", s, err)
	}
	return parseBool(f.Data)
}

// Message returns the content of a message; the caller closes it.
func (c *Client) Message(id envelope.MessageID) (*os.File, error) {
	f, err := c.call(typeMessage, appendSelection(nil, queue.Selection{Message: id}))
	if err == nil && f.File == nil {
		err = errors.New("no descriptor came")
	}
	return f.File, err
}

// Verbose makes the daemon log more, or as usual.
func (c *Client) Verbose(on bool) error {
	_, err := c.call(typeVerbose, imsg.AppendBool(nil, on))
	return err
}

// Update has the table called name read anew.
func (c *Client) Update(name string) error {
	_, err := c.call(typeUpdate, imsg.AppendString(nil, name))
	return err
}

// Reload has the daemon read its configuration anew, only to show what would
// change, or by force even if that opens a relay. It writes to w what is to be
// said of it, and reports whether the daemon goes by it now or, if it is only
// shown, would.
func (c *Client) Reload(show, force bool, w io.Writer) (bool, error) {
	f, err := c.call(typeReload, reloadRequest{show, force}.append(nil))
	for err == nil {
		r := imsg.NewReader(f.Data)
		text := r.String()
		if text == "" {
			done := r.Bool()
			return done, r.Close()
		}
		if err = r.Close(); err == nil {
			_, err = io.WriteString(w, text)
		}
		if err == nil {
			f, err = c.recv(typeReload)
		}
	}
	return false, fmt.Errorf("reload: %w", err)
}

// Trace returns a pipe in which lines of the daemon's log come that mention id:
// that of a session, a message or an envelope. To close it ends the trace.
func (c *Client) Trace(id string) (*os.File, error) {
	f, err := c.call(typeTrace, imsg.AppendString(nil, id))
	if err == nil && f.File == nil {
		err = errors.New("no descriptor came")
	}
	return f.File, err
}

// Stats writes to w what the daemon has counted, as lines of key=value.
func (c *Client) Stats(w io.Writer) error { return c.text(typeStats, w) }

// Metrics writes to w what the daemon has counted, as Prometheus reads it.
func (c *Client) Metrics(w io.Writer) error { return c.text(typeMetrics, w) }

// text asks for a text that comes in pieces.
func (c *Client) text(typ uint32, w io.Writer) error {
	f, err := c.call(typ, nil)
	for err == nil {
		r := imsg.NewReader(f.Data)
		text := r.String()
		if err = r.Close(); err != nil || text == "" {
			return err
		}
		if _, err = io.WriteString(w, text); err == nil {
			f, err = c.recv(typ)
		}
	}
	return fmt.Errorf("ask for what was counted: %w", err)
}

// Stop ends the daemon.
func (c *Client) Stop() error {
	_, err := c.call(typeStop, nil)
	return err
}
