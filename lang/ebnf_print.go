package lang

import (
	"fmt"
	"slices"
	"strings"

	"smtpd/ast"
)

// Grammar returns the grammar of the language in the EBNF that package
// golang.org/x/exp/ebnf reads. Its productions are printed from the parser;
// the lexical ones below them say what the lexer does.
func Grammar() string {
	var b strings.Builder
	b.WriteString(grammarHead)
	g := theGrammar()
	fmt.Fprintf(&b, "Config = { [ %s ] newline } .\n", g.order[0])
	for _, n := range g.order {
		b.WriteString(n + " = " + printExpr(g.rules[n], 0) + " .\n")
	}
	b.WriteString(grammarTail)
	b.WriteString("\n// Reserved, and without any use in the grammar:\n//")
	for _, w := range unusedKeywords(g) {
		b.WriteString(" " + w)
	}
	b.WriteString(".\n")
	b.WriteString(grammarExtensions)
	for _, e := range ast.Extensions {
		b.WriteString("//\t" + e.Syntax + "\n")
	}
	return b.String()
}

const grammarExtensions = `
// Words of ours, which OpenSMTPD does not know. None is reserved: each is a
// word that is matched by its text, and only here:
//
`

const grammarHead = `// The grammar of smtpd.conf, printed from the parser by go generate ./lang.
// Do not edit: a test compares this file with the parser.
//
// It is LL(1). Three rules are not in it. A list holds strings or pairs, never
// both. A chain of filters holds strings only. And the conditions of a filter phase are what the client has said by
// then: connect knows fcrdns, rdns and src; helo and ehlo also helo; auth
// also auth; mail-from, data and commit also mail-from; rcpt-to also rcpt-to;
// commit knows neither junk nor bypass.

`

const grammarTail = `
// Tokens. Blanks and tabs separate them; a comment runs from "#" to the end
// of the line; a backslash before a newline removes both. $name at the start
// of a token is replaced by the text of the macro, which is read in its
// place. Inside braces a newline separates elements, and means nothing after
// an opening brace or a comma and before a closing brace.

newline = "\n" .
sep = "," | newline .
number = [ "-" ] digit { digit } .
word = ( letter | digit | ":" | "_" ) { letter | digit | mark } .
string = "\"" { char } "\"" | "'" { char } "'" .
letter = "a" … "z" | "A" … "Z" .
digit = "0" … "9" .
mark = "\"" | "$" … "'" | "*" | "+" | "-" … "/" | ":" | ";" | "?" | "@" | "[" … "` + "`" + `" | "|" | "~" .
char = "\x01" … "\xff" .
`

// printExpr writes e so that it can stand inside an expression that binds as
// tightly as outer says: 0 for a whole production, 1 for an alternative, 2
// for a term.
func printExpr(e *expr, outer int) string {
	switch e.op {
	case literal:
		if ast.Extends(e.text) {
			return fmt.Sprintf("%q /* ours */", e.text)
		}
		return fmt.Sprintf("%q", e.text)
	case terminal, name:
		return e.text
	case optional:
		return "[ " + printExpr(e.sub[0], 0) + " ]"
	case repeated:
		return "{ " + printExpr(e.sub[0], 0) + " }"
	}
	sep, tight := " ", 2
	if e.op == alternative {
		sep, tight = " | ", 1
	}
	var parts []string
	for _, s := range e.sub {
		parts = append(parts, printExpr(s, tight))
	}
	text := strings.Join(parts, sep)
	if outer == 2 || outer == 1 && e.op == alternative {
		return "( " + text + " )"
	}
	return text
}

// unusedKeywords returns the reserved words that the grammar does not have.
func unusedKeywords(g *grammar) []string {
	used := make(map[string]bool)
	for _, e := range g.rules {
		e.literals(used)
	}
	var words []string
	for w := range keywords {
		if !used[w] {
			words = append(words, w)
		}
	}
	slices.Sort(words)
	return words
}

func (e *expr) literals(set map[string]bool) {
	if e.op == literal {
		set[e.text] = true
	}
	for _, s := range e.sub {
		s.literals(set)
	}
}
