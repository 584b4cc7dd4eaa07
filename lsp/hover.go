package lsp

import (
	"fmt"
	"strings"

	"smtpd/lang"
	"smtpd/lang/diag"
)

// hover explains the keyword, or shows the declaration of the name, at the
// place.
func (v *view) hover(*placeParams) (*hover, error) {
	p, ok := v.piece()
	if !ok || p.Kind == lang.CommentPiece {
		return nil, nil
	}
	at := v.lines.stretch(p.Start, p.End)
	if p.Kind == lang.KeywordPiece {
		text := "**" + p.Text + "**\n\n" + Meaning(v.statement(p.Start), p.Text)
		return &hover{markup{"markdown", text}, at}, nil
	}
	o := v.occurrence()
	if o == nil {
		return nil, nil
	}
	text := fmt.Sprintf("%s `%s` is not declared in the configuration", o.kind, diag.Printable(o.name))
	if declared := v.declarations(o); len(declared) > 0 {
		text = ""
		for _, d := range declared {
			text += v.declaration(d)
		}
	}
	return &hover{markup{"markdown", text}, v.lines.span(o.span)}, nil
}

// maxShown is how many bytes of a declaration are shown.
const maxShown = 1500

// declaration returns a declaration as it is written, and where that is.
func (v *view) declaration(o *occurrence) string {
	pos := o.stmt.Pos
	l := v.linesOf(pos.Filename)
	from := l.at(pos)
	text := strings.TrimRight(l.text[from:max(from, l.at(o.stmt.EndPos))], " \t\r\n")
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "\n..."
	}
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fmt.Sprintf("%ssmtpd\n%s\n%s\n%s:%d\n\n", fence, text, fence, diag.Printable(pos.Filename), pos.Line)
}

// statement returns the keyword that begins the statement at an offset, if
// one stands before it.
func (v *view) statement(offset int) string {
	if line := v.line(offset); len(line) > 0 && line[0].Kind == lang.KeywordPiece {
		return line[0].Text
	}
	return ""
}

// line returns the pieces of a statement that begin before an offset, without
// newlines and comments. Inside braces the end of a line ends no statement.
func (v *view) line(offset int) []lang.Piece {
	var list []lang.Piece
	depth := 0
	for _, p := range v.pieces {
		if p.Start >= offset {
			break
		}
		switch p.Kind {
		case lang.NewlinePiece:
			if depth == 0 {
				list = list[:0]
			}
			continue
		case lang.CommentPiece:
			continue
		case lang.PunctPiece:
			switch p.Text {
			case "{":
				depth++
			case "}":
				depth = max(0, depth-1)
			}
		}
		list = append(list, p)
	}
	return list
}
