package policy

import (
	"strings"

	"smtpd/lang/token"
)

type kind uint8

const (
	endOfInput kind = iota
	word
	quoted
	punct
	invalid // a string without an end
)

// A tok is one token. Its text is what it means, without quotes.
type tok struct {
	kind  kind
	text  string
	span  token.Span
	fresh bool // the first of its line
}

// A lexer reads tokens. A string without an end is an invalid one.
type lexer struct {
	name, text string
	base       int // offset of the text in the file set
	off        int
	line, bol  int
}

func (l *lexer) pos() token.Pos {
	return token.Pos{Filename: l.name, Offset: l.base + l.off, Line: l.line, Column: l.off - l.bol + 1}
}

// blanks passes over what separates tokens and reports whether a line ended.
func (l *lexer) blanks() (ended bool) {
	for ; l.off < len(l.text); l.off++ {
		switch l.text[l.off] {
		case ' ', '\t', '\r':
		case '\n':
			l.line++
			l.bol = l.off + 1
			ended = true
		case '#':
			n := strings.IndexByte(l.text[l.off:], '\n')
			if n < 0 {
				l.off = len(l.text)
				return ended
			}
			l.off += n - 1
		default:
			return ended
		}
	}
	return ended
}

const punctuation = "{}<>,="

func (l *lexer) next() tok {
	t := tok{fresh: l.blanks() || l.off == 0}
	start := l.pos()
	switch {
	case l.off == len(l.text):
	case l.text[l.off] == '"' || l.text[l.off] == '\'':
		t.kind, t.text = l.quoted()
	case strings.IndexByte(punctuation, l.text[l.off]) >= 0:
		t.kind, t.text = punct, l.text[l.off:l.off+1]
		l.off++
	default:
		n := strings.IndexAny(l.text[l.off:], punctuation+"\"'# \t\r\n")
		if n < 0 {
			n = len(l.text) - l.off
		}
		t.kind, t.text = word, l.text[l.off:l.off+n]
		l.off += n
	}
	t.span = token.Span{Start: start, End: l.pos()}
	return t
}

// quoted reads a string. A backslash gives a quote or a backslash its plain
// meaning, and before all else is a backslash, as expressions need it.
func (l *lexer) quoted() (kind, string) {
	end := l.text[l.off]
	var b strings.Builder
	for l.off++; l.off < len(l.text) && l.text[l.off] != '\n'; l.off++ {
		c := l.text[l.off]
		if c == end {
			l.off++
			return quoted, b.String()
		}
		if c == '\\' && l.off+1 < len(l.text) && strings.IndexByte(`\"'`, l.text[l.off+1]) >= 0 {
			l.off++
			c = l.text[l.off]
		}
		b.WriteByte(c)
	}
	return invalid, b.String()
}

// quote writes s as a string that quoted reads.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
