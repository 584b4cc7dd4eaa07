package lang

import (
	"slices"
	"strings"

	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// oldRules begin a rule in the older generations of the language.
var oldRules = map[string]bool{"accept": true, "reject": true}

// A Token is a token for a reader of an older generation: there keywords are
// words, since each release reserved others.
type Token struct {
	Kind     TokenKind
	Text     string
	Pos, End token.Pos

	// Use tells the expansions of macros apart; 0 is none. Macro is the
	// name, and Written how the token would be written again: the reference,
	// and what follows it without a blank.
	Use     int
	Macro   string
	Written string

	tok
}

// A TokenKind says what a Token is.
type TokenKind uint8

// The kinds of tokens.
const (
	WordToken   TokenKind = iota + 1 // a bare word, perhaps a keyword
	StringToken                      // a quoted string
	NumberToken                      // an integer
	PunctToken                       // one of { } ( ) < > , ! = =>
	SepToken                         // a comma or a newline between elements in braces
	EndToken                         // the newline that ends the statement
)

// IsString reports whether t is a string as the grammar means it.
func (t *Token) IsString() bool { return t.Kind == WordToken || t.Kind == StringToken }

// Is reports whether t is the bare word or the punctuation s.
func (t *Token) Is(s string) bool {
	return (t.Kind == WordToken || t.Kind == PunctToken) && t.Text == s
}

// A Scanned is text of an older generation as tokens, statement by statement,
// of the main file and of all that it includes. The last token of each
// statement is an EndToken.
type Scanned struct {
	Name       string
	Set        *token.FileSet
	Statements [][]Token
	Files      []string // each once, in the order of reading
	Comments   []Comment
}

// A Comment is one in the text, with its #.
type Comment struct {
	Pos, End token.Pos // without offsets
	Text     string
	Alone    bool // nothing stands before it on its line
}

// Scan reads the configuration in the file called name, and what it
// includes, with the lexer of the present language but without its keywords,
// and with parentheses as braces. A statement that holds what no generation
// can read is left out and reported.
func Scan(name string, opts Options) (*Scanned, diag.List) {
	p := newParser(name, opts)
	p.older = true
	if !p.start(name, opts.Text) {
		return &Scanned{Name: name, Set: p.set}, p.diags
	}
	s := &Scanned{Name: name, Set: p.set, Files: []string{name}}
	for p.scanStatement(s) {
	}
	for _, name := range s.Files {
		s.Comments = append(s.Comments, comments(name, p.set.Text(name))...)
	}
	return s, p.diags
}

// comments finds the comments of one file.
func comments(name, text string) []Comment {
	var list []Comment
	line, bol, alone := 1, 0, true
	for _, t := range Pieces([]byte(text)) {
		line += strings.Count(text[bol:t.Start], "\n")
		bol = max(bol, strings.LastIndexByte(text[:t.Start], '\n')+1)
		at := token.Pos{Filename: name, Line: line, Column: t.Start - bol + 1}
		switch t.Kind {
		case CommentPiece:
			end := at
			end.Line += strings.Count(t.Text, "\n")
			list = append(list, Comment{at, end, strings.TrimRight(t.Text, " \t\r\\"), alone})
		case NewlinePiece:
			alone = true
			continue
		}
		alone = false
	}
	return list
}

// scanStatement reads one statement and reports whether there may be
// another.
func (p *parser) scanStatement(s *Scanned) bool {
	p.collect(0)
	toks := p.toks
	if len(toks) == 1 {
		return toks[0].kind != endOfInput
	}
	if p.unreadable(toks) {
		p.defineIntended(toks)
		return toks[len(toks)-1].kind != endOfInput
	}
	s.Statements = append(s.Statements, p.tokens(toks))
	switch {
	case len(toks) == 4 && toks[0].isString() && toks[1].is(punct, "=") && (toks[2].isString() || toks[2].kind == number):
		p.define(toks[0].text, toks[2].text, toks[0].pos)
	case isInclude(toks):
		p.include(&ast.Str{Pos: toks[1].pos, Text: toks[1].text, EndPos: toks[1].end})
		if _, read := p.set.Source(toks[1].text); read && !slices.Contains(s.Files, toks[1].text) {
			s.Files = append(s.Files, toks[1].text)
		}
	}
	return toks[len(toks)-1].kind != endOfInput
}

// isInclude reports whether a statement reads another file.
func isInclude(toks []tok) bool {
	return len(toks) == 3 && toks[0].is(word, "include") && toks[1].isString()
}

// unreadable reports the tokens of a statement that are none, and whether
// there are any.
func (p *parser) unreadable(toks []tok) bool {
	broken := false
	for i := range toks {
		t := &toks[i]
		if t.kind != invalid && t.kind != unclosed {
			continue
		}
		d := t.diag
		if d == nil {
			d = &diag.Diagnostic{Span: token.Span{Start: t.pos, End: t.end}, Code: "syntax", Message: found(toks, i)}
		}
		if t.kind == unclosed {
			d.Code, d.Message, d.Label = "unclosed-brace", "a statement begins inside braces", "expected `}` before this"
			d.Notes = []diag.Note{{Span: token.At(p.braces.open), Message: "opened here"}}
		}
		if !p.saidBefore(d) {
			p.report(d)
		}
		broken = true
	}
	return broken
}

// tokens makes the tokens of a statement public.
func (p *parser) tokens(toks []tok) []Token {
	list := make([]Token, len(toks))
	for i := range toks {
		t := &toks[i]
		list[i] = Token{Kind: tokenKinds[t.kind], Text: t.text, Pos: t.pos, End: t.end, tok: *t}
		if use, ok := p.expansionAt(t.pos); ok {
			list[i].Use, list[i].Macro = use.Use.Offset, use.Name
		}
	}
	for i := range list {
		list[i].Written = p.written(list, i)
	}
	return list
}

var tokenKinds = map[kind]TokenKind{
	word: WordToken, quoted: StringToken, number: NumberToken, punct: PunctToken, separator: SepToken,
	newline: EndToken, endOfInput: EndToken,
}

// expansionAt returns the macro that a place is in the text of.
func (p *parser) expansionAt(pos token.Pos) (token.Frame, bool) {
	frames := p.set.Trace(pos)
	if len(frames) == 0 || frames[0].Kind != token.Macro {
		return token.Frame{}, false
	}
	return frames[0], true
}

// written returns how token i is written if it is all that a macro stands
// for.
func (p *parser) written(list []Token, i int) string {
	t := &list[i]
	if t.Use == 0 || i > 0 && list[i-1].Use == t.Use || i+1 < len(list) && list[i+1].Use == t.Use {
		return ""
	}
	if use, ok := p.expansionAt(t.End); ok && use.Use.Offset == t.Use {
		return "$" + t.Macro
	}
	// The word goes on after the reference, on the same line.
	line, ok := p.set.Line(t.Pos.Filename, t.Pos.Line)
	from, to := t.Pos.Column-1, t.End.Column-1
	if !ok || t.End.Line != t.Pos.Line || from >= to || to > len(line) {
		return ""
	}
	return line[from:to]
}

// Misplaced says that token i of a statement is not one of those that could
// stand there. They are as Expected returns them.
func Misplaced(toks []Token, i int, expected []string) *diag.Diagnostic {
	list := make([]tok, len(toks))
	for j := range toks {
		list[j] = toks[j].tok
	}
	return &diag.Diagnostic{
		Span:    token.Span{Start: toks[i].Pos, End: toks[i].End},
		Class:   diag.Language,
		Code:    "syntax",
		Message: found(list, i),
		Label:   expectation(expected),
	}
}

// StringTokens is what Misplaced calls a string among the expected.
var StringTokens = []string{"<word>", "<string>"}
