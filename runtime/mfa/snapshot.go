package mfa

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/lka"
)

// A view is what a recipient or a phase of a session is decided with. It
// does not change: whoever holds one sees one version of every table.
type view struct {
	engine *engine.Indexed
	files  map[compile.TableID]*file // the tables of engine.FileTables
}

// A file is a version of a table that is a file.
type file struct {
	version lka.Version
	table   *engine.Static
}

// A snapshotter hands out what files hold; *lka.Client is one.
type snapshotter interface {
	Snapshot(ctx context.Context, t compile.TableID, have lka.Version) (lka.Snapshot, error)
}

// The views of an agent: the one in force, and how the next one is made.
type views struct {
	rules   *compile.Ruleset
	current atomic.Pointer[view]
	from    snapshotter
	changes sync.Mutex // of those who make the next one
}

// newFile returns a version of a table, indexed for the filters that look
// into it; the engine sees to what it needs itself.
func newFile(rs *compile.Ruleset, id compile.TableID, v lka.Version, entries []compile.Entry) *file {
	f := &file{v, engine.NewStatic(&compile.Table{Entries: entries}, rs.SMTP.SubAddrDelim)}
	for i := range rs.Filters {
		if t := &rs.Filters[i].Test; t.Table == id {
			f.table.Prepare(filterService(rs, t))
		}
	}
	return f
}

// newView returns the view with which a daemon starts: what files held when
// the configuration was read.
func newView(rs *compile.Ruleset) *view {
	v := &view{engine: engine.New(rs), files: make(map[compile.TableID]*file)}
	for _, id := range engine.FileTables(rs) {
		entries := rs.Table(id).Entries
		v.files[id] = newFile(rs, id, lka.VersionOf(entries), entries)
	}
	return v
}

// with returns a view that differs from v in one table.
func (v *view) with(id compile.TableID, f *file) *view {
	next := &view{engine: v.engine.With(id, f.table), files: maps.Clone(v.files)}
	next.files[id] = f
	return next
}

// change puts a version of a table in force, or a later one if lka has that
// already. The view in force stays until all is ready for the next one.
func (vs *views) change(ctx context.Context, id compile.TableID, v lka.Version) error {
	vs.changes.Lock()
	defer vs.changes.Unlock()
	old := vs.current.Load()
	have := old.files[id]
	if have == nil || have.version == v {
		return nil // no decision looks into it, or it is known
	}
	s, err := vs.from.Snapshot(ctx, id, have.version)
	if err != nil || s.Version == have.version {
		return err
	}
	vs.current.Store(old.with(id, newFile(vs.rules, id, s.Version, s.Entries)))
	return nil
}

// syncTime bounds how long the first recipient may have to wait for lka.
const syncTime = 30 * time.Second

// sync brings every table up to date: what was read with the configuration
// may be old.
func (vs *views) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncTime)
	defer cancel()
	for id := range vs.current.Load().files {
		if err := vs.change(ctx, id, 0); err != nil {
			return err
		}
	}
	return nil
}
