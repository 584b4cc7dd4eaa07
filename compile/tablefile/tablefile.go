// Package tablefile reads the files of static tables: one entry a line, a
// list or a mapping as the first entry decides (language.md 5.6). The
// compiler reads them when a configuration is loaded, lka when one changed;
// both get the same entries. It opens no file.
package tablefile

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// A Kind is what a file holds.
type Kind uint8

// The kinds of files. A file without an entry is a mapping unless it is
// marked as a list.
const (
	List Kind = iota + 1
	Mapping
)

// An Entry is a key and, in a mapping, its value.
type Entry struct {
	Key, Value string
}

// MaxKey is the longest key in bytes. Longer ones are not added, as no
// lookup could find them.
const MaxKey = 1023

// An Error is a line that is no entry.
type Error struct {
	File string
	Line int // from 1
	Msg  string
}

// Error returns file:line: message.
func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg) }

// Parse returns the kind and the normal entries of the file name, whose
// content is data. The error is an *Error.
func Parse(name string, data []byte) (Kind, []Entry, error) {
	var kind Kind
	entries := make([]Entry, 0, bytes.Count(data, []byte{'\n'})+1)
	for n, line := range lines(string(data)) {
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			if kind == 0 && strings.TrimLeft(comment, blanks) == "@list" {
				kind = List
			}
			continue
		}
		entry, k, msg := parseLine(line, kind, firstDecides)
		if msg != "" {
			return 0, nil, &Error{name, n, msg}
		}
		kind = k
		entries = append(entries, entry)
	}
	if kind == 0 {
		kind = Mapping
	}
	return kind, Normalize(entries), nil
}

// Entries visits the entries of the file name, whose content is data, as they
// are written and with the numbers of their lines. The file is of the kind
// that the caller says. A line that is no entry of that kind ends the visit
// with an *Error.
func Entries(name string, data []byte, kind Kind) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for n, line := range lines(string(data)) {
			if line[0] == '#' {
				continue
			}
			e, _, msg := parseLine(line, kind, "")
			if msg != "" {
				yield(Line{}, &Error{name, n, msg})
				return
			}
			if !yield(Line{e, n}, nil) {
				return
			}
		}
	}
}

// A Line is an entry and where it stands.
type Line struct {
	Entry
	N int // from 1
}

// lines visits the lines that say something, comments included, without the
// blanks around them.
func lines(text string) iter.Seq2[int, string] {
	return func(yield func(n int, line string) bool) {
		for n := 1; text != ""; n++ {
			var line string
			line, text, _ = strings.Cut(text, "\n")
			line = strings.Trim(line, blanks)
			// OpenSMTPD reads a line as a C string: after a NUL byte it says
			// nothing more.
			line, _, _ = strings.Cut(line, "\x00")
			if line != "" && !yield(n, line) {
				return
			}
		}
	}
}

// blanks are what the C library calls white space, newline aside.
const blanks = " \t\v\f\r"

// firstDecides says why a line without a value is none.
const firstDecides = "; the first entry made this file a mapping of keys and values"

// parseLine splits one line; kind is 0 for the first entry of a file, and why
// what made the file a mapping.
func parseLine(line string, kind Kind, why string) (e Entry, k Kind, msg string) {
	// An IPv6 address in brackets holds colons that separate nothing.
	from := 0
	if line[0] == '[' {
		if from = strings.IndexByte(line, ']'); from < 0 {
			return e, 0, "no ] after ["
		}
	}
	end := strings.IndexAny(line[from:], " \t:")
	if kind == 0 {
		kind = List
		if end >= 0 {
			kind = Mapping
		}
	}
	if kind == List {
		return Entry{Key: line}, List, ""
	}
	if end < 0 {
		return e, 0, fmt.Sprintf("no value for %q", clip(line)) + why
	}
	key, value := line[:from+end], strings.TrimLeft(line[from+end+1:], " \t")
	if value == "" {
		return e, 0, fmt.Sprintf("no value for %q", clip(key))
	}
	return Entry{key, value}, Mapping, ""
}

// clip shortens text for a message.
func clip(s string) string {
	const limit = 60
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "..."
}

// Normalize brings entries into the form in which every table is kept: keys
// in lower case, none over MaxKey bytes, ascending, and each once with the
// value that came last. It reuses the slice.
func Normalize(entries []Entry) []Entry {
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return len(e.Key) > MaxKey })
	sorted := true
	for i := range entries {
		entries[i].Key = Fold(entries[i].Key)
		sorted = sorted && (i == 0 || entries[i-1].Key < entries[i].Key)
	}
	if sorted {
		return entries
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	kept := entries[:0]
	for i, e := range entries {
		if i+1 < len(entries) && entries[i+1].Key == e.Key {
			continue
		}
		kept = append(kept, e)
	}
	clear(entries[len(kept):])
	return kept
}

// Fold returns s with the ASCII letters in lower case, as keys are stored
// and looked up. It leaves all other bytes alone, so that a name in another
// script is one key however it is written.
func Fold(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return fold(s, i)
		}
	}
	return s
}

func fold(s string, from int) string {
	b := []byte(s)
	for i := from; i < len(b); i++ {
		if 'A' <= b[i] && b[i] <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}
