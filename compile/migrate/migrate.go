// Package migrate turns a configuration of an older generation of the
// language into the present one, as text: statement by statement, in the
// order of the old file, with its comments and macros.
//
// A conversion that changes what the server does, or might, is said as a
// finding; what it does otherwise is meant to be the same. Whether it is, is
// not for this package to say: package legacy compiles the old file by the
// rules of its own time, and the analyser compares. The two packages share the
// tree and nothing else.
package migrate

import (
	"fmt"
	"strings"

	"smtpd/ast/old"
	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Options say how to convert.
type Options struct {
	// Host is asked for the files of tables; what it does not know is a
	// finding.
	Host compile.Host

	// ServerName is the name of the host; "" if it is not known.
	ServerName string

	// Guessed says that the release was taken from the text, and is one of
	// those that the text could be for.
	Guessed bool

	// Reserved reports whether a word is a keyword of the present language.
	Reserved func(word string) bool

	// Inline writes out every macro, so that the result has none of those
	// that the file defines.
	Inline bool

	// Separate keeps include statements and gives each file a text of its
	// own. Otherwise there is one text.
	Separate bool
}

// A Text is a converted file.
type Text struct {
	Name string
	Data []byte
}

// Convert returns the present form of f: one text, or with Options.Separate
// one for each file. The list holds what is to be said; if it has anything of
// class Language there is something that only a person can decide.
func Convert(f *old.File, opts Options) ([]Text, diag.List) {
	c := newConverter(f, opts)
	c.survey()
	for i, s := range f.Stmts {
		c.stmt, c.index = s, i
		c.lines, c.uses = nil, ""
		c.statement(s)
		c.done = append(c.done, piece{stmt: s, lines: c.lines, pki: c.uses})
	}
	c.stmt = nil
	c.closing()
	return c.layOut(), c.notes
}

// A piece is what a statement of the old file becomes.
type piece struct {
	stmt  *old.Stmt
	lines []string
	pki   string // the certificate of a listener
	moved bool   // its lines stand elsewhere, with its comments
}

type converter struct {
	file  *old.File
	opts  Options
	notes diag.List
	said  map[diag.Code]bool // notes that are made once
	stmt  *old.Stmt
	index int
	lines []string
	uses  string // the certificate that the statement in hand uses
	done  []piece

	comments map[lineOf]*old.Comment // see commentAt
	text     map[string][]string     // lines of the files
	facts
	macros map[string]*old.Macro // defined so far, and kept
	inline bool                  // the statement in hand keeps no macro
	names  names
	pki    map[string]bool // certificates that were written though the file names none

	declared map[string]bool // tables of lists that maps were
	backends map[string]bool // that something was said of
	rules    int             // rules so far
	matched  bool            // one of them is in the result
}

func newConverter(f *old.File, opts Options) *converter {
	return &converter{
		file: f, opts: opts,
		said: make(map[diag.Code]bool), text: make(map[string][]string),
		macros: make(map[string]*old.Macro),
		pki:    make(map[string]bool), declared: make(map[string]bool), backends: make(map[string]bool),
		names: newNames(),
	}
}

// emit adds a line to what the statement in hand becomes.
func (c *converter) emit(format string, args ...any) {
	c.lines = append(c.lines, fmt.Sprintf(format, args...))
}

// statement converts one statement.
func (c *converter) statement(s *old.Stmt) {
	switch {
	case s.Macro != nil:
		c.macro(s.Macro)
	case s.Include != nil:
		if c.opts.Separate {
			c.emit("include %s", quote(s.Include.Text))
		} else {
			c.emit("# include %s", quote(s.Include.Text))
		}
	case s.Setting != nil:
		c.setting(s.Setting)
	case s.PKI != nil:
		c.pkiStmt(s.PKI)
	case s.CA != nil:
		c.emit("ca %s cert %s", c.certName(&s.CA.Name), c.str(&s.CA.Cert))
	case s.Table != nil:
		c.table(s.Table)
	case s.Filter != nil:
		c.filter(s.Filter)
	case s.Listen != nil:
		c.listen(s.Listen)
	case s.Rule != nil:
		c.rules++
		c.rule(s.Rule)
	case s.Present != nil:
		c.emit("%s", s.Present.Text)
		c.note(diag.Portability, "migrate-mixed", "a statement of the present language among old ones is kept as it is")
	}
}

// macro keeps a definition if its value reads the same today, or can be
// written so that it does.
func (c *converter) macro(m *old.Macro) {
	value := quote(m.Value.Text)
	switch {
	case c.opts.Inline || m.Shape == old.OtherShape:
		if m.Shape == old.OtherShape {
			c.emit("# %s = %s", m.Name.Text, value)
			c.note(diag.Portability, "migrate-macro", "macro `%s` holds more than one value: its uses are written out", m.Name.Text)
		}
		delete(c.macros, m.Name.Text)
		return
	case m.Value.Macro != "" && c.keeps(m.Value.Macro):
		value = m.Value.Macro
	case m.Shape == old.KeywordShape:
		value = quote(`"` + m.Value.Text + `"`)
	case m.Shape == old.ListShape:
		value = quote(c.list(m.List.Elems))
	}
	c.macros[m.Name.Text] = m
	name := m.Name.Text
	if !c.bare(name) {
		name = quote(name)
	}
	c.emit("%s = %s", name, value)
}

// here returns the place of the statement in hand.
func (c *converter) here() token.Span { return token.Span{Start: c.stmt.Start, End: c.stmt.End} }

// note says something about the statement in hand.
func (c *converter) note(class diag.Class, code diag.Code, format string, args ...any) *diag.Diagnostic {
	return c.noteAt(class, c.here(), code, format, args...)
}

func (c *converter) noteAt(class diag.Class, at token.Span, code diag.Code, format string, args ...any) *diag.Diagnostic {
	// A statement may come out of a macro: the message is about its line.
	if at.End.Filename != at.Start.Filename || at.End.Line != at.Start.Line {
		at.End = at.Start
	}
	return c.notes.Reportf(class, at, code, format, args...)
}

// once is note for what is said of the first statement alone.
func (c *converter) once(class diag.Class, code diag.Code, format string, args ...any) *diag.Diagnostic {
	if c.said[code] {
		return &diag.Diagnostic{}
	}
	c.said[code] = true
	return c.note(class, code, format, args...)
}

// comment keeps the statement in hand as a comment.
func (c *converter) comment(why string) {
	c.emit("# %s: %s", why, c.source())
}

// source returns the statement in hand as it was written, on one line.
func (c *converter) source() string {
	var words []string
	for n := c.stmt.Start.Line; n <= c.stmt.End.Line; n++ {
		line := c.line(c.stmt.Start.Filename, n)
		if k := c.commentAt(c.stmt.Start.Filename, n); k != nil {
			line = line[:min(k.Pos.Column-1, len(line))]
		}
		words = append(words, strings.Fields(strings.TrimSuffix(strings.TrimSpace(line), `\`))...)
	}
	return strings.Join(words, " ")
}

// closing adds what is said of the file as a whole.
func (c *converter) closing() {
	c.lines = nil
	if c.localTag && !c.socket {
		c.socketLine()
	}
	if c.rules > 0 && !c.matched {
		c.emit("match from any for any reject # no rule could match, and there must be one")
	}
	c.done = append(c.done, piece{lines: c.lines})
	if c.file.Dialect.Generation() == 1 {
		if !c.sized && c.file.Dialect < old.D1E {
			c.whole(diag.Warning, "migrate-defaults", "no size was the limit of a message; now 35 MiB are")
		}
		if c.file.Dialect < old.D1E && c.expands && !c.catchAll {
			c.whole(diag.Warning, "migrate-unmatched", "an address that an alias gave and no rule matched was relayed; now it is refused").
				Help = []string{"if there are such aliases, add a rule at the end: match from local for any action, with an action that relays"}
		}
		c.whole(diag.Warning, "migrate-defaults", "a sender is told of a delay after four hours; this generation told nothing")
	}
}

// whole says something of the file and not of a place in it.
func (c *converter) whole(class diag.Class, code diag.Code, format string, args ...any) *diag.Diagnostic {
	return c.notes.Reportf(class, token.Span{}, code, format, args...)
}
