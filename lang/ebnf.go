package lang

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/alecthomas/participle/v2/ebnf"

	"smtpd/ast"
)

// An op says what an expr is made of.
type op uint8

const (
	sequence    op = iota + 1
	alternative    // one of
	optional       // [ sub[0] ]
	repeated       // { sub[0] }
	literal        // a keyword or punctuation
	terminal       // a kind of token
	name           // another production
)

// An expr is a part of the grammar.
type expr struct {
	op   op
	sub  []*expr
	text string // of a literal, terminal or name
}

// A grammar is the reference parser's, as data: what is published, what
// messages say was expected, and what the tests generate sentences from.
type grammar struct {
	order []string
	rules map[string]*expr
	first map[string][]string
}

// theGrammar is read from what participle prints of itself, so that it
// cannot differ from what it parses.
var theGrammar = sync.OnceValue(func() *grammar {
	printed, err := ebnf.ParseString(reference().String())
	if err != nil {
		panic(fmt.Sprintf("lang: participle prints a grammar that it cannot read: %v", err))
	}
	g := &grammar{rules: make(map[string]*expr), first: make(map[string][]string)}
	for _, p := range printed.Productions {
		g.order = append(g.order, p.Production)
		g.rules[p.Production] = fromExpression(p.Expression)
	}
	for _, n := range g.order { // all now, because the grammar is shared
		g.first[n] = g.firsts(g.rules[n])
	}
	return g
})

func fromExpression(e *ebnf.Expression) *expr {
	alt := &expr{op: alternative}
	for _, s := range e.Alternatives {
		seq := &expr{op: sequence}
		for _, t := range s.Terms {
			seq.sub = append(seq.sub, fromTerm(t))
		}
		if len(seq.sub) == 1 {
			seq = seq.sub[0]
		}
		alt.sub = append(alt.sub, seq)
	}
	if len(alt.sub) == 1 {
		return alt.sub[0]
	}
	return alt
}

func fromTerm(t *ebnf.Term) *expr {
	var e *expr
	switch {
	case t.Group != nil:
		e = fromExpression(t.Group.Expr)
	case t.Literal != "":
		e = &expr{op: literal, text: strings.Trim(t.Literal, `"`)}
	case t.Token != "":
		e = &expr{op: terminal, text: t.Token}
	default:
		e = &expr{op: name, text: t.Name}
	}
	switch t.Repetition {
	case "*":
		return &expr{op: repeated, sub: []*expr{e}}
	case "?":
		return &expr{op: optional, sub: []*expr{e}}
	}
	return e
}

// terminalKinds are the kinds that terminals stand for.
var terminalKinds = map[string]kind{"word": word, "string": quoted, "number": number, "sep": separator}

// takes reports whether the terminal or literal s, as it is in FIRST sets,
// is token t.
func takes(s string, t *tok) bool {
	if k, ok := terminalKinds[strings.Trim(s, "<>")]; ok && s[0] == '<' && len(s) > 1 {
		return t.kind == k
	}
	return t.text == s && (t.kind == keyword || t.kind == punct || t.kind == word && ast.Extends(s))
}

// nullable reports whether e may be empty.
func (g *grammar) nullable(e *expr) bool {
	switch e.op {
	case optional, repeated:
		return true
	case sequence:
		return !slices.ContainsFunc(e.sub, func(s *expr) bool { return !g.nullable(s) })
	case alternative:
		return slices.ContainsFunc(e.sub, g.nullable)
	case name:
		return g.nullable(g.rules[e.text])
	}
	return false
}

// firsts returns the tokens that e may begin with: literals as they are,
// terminals in angle brackets.
func (g *grammar) firsts(e *expr) []string {
	switch e.op {
	case literal:
		return []string{e.text}
	case terminal:
		return []string{"<" + e.text + ">"}
	case name:
		if set, ok := g.first[e.text]; ok {
			return set
		}
		return g.firsts(g.rules[e.text])
	}
	var set []string
	for _, s := range e.sub {
		for _, f := range g.firsts(s) {
			if !slices.Contains(set, f) {
				set = append(set, f)
			}
		}
		if e.op == sequence && !g.nullable(s) {
			break
		}
	}
	return set
}

// A walk goes through the grammar along the tokens of a statement, to learn
// what could have stood at the first that does not fit.
type walk struct {
	g        *grammar
	toks     []tok
	i        int
	expected []string // at toks[i]
	must     int      // those from here on could not be left out
}

// expectedAt returns what the grammar would have taken at the token at which
// toks stops being a statement, and the index of that token. The end of the
// statement is the empty string among them. What had to come, rather than
// what could have, is first.
func expectedAt(toks []tok) ([]string, int) {
	g := theGrammar()
	w := &walk{g: g, toks: toks}
	if w.match(g.rules[g.order[0]]) {
		w.must = len(w.expected)
		w.expected = append(w.expected, "")
	}
	return slices.Concat(w.expected[w.must:], w.expected[:w.must]), w.i
}

func (w *walk) starts(e *expr) bool {
	return slices.ContainsFunc(w.g.firsts(e), func(s string) bool { return takes(s, &w.toks[w.i]) })
}

func (w *walk) expect(e *expr) {
	for _, s := range w.g.firsts(e) {
		if !slices.Contains(w.expected, s) {
			w.expected = append(w.expected, s)
		}
	}
}

func (w *walk) match(e *expr) bool {
	switch e.op {
	case name:
		return w.match(w.g.rules[e.text])
	case sequence:
		for _, s := range e.sub {
			if !w.match(s) {
				return false
			}
		}
		return true
	case alternative:
		for _, s := range e.sub {
			if w.starts(s) {
				return w.match(s)
			}
		}
		w.must = len(w.expected)
		w.expect(e)
		return w.g.nullable(e)
	case optional, repeated:
		for w.starts(e.sub[0]) {
			if !w.match(e.sub[0]) {
				return false
			}
			if e.op == optional {
				return true
			}
		}
		w.expect(e.sub[0])
		return true
	}
	if !w.starts(e) {
		w.must = len(w.expected)
		w.expect(e)
		return false
	}
	w.i++
	w.expected, w.must = w.expected[:0], 0
	return true
}
