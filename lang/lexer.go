package lang

import (
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

	older    bool // text of an older generation; see Scan
	macros   map[string]*macro
	expanded int    // bytes of all expansions so far
	missing  string // a file that should have been included

	braces
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
			switch c, n = l.afterBackslash(); c {
			case -1:
				l.skip(n)
				return -1, 0
			case '\n':
				l.skip(n + 1)
			default:
				return c, n + 1
			}
		}
	}
}

// afterBackslash returns the byte that the next one, a backslash, stands
// before, and how far ahead it is: the bytes that are never seen are not
// there.
func (l *lexer) afterBackslash() (c, n int) {
	for n = 1; ; n++ {
		if c = l.raw(n); c != 1 && c != 2 {
			return c, n
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
		case (c == '(' || c == ')') && l.older:
			l.skip(n)
			return l.punct(start, string(rune(c)))
		case c == '=':
			l.skip(n)
			equals := l.punct(start, "=")
			if c, n := l.peek(); c == '>' {
				l.skip(n)
				return l.punct(start, "=>")
			}
			return equals
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
