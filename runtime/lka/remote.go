package lka

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/lka/backend"
	"smtpd/runtime/stat"
)

// open returns the table that t declares.
func (a *agent) open(t *compile.Table) table {
	delim := a.rules.SMTP.SubAddrDelim
	switch t.Backend {
	case "static":
		return newStatic(t, delim)
	case "db":
		return newDatabase(t, delim)
	case "passwd":
		return newPasswd(t, delim)
	case "getpwnam":
		return system{a.beyond}
	}
	if _, _, ok := t.Program(); ok {
		return remote{backend.NewProgram(t.Name, a.startProgram(t.Name), a.log)}
	}
	if a.openTable == nil {
		return unserved{fmt.Errorf("tables of %s are not built in", t.Backend)}
	}
	b, err := a.openTable(t)
	if err != nil { // source.Unsupported keeps such a configuration from being started
		return unserved{err}
	}
	return configured{remote{b}, t}
}

// configured is a remote table that has a file which configures it.
type configured struct {
	remote
	as *compile.Table
}

// update forgets what was answered before. The file is no part of that: it was
// read by the process that may read it, with all of the configuration, and
// whoever has changed it is told so.
func (c configured) update(ctx context.Context) error {
	if text, err := readLimited(c.as.Path, maxInclude); err == nil && string(text) != c.as.Config {
		return fmt.Errorf("%s has changed: reload the configuration for it", c.as.Path)
	}
	return c.remote.update(ctx)
}

// runPrograms keeps the programs running that serve tables, until ctx ends.
func (a *agent) runPrograms(ctx context.Context) {
	for _, t := range a.tables {
		if r, ok := t.(remote); ok {
			a.programs.Go(func() { r.remoteTable.(*backend.Program).Run(ctx) })
		}
	}
}

// close ends what the tables have under way. The context of their programs
// must have ended.
func (a *agent) close() {
	a.programs.Wait()
	a.beyond.Close()
	for _, t := range a.tables {
		if r, ok := t.(interface{ Close() }); ok {
			r.Close()
		}
	}
}

// startProgram returns what has parent start the program of a table.
func (a *agent) startProgram(name string) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		if a.logins.parent == nil {
			return nil, fmt.Errorf("nobody here starts programs")
		}
		f, err := a.logins.parent.Program(ctx, name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return net.FileConn(f)
	}
}

// A remoteTable is a table outside of this process.
type remoteTable interface {
	Check(ctx context.Context, s engine.Service, key string) (bool, error)
	Lookup(ctx context.Context, s engine.Service, key string) (value string, ok bool, err error)
	Fetch(ctx context.Context, s engine.Service) (value string, ok bool, err error)
	Update(ctx context.Context) error
	Close()
}

// remote makes a table of one that is outside.
type remote struct{ remoteTable }

func (r remote) check(ctx context.Context, s engine.Service, key string) (bool, error) {
	return r.Check(ctx, s, key)
}

func (r remote) lookup(ctx context.Context, s engine.Service, key string) (string, bool, error) {
	return r.Lookup(ctx, s, key)
}

func (r remote) fetch(ctx context.Context, s engine.Service) (string, bool, error) {
	return r.Fetch(ctx, s)
}

func (r remote) update(ctx context.Context) error { return r.Update(ctx) }

// authenticate asks for the service auth. Unlike OpenSMTPD, which folds the
// whole key, it leaves the password as it was typed.
func (r remote) authenticate(ctx context.Context, user, password string) (bool, error) {
	if strings.Contains(user, ":") {
		return false, nil
	}
	return r.Check(ctx, engine.Auth, user+":"+password)
}

// unserved stands for a table that cannot be served.
type unserved struct{ err error }

func (u unserved) check(context.Context, engine.Service, string) (bool, error) { return false, u.err }
func (u unserved) lookup(context.Context, engine.Service, string) (string, bool, error) {
	return "", false, u.err
}
func (u unserved) fetch(context.Context, engine.Service) (string, bool, error) {
	return "", false, u.err
}

// What is counted of tables. Those that rules compare something with are in
// mfa's memory if they are files or lists, and are not asked for here.
var (
	lookups = stat.Counter("smtpd_table_lookups_total", "Questions to tables.", "table")
	hits    = stat.Counter("smtpd_table_hits_total", "Questions to tables whose key was there.", "table")
	errored = stat.Counter("smtpd_table_errors_total", "Questions to tables that could not be answered.", "table")
	seconds = stat.Histogram("smtpd_table_seconds", "Time that answers of tables took.", "table")
)

func count(table string, began time.Time, reply appender, err error) {
	lookups.WithLabelValues(table).Inc()
	seconds.WithLabelValues(table).Observe(time.Since(began).Seconds())
	if err != nil {
		errored.WithLabelValues(table).Inc()
		return
	}
	switch r := reply.(type) {
	case valueAnswer:
		if r.Found {
			hits.WithLabelValues(table).Inc()
		}
	case userAnswer:
		if r.Found {
			hits.WithLabelValues(table).Inc()
		}
	}
}
