package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"smtpd/compile/oshost"
	"smtpd/compile/policy"
	"smtpd/lang"
	"smtpd/runtime/parent"
	"smtpd/runtime/stat"
)

// A reloader puts another configuration in the place of the one in force. Who
// is connected goes on by the one that he began with.
type reloader struct {
	stop    func()
	current atomic.Pointer[daemon] // that is in force

	mu      sync.Mutex // one at a time
	advance func(ctx context.Context, next *daemon) error

	// counted is parent.Service's, set before anybody asks.
	counted func(ctx context.Context) (processes [][]byte, ended []byte, err error)
	alive   func(ctx context.Context) bool // for the service manager
	trace   func(ctx context.Context, id string) (*os.File, error)
}

var _ parent.Service = (*reloader)(nil)

func newReloader(d *daemon, stop func()) *reloader {
	r := &reloader{stop: stop}
	r.current.Store(d)
	d.countCertificates()
	return r
}

// use says how components that go by another configuration are started.
func (r *reloader) use(advance func(ctx context.Context, next *daemon) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance = advance
}

// Stop ends the daemon.
func (r *reloader) Stop() { r.stop() }

// Counted returns what the processes have counted.
func (r *reloader) Counted(ctx context.Context) (processes [][]byte, ended []byte, err error) {
	return r.counted(ctx)
}

// Trace has lines of the log copied that mention id.
func (r *reloader) Trace(ctx context.Context, id string) (*os.File, error) { return r.trace(ctx, id) }

// countedHere is what the only process has counted.
func countedHere(context.Context) (processes [][]byte, ended []byte, err error) {
	own, err := stat.Encode()
	return [][]byte{own}, nil, err
}

// onHangup reloads at each SIGHUP until ctx ends or the function that it
// returns is called.
func (r *reloader) onHangup(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hangup:
				r.Reload(ctx, parent.Reload{})
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangup)
		cancel()
	}
}

// Reload reads the configuration anew and goes by it, unless something speaks
// against that.
func (r *reloader) Reload(ctx context.Context, q parent.Reload) parent.Reloaded {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.current.Load()
	if !q.Show {
		now.manager.reloading()
		defer now.manager.ready()
	}
	var text strings.Builder
	next, err := now.successor(q, &text)
	if err == nil {
		err = next.compare(ctx, now, q, &text)
	}
	if err == nil && !q.Show {
		err = r.install(ctx, now, next)
	}
	if err != nil {
		fmt.Fprintf(&text, "not reloaded: %v\n", err)
	}
	if !q.Show {
		for line := range strings.Lines(text.String()) {
			now.log.Info("reload: " + strings.TrimSpace(line))
		}
		if err == nil {
			now.log.Info("configuration reloaded", "file", now.cli.file())
		}
	}
	return parent.Reloaded{Done: err == nil, Text: text.String()}
}

// successor returns the daemon by what the configuration says now. It has
// opened nothing yet.
func (d *daemon) successor(q parent.Reload, text *strings.Builder) (*daemon, error) {
	next := *d
	host := oshost.Sealed{Host: oshost.New()}
	rules, err := load(d.cli.file(), d.cli.defines(text), host, text)
	if err != nil {
		return nil, err
	}
	next.rules = rules
	next.all = &setup{
		Level: d.level.Level(), User: d.all.User, Program: d.all.Program, QueueKey: d.all.QueueKey, Resolver: d.all.Resolver, Libexec: host.LibexecDirs,
	}
	if q.Paused {
		next.all.Paused = []string{"smtp"}
	}
	if a, b := d.rules.Queue, rules.Queue; a.Compression != b.Compression || a.Encryption != b.Encryption || a.Key != b.Key {
		fmt.Fprintln(text, "queue compression and encryption change at the next start only")
	}
	if err := next.checkLogins(); err != nil {
		return nil, err
	}
	next.all.RuleNames = next.ruleNames()
	return &next, next.loadCertificates()
}

// compare has the new rules judged, and returns an error for what must not
// come into force unasked.
func (d *daemon) compare(ctx context.Context, before *daemon, q parent.Reload, text *strings.Builder) error {
	tests, err := testsBeside(d.cli.file())
	if err != nil {
		return fmt.Errorf("tests of the policy: %w", err)
	}
	labels, err := d.labels()
	if err != nil {
		return err
	}
	ask := question{before.rules.Append(nil), d.rules.Append(nil), labels, tests}
	j, err := ask.ask(ctx, d.program.Path, d.account)
	if err != nil {
		fmt.Fprintf(text, "the change is not analysed: %v\n", err)
		return nil
	}
	text.WriteString(j.Text)
	switch {
	case q.Force:
		return nil
	case j.Failed:
		return errors.New("tests of the policy fail; force it to go by it all the same")
	case j.Opens:
		return errors.New("it opens a relay; force it to go by it all the same")
	}
	return nil
}

// labels returns what comments call the rules.
func (d *daemon) labels() ([]label, error) {
	f, _ := lang.Parse(d.cli.file(), lang.Options{Defines: d.cli.defines(io.Discard)})
	names, wrong := policy.Labels(f.Set, d.rules)
	if len(wrong) > 0 {
		return nil, wrong[0]
	}
	var l []label
	for rule, name := range names {
		l = append(l, label{uint32(rule), name})
	}
	return l, nil
}

// install brings next into force.
func (r *reloader) install(ctx context.Context, now, next *daemon) error {
	if r.advance == nil {
		return errors.New("the daemon is starting")
	}
	err := next.openSockets(now)
	if err == nil && !next.separated {
		next.keys, err = keysOf(next.all, next.openKey)
	}
	if err == nil {
		err = r.advance(ctx, next)
	}
	if err != nil {
		now.closeSockets(next)
		return err
	}
	r.current.Store(next)
	next.countCertificates()
	if next.separated { // in one process the smtp that retires does it
		next.closeSockets(now)
	}
	return nil
}

// closeSockets closes those of other that d has not.
func (d *daemon) closeSockets(other *daemon) {
	kept := make(map[any]bool)
	for _, ln := range d.sockets {
		kept[ln] = true
	}
	for _, ln := range other.sockets {
		if !kept[ln] {
			ln.Close()
		}
	}
}
