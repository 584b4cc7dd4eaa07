// Package generation reads what the older generations of the language have in
// common, and tells them apart. The grammars are those of lang/gen1 and
// lang/gen2; both take tokens from a Reader and fill the tree of ast/old.
//
// A grammar is written as methods that take what they know and leave the
// rest. The Reader remembers what was asked for at the token where a
// statement stopped making sense, and that is what the message says was
// expected.
package generation

import (
	"slices"

	"smtpd/ast/old"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// A Reader hands the tokens of one statement to a grammar.
type Reader struct {
	Dialect old.Dialect
	Diags   *diag.List

	toks     []lang.Token
	at       int
	failed   bool
	expected []string // what was asked for at token at
	wanted   int      // the token for which expected was collected
}

// Begin starts a statement.
func (r *Reader) Begin(toks []lang.Token) {
	*r = Reader{Dialect: r.Dialect, Diags: r.Diags, toks: toks}
}

// Failed reports whether the statement was refused.
func (r *Reader) Failed() bool { return r.failed }

// peek returns the next token.
func (r *Reader) peek() *lang.Token { return &r.toks[r.at] }

// Start returns the place of the statement.
func (r *Reader) Start() token.Pos { return r.toks[0].Pos }

// End returns the place of the newline that ends the statement.
func (r *Reader) End() token.Pos { return r.toks[len(r.toks)-1].Pos }

// expect notes that w could have stood here.
func (r *Reader) expect(w ...string) {
	if r.wanted != r.at {
		r.expected, r.wanted = r.expected[:0], r.at
	}
	for _, s := range w {
		if !slices.Contains(r.expected, s) {
			r.expected = append(r.expected, s)
		}
	}
}

// fail refuses the statement at the next token.
func (r *Reader) fail() {
	if r.failed {
		return
	}
	r.failed = true
	var expected []string
	if r.wanted == r.at {
		expected = r.expected
	}
	*r.Diags = append(*r.Diags, lang.Misplaced(r.toks, r.at, expected))
}

// Take takes the word or punctuation w and reports whether it was there. A
// word in quotes is none.
func (r *Reader) Take(w string) bool {
	if r.failed {
		return false
	}
	if r.peek().Is(w) {
		r.at++
		return true
	}
	r.expect(w)
	return false
}

// TakeOneOf takes one of several words, and returns it, or "".
func (r *Reader) TakeOneOf(words ...string) string {
	for _, w := range words {
		if r.Take(w) {
			return w
		}
	}
	return ""
}

// Want takes w, which must be there.
func (r *Reader) Want(w string) {
	if !r.Take(w) {
		r.fail()
	}
}

// Next reports whether the next token is w, and leaves it.
func (r *Reader) Next(w string) bool { return !r.failed && r.peek().Is(w) }

// Ended reports whether the statement is at its end.
func (r *Reader) Ended() bool { return r.failed || r.peek().Kind == lang.EndToken }

// Finish refuses what is left of the statement.
func (r *Reader) Finish() {
	if !r.Ended() {
		r.expect("")
		r.fail()
	}
}

// Refuse reports what is wrong with the token taken last, in words.
func (r *Reader) Refuse(code diag.Code, format string, args ...any) {
	if r.failed {
		return
	}
	r.failed = true
	t := &r.toks[max(0, r.at-1)]
	r.Diags.Errorf(token.Span{Start: t.Pos, End: t.End}, code, format, args...)
}

// Str takes a string.
func (r *Reader) Str() *old.Str {
	if r.failed {
		return &old.Str{}
	}
	t := r.peek()
	if !t.IsString() {
		r.expect(lang.StringTokens...)
		r.fail()
		return &old.Str{}
	}
	r.at++
	return str(t)
}

func str(t *lang.Token) *old.Str {
	return &old.Str{Pos: t.Pos, End: t.End, Text: t.Text, Number: t.Kind == lang.NumberToken, Quoted: t.Kind == lang.StringToken, Macro: t.Written}
}

// StrOrNumber takes a string or a number.
func (r *Reader) StrOrNumber() *old.Str {
	if !r.failed && r.peek().Kind == lang.NumberToken {
		r.at++
		return str(&r.toks[r.at-1])
	}
	r.expect("<number>")
	return r.Str()
}

// Number takes a number.
func (r *Reader) Number() *old.Str {
	if !r.failed && r.peek().Kind == lang.NumberToken {
		r.at++
		return str(&r.toks[r.at-1])
	}
	r.expect("<number>")
	r.fail()
	return &old.Str{}
}

// OptStr takes a string if there is one that is no keyword of the dialect.
func (r *Reader) OptStr() *old.Str {
	if r.isName() {
		return r.Str()
	}
	r.expect(lang.StringTokens...)
	return nil
}

// isName reports whether the next token is a string where a keyword may
// stand too.
func (r *Reader) isName() bool {
	if r.failed {
		return false
	}
	t := r.peek()
	return t.Kind == lang.StringToken || t.Kind == lang.WordToken && !reserved(r.Dialect, t.Text)
}

// TableArg takes a table as an argument.
func (r *Reader) TableArg() *old.TableArg {
	if r.failed {
		return &old.TableArg{}
	}
	first := r.at
	a := &old.TableArg{Pos: r.peek().Pos}
	switch {
	case r.Take("<"):
		a.Ref = r.Str()
		r.Want(">")
	case r.Next("{") || r.Next("("):
		a.Braces = true
		a.Elems = r.elements()
	default:
		s := r.Str()
		a.Elems = []*old.Elem{{Key: *s}}
	}
	if r.failed {
		return a
	}
	a.End = r.toks[r.at-1].End
	a.Macro = r.macro(first)
	return a
}

// macro returns the reference to the macro that the tokens from first to
// here come from, if they are all that it stands for.
func (r *Reader) macro(first int) string {
	use := r.toks[first].Use
	if use == 0 || first > 0 && r.toks[first-1].Use == use || r.toks[r.at].Use == use {
		return ""
	}
	for _, t := range r.toks[first:r.at] {
		if t.Use != use {
			return ""
		}
	}
	if w := r.toks[first].Written; w != "" {
		return w
	}
	return "$" + r.toks[first].Macro
}

// OptTableArg takes a table if there is one.
func (r *Reader) OptTableArg() *old.TableArg {
	if r.Next("<") || r.Next("{") || r.isName() {
		return r.TableArg()
	}
	r.expect("<", "{")
	r.expect(lang.StringTokens...)
	return nil
}

// elements takes a list in braces or parentheses.
func (r *Reader) elements() []*old.Elem {
	closing := "}"
	if r.TakeOneOf("{", "(") == "(" {
		closing = ")"
	}
	var list []*old.Elem
	for {
		e := &old.Elem{Key: *r.Str()}
		if r.TakeOneOf("=", "=>") != "" {
			e.Value = r.Str()
		}
		list = append(list, e)
		if r.Take(closing) || r.failed {
			return list
		}
		r.sep()
	}
}

// sep takes a separator if there is one.
func (r *Reader) sep() {
	if !r.failed && r.peek().Kind == lang.SepToken {
		r.at++
	}
}

// Separators takes all separators.
func (r *Reader) Separators() {
	for !r.failed && r.peek().Kind == lang.SepToken {
		r.at++
	}
}

// Comma takes a comma outside braces.
func (r *Reader) Comma() bool { return r.Take(",") }

// Rest takes what is left of the statement, as words with a blank between.
func (r *Reader) Rest() string {
	text := ""
	for ; !r.Ended(); r.at++ {
		if text != "" {
			text += " "
		}
		text += r.peek().Text
	}
	return text
}

// Note reports that no release read what was taken last, and as what it is
// read.
func (r *Reader) Note(format string, args ...any) {
	if r.failed {
		return
	}
	t := &r.toks[r.at-1]
	r.Diags.Reportf(diag.Portability, token.Span{Start: t.Pos, End: t.End}, "migrate-mixed", format, args...)
}

// Dup refuses a second use of a clause that may stand once.
func (r *Reader) Dup(again bool, word string) {
	if again {
		r.Refuse("repeated-option", "`%s` is given twice", word)
	}
}

// Taken returns the place of the token taken last.
func (r *Reader) Taken() token.Span {
	t := &r.toks[max(0, r.at-1)]
	return token.Span{Start: t.Pos, End: t.End}
}

// IsString reports whether the next token is a string.
func (r *Reader) IsString() bool { return !r.failed && r.peek().IsString() }
