// Package token owns places in the text of a configuration: positions,
// spans, and the file set that remembers every source and every macro
// expansion that was read. Lexer, tree, compiler and diagnostics all speak of
// places in these terms. It knows nothing of the language itself.
package token

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Pos is where one token was read. Filename, Line and Column say where it
// stands in a file that the user can open: for text that came out of a macro
// that is the place of the reference. Offset numbers every byte of every
// source and expansion of a FileSet, so FileSet.Trace can tell which macro
// and which includes led there.
//
// The type has the fields of participle's lexer.Position so that the parser
// can fill it.
type Pos struct {
	Filename string
	Offset   int
	Line     int // from 1; 0 in the zero Pos
	Column   int // in bytes, from 1
}

// IsValid reports whether p is a place at all.
func (p Pos) IsValid() bool { return p.Line > 0 }

// String returns file:line:column.
func (p Pos) String() string {
	if !p.IsValid() {
		return cmp.Or(p.Filename, "-")
	}
	return fmt.Sprintf("%s:%d:%d", p.Filename, p.Line, p.Column)
}

// A Span is a stretch of text: Start is its first byte, End the byte after
// its last. Both are in one file.
type Span struct {
	Start, End Pos
}

// At returns the empty span at p.
func At(p Pos) Span { return Span{p, p} }

// String returns the place where s begins.
func (s Span) String() string { return s.Start.String() }

// A FrameKind says how text came to be read.
type FrameKind uint8

// The kinds of frames.
const (
	Include FrameKind = iota + 1
	Macro
)

// String returns the word for k.
func (k FrameKind) String() string {
	if k == Include {
		return "include"
	}
	return "macro"
}

// A Frame is one step on the way to a token: the include statement that read
// its file, or the macro whose text it is.
type Frame struct {
	Kind FrameKind
	Name string // file or macro
	Use  Pos    // the include statement, or the reference
	Def  Pos    // of a macro: where it was defined; invalid for -D
}

// region is a stretch of offsets with one origin.
type region struct {
	base, end int
	frame     Frame // zero for the main file
}

// A FileSet remembers what was read, for messages that quote it.
type FileSet struct {
	next    int
	regions []region
	sources map[string]string
}

// NewFileSet returns an empty set.
func NewFileSet() *FileSet {
	return &FileSet{next: 1, sources: make(map[string]string)}
}

// AddSource records the text of a file and returns the offset of its first
// byte. include is the place of the statement that read it, and invalid for
// the main file.
func (s *FileSet) AddSource(name string, text []byte, include Pos) (base int) {
	s.sources[name] = string(text)
	var f Frame
	if include.IsValid() {
		f = Frame{Kind: Include, Name: name, Use: include}
	}
	return s.add(len(text), f)
}

// AddExpansion records that the n bytes of a macro's value are read at use
// and returns the offset of the first.
func (s *FileSet) AddExpansion(macro string, n int, def, use Pos) (base int) {
	return s.add(n, Frame{Kind: Macro, Name: macro, Use: use, Def: def})
}

func (s *FileSet) add(n int, f Frame) int {
	base := s.next
	s.next += n + 1 // one more: the end of a source has a place too
	s.regions = append(s.regions, region{base, s.next, f})
	return base
}

// Expansions returns a frame for every place where a macro was replaced, in
// the order of reading. A statement that was read twice has them twice.
func (s *FileSet) Expansions() []Frame {
	var frames []Frame
	for _, r := range s.regions {
		if r.frame.Kind == Macro {
			frames = append(frames, r.frame)
		}
	}
	return frames
}

// Trace returns the macros and includes that led to p, innermost first.
func (s *FileSet) Trace(p Pos) []Frame {
	var frames []Frame
	for p.IsValid() {
		i, ok := slices.BinarySearchFunc(s.regions, p.Offset, func(r region, off int) int {
			switch {
			case off < r.base:
				return 1
			case off >= r.end:
				return -1
			}
			return 0
		})
		if !ok || s.regions[i].frame.Kind == 0 {
			break
		}
		frames = append(frames, s.regions[i].frame)
		p = s.regions[i].frame.Use
	}
	return frames
}

// Line returns line n (from 1) of a recorded file, without its newline.
func (s *FileSet) Line(filename string, n int) (string, bool) {
	text, ok := s.sources[filename]
	if !ok || n < 1 {
		return "", false
	}
	rest := text
	for ; n > 1; n-- {
		_, after, found := strings.Cut(rest, "\n")
		if !found {
			return "", false
		}
		rest = after
	}
	line, _, _ := strings.Cut(rest, "\n")
	return line, true
}

// Source returns the text of a recorded file.
func (s *FileSet) Source(filename string) ([]byte, bool) {
	text, ok := s.sources[filename]
	return []byte(text), ok
}

// Text returns the text of a recorded file, or the empty string.
func (s *FileSet) Text(filename string) string { return s.sources[filename] }
