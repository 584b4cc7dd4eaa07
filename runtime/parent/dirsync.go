package parent

import (
	"os"
	"sync"
)

// dirSyncs syncs directories. Those that want the same directory synced while
// one sync of it runs share the next one.
type dirSyncs struct {
	mu   sync.Mutex
	dirs map[string]*dirSync
}

// A dirSync is a directory that is being synced, and who waits for the next
// round.
type dirSync struct {
	file    *os.File
	waiting []chan error
}

// sync returns when all that was done to dir before the call is on disk. The
// caller opens the directory, with whatever rights it has at the moment; to
// sync what is open takes none.
func (s *dirSyncs) sync(dir string) error {
	s.mu.Lock()
	if d, running := s.dirs[dir]; running {
		// The round under way may have begun before our change.
		c := make(chan error, 1)
		d.waiting = append(d.waiting, c)
		s.mu.Unlock()
		return <-c
	}
	s.mu.Unlock()

	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if _, running := s.dirs[dir]; running { // another was faster
		s.mu.Unlock()
		f.Close()
		return s.sync(dir)
	}
	if s.dirs == nil {
		s.dirs = make(map[string]*dirSync)
	}
	d := &dirSync{file: f}
	s.dirs[dir] = d
	s.mu.Unlock()

	err = f.Sync()
	s.next(dir, d)
	return err
}

// next hands the rounds that are still wanted to a goroutine of their own, so
// that the caller need not sync for others.
func (s *dirSyncs) next(dir string, d *dirSync) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(d.waiting) == 0 {
		delete(s.dirs, dir)
		d.file.Close()
		return
	}
	waiting := d.waiting
	d.waiting = nil
	go func() {
		err := d.file.Sync()
		s.next(dir, d)
		for _, c := range waiting {
			c <- err
		}
	}()
}
