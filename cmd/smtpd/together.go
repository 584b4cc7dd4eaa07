package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"smtpd/runtime/imsg"
	"smtpd/runtime/parent"
	"smtpd/runtime/proc"
	"smtpd/runtime/stat"
)

// A company is the components of this process that go by one configuration.
type company struct {
	ends    map[[2]string]imsg.Conn // by component and peer
	retired chan struct{}
	idle    chan struct{} // closed when it takes no more work after that
	running *proc.Generation
}

// newCompany makes the connections of a company: all, or those that the
// components which stay have not got yet.
func newCompany(all bool) *company {
	c := &company{ends: make(map[[2]string]imsg.Conn), retired: make(chan struct{}), idle: make(chan struct{})}
	for _, l := range links {
		if all || comes(l[0]) || comes(l[1]) {
			c.ends[l], c.ends[[2]string{l[1], l[0]}] = imsg.Pipe()
		}
	}
	return c
}

func (c *company) conn(name string) func(peer string) imsg.Conn {
	return func(peer string) imsg.Conn { return c.ends[[2]string{name, peer}] }
}

// together runs every component in this process until ctx ends.
func (d *daemon) together(ctx context.Context, r *reloader, serving func()) error {
	r.alive = func(context.Context) bool { return true }
	r.counted, r.trace = countedHere, proc.NewTracer(ctx.Done(), d.traces).Trace
	stat.DescribeProcess("all")
	l := proc.NewLocals(ctx)
	updates := map[string]chan *update{proc.Self: make(chan *update)}
	now := newCompany(true)
	var front, rest []proc.Component
	for _, r := range roles {
		if !r.stays {
			continue
		}
		updates[r.name] = make(chan *update)
		c := d.component(&r, now, updates[r.name])
		if r.front {
			front = append(front, c)
		} else {
			rest = append(rest, c)
		}
	}
	rest = append(rest, proc.Component{Name: proc.Self, Main: func(ctx context.Context) error {
		return runParent(ctx, d.parts(proc.Self, now, updates[proc.Self]), parent.Config{Service: r, Offline: d.offline()})
	}})
	l.Start(front, rest)
	d.start(l, now)
	r.use(func(ctx context.Context, next *daemon) error {
		c := newCompany(false)
		next.start(l, c)
		for name, ch := range updates {
			u := &update{rules: next.rules, conn: c.conn(name), names: next.all.RuleNames, metrics: next.metricsSockets()}
			if err := u.tell(ctx, ch); err != nil {
				return err
			}
		}
		now.running.Retire()
		close(now.retired)
		select {
		case <-now.idle:
		case <-ctx.Done():
		}
		now = c
		return nil
	})
	serving()
	return l.Wait()
}

// again ends this process at once, because the log of the queue could not be
// written: nothing it says from now on would be true. Where it has given up no
// rights it becomes a new daemon; otherwise only who started it can start it.
func (d *daemon) again(error) {
	if os.Getuid() == d.startedAs {
		if exe, err := os.Executable(); err == nil {
			err = syscall.Exec(exe, os.Args, os.Environ())
			d.log.Error("cannot start again", "error", err)
		}
	}
	os.Exit(1)
}

// start starts the components that a reload starts anew.
func (d *daemon) start(l *proc.Locals, c *company) {
	var front, rest []proc.Component
	for _, r := range roles {
		switch {
		case r.stays:
		case r.front:
			front = append(front, d.component(&r, c, nil))
		default:
			rest = append(rest, d.component(&r, c, nil))
		}
	}
	c.running = l.Start(front, rest)
}

func (d *daemon) component(r *role, c *company, updates <-chan *update) proc.Component {
	p := d.parts(r.name, c, updates)
	return proc.Component{Name: r.name, Main: func(ctx context.Context) error { return r.main(ctx, p) }}
}

// parts returns what a component of this process is made of.
func (d *daemon) parts(name string, c *company, updates <-chan *update) *parts {
	return &parts{
		setup: d.all, rules: d.rules, log: d.log, level: d.level, conn: c.conn(name), ready: func() {},
		pid: os.Getpid(), store: filepath.Join(d.spool, "store"), fatal: d.again,
		listeners: d.mailSockets(), metrics: d.metricsSockets(), submit: d.submit, admin: d.admin, keys: d.keys,
		remembered: func(name string, i int) (*os.File, error) { return openMemory(d.spool, name, i) },
		retired:    c.retired, idle: func() { close(c.idle) }, updates: updates,
	}
}
