package memo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T, dir string) [2]*os.File {
	t.Helper()
	var files [2]*os.File
	for i, name := range []string{"a", "b"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files[i] = f
	}
	return files
}

func load(t *testing.T, dir string) string {
	t.Helper()
	_, data, err := Open(open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestMemo(t *testing.T) {
	dir := t.TempDir()
	if got := load(t, dir); got != "" {
		t.Fatalf("new files hold %q", got)
	}
	for _, want := range []string{"one\n", strings.Repeat("two", 1000), "", "three"} {
		m, _, err := Open(open(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Save([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if got := load(t, dir); got != want {
			t.Errorf("saved %.20q, got %.20q", want, got)
		}
	}
	var none *Memo
	if err := none.Save(nil); err != nil {
		t.Error(err)
	}
}

// TestMemoTorn stops a save after each of its bytes: what was saved before is
// there, or what is new as a whole.
func TestMemoTorn(t *testing.T) {
	dir := t.TempDir()
	m, _, _ := Open(open(t, dir))
	for _, text := range []string{"a memory that is quite long", "old"} {
		if err := m.Save([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, "b") // of the third generation
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Save([]byte("new")); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(after) + 1 {
		torn := after[:n:n]
		if n < len(before) {
			torn = append(torn, before[n:]...)
		}
		if err := os.WriteFile(name, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		want := "old"
		if n == len(after) && len(after) >= len(before) {
			want = "new"
		}
		if got := load(t, dir); got != want {
			t.Errorf("torn after %d bytes: %q, want %q", n, got, want)
		}
	}
}
