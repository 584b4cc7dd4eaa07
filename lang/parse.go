package lang

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// A Define is a macro from the command line.
type Define struct {
	Name, Value string
}

// Options say what Parse reads.
type Options struct {
	// Defines come before the first line; the file cannot change them. Of
	// two with one name the first holds.
	Defines []Define

	// Open returns the text of the main file and of each that it includes,
	// by the name that is written there. The default reads the file, up to
	// a limit.
	Open func(path string) ([]byte, error)

	// Text is the main file's, if it is not nil: it is not opened then.
	Text []byte
}

// Parse reads the configuration in the file called name, and what it
// includes. The tree is never nil; statements that could not be read are
// ast.Bad in it, and each is explained in the list.
func Parse(name string, opts Options) (*ast.File, diag.List) {
	p := newParser(name, opts)
	if p.start(name, opts.Text) {
		for p.statement() {
		}
	}
	return p.file, p.diags
}

// start enters the main file, whose text is read unless it is given, and
// reports whether there is one.
func (p *parser) start(name string, text []byte) bool {
	if text == nil {
		var err error
		if text, err = p.open(name); err != nil {
			p.report(&diag.Diagnostic{
				Code:    "unreadable-file",
				Message: fmt.Sprintf("cannot read %s: %v", escaped(name), cause(err)),
			})
			return false
		}
	}
	p.enter(name, text, token.Pos{})
	return true
}

// A parser makes statements of tokens.
type parser struct {
	lexer
	open      func(string) ([]byte, error)
	file      *ast.File
	diags     diag.List
	read      int // bytes of all sources
	includes  int
	full      bool             // there was too much
	binary    bool             // there was a NUL byte where none may be
	explained int              // statements that were refused
	old       *diag.Diagnostic // the finding about an older generation
	oldMore   int              // statements that it speaks for besides its own
	said      map[string]bool  // messages about macros, each said once

	descent descent
	toks    []tok // of a statement that the descent refused
}

func newParser(name string, opts Options) *parser {
	set := token.NewFileSet()
	p := &parser{
		lexer: lexer{set: set, macros: make(map[string]*macro)},
		open:  opts.Open,
		file:  &ast.File{Name: name, Set: set},
		said:  make(map[string]bool),
	}
	p.descent.lex = &p.lexer
	if p.open == nil {
		p.open = ReadFile
	}
	for _, d := range opts.Defines {
		if p.macros[d.Name] == nil {
			p.macros[d.Name] = &macro{value: d.Value, fixed: true}
		}
	}
	return p
}

func (p *parser) report(d *diag.Diagnostic) {
	d.Class = diag.Language
	p.diags = append(p.diags, d)
}

// cause returns the system's words for err without the path, which the
// message has already named.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// enter begins to read a source. It reports one that is too much.
func (p *parser) enter(name string, text []byte, include token.Pos) {
	if p.read += len(text); p.read > maxInput {
		p.tooMuch(name, include)
		text = nil
	}
	base := p.set.AddSource(name, text, include)
	src := &source{name: name, text: p.set.Text(name), base: base, line: 1}
	switch {
	case strings.HasPrefix(src.text, "\xef\xbb\xbf"):
		p.byteOrderMark(src)
	case strings.HasPrefix(src.text, "\xff\xfe"), strings.HasPrefix(src.text, "\xfe\xff"):
		p.utf16(src)
	}
	p.push(src)
}

// tooMuch reports, once, that there is more text than anyone means to have.
func (p *parser) tooMuch(name string, include token.Pos) {
	if p.full {
		return
	}
	p.full, p.file.Lost = true, true
	d := &diag.Diagnostic{Code: "too-large"}
	if include.IsValid() {
		d.Span = token.At(include)
		d.Message = fmt.Sprintf("with %s the configuration is larger than %d MiB", escaped(name), maxInput>>20)
	} else {
		d.Message = fmt.Sprintf("%s is %v", name, errTooLarge)
	}
	p.report(d)
}

// byteOrderMark reports the mark that some editors put before the text, and
// passes over it.
func (p *parser) byteOrderMark(src *source) {
	start := src.pos()
	src.off += 3
	span := token.Span{Start: start, End: src.pos()}
	p.report(&diag.Diagnostic{
		Span:    span,
		Code:    "byte-order-mark",
		Message: "file begins with a UTF-8 byte order mark",
		Help:    []string{"save the file as UTF-8 without it"},
		Fixes: []diag.Fix{{
			Message: "remove the mark",
			Grade:   diag.Safe,
			Edits:   []diag.Edit{{Span: span}},
		}},
	})
}

// utf16 reports a text of which nothing can be read.
func (p *parser) utf16(src *source) {
	p.report(&diag.Diagnostic{
		Span:    token.At(src.pos()),
		Code:    "byte-order-mark",
		Message: "file is in UTF-16",
		Help:    []string{"save the file as UTF-8, without a byte order mark"},
	})
	p.file.Lost = true
	src.text = ""
}

// statement reads one statement and reports whether there may be another.
func (p *parser) statement() bool {
	start := p.state()
	p.descent.begin()
	switch p.descent.peek().kind {
	case newline:
		return true
	case endOfInput:
		return false
	}
	st := p.descent.statement()
	if p.descent.failed {
		p.restore(&start)
		bad, part := p.collect(p.descent.bad), st
		st = p.refused(p.toks, bad)
		if st.Bad != nil {
			st.Bad.Part = part
		}
		st.EndPos = p.toks[len(p.toks)-1].pos
	}
	p.file.Stmts = append(p.file.Stmts, st)
	p.carryOut(st)
	if p.explained <= maxErrors && (p.explained <= maxBinary || !p.binary) {
		return true
	}
	p.giveUp(st)
	return false
}

// giveUp says why reading ends before the text does.
func (p *parser) giveUp(last *ast.Stmt) {
	p.file.Lost = true
	d := &diag.Diagnostic{
		Span:    token.At(last.Pos),
		Code:    "too-many-errors",
		Message: fmt.Sprintf("more than %d statements are wrong, what follows this one is not read", maxErrors),
	}
	if p.binary {
		d.Message = "this is no text, what follows is not read"
	}
	p.report(d)
}

// collect reads the tokens of one statement, with the one that ends it, and
// returns the place among them of the one that bad numbers. Of a statement
// that is too long to be explained from the grammar it keeps only as many as
// that, and some of those that messages are about.
func (p *parser) collect(bad int) int {
	p.toks = p.toks[:0]
	at, more := 0, 0
	for n := 0; ; n++ {
		t := p.next()
		last := t.kind == endOfInput || t.kind == unclosed || t.kind == newline
		if n == bad {
			at = len(p.toks)
		}
		if t.diag != nil {
			more++
		}
		if n <= maxReference || p.older || n == bad-1 || n == bad || t.diag != nil && more < maxReference || last {
			p.toks = append(p.toks, t)
		}
		switch {
		case last:
			return at
		case n == 1 && (p.toks[0].is(keyword, "include") || p.older && p.toks[0].is(word, "include")) && t.isString():
			// The included text begins right here; what is left of this
			// line is read after it.
			p.toks = append(p.toks, tok{kind: newline, pos: t.end, end: t.end})
			return at
		}
	}
}

// carryOut does at once what a statement means for the text after it.
func (p *parser) carryOut(st *ast.Stmt) {
	switch {
	case st.Macro != nil:
		p.defineMacro(st.Macro)
	case st.Include != nil:
		p.include(&st.Include.Path)
	case st.Bad != nil:
		p.defineIntended(p.toks)
	}
}

// defineIntended defines the macro that a refused statement was meant to
// define, so that its uses are not reported too.
func (p *parser) defineIntended(toks []tok) {
	if len(toks) < 4 || !toks[1].is(punct, "=") {
		return
	}
	name, value := &toks[0], &toks[2]
	switch {
	case !name.isString() && name.kind != keyword:
	case value.isString() || value.kind == keyword || value.kind == number:
		p.define(name.text, value.text, name.pos)
	default:
		p.said[notDefined(name.text)] = true
	}
}

func (p *parser) defineMacro(m *ast.Macro) {
	name := m.Name.Text
	// The original does not look at the first byte.
	if strings.LastIndexAny(name, " \t\n\v\f\r") > 0 {
		d := &diag.Diagnostic{
			Span:    token.Span{Start: m.Name.Pos, End: m.Name.EndPos},
			Code:    "macro-name",
			Message: fmt.Sprintf("macro name `%s` holds white space", printable(name)),
			Label:   "use letters, digits and `_`",
		}
		if m.Value.Pos.Line != m.Name.Pos.Line {
			d.Seen = m.Value.Pos
		}
		p.report(d)
		return
	}
	p.define(name, m.Value.Text, m.Name.Pos)
}

// include makes the named file the text that is read next.
func (p *parser) include(path *ast.Str) {
	span := token.Span{Start: path.Pos, End: path.EndPos}
	fail := func(code diag.Code, format string, args ...any) *diag.Diagnostic {
		d := &diag.Diagnostic{Span: span, Code: code, Message: fmt.Sprintf(format, args...)}
		p.report(d)
		p.file.Lost = true
		return d
	}
	if p.includes++; p.includes > maxIncludes {
		if p.includes == maxIncludes+1 {
			fail("include-limit", "more than %d files included", maxIncludes)
		}
		return
	}
	if p.reading(path.Text) {
		fail("include-loop", "%s includes itself", escaped(path.Text)).Label = "this file is being read already"
		return
	}
	if len(p.stack)+1 >= maxNesting {
		fail("include-limit", "files included more than %d deep", maxNesting)
		return
	}
	text, err := p.open(path.Text)
	if err != nil {
		fail("include", "cannot include %s: %v", escaped(path.Text), cause(err))
		p.missing = path.Text
		return
	}
	p.enter(path.Text, text, path.Pos)
}

// reading reports whether the named file is on the include stack.
func (p *parser) reading(name string) bool {
	return p.cur.name == name || slices.ContainsFunc(p.stack, func(s *source) bool { return s.name == name })
}
