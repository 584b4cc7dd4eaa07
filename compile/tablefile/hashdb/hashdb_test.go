package hashdb

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"smtpd/compile/tablefile"
	"smtpd/compile/tablefile/cdb"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestParse reads what makemap of OpenSMTPD 6.8 wrote on Linux, and what
// Berkeley DB 1.85 did.
func TestParse(t *testing.T) {
	want := []tablefile.Entry{{Key: "abuse", Value: "root, carol"}, {Key: "postmaster", Value: "root"}}
	constant, err := cdb.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"small.db": read(t, "small.db"), "old-small.db": read(t, "old-small.db"), "constant": constant,
	} {
		if entries, err := Parse(data); err != nil || !slices.Equal(entries, want) {
			t.Errorf("%s: %v, %v; want %v", name, entries, err, want)
		}
	}
}

// TestParseLong reads databases of several buckets or leaves, with a value
// that takes several pages.
func TestParseLong(t *testing.T) {
	var members []string
	for i := range 400 {
		members = append(members, fmt.Sprintf("member%d@lists.example.org", i))
	}
	want := []tablefile.Entry{{Key: "root", Value: "admin"}, {Key: "big", Value: strings.Join(members, ", ")}}
	for i := range 300 {
		want = append(want, tablefile.Entry{Key: fmt.Sprintf("user%d", i), Value: fmt.Sprintf("dest%d@example.org, other%d", i, i)})
	}
	want = tablefile.Normalize(want)
	isDeleted := func(e tablefile.Entry) bool {
		n, err := strconv.Atoi(strings.TrimPrefix(e.Key, "user"))
		return err == nil && n%2 == 0
	}
	for _, name := range []string{"aliases.db", "btree.db", "old-aliases.db", "old-swapped.db", "old-deleted.db"} {
		want := want
		if name == "old-deleted.db" {
			want = slices.DeleteFunc(slices.Clone(want), isDeleted)
		}
		if entries, err := Parse(read(t, name)); err != nil || !slices.Equal(entries, want) {
			t.Errorf("%s: %d entries, %v; want %d", name, len(entries), err, len(want))
		}
	}
}

// TestParseOldLengths reads what Berkeley DB 1.85 wrote of keys and values of
// every length about that of a page: where the parts of a pair that is too
// large for one lie depends on what is left of it.
func TestParseOldLengths(t *testing.T) {
	entries, err := Parse(read(t, "old-lengths.db"))
	if err != nil || len(entries) != 243 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		var v, k int
		_, err := fmt.Sscanf(e.Key, "%d-%d-", &v, &k)
		if want := fmt.Sprintf("%d-%d-%s", v, k, strings.Repeat("k", k)); err != nil || e.Key != want || e.Value != strings.Repeat("v", v) {
			t.Errorf("%.20q of %d bytes, value of %d bytes", e.Key, len(e.Key), len(e.Value))
		}
	}
}

func TestParseOther(t *testing.T) {
	header := "\x00\x06\x15\x61\x00\x00\x00\x02"
	for _, data := range []string{"", "text\n", header + strings.Repeat("\x00", 4096), strings.Repeat("\x00", 4096), strings.Repeat("\xff", 4096)} {
		if _, err := Parse([]byte(data)); !errors.Is(err, ErrFormat) {
			t.Errorf("%.20q: %v", data, err)
		}
	}
}

// TestParseDamaged changes a file in many ways, one byte at a time: what is
// read of it ends, and stays within the bounds of the file.
func TestParseDamaged(t *testing.T) {
	for _, name := range []string{"small.db", "old-small.db", "old-lengths.db"} {
		whole := read(t, name)
		for i := 0; i < len(whole); i += 1 + len(whole)/400 {
			for _, b := range []byte{0, 1, 0x7f, 0xff} {
				data := slices.Clone(whole)
				data[i] = b
				checkBudget(t, data)
			}
		}
		for i := 0; i < len(whole); i += 1 + len(whole)/200 {
			checkBudget(t, whole[:i])
		}
	}
}

// checkBudget parses data, and sees that what comes of it is normal and no
// more than the file has.
func checkBudget(t *testing.T, data []byte) {
	t.Helper()
	entries, err := Parse(data)
	if err != nil {
		return
	}
	if !slices.Equal(entries, tablefile.Normalize(slices.Clone(entries))) {
		t.Errorf("not normal: %v", entries)
	}
	size := 0
	for _, e := range entries {
		size += len(e.Key) + len(e.Value)
	}
	if size > len(data) {
		t.Errorf("%d bytes of entries from a file of %d", size, len(data))
	}
}

// FuzzParse reads any file: it ends, takes no more memory than the file has,
// and gives entries in their normal form.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"small.db", "old-small.db"} {
		f.Add(read(f, name))
	}
	constant, err := cdb.Encode([]tablefile.Entry{{Key: "abuse", Value: "root"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(constant)
	f.Fuzz(checkBudget)
}
