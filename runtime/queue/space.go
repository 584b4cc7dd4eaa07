package queue

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// A spacer is a Store that knows how much room its disk has.
type spacer interface {
	free() (bytes uint64, err error)
}

// minFree is the room below which no mail is taken: what is queued needs some
// to be delivered, and a full disk would end the process.
const minFree = 64 << 20

// ErrFull is returned, wrapped, when the disk has too little room.
var ErrFull = errors.New("452 4.3.1 insufficient system storage")

func (s *pebbleStore) free() (uint64, error) {
	u, err := s.spool.fs.GetDiskUsage(s.spool.dir)
	return u.AvailBytes, err
}

// A spaceWatch refuses mail while the disk is nearly full. It looks at most
// once a second, and only when mail comes.
type spaceWatch struct {
	store spacer
	log   *slog.Logger

	mu   sync.Mutex
	seen time.Time
	full error
}

func newSpaceWatch(s spacer, log *slog.Logger) *spaceWatch { return &spaceWatch{store: s, log: log} }

// check returns why no mail can be taken, or nil.
func (w *spaceWatch) check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.seen) >= time.Second || now.Before(w.seen) {
		w.seen = now
		w.look()
	}
	return w.full
}

func (w *spaceWatch) look() {
	n, err := w.store.free()
	if err != nil {
		return // a file system that cannot say is not full
	}
	switch {
	case n < minFree && w.full == nil:
		w.full = ErrFull
		w.log.Error("queue: no mail is taken, the disk is nearly full", "free", n)
	case n >= 2*minFree && w.full != nil:
		w.full = nil
		w.log.Info("queue: mail is taken again", "free", n)
	}
}
