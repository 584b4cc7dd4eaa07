package queue

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A spacer is a Store that knows how much room its disk has, and can keep some
// in reserve.
type spacer interface {
	free() (bytes uint64, err error)
	// reserve takes room on the disk, so that nobody else can.
	reserve(bytes int64) error
	// spend gives it back.
	spend() error
}

// Room on the disk. Below minFree no mail is taken, and the ballast is thrown
// off: what is queued needs room to be delivered, and to note that, and a full
// disk would end the process.
const (
	minFree = 64 << 20
	ballast = 64 << 20
)

// ErrFull is returned, wrapped, when the disk has too little room.
var ErrFull = errors.New("452 4.3.1 insufficient system storage")

// spaceCheck is how often the room is looked at: the disk has other users too.
const spaceCheck = time.Second

// A spaceWatch refuses mail while the disk is nearly full.
type spaceWatch struct {
	store spacer // nil: there is always room
	log   *slog.Logger

	mu      sync.Mutex
	full    bool
	ready   bool          // the ballast is on board
	warned  bool          // that it cannot be
	changed chan struct{} // closed when full changes
}

func newSpaceWatch(log *slog.Logger) *spaceWatch {
	return &spaceWatch{log: log, changed: make(chan struct{})}
}

// check returns why no mail can be taken, or nil.
func (w *spaceWatch) check() error {
	if full, _ := w.state(); full {
		return ErrFull
	}
	return nil
}

// now is check of this very moment, not of the last look.
func (w *spaceWatch) now() error {
	if w.store != nil {
		w.look()
	}
	return w.check()
}

// state returns whether the disk is full, and a channel that is closed when
// that changes.
func (w *spaceWatch) state() (full bool, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.full, w.changed
}

// run looks at the room until ctx is done.
func (w *spaceWatch) run(ctx context.Context) {
	tick := time.NewTicker(spaceCheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look()
		case <-ctx.Done():
			return
		}
	}
}

// look compares the room that there is with what is needed. Service returns
// with twice as much as it ended at, and the ballast, or it would come and go
// with every mail.
func (w *spaceWatch) look() {
	n, err := w.store.free()
	if err != nil {
		return // a file system that cannot say is not full
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case n < minFree:
		if !w.full {
			w.turn(true)
			w.log.Error("queue: no mail is taken, the disk is nearly full", "free", n)
		}
		if w.ready {
			w.throwOff()
		}
	case !w.ready && n >= 2*minFree+ballast:
		if w.takeIn(); !w.ready && w.full { // better without than never again
			w.resume(n)
		}
	case w.full && w.ready && n >= 2*minFree:
		w.resume(n)
	}
}

func (w *spaceWatch) resume(free uint64) {
	w.turn(false)
	w.log.Info("queue: mail is taken again", "free", free)
}

func (w *spaceWatch) takeIn() {
	err := w.store.reserve(ballast)
	if err != nil && !w.warned {
		w.log.Warn("queue: no room could be put in reserve", "error", err)
	}
	w.ready, w.warned = err == nil, err != nil
}

func (w *spaceWatch) throwOff() {
	if err := w.store.spend(); err != nil {
		w.log.Error("queue: the reserve cannot be used", "error", err)
		return
	}
	w.ready = false
}

func (w *spaceWatch) turn(full bool) {
	w.full = full
	fullDisk.WithLabelValues().Set(map[bool]float64{true: 1}[full])
	close(w.changed)
	w.changed = make(chan struct{})
}

// wait returns whether the disk is full, once that is not what known says.
func (w *spaceWatch) wait(ctx context.Context, known bool) (full bool, err error) {
	for {
		full, changed := w.state()
		if full != known {
			return full, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return full, ctx.Err()
		}
	}
}

func (s *pebbleStore) free() (uint64, error) {
	u, err := s.spool.fs.GetDiskUsage(s.spool.dir)
	return u.AvailBytes, err
}

// ballastCategory marks what the reserve takes in the statistics of the file
// system.
const ballastCategory = vfs.DiskWriteCategory("ballast")

func (s *pebbleStore) reserve(n int64) error {
	f, err := s.spool.fs.Create(s.ballast, ballastCategory)
	if err != nil {
		return err
	}
	if runtime.GOOS == "linux" {
		err = f.Preallocate(0, n)
	} else { // where it does nothing
		err = writeZeros(f, n)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, s.spend())
	}
	return nil
}

func writeZeros(f vfs.File, n int64) error {
	zeros := make([]byte, 1<<20)
	for ; n > 0; n -= int64(len(zeros)) {
		if _, err := f.Write(zeros); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (s *pebbleStore) spend() error {
	err := s.spool.fs.Remove(s.ballast)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
