package lang

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// hint adds to d what would help with token i, given what was expected.
func (p *parser) hint(d *diag.Diagnostic, toks []tok, i int, expected []string) {
	t := &toks[i]
	wantsString := slices.Contains(expected, "<word>")
	switch {
	case t.kind == keyword && wantsString:
		d.Message = fmt.Sprintf("keyword `%s` where a string belongs", t.text)
		p.quote(d, toks, i, "a reserved word must be quoted to be a name or a value")
	case len(expected) == 1 && expected[0] == "" && toks[0].is(keyword, "match"):
		d.Help = append(d.Help, "criteria come before `action` or `reject`, which ends the rule")
	case t.kind == keyword && opensStatement(t.text) && slices.Contains(expected, ""):
		d.Help = append(d.Help, "one line holds one statement")
	case t.kind == number && wantsString:
		d.Message = fmt.Sprintf("number %s where a string belongs", t.text)
		p.quote(d, toks, i, "a number must be quoted to be a string; times and sizes need a unit")
	case toks[0].is(keyword, "table") && hintTable(d, toks, i):
	case t.kind == invalid:
		p.hintInvalid(d, toks, i, wantsString)
	case t.kind == separator, t.is(punct, "}") && i > 0 && toks[i-1].kind == separator:
		p.comma(d, toks, i)
	case t.kind == word && looksNumeric(t.text[:1]) && slices.Contains(expected, "<number>"):
		d.Help = append(d.Help, "a number has no unit here")
	case t.kind == quoted && slices.Contains(expected, t.text):
		d.Help = append(d.Help, "a quoted word is never a keyword: write it without quotes")
	case t.kind == word && strings.HasSuffix(t.text, ";"):
		d.Help = append(d.Help, "`;` does not end a statement, the end of the line does")
	case t.kind == word && p.suggest(d, toks, i, expected):
	case i > 1 && toks[0].is(keyword, "match") && t.isString() && toks[i-1].isString() && toks[i-2].kind == keyword:
		d.Help = append(d.Help, fmt.Sprintf("several values go into braces: `%s { %s, %s }`",
			toks[i-2].text, printable(toks[i-1].text), printable(t.text)))
	}
	if i > 0 && toks[i-1].kind == word && strings.HasSuffix(toks[i-1].text, ";") {
		d.Help = append(d.Help, "`;` does not end a statement, the end of the line does")
	}
}

// hintTable explains what is not written like that in the declaration of a
// table, and reports whether it could.
func hintTable(d *diag.Diagnostic, toks []tok, i int) bool {
	t := &toks[i]
	switch {
	case i == 1 && t.is(punct, "<"):
		d.Help = append(d.Help, "angle brackets stand where a table is used; it is declared without them")
	case i == 2 && (t.is(punct, "=") || t.is(punct, "=>")):
		d.Help = append(d.Help, "the braces follow the name at once")
	case i == 3 && (t.isString() || t.kind == invalid) && toks[2].kind == word && !strings.Contains(toks[2].text, ":"):
		d.Help = append(d.Help, fmt.Sprintf("a backend and what it reads are one word: `%s:%s`", printable(toks[2].text), printable(t.text)))
	default:
		return false
	}
	return true
}

// hintInvalid explains characters that begin no token.
func (p *parser) hintInvalid(d *diag.Diagnostic, toks []tok, i int, wantsString bool) {
	text := toks[i].text
	first, _ := utf8.DecodeRuneInString(text)
	switch {
	case strings.ContainsRune("“”„‘’«»", first):
		d.Message = fmt.Sprintf("`%c` is not a quote of the language", first)
		d.Help = append(d.Help, "strings are in `\"` or `'`")
	case text[0] >= 0x80:
		d.Message = fmt.Sprintf("`%s` outside quotes", printable(text))
		d.Help = append(d.Help, "outside quotes the language is ASCII: quote the whole word")
	case text[0] == '$':
		d.Message = "the text of a macro is not expanded again"
	case wantsString && class[text[0]]&inWord != 0 && text != "-":
		d.Message = fmt.Sprintf("a bare word cannot begin with `%c`", first)
		p.quote(d, toks, i, "quote what begins with anything but a letter, a digit, `:` or `_`")
	}
}

// quote offers to put token i into quotes.
func (p *parser) quote(d *diag.Diagnostic, toks []tok, i int, why string) {
	text := `"` + toks[i].text + `"`
	d.Help = append(d.Help, fmt.Sprintf("%s: `%s`", why, printable(text)))
	as := toks[i]
	as.kind = quoted
	if strings.ContainsAny(toks[i].text, `"\`) || !p.parses(toks, i, as) {
		return
	}
	grade := diag.Safe
	if toks[i].kind == number {
		grade = diag.Suggested // a unit may be what is missing
	}
	p.fix(d, toks, i, "quote it", text, grade)
}

// comma explains a comma that may not stand where it does.
func (p *parser) comma(d *diag.Diagnostic, toks []tok, i int) {
	switch {
	case toks[i].text == "}":
		d.Code = "trailing-comma"
		d.Message = "comma before the closing brace"
		d.Label = "expected another element before this"
		i--
	case toks[i].text == "," && i > 0 && toks[i-1].kind == separator && toks[i-1].text == "\n":
		d.Code = "leading-comma"
		d.Message = "comma at the beginning of a line"
		d.Label = "the newline separates already"
	default:
		return
	}
	d.Help = append(d.Help, "leave the comma out")
	p.fix(d, toks, i, "leave the comma out", "", diag.Safe)
}

// suggest offers a word that was expected, if one is close to token i and
// the statement is right with it. It reports whether it did.
func (p *parser) suggest(d *diag.Diagnostic, toks []tok, i int, expected []string) bool {
	var words []string
	for _, e := range expected {
		if Keyword(e) {
			words = append(words, e)
		}
	}
	best, ok := nearest(strings.ToLower(toks[i].text), words)
	if !ok {
		return false
	}
	as := toks[i]
	as.kind, as.text = keyword, best
	if !p.parses(toks, i, as) {
		return false
	}
	d.Help = append(d.Help, fmt.Sprintf("did you mean `%s`?", best))
	p.fix(d, toks, i, "write `"+best+"`", best, diag.Suggested)
	return true
}

// parses reports whether toks is a statement with as for token i.
func (p *parser) parses(toks []tok, i int, as tok) bool {
	was := toks[i]
	toks[i] = as
	defer func() { toks[i] = was }()
	_, _, err := parseReference(toks)
	return err == nil
}

// fix offers to replace the text of token i, unless that came out of a macro
// and is nowhere in a file.
func (p *parser) fix(d *diag.Diagnostic, toks []tok, i int, message, text string, grade diag.Grade) {
	if from := p.set.Trace(toks[i].pos); len(from) > 0 && from[0].Kind == token.Macro {
		return
	}
	d.Fixes = append(d.Fixes, diag.Fix{
		Message: message,
		Grade:   grade,
		Edits:   []diag.Edit{{Span: token.Span{Start: toks[i].pos, End: toks[i].end}, New: text}},
	})
}
