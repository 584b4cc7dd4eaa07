// Package diag owns what is said about a configuration: the Diagnostic, the
// List that collects them in the order they were found, and the printers.
// The parser, the compiler and the analyser report here; the commands print.
// It never decides what is wrong and never ends the program.
package diag

import (
	"cmp"
	"fmt"
	"slices"

	"smtpd/lang/token"
)

// A Code names a kind of complaint. It is stable: scripts, suppressions and
// the pages of smtpd-check codes refer to it.
type Code string

// A Class says what a diagnostic means for the user.
type Class uint8

// The classes, gravest first.
const (
	Language    Class = iota + 1 // the file cannot be loaded, on any host
	Host                         // it cannot be loaded here: something this host lacks
	Security                     // it loads and endangers
	Warning                      // it loads and is probably wrong
	Portability                  // another release or system reads it differently
	Style                        // it could be said better
)

var classNames = [...]string{"", "error", "host", "security", "warning", "portability", "style"}

// String returns the word that printers put before a message.
func (c Class) String() string { return classNames[c] }

// A Note adds a second place, or a remark if Span is invalid.
type Note struct {
	Span    token.Span
	Message string
}

// A Grade says how far a Fix may be trusted.
type Grade uint8

// The grades.
const (
	Safe      Grade = iota + 1 // the meaning is provably the same
	Suggested                  // the likely intent
	Manual                     // a person must finish it
)

var gradeNames = [...]string{"", "safe", "suggested", "manual"}

// String returns the word for g.
func (g Grade) String() string { return gradeNames[g] }

// An Edit replaces the text of a span.
type Edit struct {
	Span token.Span
	New  string
}

// A Fix is a change that answers a diagnostic.
type Fix struct {
	Message string
	Grade   Grade
	Edits   []Edit
}

// A Diagnostic is one complaint about a configuration. The message is lower
// case, one line, and has no final period.
type Diagnostic struct {
	Span    token.Span // invalid if the complaint has no place
	Class   Class
	Code    Code
	Message string // stands alone
	Label   string // what is said under the caret: what was expected
	Notes   []Note // "first declared here"
	Help    []string
	Fixes   []Fix

	// Seen is where OpenSMTPD notices the mistake if that is not the line
	// on which Span begins: at the token that made it certain. The classic
	// form of smtpd -n names that line, as scripts expect.
	Seen token.Pos

	// Fatal marks a complaint at which OpenSMTPD ends at once, printing its
	// own name and no place. smtpd -n prints it in that form.
	Fatal bool

	// AtEnd marks a complaint that is found only when the whole file has
	// been read, wherever its Span is.
	AtEnd bool
}

// Error returns the form that editors know, file:line:col: message.
func (d *Diagnostic) Error() string {
	if !d.Span.Start.IsValid() {
		return d.Message
	}
	return d.Span.String() + ": " + d.Message
}

// A List collects diagnostics in the order they were found.
type List []*Diagnostic

// Errorf adds a Language complaint at span and returns it for details.
func (l *List) Errorf(span token.Span, code Code, format string, args ...any) *Diagnostic {
	return l.Reportf(Language, span, code, format, args...)
}

// Reportf adds a complaint of any class and returns it for details.
func (l *List) Reportf(class Class, span token.Span, code Code, format string, args ...any) *Diagnostic {
	d := &Diagnostic{Span: span, Class: class, Code: code, Message: fmt.Sprintf(format, args...)}
	*l = append(*l, d)
	return d
}

// Has reports whether l holds a diagnostic of class c.
func (l List) Has(c Class) bool {
	for _, d := range l {
		if d.Class == c {
			return true
		}
	}
	return false
}

// Refuse makes the findings of a code mistakes of the language, for a user
// who wants none of them, and reports whether there are any.
func (l List) Refuse(code Code) bool {
	found := false
	for _, d := range l {
		if d.Code == code {
			d.Class = Language
			found = true
		}
	}
	return found
}

// Merge returns the complaints of the parser and those of the compiler in
// the order in which one pass over the text would have come upon them. Both
// lists are in that order already.
func Merge(set *token.FileSet, parser, compiler List) List {
	if len(parser) == 0 {
		return compiler
	}
	merged := make(List, 0, len(parser)+len(compiler))
	for _, d := range compiler {
		key := order(set, d)
		for len(parser) > 0 && (d.AtEnd || slices.Compare(order(set, parser[0]), key) <= 0) {
			merged = append(merged, parser[0])
			parser = parser[1:]
		}
		merged = append(merged, d)
	}
	return append(merged, parser...)
}

// Sort puts the list into the order of the text, included files in the place
// of the statement that reads them. What has no place comes last.
func (r *Report) Sort() {
	keys := make(map[*Diagnostic][]int, len(r.List))
	for _, d := range r.List {
		keys[d] = order(r.Set, d)
	}
	slices.SortStableFunc(r.List, func(a, b *Diagnostic) int {
		x, y := keys[a], keys[b]
		if x == nil || y == nil {
			return cmp.Compare(len(y), len(x))
		}
		return cmp.Or(slices.Compare(x, y), cmp.Compare(a.Code, b.Code))
	})
}

// order returns where a complaint arises in the stream of tokens: its offset
// in the main file, then in what was included there, and so on.
func order(set *token.FileSet, d *Diagnostic) []int {
	p := d.Span.Start
	if d.Seen.IsValid() {
		p = d.Seen
	}
	if !p.IsValid() {
		return nil
	}
	key := []int{p.Offset}
	if set != nil {
		for _, f := range set.Trace(p) {
			key = append(key, f.Use.Offset)
		}
	}
	slices.Reverse(key)
	return key
}
