// Package directive owns the comments of a configuration that say something
// to its tools: which findings are wanted, and what rules are called. The
// language knows nothing of them. smtpd-check and compile/policy call it.
package directive

import (
	"strings"

	"smtpd/lang/token"
)

// A Directive is a comment that says something to smtpd-check: at the end of
// the line that it is about, or alone above it.
type Directive struct {
	At   token.Span
	Line int    // that it is about; 0 if there is none
	Text string // from the number sign on
}

const mark = "# smtpd-check:"

// Verb returns the first word after the mark.
func (d *Directive) Verb() string {
	words := strings.Fields(strings.TrimPrefix(d.Text, mark))
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// In lists the directives of a source.
func In(set *token.FileSet, name string) []*Directive {
	if set == nil {
		return nil
	}
	text, _ := set.Source(name)
	if !strings.Contains(string(text), mark) {
		return nil
	}
	var list, above []*Directive // above: waiting for the statement they stand above
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		trimmed := strings.TrimSpace(line)
		comment := strings.HasPrefix(trimmed, "#")
		if i := strings.LastIndex(line, mark); i >= 0 {
			d := &Directive{Line: n, Text: strings.TrimRight(line[i:], "\r\n")}
			d.At.Start = token.Pos{Filename: name, Line: n, Column: i + 1}
			d.At.End = token.Pos{Filename: name, Line: n, Column: i + 1 + len(d.Text)}
			list = append(list, d)
			if comment {
				d.Line = 0
				above = append(above, d)
			}
		}
		if trimmed != "" && !comment {
			for _, d := range above {
				d.Line = n
			}
			above = nil
		}
	}
	return list
}
