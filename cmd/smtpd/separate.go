package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"

	"smtpd/runtime/imsg"
	"smtpd/runtime/parent"
	"smtpd/runtime/proc"
	"smtpd/runtime/stat"
)

// separate runs each component in a process of its own until ctx ends. This
// one stays root, and never reads from the network.
func (d *daemon) separate(ctx context.Context, r *reloader, serving func()) error {
	spool, err := filepath.Abs(d.spool)
	if err != nil {
		return err
	}
	stderr, err := d.processLog()
	if err != nil {
		return err
	}
	var s *proc.Supervisor
	updates := make(chan *update)
	plan := proc.Plan{
		Log: d.log, Level: d.level, Traces: d.traces, Links: links, Lock: d.lock, Stderr: stderr,
		Local: func(ctx context.Context) error {
			p := &parts{setup: d.all, log: d.log, rules: d.rules, conn: s.Link, updates: updates}
			return runParent(ctx, p, parent.Config{
				Users: startUser(s, d.rules.ServerName), Courier: startCourier(s, d.account, d.rules.ServerName),
				LMTP:    startLMTP(s, d.account, d.rules.ServerName),
				Service: r, Offline: d.offline(),
			})
		},
	}
	for i := range roles {
		p, err := d.process(&roles[i], spool)
		if err != nil {
			return err
		}
		if p.Stays {
			p.Files = func() ([]proc.NamedFile, error) {
				now := r.current.Load()
				return now.files(p.Name, now.setup(p.Name))
			}
		}
		plan.Processes = append(plan.Processes, p)
	}
	if s, err = proc.NewSupervisor(plan); err != nil {
		return err
	}
	r.counted, r.trace, r.alive = s.Counted, s.Trace, s.Alive
	stat.DescribeProcess(proc.Self)
	r.use(func(ctx context.Context, next *daemon) error { return next.advance(ctx, s, spool, updates) })
	return s.Run(ctx, serving)
}

// advance has processes that go by d take the place of those before them.
func (d *daemon) advance(ctx context.Context, s *proc.Supervisor, spool string, updates chan<- *update) error {
	var next []proc.Process
	for i := range roles {
		if roles[i].stays {
			continue
		}
		p, err := d.process(&roles[i], spool)
		if err != nil {
			return err
		}
		next = append(next, p)
	}
	return s.Advance(ctx, next, func(suffix string) (map[string][]proc.NamedFile, error) {
		d.all.Suffix = suffix
		u := &update{rules: d.rules, conn: func(peer string) imsg.Conn { return s.Link(peer + suffix) }}
		if err := u.tell(ctx, updates); err != nil {
			return nil, err
		}
		files := make(map[string][]proc.NamedFile)
		for i := range roles {
			if !roles[i].stays {
				continue
			}
			name := roles[i].name
			f, err := pipeOf(d.setup(name).append(nil))
			if err != nil {
				return nil, err
			}
			files[name] = []proc.NamedFile{{Name: setupName, File: f}}
			if name == "control" {
				for i, ln := range d.metricsSockets() {
					f, err := ln.(*net.TCPListener).File()
					if err != nil {
						return nil, err
					}
					files[name] = append(files[name], proc.NamedFile{Name: metricsName(i), File: f})
				}
			}
		}
		return files, nil
	})
}

// tell gives u to a component of this process, and returns when it is in force.
func (u *update) tell(ctx context.Context, updates chan<- *update) error {
	done := make(chan struct{})
	u.done = func() { close(done) }
	select {
	case updates <- u:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// process says how a component is run.
func (d *daemon) process(r *role, spool string) (proc.Process, error) {
	p := proc.Process{Name: r.name, As: d.account, Front: r.front, Stays: r.stays, Levels: r.name == "control"}
	switch r.home {
	case nowhere:
		p.Root = filepath.Join(spool, "empty")
	case store:
		p.Root, p.As = filepath.Join(spool, "store"), d.queueAccount
	case everywhere: // it reads files that its groups may be let into
		var err error
		if p.As, err = d.account.WithGroups(); err != nil {
			return p, err
		}
	}
	s := d.setup(r.name)
	p.Files = func() ([]proc.NamedFile, error) { return d.files(r.name, s) }
	return p, nil
}

// setup returns what the component called name is told.
func (d *daemon) setup(name string) *setup {
	s := *d.all
	s.Form = d.form
	if part := keep(name, d.rules); part != nil {
		s.Rules = part.Append(nil)
	}
	if name != "queue" {
		s.QueueKey = ""
	}
	if name != "mfa" && name != "control" {
		s.RuleNames = nil
	}
	if name != "smtp" && name != "mta" {
		s.Roots = nil
		if name != "crypto" {
			s.Certs = nil
		}
	}
	return &s
}

// files returns the descriptors that the component called name is given.
func (d *daemon) files(name string, s *setup) (l []proc.NamedFile, err error) {
	add := func(name string, f *os.File, e error) {
		l, err = append(l, proc.NamedFile{Name: name, File: f}), errors.Join(err, e)
	}
	// The level may have changed since the last start.
	now := *s
	now.Level = d.level.Level()
	f, e := pipeOf(now.append(nil))
	add(setupName, f, e)
	switch name {
	case "smtp":
		for i, ln := range d.mailSockets() {
			f, e := ln.(*net.TCPListener).File()
			add(listenerName(i), f, e)
		}
	case "control":
		f, e := d.submit.File()
		add(submitName, f, e)
		f, e = d.admin.File()
		add(adminName, f, e)
		for i, ln := range d.metricsSockets() {
			f, e := ln.(*net.TCPListener).File()
			add(metricsName(i), f, e)
		}
	case "crypto":
		for _, p := range d.rules.PKI {
			f, e := d.openKey(keyName(p.Name))
			add(keyName(p.Name), f, e)
		}
	}
	if memory := memories[name]; memory != "" {
		for i := range 2 {
			f, e := openMemory(d.spool, memory, i)
			add(memoryName(memory, i), f, e)
		}
	}
	if err != nil {
		for _, f := range l {
			f.File.Close()
		}
	}
	return l, err
}

// pipeOf returns a file that reads as b, whatever its length.
func pipeOf(b []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		defer w.Close()
		w.Write(b) // fails if the process is gone, which others notice
	}()
	return r, nil
}
