package parent

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestMaildir(t *testing.T) {
	a, home := newTestAgent(t)
	d := testDelivery(home, Maildir, filepath.Join(home, "Maildir"))
	wantDelivered(t, deliver(t, a, d, testMessage))

	dir := filepath.Join(home, "Maildir")
	if got, want := only(t, filepath.Join(dir, "new")), d.Header+testMessage; got != want {
		t.Errorf("stored:\n%s\nwant:\n%s", got, want)
	}
	if left := files(t, filepath.Join(dir, "tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
	name := filepath.Base(files(t, filepath.Join(dir, "new"))[0])
	if !regexp.MustCompile(`^\d+\.[0-9a-f]{16}\.mx\.example\.org$`).MatchString(name) {
		t.Errorf("file name %q", name)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, dir + "/new/" + name: 0o600} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("mode of %s = %v, %v, want %v", path, st.Mode(), err, want)
		}
	}
}

// TestMaildirKeepsMode checks that the mode of a maildir is its owner's.
func TestMaildirKeepsMode(t *testing.T) {
	a, home := newTestAgent(t)
	dir := filepath.Join(home, "Maildir")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	wantDelivered(t, deliver(t, a, testDelivery(home, Maildir, "Maildir"), testMessage))
	if st, _ := os.Stat(dir); st.Mode().Perm() != 0o750 {
		t.Errorf("mode became %v", st.Mode().Perm())
	}
}

func TestMaildirFolders(t *testing.T) {
	const spam = "Subject: x\nx-sPam-flag: YES\n\nbuy\n"
	for _, c := range []struct {
		name, tag, message string
		junk               bool
		exists             string // a folder that the user has
		want               string
	}{
		{"no tag", "", testMessage, false, "", ""},
		{"tag with folder", "lists", testMessage, false, ".lists", ".lists"},
		{"tag without folder", "lists", testMessage, false, "", ""},
		{"tag that climbs", "./../x", testMessage, false, "", ""},
		{"tag of dots", ".", testMessage, false, "", ""},
		{"tag with slash", "a/b", testMessage, false, ".a:b", ".a:b"},
		{"spam", "", spam, true, "", ".Junk"},
		{"spam beats tag", "lists", spam, true, ".lists", ".Junk"},
		{"spam without junk", "", spam, false, "", ""},
		{"ham", "", testMessage, true, "", ""},
		{"spam in the body", "", "Subject: x\n\nX-Spam: yes\n", true, "", ""},
		{"spam after a long line", "", "X: " + strings.Repeat("x", 100_000) + "\nX-Spam: yes\n\n", true, "", ".Junk"},
		{"header only", "", "X-Spam: yes", true, "", ".Junk"},
		{"another value", "", "X-Spam: yes, very\n\n", true, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, home := newTestAgent(t)
			dir := filepath.Join(home, "Maildir")
			if err := os.MkdirAll(filepath.Join(dir, c.exists), 0o700); err != nil {
				t.Fatal(err)
			}
			d := testDelivery(home, Maildir, dir)
			d.SubAddress, d.Junk = c.tag, c.junk
			wantDelivered(t, deliver(t, a, d, c.message))
			only(t, filepath.Join(dir, c.want, "new"))
		})
	}
}

func TestFolderName(t *testing.T) {
	for tag, want := range map[string]string{
		"lists": "lists", "a.b": "a.b", ".": ":", "..": "::", "../x": ":::x",
		"a/../b": "a:..:b", "$(id)": "::id:", "é": "::",
	} {
		if got := folderName(tag); got != want {
			t.Errorf("folderName(%q) = %q, want %q", tag, got, want)
		}
	}
}

func TestMaildirFailures(t *testing.T) {
	a, home := newTestAgent(t)
	t.Run("home not mounted", func(t *testing.T) {
		gone := filepath.Join(home, "gone")
		for _, m := range []Method{Maildir, Mbox} {
			r := deliver(t, a, testDelivery(gone, m, "box"), testMessage)
			if r.Outcome != TempFail || !strings.Contains(r.Text, "home of alice") {
				t.Errorf("result = %+v", r)
			}
		}
		if _, err := os.Stat(gone); err == nil {
			t.Error("the home was made")
		}
	})
	t.Run("a file in the way", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(home, "mbox"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r := deliver(t, a, testDelivery(home, Maildir, "mbox"), testMessage)
		if r.Outcome != PermFail {
			t.Errorf("result = %+v, want permanent", r)
		}
	})
	t.Run("elsewhere than the home", func(t *testing.T) {
		dir := filepath.Join(home, "vmail/example.org/alice")
		wantDelivered(t, deliver(t, a, testDelivery("/nonexistent", Maildir, dir), testMessage))
		only(t, filepath.Join(dir, "new"))
	})
}

func TestFailure(t *testing.T) {
	wrap := func(e error) error { return &os.PathError{Op: "write", Path: "new/1", Err: e} }
	for _, c := range []struct {
		err    error
		want   Outcome
		status string
	}{
		{wrap(syscall.ENOSPC), TempFail, "4.3.1"},
		{wrap(syscall.EDQUOT), TempFail, "4.2.2"},
		{wrap(syscall.EIO), TempFail, "4.3.0"},
		{wrap(syscall.EROFS), TempFail, "4.3.0"},
		{wrap(syscall.EACCES), TempFail, "4.7.0"},
		{wrap(syscall.ENOENT), TempFail, "4.3.0"},
		{wrap(syscall.ENOTDIR), PermFail, "5.2.0"},
		{wrap(syscall.ENAMETOOLONG), PermFail, "5.2.0"},
	} {
		r := failure(c.err)
		if r.Outcome != c.want || r.Status != c.status || !strings.HasPrefix(r.Text, "Error (") {
			t.Errorf("failure(%v) = %+v, want outcome %d, status %s", c.err, r, c.want, c.status)
		}
	}
}

// TestMaildirConcurrent delivers many messages at once into one maildir.
func TestMaildirConcurrent(t *testing.T) {
	a, home := newTestAgent(t)
	const n = 50
	d := testDelivery(home, Maildir, "Maildir")
	content := testContent(t, testMessage)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if r := a.deliver(t.Context(), d, content); r != delivered {
				t.Errorf("result = %+v", r)
			}
		})
	}
	wg.Wait()
	if got := len(files(t, filepath.Join(home, "Maildir/new"))); got != n {
		t.Errorf("%d files, want %d", got, n)
	}
	a.syncs.mu.Lock()
	defer a.syncs.mu.Unlock()
	if len(a.syncs.dirs) > 0 {
		t.Errorf("directories still being synced: %v", a.syncs.dirs)
	}
}

// BenchmarkMaildir measures deliveries of 4 KB, as many at a time as one user
// may have; each is on disk, with its name, before it counts.
func BenchmarkMaildir(b *testing.B) {
	for _, users := range []int{1, 100} {
		b.Run(fmt.Sprintf("users=%d", users), func(b *testing.B) {
			a, err := newAgent(Config{ServerName: "mx.example.org"})
			if err != nil {
				b.Fatal(err)
			}
			a.uid = testUID
			home := b.TempDir()
			content, err := os.Create(filepath.Join(home, "content"))
			if err != nil {
				b.Fatal(err)
			}
			defer content.Close()
			content.WriteString("Subject: x\n\n" + strings.Repeat("0123456789abcde\n", 256))
			work := make(chan int)
			var wg sync.WaitGroup
			for range 7 {
				wg.Go(func() {
					for i := range work {
						d := testDelivery(home, Maildir, fmt.Sprintf("u%d", i%users))
						if r := a.deliver(b.Context(), d, content); r != delivered {
							b.Errorf("result = %+v", r)
						}
					}
				})
			}
			i := 0
			for b.Loop() {
				work <- i
				i++
			}
			close(work)
			wg.Wait()
		})
	}
}

// BenchmarkMaildirLimit measures what the disk allows BenchmarkMaildir: new
// files of as many bytes, written and synced by as many at a time, without the
// name of any made durable.
func BenchmarkMaildirLimit(b *testing.B) {
	dir := b.TempDir()
	content := []byte(strings.Repeat("0123456789abcde\n", 256))
	work := make(chan int)
	var wg sync.WaitGroup
	for range 7 {
		wg.Go(func() {
			for i := range work {
				f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(i)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if err == nil {
					_, err = f.Write(content)
				}
				if err == nil {
					err = f.Sync()
				}
				if err != nil {
					b.Error(err)
				}
				f.Close()
			}
		})
	}
	i := 0
	for b.Loop() {
		work <- i
		i++
	}
	close(work)
	wg.Wait()
}
