package compile

import (
	"fmt"
	"iter"
	"strconv"
	"strings"

	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// A scope holds the names of one kind of thing.
type scope[T any] struct {
	what  string // "table", for messages and codes
	names map[string]decl[T]
}

// A decl is what is known of a name. Of a wrong one there is no id: it was
// reported, or a statement that could not be parsed may declare it, and its
// uses pass in silence.
type decl[T any] struct {
	id    T
	at    *ast.Str // nil for what nobody wrote
	wrong bool
}

func newScope[T any](what string) scope[T] {
	return scope[T]{what: what, names: make(map[string]decl[T])}
}

// find returns what name stands for. An unknown name is reported, once.
func (s *scope[T]) find(c *compiler, name *ast.Str, seen token.Pos) (id T, ok bool) {
	d, found := s.names[name.Text]
	if found {
		return d.id, !d.wrong
	}
	if !c.lost {
		c.undefined(s.what, name, seen, s.written())
	}
	s.names[name.Text] = decl[T]{wrong: true}
	return id, false
}

// written yields the names that a statement declared.
func (s *scope[T]) written() iter.Seq[string] {
	return func(yield func(string) bool) {
		for n, d := range s.names {
			if !d.wrong && d.at != nil && !yield(n) {
				return
			}
		}
	}
}

// taken reports a name that is declared already.
func (s *scope[T]) taken(c *compiler, name *ast.Str, seen token.Pos) *diag.Diagnostic {
	old, ok := s.names[name.Text]
	if !ok || old.wrong {
		return nil
	}
	return c.duplicate(s.what, name, old.at, seen)
}

// declare enters a name. Of one whose statement was reported it only
// remembers that.
func (s *scope[T]) declare(name *ast.Str, id T, wrong bool) {
	if old, ok := s.names[name.Text]; ok && !old.wrong {
		return
	}
	s.names[name.Text] = decl[T]{id: id, at: name, wrong: wrong}
}

// spoil makes the uses of a name pass in silence, unless it is good.
func (s *scope[T]) spoil(name string) {
	if _, ok := s.names[name]; !ok {
		s.names[name] = decl[T]{wrong: true}
	}
}

// poison spoils the names that a statement which could not be parsed may
// have been meant to declare, so that one mistake is not reported once more
// at every use.
func (c *compiler) poison(b *ast.Bad) {
	for _, n := range b.Strings {
		switch b.Keyword {
		case "table":
			c.tables.spoil(n)
		case "action":
			c.actions.spoil(n)
		case "filter":
			c.filters.spoil(n)
		case "proc":
			c.procs.spoil(n)
		case "mda":
			c.wrappers.spoil(n)
		case "pki":
			c.pki.spoil(n)
		case "ca":
			c.ca.spoil(n)
		case "listen", "match", "bounce", "queue", "smtp", "srs", "mta", "scheduler", "admd":
			// These declare no name.
		default:
			c.spoilAll(n)
		}
	}
	c.lost = c.lost || b.Rest
	switch b.Keyword {
	case "include":
		c.lost = true // what it would have declared is anybody's guess
	case "match":
		c.matched = true
	case "":
		// A misspelt word at the start may have been a match.
		c.matched = true
	}
}

func (c *compiler) spoilAll(name string) {
	c.tables.spoil(name)
	c.actions.spoil(name)
	c.filters.spoil(name)
	c.procs.spoil(name)
	c.wrappers.spoil(name)
	c.pki.spoil(name)
	c.ca.spoil(name)
}

// undefined reports a name that stands for nothing, and what it may have
// been meant to be.
func (c *compiler) undefined(what string, name *ast.Str, seen token.Pos, known iter.Seq[string]) *diag.Diagnostic {
	code := diag.Code("undefined-" + what)
	d := c.errorf(span(name), seen, code, "undefined %s %s", what, show(what, name.Text))
	d.Label = "not declared before this"
	if c.hints == maxHints {
		return d
	}
	c.hints++
	if at := c.later(what, name.Text); at != nil {
		d.Notes = append(d.Notes, diag.Note{Span: span(at), Message: "declared only here; a name must be declared before it is used"})
		return d
	}
	if near := nearest(name.Text, known); near != "" {
		d.Help = append(d.Help, fmt.Sprintf("did you mean %s?", show(what, near)))
		if !c.fromMacro(name.Pos) {
			d.Fixes = append(d.Fixes, diag.Fix{
				Message: "change it to " + show(what, near),
				Grade:   diag.Suggested,
				Edits:   []diag.Edit{{Span: span(name), New: quote(near)}},
			})
		}
	}
	return d
}

// maxHints is how many undefined names get a suggestion: each costs a look
// at all names and at the rest of the file.
const maxHints = 20

// duplicate reports a name that is taken.
func (c *compiler) duplicate(what string, name, first *ast.Str, seen token.Pos) *diag.Diagnostic {
	d := c.errorf(span(name), seen, diag.Code("duplicate-"+what), "%s %s is already declared", what, show(what, name.Text))
	if first == nil {
		d.Notes = append(d.Notes, diag.Note{Message: "it is built in"})
	} else {
		d.Notes = append(d.Notes, diag.Note{Span: span(first), Message: "first declared here"})
	}
	return d
}

// show returns a name as it is written where it is used.
func show(what, name string) string {
	if what == "table" && !strings.HasPrefix(name, "<") {
		return "<" + name + ">"
	}
	return strconv.Quote(name)
}

// quote returns a string token with the given text. Double quotes inside
// are escaped; no other byte needs it.
func quote(text string) string {
	b := []byte{'"'}
	for i := range len(text) {
		if text[i] == '"' {
			b = append(b, '\\')
		}
		b = append(b, text[i])
	}
	return string(append(b, '"'))
}

// fromMacro reports whether the text at p came out of a macro, where an edit
// would change something else.
func (c *compiler) fromMacro(p token.Pos) bool {
	if c.file.Set == nil {
		return false
	}
	trace := c.file.Set.Trace(p)
	return len(trace) > 0 && trace[0].Kind == token.Macro
}

// later returns where a name is declared after the statement in hand.
func (c *compiler) later(what, name string) *ast.Str {
	for _, s := range c.file.Stmts[c.index:] {
		if at := declares(s, what); at != nil && at.Text == name {
			return at
		}
	}
	return nil
}

// declares returns the name that s declares if it is of the kind what.
func declares(s *ast.Stmt, what string) *ast.Str {
	switch {
	case what == "table" && s.Table != nil:
		return &s.Table.Name
	case what == "action" && s.Action != nil:
		return &s.Action.Name
	case what == "filter" && s.Filter != nil:
		return &s.Filter.Name
	case what == "proc" && s.Proc != nil:
		return &s.Proc.Name
	case what == "wrapper" && s.MDA != nil && s.MDA.Wrapper != nil:
		return &s.MDA.Wrapper.Name
	case what == "pki" && s.PKI != nil:
		return &s.PKI.Name
	case what == "ca" && s.CA != nil:
		return &s.CA.Name
	}
	return nil
}

// nearest returns the name that differs from name by the fewest edits, at
// most two and fewer than it has letters, or "". Of equals it returns the
// first in byte order, so that the answer is always the same.
func nearest(name string, known iter.Seq[string]) string {
	best, least := "", min(3, len(name))
	for k := range known {
		d := distance(name, k, least)
		if d < least || d == least && best != "" && k < best {
			best, least = k, d
		}
	}
	return best
}

// distance returns the number of insertions, deletions, changes and swaps of
// neighbours between a and b, or limit+1 if it is over limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit || len(a) > 64 || len(b) > 64 {
		return limit + 1
	}
	var older, old [65]int
	for j := range len(b) + 1 {
		old[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := [65]int{i}
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(old[j]+1, row[j-1]+1, old[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
		older, old = old, row
	}
	return old[len(b)]
}
