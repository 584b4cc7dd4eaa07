package lang

import (
	"fmt"
	"strconv"
	"strings"

	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// maxExplained bounds the work that is done for broken statements: the
// reference parser is slow, and nobody reads the thousandth message.
const (
	maxExplained = 200    // statements
	maxReference = 20_000 // tokens of one
)

// refused explains why toks, which the descent refused at token bad, are no
// statement. The reference parser has the last word on whether they are.
func (p *parser) refused(toks []tok, bad int) *ast.Stmt {
	if p.explained++; p.explained > maxExplained || len(toks) > maxReference {
		p.reject(toks, bad, nil)
		return badStatement(toks)
	}
	st, at, err := parseReference(toks)
	if err != nil {
		p.reject(toks, min(at, bad), nil)
		return badStatement(toks)
	}
	if d := misfit(st); d != nil {
		noticedAt(d, toks, bad)
		p.reject(toks, bad, d)
		return badStatement(toks)
	}
	return st
}

// noticedAt says in d where the original notices that token bad does not fit,
// if that is on another line: it may be at the newline before it, which has
// no place there either and is no token here.
func noticedAt(d *diag.Diagnostic, toks []tok, bad int) {
	t := &toks[bad]
	at := t.pos
	if t.kind == unclosed && halfPair(toks[:bad]) || t.is(punct, "}") && t.pos.Line > toks[bad-1].end.Line {
		at = toks[bad-1].end
	}
	if at.Line != d.Span.Start.Line {
		d.Seen = at
	}
}

// halfPair reports whether toks ends inside a pair of a list.
func halfPair(toks []tok) bool {
	equals := func(i int) bool {
		return i < len(toks) && (toks[i].is(punct, "=") || toks[i].is(punct, "=>"))
	}
	last, brace := len(toks)-1, len(toks)-1
	for brace > 0 && !toks[brace].is(punct, "{") {
		brace--
	}
	if equals(last) {
		return true
	}
	return equals(brace+2) && toks[last].isString() && !equals(last-1)
}

// badStatement keeps what a statement that was refused may have declared.
func badStatement(toks []tok) *ast.Stmt {
	bad := &ast.Bad{}
	if toks[0].kind == keyword {
		bad.Keyword = toks[0].text
	}
	at := 1 // where the name is
	if bad.Keyword == "mda" {
		at = 2
	}
	for i := range toks {
		// A name that is a keyword may be the very mistake.
		if toks[i].isString() || i == at && (toks[i].kind == keyword || toks[i].kind == number) {
			bad.Strings = append(bad.Strings, toks[i].text)
		}
		bad.Rest = bad.Rest || overLines(&toks[i]) || toks[i].diag != nil && toks[i].diag.Code == "unterminated-string"
	}
	return &ast.Stmt{Pos: toks[0].pos, Bad: bad}
}

// reject reports what is wrong with a statement: the token i at which it
// stops being one, unless known says it already, and what the lexer
// complained about.
func (p *parser) reject(toks []tok, i int, known *diag.Diagnostic) {
	switch {
	case known != nil:
		p.report(known)
	case toks[i].diag == nil:
		if d := p.explain(toks, i); d != nil {
			p.report(d)
		}
	}
	for j := range toks {
		if d := toks[j].diag; d != nil && !p.saidBefore(d) {
			p.report(d)
			p.file.Lost = p.file.Lost || d.Code == "macro-size"
		}
	}
}

// saidBefore reports whether d is about a macro, and was said where that was
// first used, or about a file that is no text.
func (p *parser) saidBefore(d *diag.Diagnostic) bool {
	key := d.Message
	switch d.Code {
	case "undefined-macro", "macro-name", "macro-size":
	case "nul-byte":
		p.binary = true
		key = "NUL in " + d.Span.Start.Filename
	default:
		return false
	}
	before := p.said[key]
	p.said[key] = true
	return before
}

// explain says what is wrong at token i of a statement.
func (p *parser) explain(toks []tok, i int) *diag.Diagnostic {
	t := &toks[i]
	d := &diag.Diagnostic{
		Span: token.Span{Start: t.pos, End: t.end},
		Code: "syntax",
	}
	if i <= 1 && toks[0].pos.Line == t.pos.Line {
		switch known, said := p.explainFirst(d, toks); {
		case said:
			return nil
		case known:
			return d
		}
	}
	d.Message = found(toks, i)
	if t.kind == unclosed || t.kind == endOfInput && p.depth > 0 {
		p.explainUnclosed(d, t)
		noticedAt(d, toks, i)
		return d
	}
	if p.explained > maxExplained || len(toks) > maxReference {
		p.hint(d, toks, i, nil)
		return d
	}
	expected, at := expectedAt(toks)
	if at != i {
		// A list that mixes strings with pairs, or a phase that does not
		// know the condition: the grammar goes on where the language stops.
		return d
	}
	d.Label = expectation(expected)
	p.hint(d, toks, i, expected)
	for j := range toks[:i] {
		if t := &toks[j]; overLines(t) {
			message := fmt.Sprintf("the string that begins here ends only on line %d", t.end.Line)
			d.Notes = append(d.Notes, diag.Note{Span: token.At(t.pos), Message: message})
		}
	}
	return d
}

// overLines reports whether t is a string that goes on after its line: where
// the statement is no good its closing quote was forgotten.
func overLines(t *tok) bool {
	return t.kind == quoted && t.pos.Filename == t.end.Filename && t.end.Line > t.pos.Line
}

// found says what stands at token i, and after what.
func found(toks []tok, i int) string {
	t := &toks[i]
	var what string
	switch t.kind {
	case newline:
		what = "the line ends too early"
	case endOfInput:
		what = "the file ends too early"
	case separator:
		if t.text != "," {
			return "the line ends inside a pair"
		}
		what = "misplaced comma"
	case quoted:
		what = fmt.Sprintf("string %q does not belong here", clip(t.text))
	case keyword:
		what = fmt.Sprintf("keyword `%s` does not belong here", t.text)
	case number:
		what = fmt.Sprintf("number %s does not belong here", t.text)
	default:
		what = fmt.Sprintf("`%s` does not belong here", printable(t.text))
	}
	if i > 0 && (t.kind == newline || t.kind == endOfInput) {
		what += fmt.Sprintf(" after `%s`", printable(toks[i-1].text))
	}
	return what
}

// printable is the beginning of a text, escaped.
func printable(s string) string { return escaped(clip(s)) }

// escaped is text with what a terminal would not show as itself escaped.
func escaped(s string) string {
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// expectation lists what could have stood there, if that is few.
func expectation(expected []string) string {
	const most = 5
	var words []string
	str := false
	for _, e := range expected {
		switch e {
		case "":
			words = append(words, "the end of the line")
		case "<word>", "<string>":
			if !str {
				words = append(words, "a string")
			}
			str = true
		case "<number>":
			words = append(words, "a number")
		case "<sep>":
			words = append(words, "`,`")
		default:
			words = append(words, "`"+e+"`")
		}
	}
	if len(words) > most {
		words = append(words[:most-1:most-1], fmt.Sprintf("one of %d other words", len(words)-most+1))
	}
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return "expected " + words[0]
	default:
		return "expected " + strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
}

// explainUnclosed says that a brace was never closed.
func (p *parser) explainUnclosed(d *diag.Diagnostic, t *tok) {
	d.Code = "unclosed-brace"
	d.Message = "the file ends inside braces"
	if t.kind == unclosed {
		d.Message = "a statement begins inside braces"
	}
	d.Label = "expected `}` before this"
	d.Notes = append(d.Notes, diag.Note{Span: token.At(p.braces.open), Message: "opened here"})
}

// oldStatements are words that began a statement in older generations of
// the language.
var oldStatements = map[string]bool{
	"accept": true, "reject": true, "map": true, "expire": true, "limit": true,
	"max-message-size": true, "bounce-warn": true, "hostname": true, "size": true,
	"ssmtp": true, "set": true, "subaddressing-delimiter": true, "ciphers": true,
	"curve": true, "enqueuer": true, "filterchain": true, "max-mta-deferred": true,
}

// explainFirst explains a statement that begins with the wrong word, and
// reports whether it could. Statements of an older generation are one
// mistake: the first is explained, the others are counted there, and for
// them nothing is left to say.
func (p *parser) explainFirst(d *diag.Diagnostic, toks []tok) (known, said bool) {
	t := &toks[0]
	if t.kind != word && t.kind != quoted && t.kind != keyword || toks[1].is(punct, "=") || t.kind == keyword && opensStatement(t.text) {
		return false, false
	}
	d.Span = token.Span{Start: t.pos, End: t.end}
	if t.kind != quoted && oldStatements[t.text] {
		return p.explainOld(d, t.text)
	}
	d.Code = "unknown-statement"
	d.Message = fmt.Sprintf("unknown statement `%s`", printable(t.text))
	switch {
	case t.kind == keyword:
		d.Message = fmt.Sprintf("keyword `%s` does not begin a statement", t.text)
	case t.kind == quoted && opensStatement(t.text):
		d.Help = append(d.Help, fmt.Sprintf("a quoted word is never a keyword: write `%s` without quotes", t.text))
	case t.kind == word && p.explained <= maxExplained:
		p.suggest(d, toks, 0, theGrammar().firsts(theGrammar().rules["Stmt"]))
	}
	if toks[1].is(punct, "=>") {
		d.Help = append(d.Help, "a macro is defined with `=`")
	}
	return true, false
}

func (p *parser) explainOld(d *diag.Diagnostic, statement string) (known, said bool) {
	if p.old != nil {
		p.oldMore++
		p.old.Notes[0].Message = fmt.Sprintf("statements of the old language: %d", p.oldMore+1)
		return true, true
	}
	d.Code = "old-generation"
	d.Message = fmt.Sprintf("`%s` is a statement of the language before OpenSMTPD 6.4", statement)
	d.Label = "the present language has `action` and `match` instead"
	d.Help = append(d.Help, "`smtpd-check migrate` converts the whole file")
	d.Notes = []diag.Note{{Message: "statements of the old language: 1"}}
	p.old = d
	return true, false
}
