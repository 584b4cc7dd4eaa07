package lsp

import (
	"net/url"
	"path/filepath"
	"sort"
	"strings"
	"unicode/utf8"

	"smtpd/lang/token"
)

// A document is a text that is open in the editor.
type document struct {
	uri  string
	path string // absolute; of what is no file, the URI
	text string
}

func newDocument(uri, text string) *document {
	return &document{uri, pathOf(uri), text}
}

// change replaces a part of the text, or all of it if r is nil.
func (d *document) change(r *textRange, text string) {
	if r == nil {
		d.text = text
		return
	}
	lines := newLines(d.text)
	from := lines.offset(r.Start)
	to := max(from, lines.offset(r.End))
	d.text = d.text[:from] + text + d.text[to:]
}

// pathOf returns the path of a file that a URI names.
func pathOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "file" || u.Path == "" {
		return uri
	}
	return filepath.Clean(filepath.FromSlash(u.Path))
}

// uriOf returns the URI of a path.
func uriOf(path string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String()
}

// A lines converts between offsets, lines and columns of bytes, and the
// positions of the protocol.
type lines struct {
	text   string
	starts []int
}

func newLines(text string) *lines {
	l := &lines{text: text, starts: []int{0}}
	for i := range len(text) {
		if text[i] == '\n' {
			l.starts = append(l.starts, i+1)
		}
	}
	return l
}

// line returns line n, from 0, with its newline.
func (l *lines) line(n int) string {
	if n+1 < len(l.starts) {
		return l.text[l.starts[n]:l.starts[n+1]]
	}
	return l.text[l.starts[n]:]
}

// offset returns the offset of a position. What is outside the text is at
// the end of the line or of the text.
func (l *lines) offset(p position) int {
	switch {
	case p.Line < 0:
		return 0
	case p.Line >= len(l.starts):
		return len(l.text)
	}
	line := strings.TrimSuffix(l.line(p.Line), "\n")
	units := 0
	for i, r := range line {
		if units >= p.Character {
			return l.starts[p.Line] + i
		}
		units += width(r)
	}
	return l.starts[p.Line] + len(line)
}

// position returns the position of an offset.
func (l *lines) position(offset int) position {
	offset = min(max(offset, 0), len(l.text))
	n := sort.SearchInts(l.starts, offset+1) - 1
	units := 0
	for _, r := range l.text[l.starts[n]:offset] {
		units += width(r)
	}
	return position{n, units}
}

// width returns how many UTF-16 code units a character has. A byte that is
// no UTF-8 has become one of one unit in the editor.
func width(r rune) int {
	if r > 0xffff && r <= utf8.MaxRune {
		return 2
	}
	return 1
}

// at returns the offset of a place as the language counts it.
func (l *lines) at(p token.Pos) int {
	if p.Line < 1 {
		return 0
	}
	if p.Line > len(l.starts) {
		return len(l.text)
	}
	return min(l.starts[p.Line-1]+max(p.Column-1, 0), len(l.text))
}

// span returns the range of a span.
func (l *lines) span(s token.Span) textRange {
	start := l.at(s.Start)
	return textRange{l.position(start), l.position(max(start, l.at(s.End)))}
}

func (l *lines) stretch(from, to int) textRange {
	return textRange{l.position(from), l.position(to)}
}
