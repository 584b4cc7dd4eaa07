package lang

import (
	"fmt"
	"strconv"
	"strings"

	"smtpd/lang/diag"
	"smtpd/lang/token"
)

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
			switch next, n := l.afterBackslash(); next {
			case quote, ' ', '\t':
				l.skip(n)
				c = next
			case '\n':
				l.skip(n + 1)
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
	text, end := l.wordText(start)
	t := tok{kind: word, text: text, pos: start, end: end}
	if len(text) > maxWord {
		return l.bad(start, clip(text), tooLong("word", len(text), maxWord))
	}
	if k, ok := keywords[text]; ok && !l.older {
		t.kind, t.text = keyword, k
	}
	return t
}

// wordText reads characters as long as they may be in a word. It returns them
// and where they end, which is before a backslash that continues the line.
func (l *lexer) wordText(start token.Pos) (string, token.Pos) {
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
		return s, l.endPos(start)
	}
	var b strings.Builder
	for {
		end := l.endPos(start)
		c, n := l.peek()
		if !is(c, inWord) {
			return b.String(), end
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
	var end token.Pos
	c, n := l.peek()
	for {
		b.WriteByte(byte(c))
		l.skip(n)
		end = l.endPos(start)
		if c, n = l.peek(); c < '0' || c > '9' {
			break
		}
	}
	text := b.String()
	if text != "-" && (c == -1 || is(c, endsNum)) {
		return l.checkNumber(start, end, text)
	}
	l.exp, *l.cur = exp, src
	if text[0] == '-' {
		return l.badWord(start)
	}
	return l.word(start)
}

func (l *lexer) checkNumber(start, end token.Pos, text string) tok {
	if len(text) > maxWord {
		return l.bad(start, clip(text), tooLong("number", len(text), maxWord))
	}
	if _, err := strconv.ParseInt(text, 10, 64); err != nil {
		return l.bad(start, clip(text), &diag.Diagnostic{
			Code:    "number-range",
			Message: fmt.Sprintf("number %s does not fit 64 bits", clip(text)),
		})
	}
	return tok{kind: number, text: text, pos: start, end: end}
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

// clip shortens text for a message.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return s[:most-3] + "..."
}
