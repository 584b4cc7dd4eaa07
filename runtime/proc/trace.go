package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"smtpd/runtime/imsg"
)

// Traces has lines of a log copied that mention an id, until it is told to
// stop. It owns the file that it is given.
type Traces interface {
	Add(number uint32, id string, to *os.File)
	Remove(number uint32)
}

// maxTraces bounds how many there are at a time.
const maxTraces = 16

var errTraces = fmt.Errorf("%d traces are running: end one of them", maxTraces)

// A tracing is an order that is in force. The file is the end of a pipe into
// which all processes write; it ends when nobody reads.
type tracing struct {
	id  string
	out *os.File
}

// Trace has every process copy the lines that it logs about id, and returns
// the pipe in which they come. To close that ends it.
func (s *Supervisor) Trace(ctx context.Context, id string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	result := make(chan error, 1)
	s.post(func() error { result <- s.trace(id, w); return nil })
	select {
	case err = <-result:
	case <-s.done:
		err = errors.New("the daemon ends")
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	s.Counted(ctx) // who has answered that, traces by now
	return r, nil
}

// trace begins to copy lines to w, which it owns.
func (s *Supervisor) trace(id string, w *os.File) error {
	if len(s.traces) >= maxTraces {
		w.Close()
		return errTraces
	}
	s.traced++
	number := s.traced
	if s.traces == nil {
		s.traces = make(map[uint32]*tracing)
	}
	s.traces[number] = &tracing{id, w}
	if own, err := duplicate(w); err == nil && s.plan.Traces != nil {
		s.plan.Traces.Add(number, id, own)
	}
	for _, p := range s.procs {
		if p.greeted && s.sendTrace(p, number) != nil {
			p.cmd.Process.Kill()
		}
	}
	go func() {
		untilUnread(w, s.done)
		s.post(func() error { s.untrace(number); return nil })
	}()
	return nil
}

// untilUnread returns when nobody reads what is written to w any more, or done
// is closed.
func untilUnread(w *os.File, done <-chan struct{}) {
	raw, err := w.SyscallConn()
	for tick := time.NewTicker(time.Second); err == nil; {
		var events int16
		err = raw.Control(func(fd uintptr) {
			fds := []unix.PollFd{{Fd: int32(fd)}}
			unix.Poll(fds, 0)
			events = fds[0].Revents
		})
		if events&(unix.POLLERR|unix.POLLHUP) != 0 {
			return
		}
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}

func (s *Supervisor) sendTrace(p *process, number uint32) error {
	t := s.traces[number]
	out, err := duplicate(t.out)
	if err != nil {
		return err
	}
	return s.send(p, imsg.Frame{Type: frameTrace, Data: traceOrder{number, t.id}.append(nil), File: out})
}

// traceAll tells a process that has started of the orders in force.
func (s *Supervisor) traceAll(p *process) error {
	for number := range s.traces {
		if err := s.sendTrace(p, number); err != nil {
			return err
		}
	}
	return nil
}

// untrace ends an order in all processes.
func (s *Supervisor) untrace(number uint32) {
	t := s.traces[number]
	if t == nil {
		return
	}
	delete(s.traces, number)
	t.out.Close()
	if s.plan.Traces != nil {
		s.plan.Traces.Remove(number)
	}
	for _, p := range s.procs {
		if p.greeted && s.send(p, imsg.Frame{Type: frameUntrace, Data: traceOrder{Number: number}.append(nil)}) != nil {
			p.cmd.Process.Kill()
		}
	}
}

// A Tracer traces where there is one process.
type Tracer struct {
	done   <-chan struct{}
	traces Traces

	mu      sync.Mutex
	ordered uint32
	running int
}

// NewTracer returns a Tracer that has t copy lines, until done is closed.
func NewTracer(done <-chan struct{}, t Traces) *Tracer { return &Tracer{done: done, traces: t} }

// Trace is Supervisor.Trace.
func (t *Tracer) Trace(_ context.Context, id string) (*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running >= maxTraces {
		return nil, errTraces
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	watched, err := duplicate(w)
	if err != nil {
		return nil, errors.Join(err, r.Close(), w.Close())
	}
	t.running++
	t.ordered++
	number := t.ordered
	t.traces.Add(number, id, w)
	go func() {
		untilUnread(watched, t.done)
		watched.Close()
		t.traces.Remove(number)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.running--
	}()
	return r, nil
}

// obeyTrace begins or ends a trace.
func (c *Child) obeyTrace(f imsg.Frame) error {
	var o traceOrder
	err := o.parse(f.Data)
	switch {
	case err != nil:
	case f.Type == frameUntrace:
		if c.Traces != nil {
			c.Traces.Remove(o.Number)
		}
	case f.File == nil:
		err = imsg.ErrPayload
	case c.Traces != nil:
		c.Traces.Add(o.Number, o.ID, f.File)
		return nil
	}
	if f.File != nil {
		f.File.Close()
	}
	return err
}
