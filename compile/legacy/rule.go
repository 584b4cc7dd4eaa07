package legacy

import (
	"slices"
	"strings"

	"smtpd/ast/old"
	"smtpd/compile"
)

// A session is a kind of session that an old rule tells apart by its source:
// the key that it looks up is the client's address for one, and the word
// local for the other.
type session uint8

const (
	anonymous     session = iota // the client's address; local for the socket
	authenticated                // local, or no key at all in generation 1
)

// rule adds the rules that decide what an old rule decided: one for each
// destination and for each kind of session that it let pass.
func (c *compiler) rule(r *old.Rule) {
	if a := r.Action; a != nil && a.As != nil && c.file.Dialect.Generation() == 1 && !strings.Contains(a.As.Text, "@") {
		return // the parser dropped it without a word
	}
	destinations := r.For
	if len(destinations) == 0 {
		destinations = []*old.For{{Local: true}}
	}
	// A block was turned into rules that were each put in front.
	for i := len(destinations) - 1; i >= 0; i-- {
		base := compile.Rule{Origin: c.origin}
		if c.accepts(r) {
			base.Action = c.action(r, destinations[i].Virtual)
		}
		if r.Tag != nil {
			base.Tag = compile.Criterion{Sign: sign(r.NotTag), Table: c.keys(r.Tag.Text)}
		}
		if !c.destination(&base, destinations[i]) {
			continue
		}
		for _, s := range c.senders(base, r) {
			c.sessions(s, r, r.Virtual != nil && relays(r))
		}
	}
}

// accepts reports whether a rule accepts. Until October 2012 every rule with
// an action did, whatever its first word.
func (c *compiler) accepts(r *old.Rule) bool {
	return !r.Reject || r.Action != nil && c.file.Dialect < old.D1E
}

func relays(r *old.Rule) bool { return r.Action != nil && r.Action.Method >= old.Relay }

func sign(not bool) compile.Sign {
	if not {
		return compile.Not
	}
	return compile.Is
}

// destination sets which domains a rule is for, and reports whether there can
// be any.
func (c *compiler) destination(r *compile.Rule, f *old.For) bool {
	s := sign(f.Not)
	switch {
	case f.Network != nil:
		return false
	case f.Any:
		r.For = compile.For{Kind: compile.ForAny, Criterion: compile.Criterion{Sign: s, Table: c.rs.AnyDest}}
		return !f.Not
	case f.Local:
		r.For = compile.For{Kind: compile.ForLocal, Criterion: compile.Criterion{Sign: s, Table: c.rs.LocalNames}}
	case f.Virtual != nil:
		domains := c.table(f.Virtual)
		if keys, ok := c.known(domains); ok {
			keys = slices.DeleteFunc(keys, func(k string) bool { return strings.ContainsRune(k, '@') })
			if len(keys) == 0 {
				return false
			}
			domains = c.keys(keys...)
		}
		r.For = compile.For{Kind: compile.ForDomain, Criterion: compile.Criterion{Sign: s, Table: domains}}
	default:
		r.For = compile.For{Kind: compile.ForDomain, Criterion: compile.Criterion{Sign: s, Table: c.table(f.Domain)}}
	}
	return true
}

// sessions adds a rule for each kind of session that passes. recipients says
// that virtual was the list of those that there are: who is not in it was
// refused by the same rule.
func (c *compiler) sessions(base compile.Rule, r *old.Rule, recipients bool) {
	var list []compile.Rule
	for _, s := range []session{anonymous, authenticated} {
		one := base
		if c.passes(&one, r, s) {
			list = append(list, one)
		}
	}
	if !recipients {
		c.rs.Rules = append(c.rs.Rules, list...)
		return
	}
	there := c.table(r.Virtual)
	if keys, ok := c.known(there); ok {
		there = c.keys(keys...)
	}
	for _, one := range list {
		one.RcptTo = compile.Criterion{Sign: compile.Is, Table: there}
		c.rs.Rules = append(c.rs.Rules, one)
	}
	for _, one := range list {
		one.Action = 0
		c.rs.Rules = append(c.rs.Rules, one)
	}
}

// passes sets what a rule asks of the source of one kind of session, and
// reports whether such a session can pass.
func (c *compiler) passes(to *compile.Rule, r *old.Rule, s session) bool {
	from := r.From
	if from == nil {
		from = &old.From{Local: true}
	}
	everywhere := compile.From{Kind: compile.FromAny, Criterion: compile.Criterion{Sign: compile.Is, Table: c.rs.AnyHost}}
	if s == authenticated {
		// The key is local, and does not depend on the client.
		to.From = everywhere
		switch {
		case r.NotAuth:
			return false
		case c.file.Dialect.Generation() == 1:
			return c.authenticated1(to, from)
		case !c.hasLocal(from):
			return false
		case from.Any && !r.Auth:
			return false // the rule for anonymous sessions asks nothing
		}
		to.Auth = compile.Criterion{Sign: compile.Is}
		return c.login || r.Auth
	}
	if r.Auth && !r.NotAuth || from.Any && from.Not {
		return false
	}
	switch {
	case from.Any:
		to.From = everywhere
	case from.Local:
		to.From = compile.From{Kind: compile.FromLocal, Criterion: compile.Criterion{Sign: sign(from.Not), Table: c.rs.Local}}
	default:
		to.From = compile.From{Kind: compile.FromSrc, Criterion: compile.Criterion{Sign: sign(from.Not), Table: c.table(from.Source)}}
	}
	switch {
	case r.NotAuth:
		to.Auth = compile.Criterion{Sign: compile.Not}
	case c.login && c.file.Dialect.Generation() == 2 && !c.hasLocal(from):
		// Of those that are authenticated none passes, wherever it is. Where
		// they pass they have a rule of their own, and may have this one.
		to.Auth = compile.Criterion{Sign: compile.Not}
	}
	return true
}

// hasLocal reports whether the word local passes the test of a source.
func (c *compiler) hasLocal(from *old.From) bool {
	if from.Any || from.Local {
		return !from.Not
	}
	return slices.Contains(c.listed(c.table(from.Source)), "local") != from.Not
}

// authenticated1 is the rule for an authenticated session in generation 1,
// which no source stopped. The socket was not authenticated there.
func (c *compiler) authenticated1(to *compile.Rule, from *old.From) bool {
	switch {
	case from.Any || !c.login:
		return false
	case from.Local: // the socket passes too, as local
		to.Auth = compile.Criterion{Sign: compile.Is}
	default:
		to.Auth = compile.Criterion{Sign: compile.Is, Regex: true, Table: c.keys(".")}
	}
	return true
}
