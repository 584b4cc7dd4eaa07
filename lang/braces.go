package lang

import "smtpd/lang/token"

// braces turns the tokens of the lexer into those of the grammar: inside
// braces newlines and commas become separators, those that the language
// ignores vanish, and newlines end a statement everywhere else.
type braces struct {
	depth int
	open  token.Pos // of the outermost brace that is open
	last  tok       // what was handed out last
	held  tok       // read too early, handed out next
	holds bool
}

// next returns the next token of the grammar.
func (l *lexer) next() tok {
	if l.depth == 0 && !l.holds {
		t := l.scan()
		if t.is(punct, "{") {
			l.depth, l.open, l.last = 1, t.pos, t
		}
		return t
	}
	l.last = l.nextInBraces()
	return l.last
}

// take returns the token that was held back, or else the next one.
func (l *lexer) take() tok {
	if l.holds {
		l.holds = false
		return l.held
	}
	return l.scan()
}

func (l *lexer) hold(t tok) { l.held, l.holds = t, true }

func (l *lexer) nextInBraces() tok {
	for {
		t := l.take()
		switch {
		case l.depth == 0: // it was held when the braces closed
			if t.is(punct, "{") {
				l.depth, l.open = 1, t.pos
			}
			return t
		case t.is(punct, "{"):
			l.depth++
			return t
		case t.is(punct, "}"):
			l.depth--
			return t
		case t.is(punct, ","):
			t.kind = separator
			return t
		case t.kind == newline:
			if t, ok := l.lineEnd(t); ok {
				return t
			}
		default:
			return t
		}
	}
}

// lineEnd decides what the newline t inside braces is. It reports whether
// there is anything to hand out: after the opening brace and after a
// separator a newline says nothing.
func (l *lexer) lineEnd(t tok) (tok, bool) {
	next := l.scan()
	for next.kind == newline {
		next = l.scan()
	}
	l.hold(next)
	switch {
	case l.strayStatement(&next):
		// What follows is a statement of its own: the brace was forgotten.
		l.depth = 0
		return tok{kind: unclosed, pos: next.pos, end: next.end}, true
	case l.last.is(punct, "{") || l.last.kind == separator:
		return tok{}, false
	case next.is(punct, "}") && l.last.isString():
		return tok{}, false
	}
	return tok{kind: separator, text: "\n", pos: t.pos, end: t.end}, true
}

// strayStatement reports whether t, the first token of a line, begins a
// statement rather than being a keyword where a string belongs: it stands in
// the first column and more follows on its line.
func (l *lexer) strayStatement(t *tok) bool {
	if t.kind != keyword || t.pos.Column != 1 || !opensStatement(t.text) {
		return false
	}
	l.blanks()
	c, _ := l.peek()
	return is(c, inWord) || c == '<' && t.text != "match" || t.text == "match" && c == '!'
}
