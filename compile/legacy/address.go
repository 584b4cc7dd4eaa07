package legacy

import (
	"strings"

	"smtpd/ast/old"
	"smtpd/compile"
)

// senders returns the rules into which one has to be split by what it asks
// of the sender and of the recipient.
func (c *compiler) senders(base compile.Rule, r *old.Rule) []compile.Rule {
	var list []compile.Rule
	for _, from := range c.addresses(r.Sender) {
		for _, to := range c.addresses(r.Recipient) {
			one := base
			one.MailFrom, one.RcptTo = from, to
			list = append(list, one)
		}
	}
	return list
}

// addresses returns the criteria of which an address must meet one.
func (c *compiler) addresses(a *old.Addresses) []compile.Criterion {
	if a == nil {
		return []compile.Criterion{{}}
	}
	table := c.table(a.Table)
	keys, known := c.known(table)
	if !known {
		return []compile.Criterion{{Sign: sign(a.Not), Table: table}}
	}
	var plain, exact []string
	for _, k := range keys {
		switch meaning := c.meaning(k); meaning {
		case matchesNothing:
		case asToday:
			plain = append(plain, k)
		default:
			exact = append(exact, literal(k))
		}
	}
	if a.Not {
		return c.neither(plain, exact)
	}
	var list []compile.Criterion
	if len(plain) > 0 {
		list = append(list, compile.Criterion{Sign: compile.Is, Table: c.keys(plain...)})
	}
	if len(exact) > 0 {
		list = append(list, compile.Criterion{Sign: compile.Is, Regex: true, Table: c.keys(exact...)})
	}
	return list
}

// neither returns the criterion for an address that no key is for.
func (c *compiler) neither(plain, exact []string) []compile.Criterion {
	switch {
	case len(plain)+len(exact) == 0:
		return []compile.Criterion{{}}
	case len(exact) == 0:
		return []compile.Criterion{{Sign: compile.Not, Table: c.keys(plain...)}}
	}
	for _, k := range plain {
		exact = append(exact, literal(k))
	}
	return []compile.Criterion{{Sign: compile.Not, Regex: true, Table: c.keys(exact...)}}
}

// A meaning says what a key of sender or recipient matched.
type meaning uint8

const (
	asToday meaning = iota
	matchesNothing
	itself // that address alone, or the null sender
)

// meaning returns what a key matched in the dialect of the file.
func (c *compiler) meaning(key string) meaning {
	at := strings.IndexByte(key, '@')
	d := c.file.Dialect
	switch {
	case at < 0, strings.Contains(key, "*") && (d == old.D53 || d == old.D54):
		return matchesNothing
	case key == "@" && d <= old.D541:
		return itself
	case at > 0 && d <= old.D541 && !strings.Contains(key, "+"):
		return itself // a part after a + was not taken off
	}
	return asToday
}

// literal returns an expression for what a key names.
func literal(key string) string {
	if strings.HasPrefix(key, "@") && len(key) > 1 {
		return escape(key) + "$"
	}
	return "^" + escape(key) + "$"
}

func escape(key string) string {
	return strings.NewReplacer("*", ".*", ".", "[.]", "+", "[+]", "?", "[?]", "(", "[(]", ")", "[)]", "{", "[{]", "|", "[|]",
		"$", "[$]", "^", "\\^", "[", "[[]", "\\", "[\\]").Replace(key)
}
