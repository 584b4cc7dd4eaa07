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
		if l.opens(&t) {
			l.depth, l.open, l.last = 1, t.pos, t
		}
		return t
	}
	l.last = l.nextInBraces()
	return l.last
}

// opens reports whether t opens a list. In the oldest generation some have
// parentheses.
func (l *lexer) opens(t *tok) bool { return t.is(punct, "{") || l.older && t.is(punct, "(") }

func (l *lexer) closes(t *tok) bool { return t.is(punct, "}") || l.older && t.is(punct, ")") }

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
			if l.opens(&t) {
				l.depth, l.open = 1, t.pos
			}
			return t
		case l.opens(&t):
			l.depth++
			return t
		case l.closes(&t):
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
	case l.opens(&l.last) || l.last.kind == separator:
		return tok{}, false
	case l.closes(&next) && l.last.isString():
		return tok{}, false
	}
	return tok{kind: separator, text: "\n", pos: t.pos, end: t.end}, true
}

// strayStatement reports whether t, the first token of a line, begins a
// statement rather than being a keyword where a string belongs: it stands in
// the first column and more follows on its line.
func (l *lexer) strayStatement(t *tok) bool {
	opens := t.kind == keyword && opensStatement(t.text) || l.older && t.kind == word && oldRules[t.text]
	if !opens || t.pos.Column != 1 {
		return false
	}
	l.blanks()
	c, _ := l.peek()
	return is(c, inWord) || c == '<' && t.text != "match" || t.text == "match" && c == '!'
}
