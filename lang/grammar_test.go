package lang

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/exp/ebnf"

	"smtpd/ast"
	"smtpd/lang/diag"
)

// TestGrammarFile holds the published grammar to the parser.
func TestGrammarFile(t *testing.T) {
	text, err := os.ReadFile("../grammar.ebnf")
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != Grammar() {
		t.Error("grammar.ebnf is not what the parser prints: run go generate ./lang")
	}
	parsed, err := ebnf.Parse("grammar.ebnf", strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := ebnf.Verify(parsed, "Config"); err != nil {
		t.Error(err)
	}
}

// TestGrammarKeywords holds the words of the grammar to the reserved words
// of the lexer.
func TestGrammarKeywords(t *testing.T) {
	words := make(map[string]bool)
	for _, e := range theGrammar().rules {
		e.literals(words)
	}
	for w := range words {
		if w[0] >= 'a' && w[0] <= 'z' && Keyword(w) == ast.Extends(w) {
			t.Errorf("%q is in the grammar, and reserved: %v", w, Keyword(w))
		}
	}
	want := "data-line noop quit recipient rset smtp-in smtp-out tagged"
	if got := strings.Join(unusedKeywords(theGrammar()), " "); got != want {
		t.Errorf("reserved without use: %s, want %s", got, want)
	}
	if len(keywords) != 101 {
		t.Errorf("%d reserved words, want 101", len(keywords))
	}
	for _, w := range theGrammar().firsts(theGrammar().rules["Stmt"]) {
		if w[0] != '<' && !opensStatement(w) {
			t.Errorf("%q begins a statement in the grammar and not in the lexer", w)
		}
	}
}

// TestGrammarLL1 computes that one token always decides how to go on. A word
// of ours is a string to OpenSMTPD, so it may stand nowhere where a string
// may: neither beside one nor after an argument that can be left out.
func TestGrammarLL1(t *testing.T) {
	g := theGrammar()
	follow := follows(g)
	for _, n := range g.order {
		checkLL1(t, g, n, g.rules[n], follow[n])
	}
}

// follows returns for each production the tokens that may come after it.
func follows(g *grammar) map[string][]string {
	follow := map[string][]string{g.order[0]: {""}}
	for changed := true; changed; {
		changed = false
		for _, n := range g.order {
			eachName(g, g.rules[n], follow[n], func(name string, after []string) {
				for _, s := range after {
					if !slices.Contains(follow[name], s) {
						follow[name] = append(follow[name], s)
						changed = true
					}
				}
			})
		}
	}
	return follow
}

// eachName calls f for every name in e with the tokens that may follow it
// there, given those that follow e.
func eachName(g *grammar, e *expr, after []string, f func(string, []string)) {
	switch e.op {
	case name:
		f(e.text, after)
	case sequence:
		for i, s := range e.sub {
			eachName(g, s, afterPart(g, e, i, after), f)
		}
	case repeated:
		eachName(g, e.sub[0], slices.Concat(g.firsts(e.sub[0]), after), f)
	default:
		for _, s := range e.sub {
			eachName(g, s, after, f)
		}
	}
}

// afterPart returns what may follow part i of a sequence.
func afterPart(g *grammar, seq *expr, i int, after []string) []string {
	rest := &expr{op: sequence, sub: seq.sub[i+1:]}
	set := slices.Clone(g.firsts(rest))
	if g.nullable(rest) {
		set = append(set, after...)
	}
	return set
}

func checkLL1(t *testing.T, g *grammar, production string, e *expr, after []string) {
	t.Helper()
	clash := func(a, b []string) {
		t.Helper()
		for _, s := range a {
			if slices.Contains(b, s) || ast.Extends(s) && slices.Contains(b, "<word>") {
				t.Errorf("%s: %q does not decide", production, s)
			}
		}
		for _, s := range b {
			if ast.Extends(s) && slices.Contains(a, "<word>") {
				t.Errorf("%s: %q does not decide", production, s)
			}
		}
	}
	switch e.op {
	case alternative:
		for i, a := range e.sub {
			for _, b := range e.sub[i+1:] {
				clash(g.firsts(a), g.firsts(b))
			}
			if g.nullable(a) {
				clash(g.firsts(e), after)
			}
			checkLL1(t, g, production, a, after)
		}
	case optional, repeated:
		clash(g.firsts(e.sub[0]), after)
		if e.op == repeated {
			after = slices.Concat(g.firsts(e.sub[0]), after)
		}
		checkLL1(t, g, production, e.sub[0], after)
	case sequence:
		for i, s := range e.sub {
			checkLL1(t, g, production, s, afterPart(g, e, i, after))
		}
	}
}

// A generator makes sentences of the grammar.
type generator struct {
	*rand.Rand
	g *grammar
}

// sentence returns the words of a random sentence of e.
func (g *generator) sentence(e *expr) []string {
	switch e.op {
	case literal:
		return []string{e.text}
	case terminal:
		return []string{g.token(e.text)}
	case name:
		return g.sentence(g.g.rules[e.text])
	case alternative:
		return g.sentence(e.sub[g.IntN(len(e.sub))])
	}
	times := 1
	switch e.op {
	case optional:
		times = g.IntN(2)
	case repeated:
		times = g.IntN(4)
	}
	var words []string
	for range times {
		for _, s := range e.sub {
			words = append(words, g.sentence(s)...)
		}
	}
	return words
}

func (g *generator) token(kind string) string {
	switch kind {
	case "number":
		return fmt.Sprint(g.IntN(4000) - 1000)
	case "sep":
		return []string{",", "\n", ",\n\n", ", # why not\n"}[g.IntN(4)]
	case "word":
		return []string{"mx.example.org", "a", "10.0.0.1", "5m", ":x_1", "2001:db8::/32"}[g.IntN(6)]
	}
	return []string{`"quoted"`, `'it is'`, `"local"`, `'"'`, `"a\" b"`, `"#no"`, `""`}[g.IntN(7)]
}

// sentences calls f with the words of random statements, several for each
// kind of statement. Those that the language refuses for what the grammar
// cannot say are left out.
func sentences(t *testing.T, f func(words []string)) {
	t.Helper()
	g := &generator{rand.New(rand.NewPCG(1, 2)), theGrammar()}
	for _, kind := range g.g.rules["Stmt"].sub {
		if kind.text == "Include" {
			continue
		}
		for range 300 {
			words := g.sentence(kind)
			if strings.HasSuffix(words[len(words)-1], "\n") {
				continue
			}
			text := strings.Join(words, " ") + "\n"
			_, diags := Parse("f", Options{Text: []byte(text), Open: noFiles})
			if len(diags) > 0 && slices.Contains([]diag.Code{"mixed-list", "filter-phase", "pair-in-chain"}, diags[0].Code) {
				continue
			}
			if len(diags) > 0 && diags[0].Code != "macro-name" {
				t.Errorf("%q: %v", text, diags[0])
			}
			f(words)
		}
	}
}

// TestSentences parses sentences of the grammar, alone and broken: then the
// error must be inside the statement that was broken.
func TestSentences(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	n := 0
	sentences(t, func(words []string) {
		n++
		broken := slices.Clone(words)
		broken[rnd.IntN(len(broken))] = "("
		text := strings.Join(broken, " ")
		lines := strings.Count(text, "\n") + 1
		text = "admd a\n" + text + "\n}}\nadmd b\n"
		_, diags := Parse("f", Options{Text: []byte(text), Open: noFiles})
		if len(diags) == 0 || diags[0].Span.Start.Line < 2 || diags[0].Span.Start.Line > 1+lines {
			t.Errorf("%q: %v, want an error in lines 2 to %d", text, diags, 1+lines)
		}
	})
	if n < 2000 {
		t.Errorf("only %d sentences", n)
	}
}
