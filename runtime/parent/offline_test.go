package parent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// anOffline returns one over a directory with files called names.
func anOffline(t *testing.T, send func(ctx context.Context, uid uint32, name string) error, names ...string) *offline {
	t.Helper()
	o := &offline{Offline: Offline{Dir: t.TempDir(), Send: send}, log: slog.New(slog.DiscardHandler), again: make(map[string]attempt)}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(o.Dir, name), []byte("-S|you\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func namesOf(files []offlineFile) []string {
	var l []string
	for _, f := range files {
		l = append(l, f.name)
	}
	return l
}

// TestOfflineLook checks that parent passes by what is not a message of
// sendmail, without opening it.
func TestOfflineLook(t *testing.T) {
	o := anOffline(t, nil, "100.Abc", "99.Def", "98.partial.partial", ".hidden", "-S", "x.Abc", "97.", "97", "96.a b", "95.a/b"[:4]+"-", "94.Readable", "93.Linked", "92.Huge")
	at := func(name string) string { return filepath.Join(o.Dir, name) }
	if err := errors.Join(
		os.Chmod(at("94.Readable"), 0o644),
		os.Link(at("93.Linked"), at("91.Linked")),
		os.Truncate(at("92.Huge"), OfflineSize+OfflineLine+1),
		os.Symlink("/etc/passwd", at("90.Symlink")),
		syscall.Mkfifo(at("89.Fifo"), 0o600),
		os.Mkdir(at("88.Directory"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	files, err := o.look()
	if got := namesOf(files); err != nil || !slices.Equal(got, []string{"100.Abc", "99.Def"}) {
		t.Errorf("%v, %v", got, err)
	}
	if err := os.Rename(o.Dir, o.Dir+"2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(o.Dir+"2", o.Dir); err != nil {
		t.Fatal(err)
	}
	if files, err := o.look(); err == nil {
		t.Errorf("behind a link it found %v", files)
	}
}

// TestOfflineThousands checks what one look takes of a user who has put
// thousands of files there: so many, the oldest, and none for ever.
func TestOfflineThousands(t *testing.T) {
	var names []string
	for i := range 3000 {
		names = append(names, fmt.Sprintf("%d.Abc", 10_000+i))
	}
	refused := func(context.Context, uint32, string) error { return fmt.Errorf("no: %w", ErrPermanent) }
	o := anOffline(t, refused, names...)
	for range 3 {
		files, err := o.look()
		if err != nil || len(files) > offlinePerUser {
			t.Fatalf("%d files, %v", len(files), err)
		}
		o.send(t.Context(), files)
	}
	if len(o.again) != offlinePerUser {
		t.Errorf("%d files are remembered, want %d", len(o.again), offlinePerUser)
	}
	for i := range offlinePerUser {
		if _, ok := o.again[names[i]]; !ok {
			t.Errorf("%s was not tried", names[i])
		}
		os.Remove(filepath.Join(o.Dir, names[i]))
	}
	if files, err := o.look(); err != nil || len(files) != offlinePerUser || files[0].name != names[offlinePerUser] {
		t.Errorf("after those are gone: %v, %v", namesOf(files), err)
	}
}

// TestOfflineInTurn checks that a user with many messages lets others through.
func TestOfflineInTurn(t *testing.T) {
	o := anOffline(t, nil)
	users := make(map[uint32]*offlineUser)
	for uid, n := range map[uint32]int{1000: 500, 1001: 2, 1002: 1} {
		users[uid] = new(offlineUser)
		for i := range n {
			users[uid].add(offlineFile{name: fmt.Sprintf("%d.%d", 1000+i, uid), uid: uid, size: 1})
		}
	}
	users[1003] = new(offlineUser)
	for i := range 4 {
		users[1003].add(offlineFile{name: fmt.Sprintf("%d.1003", i), uid: 1003, size: OfflineSize})
	}
	files := o.inTurn(users)
	if got, want := namesOf(files)[:9], []string{
		"1000.1000", "1000.1001", "1000.1002", "0.1003", "1001.1000", "1001.1001", "1.1003", "1002.1000", "1003.1000",
	}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if want := offlinePerUser + 2 + 1 + 2; len(files) != want {
		t.Errorf("%d files, want %d", len(files), want)
	}
	if !o.full[1000] || o.full[1001] || !o.full[1003] {
		t.Errorf("full: %v", o.full)
	}
}

// TestOfflineRun checks when messages are sent, how many at once, and when
// those that could not be are tried again.
func TestOfflineRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most, tries := 0, 0, make(map[string][]time.Duration)
		start := time.Now()
		var o *offline
		send := func(_ context.Context, _ uint32, name string) error {
			mu.Lock()
			now++
			most = max(most, now)
			tries[name] = append(tries[name], time.Since(start).Round(time.Second))
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			switch name {
			case "10.Later":
				return errors.New("not now")
			case "10.Never":
				return fmt.Errorf("no: %w", ErrPermanent)
			}
			return os.Remove(filepath.Join(o.Dir, name))
		}
		o = anOffline(t, send, "10.A", "10.B", "10.C", "10.D", "10.E", "10.F", "10.G", "10.Later", "10.Never")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			o.run(ctx)
			close(done)
		}()
		time.Sleep(10 * time.Minute)
		cancel()
		<-done
		if most != offlineAtOnce {
			t.Errorf("%d at once, want %d", most, offlineAtOnce)
		}
		for name, n := range map[string]int{"10.A": 1, "10.G": 1, "10.Never": 1, "10.Later": 4} {
			if len(tries[name]) != n || tries[name][0] != time.Second {
				t.Errorf("%s was tried at %v, want %d times from a second on", name, tries[name], n)
			}
		}
	})
}
