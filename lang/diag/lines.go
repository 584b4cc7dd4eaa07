package diag

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Classic writes one line a finding, file:line: message, as compilers have
// done for fifty years and as OpenSMTPD does.
func Classic(w io.Writer, reports []*Report) error {
	b := bufio.NewWriter(w)
	for _, r := range reports {
		for _, d := range r.List {
			at := r.File
			if p := d.Span.Start; p.IsValid() {
				at = fmt.Sprintf("%s:%d", p.Filename, p.Line)
			}
			fmt.Fprintf(b, "%s: %s: %s [%s]\n", Printable(at), d.Class, Printable(d.text()), d.Code)
		}
		if r.Hidden > 0 {
			fmt.Fprintf(b, "%s: %d more not shown\n", Printable(r.File), r.Hidden)
		}
	}
	return b.Flush()
}

// text returns message and label in one line.
func (d *Diagnostic) text() string {
	if d.Label == "" {
		return d.Message
	}
	return d.Message + " (" + d.Label + ")"
}

// GitHub writes workflow commands that put each finding beside its line in a
// pull request.
func GitHub(w io.Writer, reports []*Report) error {
	b := bufio.NewWriter(w)
	for _, r := range reports {
		for _, d := range r.List {
			fmt.Fprintf(b, "::%s %stitle=%s::%s\n", githubLevel(d.Class), r.githubPlace(d), githubValue(string(d.Code)), githubText(d.full()))
		}
		if r.Hidden > 0 {
			fmt.Fprintf(b, "::notice file=%s::%d more not shown\n", githubValue(r.File), r.Hidden)
		}
	}
	return b.Flush()
}

func githubLevel(c Class) string {
	switch c {
	case Language, Security:
		return "error"
	case Warning:
		return "warning"
	}
	return "notice"
}

func (r *Report) githubPlace(d *Diagnostic) string {
	p := d.Span.Start
	if !p.IsValid() {
		return "file=" + githubValue(r.File) + ","
	}
	return fmt.Sprintf("file=%s,line=%d,col=%d,endColumn=%d,", githubValue(p.Filename), p.Line,
		r.columnsOf(p).runes, r.columnsOf(r.end(d.Span)).runes)
}

// full returns everything a finding says, without quoting the source.
func (d *Diagnostic) full() string {
	lines := []string{Printable(d.text())}
	for _, n := range d.Notes {
		text := "note: " + Printable(n.Message)
		if n.Span.Start.IsValid() {
			text += ": " + Printable(n.Span.String())
		}
		lines = append(lines, text)
	}
	for _, h := range d.Help {
		lines = append(lines, "help: "+Printable(h))
	}
	return strings.Join(lines, "\n")
}

// githubText escapes the text of a workflow command.
func githubText(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

// githubValue escapes the value of a property.
func githubValue(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}
