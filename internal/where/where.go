// Package where owns the expressions by which an administrator picks
// envelopes of the queue: "domain = example.org and age > 1h and tries > 3".
//
// smtpctl reads them and matches what the queue lists, one envelope after the
// other; the daemon knows nothing of them. docs/queue.md describes the fields.
//
// An expression never matches by accident: a field that is not there, a value
// that is no duration, a number compared with a pattern are errors with their
// place, and of an envelope that cannot be read nothing is known but its id.
package where

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/alecthomas/participle/v2"
	"github.com/alecthomas/participle/v2/lexer"

	"smtpd/runtime/queue"
)

// The grammar. The names of fields are looked up later, for a better message.
type (
	disjunction struct {
		Terms []*conjunction `parser:"@@ ('or' @@)*"`
	}
	conjunction struct {
		Terms []*term `parser:"@@ ('and' @@)*"`
	}
	term struct {
		Not        *term        `parser:"'not' @@"`
		Group      *disjunction `parser:"| '(' @@ ')'"`
		Comparison *comparison  `parser:"| @@"`
	}
	comparison struct {
		Pos   lexer.Position
		Field string `parser:"@Word"`
		Op    string `parser:"@Op"`
		Value value  `parser:"@@"`
	}
	value struct {
		Pos    lexer.Position
		Quoted *string `parser:"@String"`
		Word   string  `parser:"| @Word"`
	}
)

func (v *value) text() string {
	if v.Quoted != nil {
		return *v.Quoted
	}
	return v.Word
}

var parser = participle.MustBuild[disjunction](
	participle.Lexer(lexer.MustSimple([]lexer.SimpleRule{
		{Name: "String", Pattern: `"(\\.|[^"\\])*"`},
		{Name: "Op", Pattern: `!=|!~|<=|>=|[=<>~]`},
		{Name: "Paren", Pattern: `[()]`},
		{Name: "Word", Pattern: `[^\s()=<>~!"]+`},
		{Name: "space", Pattern: `\s+`},
	})),
	participle.Unquote("String"),
	participle.CaseInsensitive("Word"),
)

// maxLength bounds an expression, and with it how deep it nests.
const maxLength = 4096

// A Query is an expression that was read.
type Query struct {
	match test
	sizes bool
}

// A test judges one envelope at a moment.
type test func(l *queue.Listed, now time.Time) bool

// Parse reads an expression.
func Parse(text string) (*Query, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("expression of %d bytes: at most %d", len(text), maxLength)
	}
	d, err := parser.ParseString("", text)
	if err != nil {
		var perr participle.Error
		if errors.As(err, &perr) {
			return nil, fmt.Errorf("column %d: %s", perr.Position().Column, perr.Message())
		}
		return nil, err
	}
	q := new(Query)
	q.match, err = q.disjunction(d)
	return q, err
}

// NeedsSizes reports whether what Match is given must know the sizes of
// messages.
func (q *Query) NeedsSizes() bool { return q.sizes }

// Match reports whether the expression holds for l at a moment.
func (q *Query) Match(l *queue.Listed, now time.Time) bool { return q.match(l, now) }

func (q *Query) disjunction(d *disjunction) (test, error) {
	var any []test
	for _, c := range d.Terms {
		t, err := q.conjunction(c)
		if err != nil {
			return nil, err
		}
		any = append(any, t)
	}
	return func(l *queue.Listed, now time.Time) bool {
		for _, t := range any {
			if t(l, now) {
				return true
			}
		}
		return false
	}, nil
}

func (q *Query) conjunction(c *conjunction) (test, error) {
	var all []test
	for _, m := range c.Terms {
		t, err := q.term(m)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return func(l *queue.Listed, now time.Time) bool {
		for _, t := range all {
			if !t(l, now) {
				return false
			}
		}
		return true
	}, nil
}

func (q *Query) term(m *term) (test, error) {
	switch {
	case m.Not != nil:
		t, err := q.term(m.Not)
		return func(l *queue.Listed, now time.Time) bool { return !t(l, now) }, err
	case m.Group != nil:
		return q.disjunction(m.Group)
	}
	return q.comparison(m.Comparison)
}

func (q *Query) comparison(c *comparison) (test, error) {
	f, ok := fields[strings.ToLower(c.Field)]
	if !ok {
		return nil, fmt.Errorf("column %d: no field %q; there are %s", c.Pos.Column, c.Field, strings.Join(Fields(), ", "))
	}
	q.sizes = q.sizes || f.kind == size
	t, err := f.compare(c.Op, c.Value.text())
	if err != nil {
		return nil, fmt.Errorf("column %d: %s %s: %w", c.Value.Pos.Column, c.Field, c.Op, err)
	}
	return func(l *queue.Listed, now time.Time) bool {
		return (l.Error == "" || f.always) && t(l, now)
	}, nil
}

// compare returns the test of a field against a value.
func (f *field) compare(op, text string) (test, error) {
	if f.kind == words {
		return f.compareWords(op, text)
	}
	var want int64
	var err error
	switch f.kind {
	case duration:
		want, err = parseDuration(text)
	case size:
		want, err = parseSize(text)
	default:
		want, err = parseNumber(text)
	}
	if err != nil {
		return nil, err
	}
	holds, ok := orders[op]
	if !ok {
		return nil, fmt.Errorf("is a number: compare it by =, !=, <, <=, > or >=")
	}
	return func(l *queue.Listed, now time.Time) bool { return holds(f.number(l, now), want) }, nil
}

var orders = map[string]func(a, b int64) bool{
	"=": func(a, b int64) bool { return a == b }, "!=": func(a, b int64) bool { return a != b },
	"<": func(a, b int64) bool { return a < b }, "<=": func(a, b int64) bool { return a <= b },
	">": func(a, b int64) bool { return a > b }, ">=": func(a, b int64) bool { return a >= b },
}

func (f *field) compareWords(op, text string) (test, error) {
	var pattern string
	switch op {
	case "=", "!=":
		// A star stands for any text, as in tables of the configuration.
		pattern = "^" + strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, ".*") + "$"
	case "~", "!~":
		pattern = text
	default:
		return nil, fmt.Errorf("is text: compare it by =, !=, ~ or !~")
	}
	re, err := regexp.Compile("(?is:" + pattern + ")")
	if err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	negated := op[0] == '!'
	return func(l *queue.Listed, _ time.Time) bool {
		for _, w := range f.words(l) {
			if re.MatchString(w) {
				return !negated
			}
		}
		return negated
	}, nil
}
