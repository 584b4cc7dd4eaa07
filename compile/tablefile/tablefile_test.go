package tablefile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		text string
		kind Kind
		want string // entries as key=value, or the error
	}{
		{"empty is a mapping", "", Mapping, ""},
		{"comments only", "# hello\n\n", Mapping, ""},
		{"marked empty list", "# @list\n", List, ""},
		{"mark without a blank", "#@list\n", List, ""},
		{"mark with more text is a comment", "# @list of hosts\n", Mapping, ""},
		{"list", "b.example\na.example\n", List, "a.example b.example"},
		{"list keeps blanks once it is a list", "a\nb c\n", List, "a|b c"},
		{"marked list of mappings", "# @list\na b\n", List, "a b"},
		{"mark after an entry is a comment", "a b\n# @list\nc d\n", Mapping, "a=b c=d"},
		{"first entry decides", "root: admin\nadmin: joe, ann\n", Mapping, "admin=joe, ann|root=admin"},
		{"one separator is dropped", "key : value\n", Mapping, "key=: value"},
		{"separated by tabs", "key\t\tvalue\n", Mapping, "key=value"},
		{"keys are folded, values not", "Root: Admin\n", Mapping, "root=Admin"},
		{"carriage returns are blanks", "a\r\nb\r\n", List, "a b"},
		{"no newline at the end", "a\nb", List, "a b"},
		{"last value wins", "a 1\nA 2\n", Mapping, "a=2"},
		{"duplicates collapse", "a\na\n", List, "a"},
		{"no trailing comments", "a: b # c\n", Mapping, "a=b # c"},
		{"bracketed address as key", "[2001:db8::1]: mx\n", Mapping, "[2001:db8::1]=mx"},
		{"bracketed address in a list", "[2001:db8::/32]\n", List, "[2001:db8::/32]"},
		{"open bracket", "a\n[2001:db8::1\n", 0, "t:2: no ] after ["},
		{"no value", "a: b\nc\n", 0, `t:2: no value for "c"; the first entry made this file a mapping of keys and values`},
		{"empty value", "a:\n", 0, `t:1: no value for "a"`},
		{"a NUL byte ends a line", "a\nb\x00c\n", List, "a b"},
		{"a NUL byte before the value", "a\x00: b\n", List, "a"},
		{"a NUL byte instead of the value", "a: \x00b\n", 0, `t:1: no value for "a"`},
		{"a NUL byte first", "\x00a: b\n\x00\nc: d\n", Mapping, "c=d"},
		{"a NUL byte after the mark", "# @list\x00 of hosts\na b\n", List, "a b"},
		{"long key is left out", strings.Repeat("x", 1024) + "\na\n", List, "a"},
		{"longest key", strings.Repeat("x", 1023) + "\n", List, strings.Repeat("x", 1023)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kind, entries, err := Parse("t", []byte(tt.text))
			got := show(entries)
			if err != nil {
				got = err.Error()
			}
			want := strings.ReplaceAll(tt.want, "|", " ")
			if kind != tt.kind || got != want {
				t.Errorf("got kind %d, %s; want kind %d, %s", kind, got, tt.kind, want)
			}
		})
	}
}

func show(entries []Entry) string {
	words := make([]string, len(entries))
	for i, e := range entries {
		words[i] = e.Key
		if e.Value != "" {
			words[i] += "=" + e.Value
		}
	}
	return strings.Join(words, " ")
}

func TestParseErrorType(t *testing.T) {
	_, _, err := Parse("/etc/mail/aliases", []byte("root:\n"))
	var e *Error
	if !errors.As(err, &e) || e.File != "/etc/mail/aliases" || e.Line != 1 {
		t.Errorf("error is %#v", err)
	}
}

// FuzzParse checks what every reader of a table relies on: entries are in
// normal form, and a table that is written out in order reads the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte("a\nB\n"))
	f.Add([]byte("root: admin\nadmin: joe\n"))
	f.Add([]byte("# @list\n[::1]: x\n"))
	f.Add([]byte("# @list\na\v\x00\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, entries, err := Parse("t", data)
		if err != nil {
			return
		}
		var text strings.Builder
		text.WriteString("# @list\n")
		if kind == Mapping {
			text.Reset()
		}
		for i, e := range entries {
			if e.Key != Fold(e.Key) || len(e.Key) > MaxKey || i > 0 && entries[i-1].Key >= e.Key {
				t.Fatalf("entry %d is not normal: %q", i, e)
			}
			if kind == Mapping {
				e.Key += ":" + e.Value
			}
			fmt.Fprintln(&text, e.Key)
		}
		if bytes.IndexByte(data, 0) >= 0 {
			return // a NUL byte leaves blanks at the end of an entry, which no text does
		}
		again, same, err := Parse("t", []byte(text.String()))
		if err != nil || again != kind || !slices.Equal(same, entries) {
			t.Fatalf("%q: read again: %v, kind %d, not %d", text.String(), err, again, kind)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	var text strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&text, "d%06d.example\n", i)
	}
	data := []byte(text.String())
	b.ReportAllocs()
	for b.Loop() {
		if _, entries, err := Parse("t", data); err != nil || len(entries) != 100_000 {
			b.Fatal(len(entries), err)
		}
	}
}
