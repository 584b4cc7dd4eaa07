package lka

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"smtpd/compile"
	"smtpd/runtime/imsg"
)

// lookEvery is the pause between two looks at the files of tables. A change
// takes effect at the second look after it: see static.look.
const lookEvery = time.Second

// lookShare bounds what looking costs where there are many files, or slow
// ones: a pause is never less than so many times the look before it.
const lookShare = 50

// A watcher follows the files of tables. One goroutine asks the system for
// the modification time, size and inode of each, one after another; the
// content is read only if these changed. Versions are told to mfa, which asks
// for the content of those that rules and filters look into.
type watcher struct {
	log    *slog.Logger
	tables []*watched
	mfa    *imsg.Peer // nil: nobody wants to know
}

// A watched table is a file.
type watched struct {
	*static
	id   compile.TableID
	name string

	telling sync.Mutex
	told    Version // what mfa has, if it was told
	inForce Version // what was logged, or the rules were read with
	silent  bool    // about what mfa said: it was logged
}

func newWatcher(rs *compile.Ruleset, tables []table, log *slog.Logger) watcher {
	w := watcher{log: log}
	for i, t := range tables {
		id := compile.TableID(i + 1)
		if s, ok := t.(*static); ok && s.path != "" {
			w.tables = append(w.tables, &watched{
				static: s, id: id, name: rs.Table(id).Name, inForce: s.content.Load().version,
			})
		}
	}
	return w
}

// run follows the files until ctx is done.
func (w *watcher) run(ctx context.Context) {
	if len(w.tables) == 0 {
		return
	}
	pause := time.Duration(0) // the first look was made, and mfa knows nothing yet
	for {
		for _, t := range w.tables {
			w.tell(ctx, t)
		}
		select {
		case <-time.After(max(lookEvery, pause)):
		case <-ctx.Done():
			return
		}
		start := time.Now()
		w.look(ctx)
		pause = lookShare * time.Since(start)
	}
}

// look looks at every file once.
func (w *watcher) look(ctx context.Context) {
	for _, t := range w.tables {
		if ctx.Err() != nil {
			return
		}
		if err := t.look(); err != nil {
			w.log.Warn("table not reloaded, its old content stays", "table", t.name, "version", t.content.Load().version.String(), "err", err)
		}
	}
}

// tellTime bounds how long mfa may take to take over a table.
const tellTime = 60 * time.Second

// tell tells mfa of a version it does not know. If that does not work it is
// tried again after the next look.
func (w *watcher) tell(ctx context.Context, t *watched) {
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	err := w.tellOnce(ctx, t)
	if err != nil && ctx.Err() == nil && !t.silent {
		w.log.Warn("table is not in force yet", "table", t.name, "err", err)
	}
	t.silent = err != nil
}

// tellOnce returns when what a table holds is in force.
func (w *watcher) tellOnce(ctx context.Context, t *watched) error {
	t.telling.Lock()
	defer t.telling.Unlock()
	c := t.content.Load()
	if w.mfa != nil && t.told != c.version {
		if _, err := w.mfa.Call(ctx, imsg.Message{Type: msgChange, Data: change{t.id, c.version}.append(nil)}); err != nil {
			return fmt.Errorf("mfa: %w", err)
		}
		t.told = c.version
	}
	if t.inForce != c.version {
		t.inForce = c.version
		w.log.Info("table reloaded", "table", t.name, "version", c.version.String(), "entries", len(c.entries))
	}
	return nil
}

// announce returns when a table that was read anew is in force.
func (w *watcher) announce(ctx context.Context, id compile.TableID) error {
	for _, t := range w.tables {
		if t.id == id {
			return w.tellOnce(ctx, t)
		}
	}
	return nil
}
