package parent

import (
	"context"
	"fmt"

	"smtpd/runtime/imsg"
)

// A Service is the daemon as a whole, as control's clients may change it.
type Service interface {
	// Reload reads the configuration anew and, if that is in order and it is
	// not only to be shown, goes by it.
	Reload(ctx context.Context, r Reload) Reloaded
	// Stop ends the daemon.
	Stop()
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
