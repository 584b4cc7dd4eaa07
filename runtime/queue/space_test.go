package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"smtpd/runtime/envelope"
)

// A smallDisk is a file system of a limited size, on which others write too.
type smallDisk struct {
	vfs.FS

	mu    sync.Mutex
	room  int64 // left, less than none when others took what was left
	files map[string]int64
}

func newSmallDisk(room int64) *smallDisk {
	return &smallDisk{FS: vfs.NewMem(), room: room, files: make(map[string]int64)}
}

// take counts n bytes of a file.
func (d *smallDisk) take(name string, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n > d.room {
		return syscall.ENOSPC
	}
	d.room -= n
	d.files[name] += n
	return nil
}

// others changes what others have on the disk.
func (d *smallDisk) others(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room -= n
}

func (d *smallDisk) left() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.room
}

func (d *smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: uint64(max(d.left(), 0))}, nil
}

func (d *smallDisk) Remove(name string) error {
	err := d.FS.Remove(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.room += d.files[name]
		delete(d.files, name)
	}
	return err
}

func (d *smallDisk) Rename(from, to string) error {
	err := d.FS.Rename(from, to)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.files[to] = d.files[from]
		delete(d.files, from)
	}
	return err
}

func (d *smallDisk) Create(name string, use vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, use)
	return &smallFile{f, d, name}, err
}

func (d *smallDisk) ReuseForWrite(from, to string, use vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.Rename(from, to); err != nil {
		return nil, err
	}
	f, err := d.FS.ReuseForWrite(to, to, use)
	return &smallFile{f, d, to}, err
}

type smallFile struct {
	vfs.File
	disk *smallDisk
	name string
}

func (f *smallFile) Write(b []byte) (int, error) {
	if err := f.disk.take(f.name, int64(len(b))); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f *smallFile) Preallocate(_, n int64) error {
	if n < ballast { // the log's, which its writes count
		return nil
	}
	return f.disk.take(f.name, n)
}

// diskAgent is a queue on a disk, with nobody at its connections.
func diskAgent(t *testing.T, d *smallDisk) *agent {
	t.Helper()
	a := newAgent(&Config{Rules: testRules(), Log: slog.New(slog.DiscardHandler)})
	s, err := openPebble(StoreConfig{Dir: "/queue", Grouping: a.destination, fs: d, Fatal: func(err error) {
		t.Errorf("the process ends: %v", err)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	a.store, a.reception.store, a.scheduler.store, a.space.store = s, s, s, s
	a.space.look()
	return a
}

// TestFullDisk fills the disk: mail is refused before it is full, what is
// queued is delivered and reported from the reserve, and service returns by
// itself.
func TestFullDisk(t *testing.T) {
	const mb = 1 << 20
	d := newSmallDisk(1000 * mb)
	a := diskAgent(t, d)
	if !a.space.ready || d.left() > (1000-64)*mb {
		t.Fatalf("no reserve: %d MB left", d.left()/mb)
	}
	from := new(client)
	commit := func() error {
		in, err := a.reception.create(from)
		if err != nil {
			return err
		}
		if _, err := a.reception.submit(in.id, []envelope.Envelope{to("a@one.example")}, a.current.Load().life); err != nil {
			return err
		}
		_, err = a.reception.commit(in.id, []byte("hello\n"), nil)
		return err
	}
	for range 200 {
		if err := commit(); err != nil {
			t.Fatal(err)
		}
	}
	late, err := a.reception.create(from) // MAIL came before the disk was full
	if err != nil {
		t.Fatal(err)
	}

	d.others(d.left() - 60*mb)
	a.space.look()
	if full, err := a.space.wait(t.Context(), false); !full || err != nil {
		t.Errorf("who waits is told %v, %v", full, err)
	}
	if d.left() < 100*mb {
		t.Errorf("the reserve was not thrown off: %d MB left", d.left()/mb)
	}
	if err := commit(); !errors.Is(err, ErrFull) {
		t.Errorf("mail for a full disk: %v", err)
	}
	if _, err := a.reception.submit(late.id, []envelope.Envelope{to("a@one.example")}, a.current.Load().life); !errors.Is(err, ErrFull) {
		t.Errorf("recipient for a full disk: %v", err)
	}

	// Others go on until next to nothing is left. Deliveries end well.
	d.others(d.left() - 8*mb)
	a.space.look()
	var ids []envelope.ID
	for ev, err := range a.store.List(0) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, ev.ID)
	}
	report, err := a.reception.create(nil)
	if err != nil {
		t.Fatalf("report: %v", err)
	}
	if _, err := a.reception.submit(report.id, []envelope.Envelope{to("sender@example.org")}, a.current.Load().life); err != nil {
		t.Errorf("report: %v", err)
	}
	if _, err := a.reception.commit(report.id, []byte("report\n"), ids[:1]); err != nil {
		t.Errorf("report: %v", err)
	}
	for part := range slices.Chunk(ids[1:], 20) {
		mustApply(t, a.store, Changes{Remove: part})
	}
	if got := list(t, a.store); len(got) != 1 {
		t.Errorf("%d envelopes left, want the report", len(got))
	}

	// A little room is not enough, or service would come and go.
	d.others(d.left() - 100*mb)
	a.space.look()
	a.space.look()
	if err := commit(); !errors.Is(err, ErrFull) {
		t.Errorf("with a little room: %v", err)
	}
	d.others(d.left() - 500*mb)
	a.space.look()
	a.space.look()
	if full, err := a.space.wait(t.Context(), true); full || err != nil {
		t.Errorf("who waits is told %v, %v", full, err)
	}
	if !a.space.ready {
		t.Error("there is no reserve again")
	}
	if err := commit(); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// TestUploads brings large messages: what they have on the disk before their
// commit is nothing that anybody could read with queue encryption, goes with
// those who gave them up, and is not let to fill the disk.
func TestUploads(t *testing.T) {
	d := newSmallDisk(1000 << 20)
	a := diskAgent(t, d)
	rec, err := newRecorder(false, true, testKey)
	if err != nil {
		t.Fatal(err)
	}
	*a.store.(*pebbleStore).rec = *rec
	s := &a.store.(*pebbleStore).spool
	files := func() []string {
		names, err := d.List(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	from, other := new(client), new(client)
	piece := bytes.Repeat([]byte("confidential "), blockSize/4)
	upload := func(c *client) envelope.MessageID {
		in, err := a.reception.create(c)
		if err == nil {
			err = a.reception.write(in.id, piece)
		}
		if err != nil {
			t.Fatal(err)
		}
		return in.id
	}

	left, kept := upload(from), upload(other)
	for _, name := range files() {
		f, err := d.Open(d.PathJoin(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil || len(b) < blockSize || bytes.Contains(b, []byte("confidential")) {
			t.Errorf("%d bytes on the disk before the commit, perhaps to be read: %v", len(b), err)
		}
		f.Close()
	}
	a.reception.abandon(from)
	if got := files(); len(got) != 1 || got[0] != kept.String() {
		t.Errorf("files %v after a client went, want that of %v", got, kept)
	}
	if err := a.reception.write(left, piece); !errors.Is(err, ErrNotFound) {
		t.Errorf("more of what was given up: %v", err)
	}

	for range 1000 << 20 / len(piece) {
		if err = a.reception.write(kept, piece); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFull) || d.left() < minFree {
		t.Errorf("%v, with %d MB left", err, d.left()>>20)
	}
	a.reception.rollback(kept)
	if got := files(); len(got) != 0 {
		t.Errorf("files %v of what was given up", got)
	}
}

// TestStartOnFullDisk opens a store with nothing but its reserve left.
func TestStartOnFullDisk(t *testing.T) {
	d := newSmallDisk(1000 << 20)
	a := diskAgent(t, d)
	mustCommit(t, a.store, 1, "one", testEnvelope(1, 1, "a.example"))
	a.store.Close()
	d.others(d.left())
	b := diskAgent(t, d)
	if got := list(t, b.store); len(got) != 1 {
		t.Errorf("%d envelopes", len(got))
	}
	if err := b.space.check(); !errors.Is(err, ErrFull) {
		t.Errorf("with %d MB left: %v", d.left()>>20, err)
	}
	mustApply(t, b.store, Changes{Remove: []envelope.ID{1<<32 | 1}})
}

// A fixedSpace is a disk that cannot keep anything in reserve.
type fixedSpace uint64

func (f *fixedSpace) free() (uint64, error) { return uint64(*f), nil }
func (f *fixedSpace) reserve(int64) error   { return errors.ErrUnsupported }
func (f *fixedSpace) spend() error          { return nil }

func TestNoReserve(t *testing.T) {
	s := fixedSpace(minFree - 1)
	w := newSpaceWatch(slog.New(slog.DiscardHandler))
	w.store = &s
	w.look()
	if w.check() == nil {
		t.Error("mail is taken on a full disk")
	}
	s = 2*minFree + ballast
	w.look()
	if err := w.check(); err != nil {
		t.Errorf("mail is not taken again: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := w.wait(ctx, false); err == nil {
		t.Error("who waits for a full disk is told of one")
	}
}

// TestTidyingPause checks that the store waits before it tries again what it
// could not do in the background, and that nothing else waits with it.
func TestTidyingPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := orderedFS{vfs.NewMem(), new(failure)}
		took := func(name string) time.Duration {
			began := time.Now()
			f, err := fs.Create(name, diskCategory)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			return time.Since(began)
		}
		for _, want := range []struct {
			fail bool
			name string
			took time.Duration
		}{{false, "1.sst", 0}, {true, "2.log", 0}, {false, "3.sst", retryPause}, {false, "4.sst", 0}, {true, "5.sst", retryPause}} {
			if want.fail {
				fs.failed.happened()
			}
			if got := took(want.name); got != want.took {
				t.Errorf("%s took %v, want %v", want.name, got, want.took)
			}
		}
	})
}
