package diag

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"

	"smtpd/lang/token"
)

// Text writes reports for people at a terminal: the message, the line with
// the place marked, and what belongs to it. Colour repeats what the words
// say and never replaces it.
func Text(w io.Writer, reports []*Report, color bool) error {
	p := textPrinter{Writer: bufio.NewWriter(w), color: color}
	for _, r := range reports {
		p.Report = r
		for _, d := range r.List {
			p.diagnostic(d)
		}
		if r.Hidden > 0 {
			fmt.Fprintf(p, "%s: %d more not shown\n\n", Printable(r.File), r.Hidden)
		}
	}
	return p.Flush()
}

type textPrinter struct {
	*bufio.Writer
	*Report
	color bool
}

// The colours, by what they stand for.
const (
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	blue   = "\x1b[1;34m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

func (p *textPrinter) paint(color, text string) string {
	if !p.color || text == "" {
		return text
	}
	return color + text + plain
}

// hue returns the colour of a class.
func hue(c Class) string {
	switch c {
	case Language, Security:
		return red
	case Host, Warning:
		return yellow
	}
	return blue
}

func (p *textPrinter) diagnostic(d *Diagnostic) {
	color := hue(d.Class)
	head := p.paint(color, d.Class.String()+"["+string(d.Code)+"]")
	fmt.Fprintf(p, "%s: %s\n", head, p.paint(bold, Printable(d.Message)))
	margin := p.gutter(d)
	if d.Span.Start.IsValid() {
		p.snippet(d.Span, d.Label, margin, color, '^')
		p.origin(d.Span.Start, margin)
	} else {
		fmt.Fprintf(p, "%*s%s %s\n", margin, "", p.paint(blue, "-->"), Printable(p.File))
	}
	for _, n := range d.Notes {
		p.remark("note", n.Message, margin)
		if n.Span.Start.IsValid() {
			p.snippet(n.Span, "", margin, blue, '-')
		}
	}
	for _, h := range d.Help {
		p.remark("help", h, margin)
	}
	for _, f := range d.Fixes {
		if f.Grade == Safe {
			p.remark("fix", f.Message+" (smtpd-check --fix does it)", margin)
		}
	}
	p.WriteByte('\n')
}

func (p *textPrinter) remark(kind, text string, margin int) {
	fmt.Fprintf(p, "%*s %s %s: %s\n", margin, "", p.paint(blue, "="), p.paint(bold, kind), Printable(text))
}

// gutter returns the width of the line numbers that d shows.
func (p *textPrinter) gutter(d *Diagnostic) int {
	most := d.Span.Start.Line
	for _, n := range d.Notes {
		most = max(most, n.Span.Start.Line)
	}
	for _, f := range p.trace(d.Span.Start) {
		most = max(most, f.Def.Line)
	}
	return len(strconv.Itoa(most))
}

// snippet writes the line at span and marks the span.
func (p *textPrinter) snippet(s token.Span, label string, margin int, color string, mark rune) {
	bar := p.paint(blue, "|")
	fmt.Fprintf(p, "%*s%s %s\n", margin, "", p.paint(blue, "-->"), Printable(s.Start.String()))
	line, ok := p.line(s.Start)
	if !ok {
		return
	}
	before, marked, after := p.split(strings.TrimRight(line, " \t\r"), s)
	fmt.Fprintf(p, "%*s %s\n", margin, "", bar)
	fmt.Fprintf(p, "%s %s %s\n", p.paint(blue, fmt.Sprintf("%*d", margin, s.Start.Line)), bar, before+marked+after)
	marks := strings.Repeat(string(mark), max(1, cells(marked)))
	if label != "" {
		marks += " " + Printable(label)
	}
	fmt.Fprintf(p, "%*s %s %*s%s\n", margin, "", bar, cells(before), "", p.paint(color, marks))
}

// cells returns how many columns of a terminal a text takes.
func cells(s string) int {
	n := 0
	for _, r := range s {
		switch width.LookupRune(r).Kind() {
		case width.EastAsianWide, width.EastAsianFullwidth:
			n += 2
		default:
			if !unicode.Is(unicode.Mn, r) {
				n++
			}
		}
	}
	return n
}

// maxContext is how many characters are shown on each side of what is
// marked, so that a line of a thousand elements does not fill the screen.
const maxContext = 60

// split returns the printable text of a line before, in and after a span.
func (p *textPrinter) split(line string, s token.Span) (before, marked, after string) {
	from := min(max(s.Start.Column-1, 0), len(line))
	to := min(max(p.end(s).Column-1, from), len(line))
	before, marked, after = Printable(line[:from]), Printable(line[from:to]), Printable(line[to:])
	if n := utf8.RuneCountInString(before) - maxContext; n > 0 {
		before = "..." + string([]rune(before)[n:])
	}
	if r := []rune(marked); len(r) > maxContext {
		marked = string(r[:maxContext]) + "..."
	}
	if r := []rune(after); len(r) > maxContext {
		after = string(r[:maxContext]) + "..."
	}
	return before, marked, after
}

// origin writes the macros and includes that led to a place.
func (p *textPrinter) origin(at token.Pos, margin int) {
	for _, f := range p.trace(at) {
		switch {
		case f.Kind == token.Include:
			p.remark("note", "included from "+f.Use.String(), margin)
		case f.Def.IsValid():
			p.remark("note", "in the text of macro "+f.Name+", defined here", margin)
			p.snippet(token.At(f.Def), "", margin, blue, '-')
		default:
			p.remark("note", "in the text of macro "+f.Name+", defined on the command line", margin)
		}
	}
}

// Printable returns s with tabs as four blanks and with everything that
// could act on a terminal made visible: a configuration may come from
// anybody.
func Printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\t':
			b.WriteString("    ")
		case r == utf8.RuneError && size == 1, r < ' ', r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}
