// Package ere reads and matches POSIX extended regular expressions as the
// tables of OpenSMTPD mean them. The daemon matches with it and the analyser
// reasons with it, so that the two cannot disagree.
//
// The dialect is that of regcomp with REG_EXTENDED in glibc, where
// OpenSMTPD's verdicts were recorded, in the C locale:
//
//   - a text is bytes; "." and "[^a]" match any byte, a newline too; "^" and
//     "$" are anchors wherever they stand and match only at the two ends;
//   - a backslash inside brackets is itself; [:class:], [=c=] and [.c.] are
//     known there;
//   - {n}, {n,}, {n,m} and {,m} count up to 32767;
//   - an operator with nothing before it is an error, an anchor cannot be
//     repeated, an empty alternative matches the empty text, and a ")" that
//     closes nothing is itself;
//   - \w \W \s \S \b \B \< \> \` \' are those of GNU; any other backslash
//     makes the next character ordinary.
//
// Not taken over are back references: no automaton has them and a hostile
// text can make them run for ever. An expression with one is an error, as is
// one that grows too large when its counts are written out.
//
// A leading "(?i)" is accepted and says nothing, because both expression and
// text are folded to lower case before they meet. The folding is not undone
// by anything here: a table that was told \W holds \w.
//
// Matching takes time linear in the text: it walks a deterministic automaton
// that is built as far as texts lead, within a fixed size.
package ere

import (
	"fmt"
	"strings"
)

// An Error says why an expression cannot be used.
type Error struct {
	Offset int // in the expression, in bytes
	Text   string
}

func (e *Error) Error() string { return fmt.Sprintf("at byte %d: %s", e.Offset, e.Text) }

// A Note is about a part of an expression that means something else, or
// nothing, to another regcomp.
type Note struct {
	Offset int
	Text   string
}

// A Regexp is a compiled expression. It is safe for concurrent use.
type Regexp struct {
	prog  *program
	cache cache
	notes []Note
}

// ignoreCase is a flag that OpenSMTPD takes off an expression.
const ignoreCase = "(?i)"

// Compile reads an expression. The error is an *Error; OpenSMTPD lets such
// an expression match nothing, without a word.
func Compile(expr string) (*Regexp, error) { return CompileAny(expr) }

// CompileAny reads several expressions as one that is found where any of
// them is, and nowhere if there are none. It is not the same to put | between
// them: each is read as if it stood alone.
func CompileAny(exprs ...string) (*Regexp, error) {
	r := new(Regexp)
	union := &node{op: opAlt}
	for _, expr := range exprs {
		p := parser{text: expr}
		if strings.HasPrefix(expr, ignoreCase) {
			p.pos = len(ignoreCase)
		}
		n, err := p.parse()
		if err != nil {
			return nil, err
		}
		union.subs = append(union.subs, n)
		r.notes = append(r.notes, p.notes...)
	}
	prog, err := newProgram(union)
	if err != nil {
		return nil, err
	}
	r.prog = prog
	return r, nil
}

// Notes returns what is not portable about the expression.
func (r *Regexp) Notes() []Note { return r.notes }

// MatchString reports whether the expression is found in s.
func (r *Regexp) MatchString(s string) bool {
	at := r.Start()
	for i := 0; i < len(s); i++ {
		if at.matched {
			return true
		}
		at = at.Next(s[i])
	}
	return at.Accepts()
}
