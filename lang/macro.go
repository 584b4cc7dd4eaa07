package lang

import (
	"fmt"
	"strings"

	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// A macro is a definition. One from the command line is fixed: the file
// cannot change it.
type macro struct {
	value string
	def   token.Pos
	fixed bool
}

// define sets a macro, as the statement name = value does.
func (l *lexer) define(name, value string, def token.Pos) {
	if m := l.macros[name]; m != nil && m.fixed {
		return
	}
	l.macros[name] = &macro{value: value, def: def}
}

// reference replaces $name by the text of the macro. It reports whether that
// is defined; if not the token is the complaint.
func (l *lexer) reference(start token.Pos) (tok, bool) {
	name := l.name()
	m := l.macros[name]
	switch {
	case len(name) > maxName:
		return l.bad(start, name, &diag.Diagnostic{
			Code:    "too-long",
			Message: fmt.Sprintf("macro name of %d bytes: at most %d are allowed", len(name), maxName),
		}), false
	case m == nil:
		return l.bad(start, "$"+name, l.undefinedMacro(name)), false
	case l.expanded+len(m.value) > maxExpanded:
		return l.bad(start, "$"+name, &diag.Diagnostic{
			Code:    "macro-size",
			Message: fmt.Sprintf("macros expand to more than %d MiB", maxExpanded>>20),
		}), false
	}
	l.expanded += len(m.value)
	l.exp = expansion{
		text: m.value,
		base: l.set.AddExpansion(name, len(m.value), m.def, start),
		use:  start,
		end:  l.cur.pos(),
	}
	return tok{}, true
}

// name reads the name of a macro reference.
func (l *lexer) name() string {
	src := l.cur
	i := src.off
	for i < len(src.text) && class[src.text[i]]&inName != 0 {
		i++
	}
	if i < len(src.text) && src.text[i] > 2 && src.text[i] != '\\' {
		name := src.text[src.off:i]
		src.off = i
		return name
	}
	var b strings.Builder
	for {
		c, n := l.peek()
		if !is(c, inName) {
			return b.String()
		}
		b.WriteByte(byte(c))
		l.skip(n)
	}
}

// undefinedMacro says that name is not a macro, and what it may have been
// meant to be.
func (l *lexer) undefinedMacro(name string) *diag.Diagnostic {
	if name == "" {
		d := &diag.Diagnostic{
			Code:    "macro-name",
			Message: "`$` without the name of a macro",
			Label:   "expected a name of letters, digits and `_`",
		}
		if c, _ := l.peek(); c == '{' {
			d.Help = append(d.Help, "write `$name`; there is no form with braces")
		}
		return d
	}
	d := &diag.Diagnostic{
		Code:    "undefined-macro",
		Message: notDefined(name),
		Label:   "no definition above this line",
	}
	if l.missing != "" {
		d.Help = append(d.Help, fmt.Sprintf("it may be defined in %s, which could not be read", escaped(l.missing)))
	} else if best, ok := nearest(name, l.macroNames()); ok {
		d.Help = append(d.Help, fmt.Sprintf("did you mean `$%s`?", printable(best)))
	} else if c, _ := l.peek(); is(c, inWord) {
		d.Help = append(d.Help, "the name in a reference ends before any character but letters, digits and `_`")
	}
	return d
}

// macroNames returns the names of all macros, or none if there are too many
// to look for one that was misspelt.
func (l *lexer) macroNames() (names []string) {
	if len(l.macros) <= 500 {
		for n := range l.macros {
			names = append(names, n)
		}
	}
	return names
}

func notDefined(name string) string { return fmt.Sprintf("macro `%s` is not defined", printable(name)) }
