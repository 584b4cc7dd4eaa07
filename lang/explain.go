package lang

import (
	"fmt"

	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// parseTokens returns the statement that toks are, or an ast.Bad and the
// reasons in p.diags. toks ends with the token that ended the statement.
func (p *parser) parseTokens(toks []tok) *ast.Stmt {
	st, at, err := parseReference(toks)
	if err == nil {
		if bad := misfit(st); bad != nil {
			at = bad.Span.Start
			p.reject(toks, at, bad)
			return badStatement(toks)
		}
		return st
	}
	p.reject(toks, at, nil)
	return badStatement(toks)
}

// badStatement keeps what a statement that was refused may have declared.
func badStatement(toks []tok) *ast.Stmt {
	bad := &ast.Bad{}
	if toks[0].kind == keyword {
		bad.Keyword = toks[0].text
	}
	for i := range toks {
		if toks[i].isString() {
			bad.Strings = append(bad.Strings, toks[i].text)
		}
	}
	return &ast.Stmt{Pos: toks[0].pos, Bad: bad}
}

// reject reports what is wrong with a statement: the token at which it stops
// being one, and what the lexer complained about.
func (p *parser) reject(toks []tok, at token.Pos, known *diag.Diagnostic) {
	i := 0
	for i < len(toks)-1 && toks[i].pos.Offset < at.Offset {
		i++
	}
	switch {
	case known != nil:
		p.report(known)
	case toks[i].diag == nil:
		p.report(p.explain(toks, i))
	}
	for j := range toks {
		if toks[j].diag != nil {
			p.report(toks[j].diag)
		}
	}
}

func (p *parser) explain(toks []tok, i int) *diag.Diagnostic {
	t := &toks[i]
	return &diag.Diagnostic{
		Span:    token.Span{Start: t.pos, End: t.end},
		Code:    "syntax",
		Message: fmt.Sprintf("syntax error at `%s`", clip(t.text)),
	}
}
