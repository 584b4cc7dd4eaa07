package diag

import (
	"strings"
	"unicode/utf8"

	"smtpd/lang/token"
)

// A Report is what there is to say about one configuration. Every printer
// prints reports, so that a finding reads the same everywhere.
type Report struct {
	File   string         // the main file, as the user named it
	Set    *token.FileSet // for quoting; may be nil
	List   List
	Hidden int // findings that were cut off
}

// Cap cuts the list to n findings and counts the rest. What makes the
// language wrong is kept before all else. n 0 is no limit.
func (r *Report) Cap(n int) {
	if n <= 0 || len(r.List) <= n {
		return
	}
	r.Hidden += len(r.List) - n
	grave := 0
	for _, d := range r.List {
		if d.Class == Language {
			grave++
		}
	}
	others := max(n-grave, 0)
	var kept List
	for _, d := range r.List {
		if d.Class != Language {
			if others == 0 {
				continue
			}
			others--
		}
		kept = append(kept, d)
	}
	r.List = kept[:n]
}

// line returns the text of the line of p.
func (r *Report) line(p token.Pos) (string, bool) {
	if r.Set == nil || !p.IsValid() {
		return "", false
	}
	return r.Set.Line(p.Filename, p.Line)
}

// trace returns the macros and includes that led to p, innermost first.
func (r *Report) trace(p token.Pos) []token.Frame {
	if r.Set == nil {
		return nil
	}
	return r.Set.Trace(p)
}

// A columns counts the place of a byte in its line in the three ways that
// programs count it, all from 1.
type columns struct {
	bytes, runes, utf16 int
}

// columnsOf returns the columns of p, which are all its byte column if the
// line is not at hand.
func (r *Report) columnsOf(p token.Pos) columns {
	c := columns{p.Column, p.Column, p.Column}
	line, ok := r.line(p)
	if !ok {
		return c
	}
	before := line[:min(max(p.Column-1, 0), len(line))]
	c.runes = utf8.RuneCountInString(before) + 1
	c.utf16 = 1
	for _, r := range before {
		c.utf16++
		if r > 0xFFFF {
			c.utf16++
		}
	}
	return c
}

// end returns the end of a span on the line where it starts: what follows is
// not underlined, nor what a macro's text would cover.
func (r *Report) end(s token.Span) token.Pos {
	end := s.Start
	end.Column++
	line, ok := r.line(s.Start)
	if !ok {
		return end
	}
	if ref, ok := reference(line, s.Start.Column); ok {
		end.Column = s.Start.Column + ref
		return end
	}
	if s.End.Filename == s.Start.Filename && s.End.Line == s.Start.Line && s.End.Column > s.Start.Column {
		end.Column = s.End.Column
	} else if s.End.Line > s.Start.Line {
		end.Column = len(strings.TrimRight(line, " \t\r")) + 1
	}
	end.Column = min(max(end.Column, s.Start.Column+1), max(len(line)+1, s.Start.Column+1))
	return end
}

// reference returns the length of the macro reference at a column.
func reference(line string, column int) (n int, ok bool) {
	if column < 1 || column > len(line) || line[column-1] != '$' {
		return 0, false
	}
	n = 1
	for column-1+n < len(line) && isName(line[column-1+n]) {
		n++
	}
	return n, n > 1
}

func isName(b byte) bool {
	return b == '_' || '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z'
}
