package migrate

import (
	"fmt"
	"slices"
	"strings"

	"smtpd/ast/old"
)

// layOut returns the texts: the pieces with the comments and the empty lines
// that were around the statements they are made of.
func (c *converter) layOut() []Text {
	c.moveListeners()
	files := []string{c.file.Name}
	if c.opts.Separate {
		files = c.file.Files
	}
	var texts []Text
	for i, name := range files {
		var b strings.Builder
		if i == 0 {
			b.WriteString(c.header())
		}
		w := writer{c: c, out: &b, written: make(map[string]bool)}
		w.file(name)
		texts = append(texts, Text{name, []byte(b.String())})
	}
	return texts
}

// header says where the text comes from.
func (c *converter) header() string {
	d := c.file.Dialect
	return fmt.Sprintf("# Converted from generation %d of the language, as of release %s.\n", d.Generation(), d)
}

// moveListeners moves listeners behind the certificates that they name: a
// name must be declared before it is used now. Their order stays.
func (c *converter) moveListeners() {
	for i := range c.done {
		p := &c.done[i]
		if p.stmt == nil || p.stmt.Listen == nil {
			continue
		}
		last := -1
		for name, at := range c.lastPart {
			if at > i && name == p.pki {
				last = max(last, at)
			}
		}
		if last < 0 {
			continue
		}
		// Every listener up to there goes, so that the first stays the first.
		var lines []string
		for j := i; j < last; j++ {
			q := &c.done[j]
			if q.stmt != nil && q.stmt.Listen != nil && q.stmt.Start.Filename == c.done[last].stmt.Start.Filename {
				above := c.above(q.stmt)
				if len(above) > 0 || len(lines) == 0 {
					lines = append(lines, "")
				}
				lines = append(append(lines, above...), q.lines...)
				q.lines, q.moved = nil, true
			}
		}
		c.done[last].lines = append(c.done[last].lines, lines...)
	}
}

// above returns the comments right above a statement.
func (c *converter) above(s *old.Stmt) []string {
	var lines []string
	for n := s.Start.Line - 1; n > 0; n-- {
		k := c.commentAt(s.Start.Filename, n)
		if k == nil || !k.Alone {
			break
		}
		lines = append(lines, k.Text)
	}
	slices.Reverse(lines)
	return lines
}

// A lineOf is a line of a file.
type lineOf struct {
	file string
	line int
}

// commentAt returns the comment on a line, or nil.
func (c *converter) commentAt(file string, line int) *old.Comment {
	if c.comments == nil {
		c.comments = make(map[lineOf]*old.Comment)
		for i := range c.file.Comments {
			k := &c.file.Comments[i]
			c.comments[lineOf{k.Pos.Filename, k.Pos.Line}] = k
		}
	}
	return c.comments[lineOf{file, line}]
}

// line returns a line of a file, from 1.
func (c *converter) line(file string, n int) string {
	lines, ok := c.text[file]
	if !ok {
		lines = strings.Split(c.file.Set.Text(file), "\n")
		c.text[file] = lines
	}
	if n < 1 || n > len(lines) {
		return ""
	}
	return lines[n-1]
}

// A writer writes the result of one text.
type writer struct {
	c       *converter
	out     *strings.Builder
	written map[string]bool // files whose comments are written
	at      int             // the next piece
}

// file writes the pieces of a file from where the writer stands, up to the
// first statement that is of none of the files it includes.
func (w *writer) file(name string) {
	line := 1
	first := !w.written[name]
	w.written[name] = true
	if w.c.opts.Separate {
		w.at = 0
	}
	for w.at < len(w.c.done) {
		p := w.c.done[w.at]
		switch {
		case p.stmt == nil: // what closes the main file
			w.rest(name, line, first)
			if name == w.c.file.Name {
				w.lines(p.lines)
				w.at++
			}
			return
		case p.stmt.Start.Filename != name && w.c.opts.Separate:
			w.at++
			continue
		case p.stmt.Start.Filename != name:
			w.rest(name, line, first)
			return
		case w.c.opts.Separate && p.stmt.Start.Line < line:
			return // the file is read a second time
		}
		end := p.stmt.End.Line
		skip := 0
		if p.moved {
			skip = len(w.c.above(p.stmt))
		}
		w.between(name, line, p.stmt.Start.Line-1-skip, first)
		w.piece(&p)
		w.at++
		line = end + 1
		if p.stmt.Include != nil && !w.c.opts.Separate && w.at < len(w.c.done) {
			if next := w.c.done[w.at]; next.stmt != nil && next.stmt.Start.Filename == p.stmt.Include.Text {
				w.file(p.stmt.Include.Text)
			}
		}
	}
	w.rest(name, line, first)
}

// rest writes what stands after the last statement of a file.
func (w *writer) rest(name string, line int, first bool) {
	text := w.c.file.Set.Text(name)
	last := strings.Count(text, "\n")
	if !strings.HasSuffix(text, "\n") {
		last++
	}
	w.between(name, line, last, first)
}

// between writes the comments and empty lines of lines from to to.
func (w *writer) between(name string, from, to int, comments bool) {
	for n := from; n <= to; n++ {
		text := w.c.line(name, n)
		if k := w.c.commentAt(name, n); k != nil && comments {
			w.lines(strings.Split(k.Text, "\n"))
			n = max(n, k.End.Line)
		} else if strings.TrimSpace(text) == "" && n > 1 {
			w.out.WriteByte('\n')
		}
	}
}

// piece writes what a statement became, with the comments inside it.
func (w *writer) piece(p *piece) {
	if p.moved {
		return
	}
	trailing := ""
	for n := p.stmt.Start.Line; n <= p.stmt.End.Line; n++ {
		k := w.c.commentAt(p.stmt.Start.Filename, n)
		switch {
		case k == nil:
		case n == p.stmt.End.Line && len(p.lines) == 1 && !strings.HasPrefix(p.lines[0], "#") && !strings.Contains(k.Text, "\n"):
			trailing = " " + k.Text
		default:
			w.lines(strings.Split(k.Text, "\n"))
		}
	}
	for i, line := range p.lines {
		w.out.WriteString(line)
		if i == 0 {
			w.out.WriteString(trailing)
		}
		w.out.WriteByte('\n')
	}
}

func (w *writer) lines(list []string) {
	for _, line := range list {
		w.out.WriteString(line + "\n")
	}
}
