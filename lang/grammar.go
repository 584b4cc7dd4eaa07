package lang

import (
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/alecthomas/participle/v2"
	plex "github.com/alecthomas/participle/v2/lexer"

	"smtpd/ast"
)

// reference is the parser that the struct tags of package ast describe. It
// is built when it is first needed: most files need only the parser written
// by hand.
//
// No lookahead: the grammar is LL(1), and with any lookahead participle
// forgives a mistake in an optional part and reports it somewhere before.
var reference = sync.OnceValue(func() *participle.Parser[ast.Stmt] {
	return participle.MustBuild[ast.Stmt](
		participle.Lexer(symbols{}),
		participle.UseLookahead(0),
		participle.Elide("Gap"),
	)
})

// gap is an elided token after every other one. participle gives a node as
// its end the place of the token that follows, and this is where the node
// really ends.
const gap = plex.TokenType(invalid) + 1

// symbols tells participle the kinds of tokens by the names that the tags
// use. It lexes nothing: tokens are handed over a statement at a time.
type symbols struct{}

func (symbols) Symbols() map[string]plex.TokenType {
	return map[string]plex.TokenType{
		"EOF":     plex.EOF,
		"Word":    plex.TokenType(word),
		"String":  plex.TokenType(quoted),
		"Number":  plex.TokenType(number),
		"Keyword": plex.TokenType(keyword),
		"Punct":   plex.TokenType(punct),
		"Sep":     plex.TokenType(separator),
		"Gap":     gap,
	}
}

func (symbols) Lex(string, io.Reader) (plex.Lexer, error) {
	return nil, errors.New("lang: tokens come from the lexer of lang")
}

// A tokenList hands the tokens of a statement to participle.
type tokenList struct {
	toks []tok
	n    int // of tokens handed out, gaps included
}

func (l *tokenList) Next() (plex.Token, error) {
	t := &l.toks[l.n/2]
	atGap := l.n%2 == 1
	if l.n/2 == len(l.toks)-1 {
		return plex.EOFToken(plex.Position(t.pos)), nil
	}
	l.n++
	if atGap {
		return plex.Token{Type: gap, Pos: plex.Position(t.end)}, nil
	}
	return plex.Token{Type: plex.TokenType(t.kind), Value: t.text, Pos: plex.Position(t.pos)}, nil
}

// parseReference parses one statement with the reference parser. toks ends
// with the token that ended the statement. On an error it returns the index
// of the token that the grammar does not take.
func parseReference(toks []tok) (*ast.Stmt, int, error) {
	peeker, err := plex.Upgrade(&tokenList{toks: toks}, gap)
	if err != nil {
		return nil, 0, err
	}
	st, err := reference().ParseFromLexer(peeker)
	if err == nil {
		return st, 0, nil
	}
	var perr participle.Error
	if errors.As(err, &perr) {
		at := perr.Position()
		return nil, slices.IndexFunc(toks, func(t tok) bool { return plex.Position(t.pos) == at }), err
	}
	return nil, 0, err
}
