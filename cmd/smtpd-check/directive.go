package main

import (
	"errors"
	"regexp"
	"strings"

	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// A directive is a comment that says something to smtpd-check: at the end of
// the line that it is about, or alone above it.
type directive struct {
	at   token.Span
	line int    // that it is about; 0 if there is none
	text string // from the number sign on
}

const directiveMark = "# smtpd-check:"

// verb returns the first word after the mark.
func (d *directive) verb() string {
	words := strings.Fields(strings.TrimPrefix(d.text, directiveMark))
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// directives lists the directives of a source.
func directives(set *token.FileSet, name string) []*directive {
	if set == nil {
		return nil
	}
	text, _ := set.Source(name)
	if !strings.Contains(string(text), directiveMark) {
		return nil
	}
	var list, above []*directive // above: waiting for the statement they stand above
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		trimmed := strings.TrimSpace(line)
		comment := strings.HasPrefix(trimmed, "#")
		if i := strings.LastIndex(line, directiveMark); i >= 0 {
			d := &directive{line: n, text: strings.TrimRight(line[i:], "\r\n")}
			d.at.Start = token.Pos{Filename: name, Line: n, Column: i + 1}
			d.at.End = token.Pos{Filename: name, Line: n, Column: i + 1 + len(d.text)}
			list = append(list, d)
			if comment {
				d.line = 0
				above = append(above, d)
			}
		}
		if trimmed != "" && !comment {
			for _, d := range above {
				d.line = n
			}
			above = nil
		}
	}
	return list
}

// labelRx takes the words of a label apart.
var labelRx = regexp.MustCompile(`^# smtpd-check:\s*label\s+"([^"]+)"\s*$`)

// findLabels returns the names that comments give to rules, by the index of the
// rule:
//
//	# smtpd-check: label "NAME"
//
// A name belongs to one rule, and a label to a match statement.
func findLabels(set *token.FileSet, rs *compile.Ruleset) (map[int]string, diag.List) {
	type place struct {
		file string
		line int
	}
	at := make(map[place]int)
	var files []string
	for i := range rs.Rules {
		o := rs.Rules[i].Origin
		if len(files) == 0 || files[len(files)-1] != o.File {
			files = append(files, o.File)
		}
		at[place{o.File, o.Line}] = i
	}
	labels := make(map[int]string)
	first := make(map[string]token.Span)
	read := make(map[string]bool)
	var list diag.List
	for _, file := range files {
		if read[file] {
			continue
		}
		read[file] = true
		for _, d := range directives(set, file) {
			if d.verb() != "label" {
				continue
			}
			m := labelRx.FindStringSubmatch(d.text)
			rule, ok := at[place{file, d.line}]
			switch {
			case m == nil:
				list.Errorf(d.at, "bad-label", "label is not understood").Help = []string{`write: # smtpd-check: label "NAME"`}
			case !ok:
				list.Errorf(d.at, "bad-label", "label %q stands at no rule", m[1]).Help = []string{"put it above a match statement or at the end of its first line"}
			case first[m[1]].Start.IsValid():
				e := list.Errorf(d.at, "bad-label", "label %q is taken", m[1])
				e.Notes = append(e.Notes, diag.Note{Span: first[m[1]], Message: "first given here"})
			default:
				labels[rule], first[m[1]] = m[1], d.at
			}
		}
	}
	return labels, list
}

// labels returns the names of rules, by their index. It prints what is wrong
// with them.
func (l *loaded) labels(s *streams) (map[int]string, error) {
	labels, list := findLabels(l.file.Set, l.rules)
	if len(list) == 0 {
		return labels, nil
	}
	if err := diag.Text(s.err, []*diag.Report{{File: l.report.File, Set: l.file.Set, List: list}}, false); err != nil {
		return nil, err
	}
	return nil, errors.New("labels of rules are wrong")
}
