package proc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"smtpd/runtime/imsg"
)

// A reload starts another generation of the processes that go by the
// configuration, beside the one that serves. When all of them are ready, those
// that stay are told of it, and the old generation retires: its front takes no
// more work and ends when it has done what it has, and then the others do.

// A joining is a generation that is being started.
type joining struct {
	generation int
	result     chan error // capacity 1
}

// startPatience is how long a new generation may take to start.
const startPatience = 30 * time.Second

// Suffix returns what the names of a generation end in, as those that stay
// know them.
func suffix(generation int) string {
	if generation <= 1 {
		return ""
	}
	return "." + strconv.Itoa(generation)
}

// Advance starts another generation of processes and returns when it serves.
// update is then called for each process that stays with what it is given;
// suffix is that of the names of the new generation. The old one retires after
// that. An error says that the old generation goes on.
func (s *Supervisor) Advance(ctx context.Context, next []Process, update func(suffix string) (map[string][]NamedFile, error)) error {
	result := make(chan error, 1)
	s.post(func() error {
		s.join(next, result)
		return nil
	})
	t := time.NewTimer(startPatience)
	defer t.Stop()
	var err error
	select {
	case err = <-result:
	case <-s.done:
		return errors.New("the daemon ends")
	case <-t.C:
		err = errors.New("the new components did not start in time")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		s.post(func() error { s.abort(err); return nil })
		return err
	}
	files, err := update(suffix(s.newest()))
	if err != nil {
		s.post(func() error { s.undo(); return nil })
		return err
	}
	for name, l := range files {
		if err := s.tell(ctx, name, l); err != nil {
			// It has died, and starts anew with what it was not told.
			s.plan.Log.Warn("component was not told of the reload", "component", name, "error", err)
		}
	}
	retired := make(chan struct{})
	s.post(func() error { s.retireOld(func() { close(retired) }); return nil })
	select {
	case <-retired:
	case <-s.done:
	case <-t.C: // it will be, and what it takes meanwhile it finishes
	}
	return nil
}

func (s *Supervisor) newest() int {
	n := make(chan int, 1)
	s.post(func() error { n <- s.generation; return nil })
	select {
	case g := <-n:
		return g
	case <-s.done:
		return 0
	}
}

// join starts the processes of another generation.
func (s *Supervisor) join(next []Process, result chan error) {
	if s.phase != serving || s.joining != nil {
		result <- errors.New("the daemon is starting or ending")
		return
	}
	s.generation++
	s.joining = &joining{s.generation, result}
	end := suffix(s.generation)
	for _, q := range next {
		p := &process{Process: q, role: q.Name, generation: s.generation}
		p.Name += end
		s.procs = append(s.procs, p)
	}
	for _, pair := range s.template {
		var named [2]string
		own := false
		for i, name := range pair {
			named[i] = name
			if p := s.named(name + end); p != nil {
				named[i], own = name+end, true
			}
		}
		if own {
			s.plan.Links = append(s.plan.Links, named)
			s.linkOwn(named)
		}
	}
	for _, p := range s.of(s.generation) {
		if err := s.spawn(p); err != nil {
			s.abort(fmt.Errorf("start %s: %w", p.role, err))
			return
		}
	}
}

// of returns the processes of a generation.
func (s *Supervisor) of(generation int) (l []*process) {
	for _, p := range s.procs {
		if p.generation == generation {
			l = append(l, p)
		}
	}
	return l
}

// joined ends the start of a generation when all of it is ready.
func (s *Supervisor) joined() {
	for _, p := range s.of(s.joining.generation) {
		if !p.ready {
			return
		}
	}
	s.joining.result <- nil
	s.joining = nil
}

// abort gives up a generation that is being started.
func (s *Supervisor) abort(err error) {
	if s.joining == nil {
		return
	}
	select {
	case s.joining.result <- err:
	default:
	}
	s.joining = nil
	s.undo()
}

// undo ends the newest generation.
func (s *Supervisor) undo() {
	for _, p := range s.of(s.generation) {
		s.dismiss(p)
	}
}

// dismiss ends a process for good.
func (s *Supervisor) dismiss(p *process) {
	p.leaving = true
	if p.cmd != nil {
		p.cmd.Process.Kill()
	} else {
		s.forget(p)
	}
}

// retireOld lets all generations but the newest end, and calls done when they
// take no more work.
func (s *Supervisor) retireOld(done func()) {
	waiting := 1
	one := func() {
		if waiting--; waiting == 0 {
			done()
		}
	}
	defer one()
	for _, p := range s.procs {
		if p.generation == 0 || p.generation == s.generation || p.retired {
			continue
		}
		p.retired = true
		if !p.Front {
			continue
		}
		if p.cmd == nil {
			s.forget(p)
			s.dissolve(p.generation)
			continue
		}
		waiting++
		p.updated = one // its death is as good
		if s.send(p, imsg.Frame{Type: frameRetire}) != nil {
			p.cmd.Process.Kill()
		}
	}
}

// dissolve stops what is left of a generation whose front has ended.
func (s *Supervisor) dissolve(generation int) {
	l := s.of(generation)
	if slices.ContainsFunc(l, func(p *process) bool { return p.Front }) {
		return
	}
	for _, p := range l {
		p.leaving = true
		cmd := p.cmd
		if cmd == nil {
			s.forget(p)
			continue
		}
		if s.send(p, imsg.Frame{Type: frameStop}) != nil {
			cmd.Process.Kill()
		}
		time.AfterFunc(stopPatience, func() { cmd.Process.Kill() })
	}
}

// forget drops a process that does not come back, and its links.
func (s *Supervisor) forget(p *process) {
	s.procs = slices.DeleteFunc(slices.Clone(s.procs), func(q *process) bool { return q == p })
	s.plan.Links = slices.DeleteFunc(slices.Clone(s.plan.Links), func(pair [2]string) bool {
		return pair[0] == p.Name || pair[1] == p.Name
	})
	s.ownMu.Lock()
	defer s.ownMu.Unlock()
	if l := s.own[p.Name]; l != nil {
		l.Finish()
		delete(s.own, p.Name)
	}
}

// tell gives a process that stays what has changed, and returns when that is
// in force.
func (s *Supervisor) tell(ctx context.Context, name string, files []NamedFile) error {
	done := make(chan error, 1)
	s.post(func() error {
		p := s.named(name)
		if p == nil || !p.ready {
			for _, f := range files {
				f.File.Close()
			}
			done <- errors.New("it does not run")
			return nil
		}
		p.updated = func() { done <- nil }
		frames := make([]imsg.Frame, 0, len(files)+1)
		for _, f := range files {
			frames = append(frames, imsg.Frame{Type: frameFile, Data: appendName(nil, f.Name), File: f.File})
		}
		if err := s.send(p, append(frames, imsg.Frame{Type: frameUpdate})...); err != nil {
			done <- err
		}
		return nil
	})
	t := time.NewTimer(startPatience)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return errors.New("it does not answer")
	case <-s.done:
		return errors.New("the daemon ends")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// shown returns the name under which p knows another process: within a
// generation names are without it.
func (s *Supervisor) shown(p *process, name string) string {
	if other := s.named(name); other != nil && other.generation == p.generation {
		return other.role
	}
	return name
}

// meant is the reverse of shown.
func (s *Supervisor) meant(p *process, name string) string {
	if p.generation != 0 && s.named(name+suffix(p.generation)) != nil {
		return name + suffix(p.generation)
	}
	return name
}
