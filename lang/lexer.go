package lang

import (
	"fmt"
	"strconv"
	"strings"

	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// A kind of token.
type kind uint8

const (
	endOfInput kind = iota
	newline
	word
	quoted
	number
	keyword
	punct
	separator // comma or newline between elements in braces
	unclosed  // stands before a statement that begins inside braces
	invalid   // what no rule accepts
)

// A tok is one token. Its text is what it means: without quotes, and with
// continued lines joined.
type tok struct {
	kind     kind
	text     string
	pos, end token.Pos

	// diag says what is wrong with an invalid token. It is reported even if
	// the statement was given up before, unless it is mere syntax.
	diag *diag.Diagnostic
}

// isString reports whether t is a string as the grammar means it.
func (t *tok) isString() bool { return t.kind == word || t.kind == quoted }

// is reports whether t is the punctuation or the keyword s.
func (t *tok) is(k kind, s string) bool { return t.kind == k && t.text == s }

// A lexer reads tokens from a stack of sources. It never fails: what it
// cannot read becomes an invalid token.
type lexer struct {
	set   *token.FileSet
	stack []*source // the sources around cur
	cur   *source
	exp   expansion

	macros   map[string]*macro
	expanded int // bytes of all expansions so far

	braces
}

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

// push makes src the source that is read next.
func (l *lexer) push(src *source) {
	if l.cur != nil {
		l.stack = append(l.stack, l.cur)
	}
	l.cur = src
}

// pop returns to the source that included the present one.
func (l *lexer) pop() bool {
	if len(l.stack) == 0 {
		return false
	}
	// A copy, so that restore can return to the middle of the included text.
	src := *l.stack[len(l.stack)-1]
	l.cur = &src
	l.stack = l.stack[:len(l.stack)-1]
	return true
}

// inExpansion reports whether the next byte comes out of a macro.
func (l *lexer) inExpansion() bool { return l.exp.off < len(l.exp.text) }

// raw returns the byte that is ahead of the next one by n, or -1 at the end
// of the source. Text of a macro and the text after its reference are one.
func (l *lexer) raw(n int) int {
	if rest := l.exp.text[l.exp.off:]; n < len(rest) {
		return int(rest[n])
	} else if i := l.cur.off + n - len(rest); i < len(l.cur.text) {
		return int(l.cur.text[i])
	}
	return -1
}

// skip passes over n bytes.
func (l *lexer) skip(n int) {
	for ; n > 0; n-- {
		if l.inExpansion() {
			l.exp.off++
			continue
		}
		if l.cur.text[l.cur.off] == '\n' {
			l.cur.line++
			l.cur.bol = l.cur.off + 1
		}
		l.cur.off++
	}
}

// peek returns the next character as it counts outside quotes, and the
// number of bytes it is written with; -1 at the end of the source. A
// backslash gives the character after it, which keeps its meaning; before a
// newline both vanish.
func (l *lexer) peek() (c, n int) {
	for {
		c = l.raw(0)
		switch c {
		default:
			return c, 1
		case -1:
			return -1, 0
		case 1, 2:
			// The original marks expansions with these bytes, so that they
			// are never seen.
			l.skip(1)
		case '\\':
			switch c = l.raw(1); c {
			case -1:
				l.skip(1)
				return -1, 0
			case '\n':
				l.skip(2)
			default:
				return c, 2
			}
		}
	}
}

// pos returns the place of the next byte. In an expansion that is where the
// reference stands, with the offset of the expansion.
func (l *lexer) pos() token.Pos {
	if l.inExpansion() {
		p := l.exp.use
		p.Offset = l.exp.base + l.exp.off
		return p
	}
	return l.cur.pos()
}

// endPos returns the place after the byte that was read last, for a token
// that began at start.
func (l *lexer) endPos(start token.Pos) token.Pos {
	if n := len(l.exp.text); n > 0 && start.Offset >= l.exp.base && start.Offset <= l.exp.base+n && (l.inExpansion() || l.cur.base+l.cur.off == l.exp.end.Offset) {
		p := l.exp.end
		p.Offset = l.exp.base + l.exp.off
		return p
	}
	return l.cur.pos()
}

// scan returns the next token, newlines included.
func (l *lexer) scan() tok {
	for {
		l.blanks()
		start := l.pos()
		c, n := l.peek()
		switch {
		case c == -1:
			if t, ok := l.sourceEnd(); ok {
				return t
			}
		case c == '\n':
			l.skip(n)
			return tok{kind: newline, pos: start, end: start}
		case c == '$' && !l.inExpansion():
			l.skip(n)
			if t, ok := l.reference(start); !ok {
				return t
			}
		case c == '"' || c == '\'':
			l.skip(n)
			return l.quotedString(start, c)
		case c == '-' || c >= '0' && c <= '9':
			return l.number(start)
		case is(c, inName) || c == ':':
			return l.word(start)
		case c == '\r' && l.raw(n) == '\n':
			l.cur.crlf = true
			l.skip(n)
			return l.bad(start, "\r", &diag.Diagnostic{
				Code:    "crlf",
				Message: "line ends in a carriage return",
				Label:   "this and perhaps all lines end in CR LF",
				Help:    []string{"save the file with Unix line ends"},
			})
		case strings.IndexByte("{}<>,!", byte(c)) >= 0:
			l.skip(n)
			return l.punct(start, punctText[c])
		case c == '=':
			l.skip(n)
			if c, n := l.peek(); c == '>' {
				l.skip(n)
				return l.punct(start, "=>")
			}
			return l.punct(start, "=")
		default:
			return l.badWord(start)
		}
	}
}

// punctText saves an allocation for each of them.
var punctText = [128]string{'{': "{", '}': "}", '<': "<", '>': ">", ',': ",", '!': "!"}

func (l *lexer) punct(start token.Pos, text string) tok {
	return tok{kind: punct, text: text, pos: start, end: l.endPos(start)}
}

// blanks passes over what separates tokens, and over a comment.
func (l *lexer) blanks() {
	for {
		c, n := l.peek()
		switch c {
		case ' ', '\t':
			l.skip(n)
		case '#':
			for c != '\n' && c != -1 {
				l.skip(n)
				c, n = l.peek()
			}
			return
		case '\r':
			// At the end of a line it is reported once for a source, else
			// there would be a message for every line.
			if !l.cur.crlf || l.raw(n) != '\n' {
				return
			}
			l.skip(n)
		default:
			return
		}
	}
}

// sourceEnd ends the present source: first with a newline, then with a
// return to the source that included it. It reports whether there is a token
// to hand out.
func (l *lexer) sourceEnd() (tok, bool) {
	p := l.cur.pos()
	if !l.cur.ended {
		l.cur.ended = true
		return tok{kind: newline, pos: p, end: p}, true
	}
	if l.pop() {
		return tok{}, false
	}
	// The original counts the newline that it adds.
	p.Line++
	p.Column = 1
	return tok{kind: endOfInput, pos: p, end: p}, true
}

// bad returns an invalid token from start to here. A nil diagnostic is mere
// syntax: the parser will find the words.
func (l *lexer) bad(start token.Pos, text string, d *diag.Diagnostic) tok {
	t := tok{kind: invalid, text: text, pos: start, end: l.endPos(start), diag: d}
	if d != nil {
		d.Span = token.Span{Start: start, End: t.end}
		d.Class = diag.Language
	}
	return t
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
			Code:    "undefined-macro",
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
		Message: fmt.Sprintf("macro `%s` is not defined", clip(name)),
		Label:   "no definition above this line",
	}
	if best, ok := nearest(name, l.macroNames()); ok {
		d.Help = append(d.Help, fmt.Sprintf("did you mean `$%s`?", best))
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

// quotedString reads a string up to the quote that closes it.
func (l *lexer) quotedString(start token.Pos, quote int) tok {
	if s, ok := l.plainQuoted(byte(quote)); ok {
		return tok{kind: quoted, text: s, pos: start, end: l.endPos(start)}
	}
	var b []byte
	nul := false
	for {
		c := l.raw(0)
		switch c {
		case -1:
			return l.bad(start, string(b), unterminated(quote))
		case '\n', 1, 2: // dropped
			l.skip(1)
			continue
		case 0:
			nul = true
		case '\\':
			switch next := l.raw(1); next {
			case quote, ' ', '\t':
				l.skip(1)
				c = next
			case '\n':
				l.skip(2)
				continue
			}
		case quote:
			l.skip(1)
			return l.checkQuoted(start, string(b), nul)
		}
		b = append(b, byte(c))
		l.skip(1)
	}
}

// plainQuoted reads the rest of a string that needs no work and is not at
// the end of an expansion.
func (l *lexer) plainQuoted(quote byte) (string, bool) {
	text, off := l.cur.text, &l.cur.off
	if l.inExpansion() {
		text, off = l.exp.text, &l.exp.off
	}
	rest := text[*off:]
	for i := 0; i < len(rest) && i <= maxQuoted; i++ {
		if class[rest[i]]&isQuiet != 0 {
			continue
		}
		if rest[i] == quote {
			*off += i + 1
			return rest[:i], true
		}
		if rest[i] != '"' && rest[i] != '\'' {
			break
		}
	}
	return "", false
}

func (l *lexer) checkQuoted(start token.Pos, text string, nul bool) tok {
	switch {
	case nul:
		return l.bad(start, text, &diag.Diagnostic{Code: "nul-byte", Message: "string holds a NUL byte"})
	case len(text) > maxQuoted:
		return l.bad(start, clip(text), tooLong("string", len(text), maxQuoted))
	}
	return tok{kind: quoted, text: text, pos: start, end: l.endPos(start)}
}

func unterminated(quote int) *diag.Diagnostic {
	return &diag.Diagnostic{
		Code:    "unterminated-string",
		Message: "string is not closed before the end of the file",
		Label:   fmt.Sprintf("opened here; expected another `%c`", quote),
		Help:    []string{"a backslash before the closing quote makes it part of the string"},
	}
}

func tooLong(what string, n, most int) *diag.Diagnostic {
	return &diag.Diagnostic{
		Code:    "too-long",
		Message: fmt.Sprintf("%s of %d bytes: at most %d are allowed", what, n, most),
	}
}

// word reads a bare word.
func (l *lexer) word(start token.Pos) tok {
	text := l.wordText()
	t := tok{kind: word, text: text, pos: start, end: l.endPos(start)}
	if len(text) > maxWord {
		return l.bad(start, clip(text), tooLong("word", len(text), maxWord))
	}
	if k, ok := keywords[text]; ok {
		t.kind, t.text = keyword, k
	}
	return t
}

// wordText reads characters as long as they may be in a word.
func (l *lexer) wordText() string {
	text, off := l.cur.text, &l.cur.off
	if l.inExpansion() {
		text, off = l.exp.text, &l.exp.off
	}
	i := *off
	for i < len(text) && class[text[i]]&inWord != 0 && text[i] != '\\' {
		i++
	}
	// At the end of an expansion the word goes on after the reference.
	if i < len(text) && text[i] > 2 && text[i] != '\\' {
		s := text[*off:i]
		*off = i
		return s
	}
	var b strings.Builder
	for {
		c, n := l.peek()
		if !is(c, inWord) {
			return b.String()
		}
		b.WriteByte(byte(c))
		l.skip(n)
	}
}

// number reads a number, or the word that begins like one. A minus that no
// digit follows stands alone.
func (l *lexer) number(start token.Pos) tok {
	exp, src := l.exp, *l.cur
	var b strings.Builder
	c, n := l.peek()
	for {
		b.WriteByte(byte(c))
		l.skip(n)
		if c, n = l.peek(); c < '0' || c > '9' {
			break
		}
	}
	text := b.String()
	switch {
	case text != "-" && (c == -1 || is(c, endsNum)):
		return l.checkNumber(start, text)
	}
	l.exp, *l.cur = exp, src
	if text[0] == '-' {
		return l.badWord(start)
	}
	return l.word(start)
}

func (l *lexer) checkNumber(start token.Pos, text string) tok {
	if len(text) > maxWord {
		return l.bad(start, clip(text), tooLong("number", len(text), maxWord))
	}
	if _, err := strconv.ParseInt(text, 10, 64); err != nil {
		return l.bad(start, clip(text), &diag.Diagnostic{
			Code:    "number-range",
			Message: fmt.Sprintf("number %s does not fit 64 bits", clip(text)),
		})
	}
	return tok{kind: number, text: text, pos: start, end: l.endPos(start)}
}

// badWord reads what cannot begin a token. If it is a character that may be
// inside a word, what follows belongs to it in the mind of whoever wrote it.
func (l *lexer) badWord(start token.Pos) tok {
	c, n := l.peek()
	if c == 0 {
		l.skip(n)
		return l.bad(start, "\x00", &diag.Diagnostic{
			Code:    "nul-byte",
			Message: "NUL byte outside a string",
			Label:   "this is not text",
		})
	}
	var b strings.Builder
	for first := true; ; first = false {
		if !first && !is(c, inWord) && c < 0x80 {
			break
		}
		b.WriteByte(byte(c))
		l.skip(n)
		if c < 0x80 && !is(c, inWord) {
			break
		}
		c, n = l.peek()
	}
	return l.bad(start, b.String(), nil)
}

// A lexerState is a place to which a lexer can return, as long as no source
// was pushed since.
type lexerState struct {
	cur      *source
	src      source
	stack    []*source
	exp      expansion
	expanded int
	braces   braces
}

func (l *lexer) state() lexerState {
	return lexerState{l.cur, *l.cur, l.stack, l.exp, l.expanded, l.braces}
}

func (l *lexer) restore(s *lexerState) {
	*s.cur = s.src
	l.cur, l.stack, l.exp, l.expanded, l.braces = s.cur, s.stack, s.exp, s.expanded, s.braces
}

// clip shortens text for a message.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return s[:most-3] + "..."
}
