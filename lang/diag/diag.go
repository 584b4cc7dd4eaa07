// Package diag owns what is said about a configuration: the Diagnostic, the
// List that collects them in the order they were found, and the printers.
// The parser, the compiler and the analyser report here; the commands print.
// It never decides what is wrong and never ends the program.
package diag

import (
	"fmt"

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
