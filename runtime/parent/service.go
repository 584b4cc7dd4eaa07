package parent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"smtpd/runtime/imsg"
)

// A Service is the daemon as a whole, as control's clients may change it.
type Service interface {
	// Reload reads the configuration anew and, if that is in order and it is
	// not only to be shown, goes by it.
	Reload(ctx context.Context, r Reload) Reloaded
	// Stop ends the daemon.
	Stop()
	// Trace returns a pipe in which lines of the log come that mention id,
	// until it is closed.
	Trace(ctx context.Context, id string) (*os.File, error)
	// Counted returns what each process has counted, as stat.Encode has it,
	// and at its end what those had that have ended.
	Counted(ctx context.Context) (processes [][]byte, ended []byte, err error)
}

// A Reload says what to do with a configuration that has changed.
type Reload struct {
	Show  bool // and go on by the old one
	Force bool // also if it opens a relay

	Paused bool // smtp takes no connections, and is not to begin with it
}

// Reloaded says what came of it.
type Reloaded struct {
	Done bool   // the daemon goes by it, or, with Show, it would
	Text string // findings and differences, for people
}

func (r Reload) append(b []byte) []byte {
	return imsg.AppendBool(imsg.AppendBool(imsg.AppendBool(b, r.Show), r.Force), r.Paused)
}

func (r *Reload) parse(b []byte) error {
	d := imsg.NewReader(b)
	r.Show, r.Force, r.Paused = d.Bool(), d.Bool(), d.Bool()
	return d.Close()
}

func (r Reloaded) append(b []byte) []byte {
	return imsg.AppendString(imsg.AppendBool(b, r.Done), r.Text)
}

func (r *Reloaded) parse(b []byte) error {
	d := imsg.NewReader(b)
	r.Done, r.Text = d.Bool(), d.String()
	return d.Close()
}

// maxReloadText bounds what is told of a reload.
const maxReloadText = 1 << 20

// serveControl answers control.
func serveControl(s Service) imsg.Handler {
	return func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
		if m.File != nil {
			m.File.Close()
		}
		switch m.Type {
		case typeReload:
			var q Reload
			if err := q.parse(m.Data); err != nil {
				return imsg.Message{}, err
			}
			r := s.Reload(ctx, q)
			if len(r.Text) > maxReloadText {
				r.Text = r.Text[:maxReloadText] + "...\n"
			}
			return imsg.Message{Data: r.append(nil)}, nil
		case typeStop:
			s.Stop()
			return imsg.Message{}, nil
		case typeTrace:
			r := imsg.NewReader(m.Data)
			id := r.String()
			if err := r.Close(); err != nil {
				return imsg.Message{}, err
			}
			f, err := s.Trace(ctx, id)
			return imsg.Message{File: f}, err
		case typeCounted:
			processes, ended, err := s.Counted(ctx)
			return imsg.Message{Data: appendCounted(nil, processes, ended)}, err
		}
		return imsg.Message{}, fmt.Errorf("parent: no requests of type %d", m.Type)
	}
}

// Reload has the daemon read its configuration anew.
func (c *Client) Reload(ctx context.Context, q Reload) (Reloaded, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeReload, Data: q.append(nil)})
	if err != nil {
		return Reloaded{}, fmt.Errorf("reload: %w", err)
	}
	if m.File != nil {
		m.File.Close()
	}
	var r Reloaded
	err = r.parse(m.Data)
	return r, err
}

// Stop ends the daemon. It may end before it answers.
func (c *Client) Stop(ctx context.Context) error {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeStop})
	if m.File != nil {
		m.File.Close()
	}
	return err
}

func appendCounted(b []byte, processes [][]byte, ended []byte) []byte {
	b = imsg.AppendUint32(b, uint32(len(processes)))
	for _, p := range processes {
		b = imsg.AppendBytes(b, p)
	}
	return imsg.AppendBytes(b, ended)
}

func parseCounted(b []byte) (processes [][]byte, ended []byte, err error) {
	r := imsg.NewReader(b)
	for range r.Count(4) {
		processes = append(processes, r.Bytes())
	}
	ended = r.Bytes()
	return processes, ended, r.Close()
}

// Counted returns what each process has counted, and what those had that have
// ended. See Service.
func (c *Client) Counted(ctx context.Context) (processes [][]byte, ended []byte, err error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeCounted})
	if err != nil {
		return nil, nil, fmt.Errorf("ask for what was counted: %w", err)
	}
	if m.File != nil {
		m.File.Close()
	}
	return parseCounted(m.Data)
}

// Trace returns a pipe in which lines of the log come that mention id, until it
// is closed.
func (c *Client) Trace(ctx context.Context, id string) (*os.File, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: typeTrace, Data: imsg.AppendString(nil, id)})
	if err == nil && m.File == nil {
		err = errors.New("no descriptor came")
	}
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	return m.File, nil
}
