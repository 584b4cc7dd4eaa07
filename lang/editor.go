package lang

import (
	"slices"

	"smtpd/lang/token"
)

// Expected returns what the grammar would take at an offset of the text in
// opts, given the statement that is begun before it: keywords and
// punctuation as they are written, <word>, <string>, <number> and <sep> for
// what those kinds of tokens may be, and the empty string for the end of the
// statement. What has to come there is first. It is nil if what stands before
// the offset can no more become a statement.
func Expected(name string, opts Options, offset int) []string {
	if offset < 0 || offset > len(opts.Text) {
		return nil
	}
	p := newParser(name, opts)
	p.enter(name, opts.Text[:offset], token.Pos{})
	for {
		start := p.state()
		if more := p.statement(); p.cur.ended && len(p.stack) == 0 {
			p.restore(&start)
			return p.expectedNext()
		} else if !more {
			return nil
		}
	}
}

// expectedNext returns what could follow the last statement of a text.
func (p *parser) expectedNext() []string {
	p.descent.begin()
	p.collect(-1)
	last := len(p.toks) - 1
	if last > maxReference {
		return nil
	}
	if last > 0 && p.toks[last-1].kind == separator && p.toks[last-1].pos.Offset == p.cur.pos().Offset {
		// Inside braces the newline that ends every file is one too.
		last--
		p.toks = p.toks[:last+1]
	}
	p.toks[last].kind, p.toks[last].text = invalid, ""
	expected, at := expectedAt(p.toks)
	if at != last {
		return nil
	}
	return expected
}

// A Piece is a stretch of text of one kind, as it is written.
type Piece struct {
	Kind       PieceKind
	Text       string // of a keyword and a word what it means, else as it is written
	Start, End int    // offsets
}

// A PieceKind says what a Piece is.
type PieceKind uint8

// The kinds of pieces.
const (
	WordPiece    PieceKind = iota + 1
	KeywordPiece           // a reserved word
	StringPiece            // in quotes
	NumberPiece            // an integer
	PunctPiece             // braces, commas and the like
	MacroPiece             // a reference, $name
	CommentPiece           // from # to the end of the line
	NewlinePiece           // the end of a line
	InvalidPiece           // what no token begins with, and quotes never closed
)

// Pieces takes text apart without reading what it includes and without
// replacing its macros, for programs that show or edit it.
func Pieces(text []byte) []Piece {
	l := lexer{cur: &source{text: string(text), line: 1}}
	var list []Piece
	for {
		c, n := l.peek()
		start := l.cur.off
		var t Piece
		switch c {
		case -1:
			return list
		case ' ', '\t':
			l.skip(n)
			continue
		case '\n':
			l.skip(n)
			t.Kind = NewlinePiece
		case '#':
			for c != '\n' && c != -1 {
				l.skip(n)
				c, n = l.peek()
			}
			t.Kind = CommentPiece
		case '$':
			l.skip(n)
			l.name()
			t.Kind = MacroPiece
		default:
			scanned := l.scan()
			t.Kind, t.Text = pieceKinds[scanned.kind], scanned.text
		}
		t.Start, t.End = start, l.cur.off
		if t.Kind != WordPiece && t.Kind != KeywordPiece {
			t.Text = l.cur.text[t.Start:t.End]
		}
		list = append(list, t)
	}
}

var pieceKinds = map[kind]PieceKind{
	word: WordPiece, keyword: KeywordPiece, quoted: StringPiece, number: NumberPiece,
	punct: PunctPiece, newline: NewlinePiece, invalid: InvalidPiece,
}

// Keywords returns every reserved word.
func Keywords() []string {
	list := make([]string, 0, len(keywords))
	for w := range keywords {
		list = append(list, w)
	}
	slices.Sort(list)
	return list
}
