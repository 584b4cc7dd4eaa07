package proc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"smtpd/runtime/imsg"
	"smtpd/runtime/stat"
)

// What a process has counted is opaque here until it has ended: then it is
// added to what others had that have ended, so that a reload loses nothing.

// countPatience is how long a process may take to say what it has counted;
// after that it is what it said last.
const countPatience = 3 * time.Second

// maxPiece is how much of it a frame carries.
const maxPiece = 8 << 10

// sayCounted tells the parent what this process has counted.
func (c *Child) sayCounted() error {
	b, err := stat.Encode()
	if err != nil {
		b = nil // the others have something to say
	}
	var frames []imsg.Frame
	for more := true; more; {
		p := piece{Data: b[:min(len(b), maxPiece)]}
		b = b[len(p.Data):]
		more = len(b) > 0
		p.More = more
		frames = append(frames, imsg.Frame{Type: frameCounted, Data: p.append(nil)})
	}
	return c.conn.Send(frames...)
}

// A census waits for what processes have counted.
type census struct {
	missing map[*process]bool
	done    chan struct{} // closed when none is missing
}

// Counted asks each process what it has counted. ended is the sum of what
// those had that are gone.
func (s *Supervisor) Counted(ctx context.Context) (processes [][]byte, ended []byte, err error) {
	c := &census{missing: make(map[*process]bool), done: make(chan struct{})}
	s.post(func() error { s.take(c); return nil })
	t := time.NewTimer(countPatience)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
	case <-s.done:
	case <-ctx.Done():
	}
	ok := make(chan struct{})
	s.post(func() error {
		defer close(ok)
		s.drop(c)
		processes, ended, err = s.results()
		return nil
	})
	select {
	case <-ok:
	case <-s.done:
		return nil, nil, errors.New("the daemon ends")
	}
	own, ownErr := stat.Encode()
	return append(processes, own), ended, errors.Join(err, ownErr, ctx.Err())
}

// take asks all processes for c.
func (s *Supervisor) take(c *census) {
	for _, p := range s.procs {
		if !p.ready {
			continue
		}
		if s.send(p, imsg.Frame{Type: frameCount}) != nil {
			p.cmd.Process.Kill()
			continue
		}
		c.missing[p] = true
	}
	s.censuses = append(s.censuses, c)
	s.settle()
}

// settle ends the censuses that miss nobody.
func (s *Supervisor) settle() {
	var left []*census
	for _, c := range s.censuses {
		if len(c.missing) == 0 {
			close(c.done)
		} else {
			left = append(left, c)
		}
	}
	s.censuses = left
}

// drop forgets c, whether it was settled or not.
func (s *Supervisor) drop(c *census) {
	s.censuses = slices.DeleteFunc(s.censuses, func(other *census) bool { return other == c })
}

// results returns what is known.
func (s *Supervisor) results() (processes [][]byte, ended []byte, err error) {
	for _, p := range s.procs {
		if p.counted != nil {
			processes = append(processes, p.counted)
		}
	}
	ended, err = s.gone.Encode()
	return processes, ended, err
}

// heardCounted takes a piece of what p has counted.
func (s *Supervisor) heardCounted(p *process, data []byte) error {
	var part piece
	if err := part.parse(data); err != nil {
		return err
	}
	if len(p.counting)+len(part.Data) > stat.MaxEncoded {
		return fmt.Errorf("has counted more than %d bytes", stat.MaxEncoded)
	}
	p.counting = append(p.counting, part.Data...)
	if part.More {
		return nil
	}
	p.counted, p.counting = p.counting, nil
	s.answered(p)
	return nil
}

// answered says that nobody needs to wait for p.
func (s *Supervisor) answered(p *process) {
	for _, c := range s.censuses {
		delete(c.missing, p)
	}
	s.settle()
}

// keepCounted keeps what p, which has ended, had counted.
func (s *Supervisor) keepCounted(p *process) {
	families, err := stat.Decode(p.counted)
	if err != nil {
		s.plan.Log.Warn("what a component has counted cannot be read", "component", p.Name, "error", err)
	}
	s.gone.AddLast(families)
	p.counted, p.counting = nil, nil
	s.answered(p)
}
