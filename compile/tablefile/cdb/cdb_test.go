package cdb

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"smtpd/compile/tablefile"
)

func encode(t testing.TB, entries []tablefile.Entry) []byte {
	t.Helper()
	data, err := Encode(entries)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// numbered returns n entries of which no two are alike.
func numbered(n int) []tablefile.Entry {
	entries := make([]tablefile.Entry, n)
	for i := range entries {
		entries[i] = tablefile.Entry{Key: fmt.Sprintf("user%d@example.org", i), Value: fmt.Sprintf("%d", i)}
	}
	return entries
}

func TestEncode(t *testing.T) {
	for _, n := range []int{0, 1, 2, 300, 20000} {
		entries := numbered(n)
		data := encode(t, entries)
		f, err := Open(data)
		if err != nil {
			t.Fatalf("%d entries: %v", n, err)
		}
		for _, e := range entries {
			if v, ok := f.get(e.Key); v != e.Value || !ok {
				t.Fatalf("%d entries: %s is %q, %v", n, e.Key, v, ok)
			}
		}
		for _, absent := range []string{"", "user", "user-1@example.org", strings.Repeat("x", 5000)} {
			if v, ok := f.get(absent); ok {
				t.Errorf("%d entries: %q is %q", n, absent, v)
			}
		}
		i := 0
		for k, v := range f.All() {
			if entries[i] != (tablefile.Entry{Key: k, Value: v}) {
				t.Fatalf("entry %d is %q, %q", i, k, v)
			}
			i++
		}
		if i != n {
			t.Errorf("%d entries of %d", i, n)
		}
	}
}

// TestEncodeLimits has what a line of text cannot hold, and more than fits.
func TestEncodeLimits(t *testing.T) {
	odd := []tablefile.Entry{{Key: "", Value: "empty key"}, {Key: "empty value"}, {Key: "\x00\n", Value: "\xff\x00"}}
	f, err := Open(encode(t, odd))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range odd {
		if v, ok := f.get(e.Key); v != e.Value || !ok {
			t.Errorf("%q is %q, %v", e.Key, v, ok)
		}
	}
	large := strings.Repeat("x", 1<<20)
	many := make([]tablefile.Entry, math.MaxUint32>>20+1)
	for i := range many {
		many[i].Value = large
	}
	if _, err := Encode(many); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more than 4 GB: %v", err)
	}
}

// TestOthers reads what tinycdb wrote, and has it read what was written here.
func TestOthers(t *testing.T) {
	data, err := os.ReadFile("testdata/tinycdb.cdb")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(data)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"root": "bob", "big": "small"} { // big again is x
		if v, ok := f.get(key); v != want || !ok {
			t.Errorf("%s is %q, %v; want %q", key, v, ok, want)
		}
	}
	tool, err := exec.LookPath("cdb")
	if err != nil {
		t.Skip("tinycdb is not installed: nobody else reads what was written")
	}
	entries := numbered(1000)
	path := filepath.Join(t.TempDir(), "ours.cdb")
	if err := os.WriteFile(path, encode(t, entries), 0o600); err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&want, "+%d,%d:%s->%s\n", len(e.Key), len(e.Value), e.Key, e.Value)
	}
	want.WriteByte('\n')
	if got, err := exec.Command(tool, "-d", path).Output(); err != nil || !bytes.Equal(bytes.TrimSpace(got), bytes.TrimSpace(want.Bytes())) {
		t.Errorf("cdb -d: %v\n%.200s", err, got)
	}
	if got, err := exec.Command(tool, "-q", path, "user77@example.org").Output(); err != nil || string(bytes.TrimSpace(got)) != "77" {
		t.Errorf("cdb -q: %q, %v", got, err)
	}
}

// TestOpenDamaged changes every byte, and cuts the file anywhere: what opens
// is answered from without a look beyond its end.
func TestOpenDamaged(t *testing.T) {
	whole := encode(t, numbered(20))
	for i := range whole {
		for _, b := range []byte{0x00, 0x01, 0x80, 0xff} {
			data := bytes.Clone(whole)
			data[i] = b
			f, err := Open(data)
			if err != nil {
				continue
			}
			for k, v := range f.All() {
				_, _ = k, v
			}
			f.get("user7@example.org")
		}
		if _, err := Open(whole[:i]); err == nil {
			t.Errorf("the first %d of %d bytes are a whole file", i, len(whole))
		}
	}
	if _, err := Open(append(bytes.Clone(whole), 0)); err == nil {
		t.Error("a file with a byte too many is a whole one")
	}
}

// get returns the value of a key as readers of the format find it: all that
// Encode makes of heads and tables is for them.
func (f *File) get(key string) (value string, ok bool) {
	h := hash(key)
	pos, slots := f.head(h % tables)
	for n := range slots {
		at := pos + ((h>>8)%slots+n)%slots*slotSize
		to := f.uint32(at + 4)
		if to == 0 {
			return "", false
		}
		if f.uint32(at) != h {
			continue
		}
		if e, ok := f.entry(to); ok && string(e.key) == key {
			return string(e.value), true
		}
	}
	return "", false
}
