package analyze

import (
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/ere"
)

// Budgets of a search among all texts.
const (
	maxPatterns = 1000   // of the conditions together
	maxProduct  = 10_000 // places that their automata are led to
)

// A language is the texts that a group of fields may have. Domain patterns
// and entries for addresses are regular expressions in other words, so that
// whatever conditions ask of such a text is decided by automata.
type language struct {
	shapes []string // what a text looks like; the last one is all there may be
	set    func(tx *engine.Transaction, text string)
}

// The languages of groups. Senders and recipients have both parts here; the
// null sender is tried by itself.
var (
	anyText = &language{[]string{""}, func(tx *engine.Transaction, text string) { tx.Tag = text }}
	names   = &language{[]string{"."}, func(tx *engine.Transaction, text string) { tx.Helo = text }}
	mailers = &language{addressShapes, func(tx *engine.Transaction, text string) { tx.Sender = splitAddress(text) }}
	targets = &language{addressShapes, func(tx *engine.Transaction, text string) { tx.Rcpt = splitAddress(text) }}
)

var addressShapes = []string{"^[^@]+@[^@]+$", "^.+@[^@]+$"}

func splitAddress(text string) engine.Address {
	at := strings.LastIndexByte(text, '@')
	return engine.Address{User: text[:at], Domain: text[at+1:]}
}

// The alphabets of texts, in lower case as everything is compared. What has
// only texts with other bytes than the first ones is not shown to anybody,
// but it is there.
var alphabets = []string{
	"abcdefghijklmnopqrstuvwxyz0123456789.-@_!\"#$%&'()*+,/:;<=>?[\\]^`{|}~",
	everyByte(),
}

func everyByte() string {
	var b strings.Builder
	for c := range 256 {
		if c < 'A' || c > 'Z' {
			b.WriteByte(byte(c))
		}
	}
	return b.String()
}

// solve returns a text for which all conditions hold that are about what
// tables are known to hold. Those of tables that have to be asked are left
// out: they may say anything.
func (l *language) solve(conditions region) (string, finding) {
	clauses := make([]ere.Clause, 1, len(conditions)+1)
	left := maxPatterns
	for i := range conditions {
		c, kind := clauseOf(&conditions[i])
		if kind == unsure {
			return "", unsure
		}
		if kind == empty {
			continue // it says nothing
		}
		if left -= len(conditions[i].table().Entries); left < 0 {
			return "", unsure
		}
		clauses = append(clauses, c)
	}
	for i, alphabet := range alphabets {
		for j, shape := range l.shapes {
			re, err := ere.Compile(shape)
			if err != nil {
				return "", unsure
			}
			clauses[0] = ere.Clause{Expr: re}
			switch text, f := ere.Find(clauses, alphabet, maxProduct); {
			case f == ere.Unknown, f == ere.Some && i+j > 0:
				return "", unsure
			case f == ere.Some:
				return text, found
			}
		}
	}
	return "", empty
}

// clauseOf returns what a condition asks of a text: found if it asks
// something, empty if nothing, unsure if it cannot be said in expressions.
func clauseOf(c *condition) (ere.Clause, finding) {
	q := criterion(c.rule, c.part)
	if q.Table == 0 {
		return ere.Clause{}, unsure
	}
	t := c.table()
	if t.Kind == compile.Dynamic {
		return ere.Clause{}, empty
	}
	if len(t.Entries) > maxPatterns {
		return ere.Clause{}, unsure
	}
	clause := ere.Clause{Not: c.holds != (q.Sign == compile.Is)}
	if c.part == engine.PartFor {
		clause.After = '@'
	}
	var exprs []string
	for _, e := range t.Entries {
		expr := e.Key
		if !q.Regex {
			expr = "^" + expression(c.part, e.Key, c.of.rules.SMTP.SubAddrDelim) + "$"
		} else if _, err := ere.Compile(expr); err != nil {
			continue // it matches nothing
		}
		exprs = append(exprs, expr)
	}
	var err error
	if clause.Expr, err = ere.CompileAny(exprs...); err != nil {
		return ere.Clause{}, unsure
	}
	return clause, found
}

// expression returns an entry of a table as a regular expression.
func expression(p engine.Part, entry string, delim byte) string {
	switch p {
	case engine.PartFor, engine.PartHelo:
		return domainExpression(entry, "")
	case engine.PartMailFrom, engine.PartRcptTo:
		return addressExpression(entry, delim)
	}
	return quote(entry)
}

// domainExpression returns a domain pattern as an expression. A star skips
// to the first occurrence of what follows. The bytes of except do not occur
// in a domain.
func domainExpression(pattern, except string) string {
	var b strings.Builder
	for pattern != "" {
		if pattern[0] != '*' {
			b.WriteString(quote(pattern[:1]))
			pattern = pattern[1:]
			continue
		}
		pattern = strings.TrimLeft(pattern, "*")
		switch {
		case pattern != "":
			b.WriteString("[^" + pattern[:1] + except + "]*")
		case except != "":
			b.WriteString("[^" + except + "]+")
		default:
			b.WriteString(".+")
		}
	}
	return b.String()
}

// addressExpression returns an entry for addresses as an expression for
// user@domain. An entry without a sub-address is for all of them.
func addressExpression(entry string, delim byte) string {
	user, domain := entry, ""
	if at := strings.LastIndexByte(entry, '@'); at >= 0 {
		user, domain = entry[:at], entry[at+1:]
	}
	switch {
	case user == "":
		user = ".*"
	case strings.IndexByte(user, delim) >= 0:
		user = quote(user)
	default:
		user = quote(user) + "(" + quote(string([]byte{delim})) + ".*)?"
	}
	if domain == "" {
		domain = "[^@]*"
	} else {
		domain = domainExpression(domain, "@")
	}
	return user + "@" + domain
}

// quote returns an expression for a text.
func quote(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if strings.IndexByte(`^.[$()|*+?{\`, text[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
