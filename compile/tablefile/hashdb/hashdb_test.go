package hashdb

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"smtpd/compile/tablefile"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestParse reads what makemap of OpenSMTPD 6.8 wrote on Linux.
func TestParse(t *testing.T) {
	entries, err := Parse(read(t, "small.db"))
	want := []tablefile.Entry{{Key: "abuse", Value: "root, carol"}, {Key: "postmaster", Value: "root"}}
	if err != nil || !slices.Equal(entries, want) {
		t.Errorf("%v, %v; want %v", entries, err, want)
	}
}

// TestParseLong reads a database of several buckets, with a value that takes
// several pages.
func TestParseLong(t *testing.T) {
	entries, err := Parse(read(t, "aliases.db"))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, e := range entries {
		got[e.Key] = e.Value
	}
	var members []string
	for i := range 400 {
		members = append(members, fmt.Sprintf("member%d@lists.example.org", i))
	}
	if len(got) != 302 || got["user123"] != "dest123@example.org, other123" || got["root"] != "admin" || got["big"] != strings.Join(members, ", ") {
		t.Errorf("%d entries, user123 %q, root %q, big of %d bytes", len(got), got["user123"], got["root"], len(got["big"]))
	}
}

func TestParseOther(t *testing.T) {
	for _, data := range []string{"", "text\n", "\x00\x06\x15\x61\x00\x00\x00\x02" + strings.Repeat("\x00", 4096)} {
		if _, err := Parse([]byte(data)); !errors.Is(err, ErrFormat) {
			t.Errorf("%.20q: %v", data, err)
		}
	}
}

// FuzzParse reads any file: it ends, takes no more memory than the file has,
// and gives entries in their normal form.
func FuzzParse(f *testing.F) {
	f.Add(read(f, "small.db"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := Parse(data)
		if err == nil && !slices.Equal(entries, tablefile.Normalize(slices.Clone(entries))) {
			t.Errorf("not normal: %v", entries)
		}
	})
}
