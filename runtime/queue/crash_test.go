package queue

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"smtpd/runtime/envelope"
)

// A diary is what a user of the store knows: what was begun, and what was
// acknowledged.
type diary struct {
	mu        sync.Mutex
	begun     map[envelope.MessageID]string // content
	committed map[envelope.MessageID]bool
	removing  map[envelope.ID]bool
	applied   map[envelope.ID]bool // removals that have returned
	removed   map[envelope.ID]bool // and must not be undone
}

func newDiary() *diary {
	return &diary{
		begun: make(map[envelope.MessageID]string), committed: make(map[envelope.MessageID]bool),
		removing: make(map[envelope.ID]bool), applied: make(map[envelope.ID]bool), removed: make(map[envelope.ID]bool),
	}
}

// note writes down, unless the store has died: a goroutine that Pebble does
// not stop at once could say anything then.
func (d *diary) note(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// live commits messages of two envelopes, small and large, and removes some
// of the envelopes, until the store fails.
func (d *diary) live(t *testing.T, s *pebbleStore) {
	for n := range 16 {
		msg := envelope.MessageID(n + 1)
		content := strings.Repeat(fmt.Sprintf("line %d\n", n), 1000)
		if n%5 == 3 {
			content = strings.Repeat(content, 12) // 84 to 96 KB: of the spool
		}
		d.note(func() { d.begun[msg] = content })
		a, b := testEnvelope(msg, 1, "a.example"), testEnvelope(msg, 2, "b.example")
		if err := commit(s, msg, content, a, b); err != nil {
			continue
		}
		d.note(func() {
			d.committed[msg] = true
			for id := range d.applied { // a removal is on disk with the next commit
				d.removed[id] = true
			}
		})
		d.remove(s, a.ID)
		if n%2 == 1 {
			d.remove(s, b.ID)
		}
	}
}

func (d *diary) remove(s *pebbleStore, id envelope.ID) {
	d.note(func() { d.removing[id] = true })
	if s.Apply(&Changes{Remove: []envelope.ID{id}}) == nil {
		d.note(func() { d.applied[id] = true })
	}
}

// check compares a store after a crash with the diary.
func (d *diary) check(t *testing.T, s *pebbleStore) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	stored := make(map[envelope.ID]bool)
	for ev, err := range s.List(0) {
		if err != nil {
			t.Errorf("unreadable after a crash: %v", err)
			continue
		}
		stored[ev.ID] = true
		msg := ev.ID.Message()
		want, ok := d.begun[msg]
		if !ok {
			t.Errorf("envelope %v was never queued", ev.ID)
			continue
		}
		if got := contentIn(t, s, msg); got != want {
			t.Errorf("message %v came back with %d of %d bytes", msg, len(got), len(want))
		}
		if d.removed[ev.ID] {
			t.Errorf("envelope %v is back after its removal", ev.ID)
		}
	}
	for msg := range d.begun {
		any := false
		for n := range 2 {
			any = any || stored[envelope.ID(msg)<<32|envelope.ID(n+1)]
		}
		for n := range 2 {
			id := envelope.ID(msg)<<32 | envelope.ID(n+1)
			if !stored[id] && !d.removing[id] && (d.committed[msg] || any) {
				t.Errorf("envelope %v is lost", id)
			}
		}
	}
	indexed := walk(t, s, Range{})
	if len(indexed) != len(stored) {
		t.Errorf("%d envelopes, %d in the schedule", len(stored), len(indexed))
	}
}

// faulty is a disk that goes wrong at its n-th write.
type faulty struct {
	mem   *vfs.MemFS
	at    int64
	err   error // what the write returns
	stops bool  // or it does not return, and nothing after it does

	rotates bool // logs are rotated, and their writes do not fail

	count   atomic.Int64
	dead    atomic.Bool
	mu      sync.Mutex
	after   *vfs.MemFS // what a crash then leaves
	stopped chan struct{}
	tear    int // percent of what was not synced that is left
}

func (f *faulty) String() string { return "faulty" }

func (f *faulty) MaybeError(op errorfs.Op) error {
	if f.dead.Load() {
		select {}
	}
	// A log that fails while it is rotated ends the process by a panic that
	// no test survives. Failing logs are tested where they are not rotated.
	if !f.stops && f.rotates && strings.HasSuffix(op.Path, ".log") {
		return nil
	}
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || f.count.Add(1) != f.at {
		return nil
	}
	if f.stops || endsProcess() {
		f.crash()
		close(f.stopped)
		select {}
	}
	return f.err
}

// endsProcess reports whether an error now would end the process in a way
// that no test survives: Pebble panics if it cannot begin a log or sync the
// name of its current files.
func endsProcess() bool {
	pc := make([]uintptr, 32)
	frames := runtime.CallersFrames(pc[:runtime.Callers(0, pc)])
	for {
		fr, more := frames.Next()
		if strings.HasSuffix(fr.Function, ".rotateWAL") || strings.HasSuffix(fr.Function, ".(*Marker).Move") {
			return true
		}
		if !more {
			return false
		}
	}
}

// crash takes what is on the disk, and lets nothing more reach it.
func (f *faulty) crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead.Swap(true) {
		return
	}
	f.after = f.mem.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: f.tear,
		RNG:                 rand.New(rand.NewPCG(uint64(f.at), uint64(f.tear))),
	})
}

// small makes a store that flushes and compacts even for a few messages.
func small(o *pebble.Options) {
	o.MemTableSize = 64 << 10
	o.L0CompactionThreshold = 2
	o.CacheSize = 1 << 20
}

func (f *faulty) tune(o *pebble.Options) {
	small(o)
	if !f.stops && !f.rotates {
		o.MemTableSize = 4 << 20
	}
}

// run lives on the disk until it is done or the store has ended itself.
func (f *faulty) run(t *testing.T, d *diary) {
	done := make(chan struct{})
	died := make(chan struct{})
	var once sync.Once
	open := func() (*pebbleStore, error) {
		return openPebble(StoreConfig{
			Dir: "/queue", Grouping: byDomain, fs: errorfs.Wrap(f.mem, f), tune: f.tune,
			Fatal: func(error) { once.Do(func() { close(died) }); runtime.Goexit() },
		})
	}
	go func() {
		defer close(done)
		s, err := open()
		if err != nil {
			return
		}
		d.live(t, s)
		// A restart begins new files and names them. Pebble does not survive
		// an error there, so it is for disks that stop.
		if f.stops && s.Close() == nil {
			open()
		}
	}()
	select {
	case <-done:
	case <-died:
	case <-f.stopped:
	}
	f.crash()
}

// TestCrash stops the disk before its n-th write, for every n, drops or tears
// what was not synced, and opens the store again: nothing that was
// acknowledged is lost, nothing is there by half, and nothing removed is back.
func TestCrash(t *testing.T) {
	for _, tear := range []int{0, 50} {
		for n := int64(1); ; n++ {
			f := &faulty{mem: vfs.NewCrashableMem(), at: n, stops: true, tear: tear, stopped: make(chan struct{})}
			d := newDiary()
			f.run(t, d)
			f.reopen(t, d, n)
			if t.Failed() {
				return
			}
			if f.count.Load() < n {
				t.Logf("%d crashes, %d%% of what was not synced left", n-1, tear)
				published(t, map[int]string{0: "what was not synced is gone", 50: "torn writes"}[tear], n-1)
				break
			}
		}
	}
}

// TestDiskErrors has the n-th write fail once and everything after it work,
// and then crashes: an error may cost the service, never a mail.
func TestDiskErrors(t *testing.T) {
	for _, rotates := range []bool{false, true} {
		for _, errno := range []error{syscall.EIO, syscall.ENOSPC} {
			for n := int64(1); ; n++ {
				f := &faulty{mem: vfs.NewCrashableMem(), at: n, err: errno, rotates: rotates, stopped: make(chan struct{})}
				d := newDiary()
				f.run(t, d)
				f.reopen(t, d, n)
				if t.Failed() {
					return
				}
				if f.count.Load() < n {
					t.Logf("%d writes failed with %v", n-1, errno)
					if !rotates {
						published(t, map[error]string{syscall.EIO: "EIO", syscall.ENOSPC: "ENOSPC"}[errno], n-1)
					}
					break
				}
			}
		}
	}
}

// reopen checks what a crash has left, and that it serves.
func (f *faulty) reopen(t *testing.T, d *diary, n int64) {
	t.Helper()
	s, err := openPebble(StoreConfig{Dir: "/queue", Grouping: byDomain, fs: f.after, tune: small})
	if err != nil {
		t.Errorf("write %d: open after the crash: %v", n, err)
		return
	}
	defer s.Close()
	d.check(t, s)
	mustCommit(t, s, 1000, "new", testEnvelope(1000, 1, "a.example"))
	if t.Failed() {
		t.Logf("after a failure at write %d", n)
	}
}
