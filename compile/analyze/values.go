package analyze

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
	"smtpd/compile/engine"
	"smtpd/compile/ere"
)

// A group is fields that conditions look at together.
type group struct {
	parts      []engine.Part
	always     bool // chosen even if nothing looks at it; the last one is
	candidates func(s *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction]
	texts      *language // nil: they are no text, or not one alone
}

var groups = []group{
	{parts: []engine.Part{engine.PartTag}, candidates: tags, texts: anyText},
	{parts: []engine.Part{engine.PartFrom}, candidates: sources},
	{parts: []engine.Part{engine.PartAuth}, candidates: logins},
	{parts: []engine.Part{engine.PartTLS}, candidates: tls},
	{parts: []engine.Part{engine.PartHelo}, candidates: helos, texts: names},
	{parts: []engine.Part{engine.PartMailFrom}, candidates: senders, texts: mailers},
	{parts: []engine.Part{engine.PartFor, engine.PartRcptTo}, always: true, candidates: recipients, texts: targets},
}

// values are texts that the conditions of a group can tell apart: what the
// entries of their tables say, something within each network and wildcard,
// and something that is in none of them.
//
// Exact names, networks and one-label wildcards contain each other or have
// nothing in common, so that trying these is trying everything. Other
// patterns and expressions make the values inexact: what was not found then
// may still be there.
type values struct {
	conditions region   // those that must hold first
	delims     []string // before sub-addresses
	fresh      string   // occurs in no entry
	inexact    bool
	finite     bool                       // entries are all there can be
	looks      [compile.FromRDNS + 1]bool // by sourceOf: some condition looks at that
}

func newValues(g region) *values {
	v := &values{conditions: make(region, 0, len(g))}
	for _, holds := range []bool{true, false} {
		for i := range g {
			if c := &g[i]; c.holds != (criterion(c.rule, c.part).Sign == compile.Is) != holds {
				v.add(c)
			}
		}
	}
	v.finite = slices.ContainsFunc(g, func(c condition) bool { return c.listsNames() }) &&
		!slices.ContainsFunc(g, func(c condition) bool { return c.part != g[0].part })
	v.fresh = "other"
	for i := 0; slices.ContainsFunc(g, func(c condition) bool { return c.of.knows(v.fresh) }); i++ {
		v.fresh = fmt.Sprint("other", i)
	}
	return v
}

func (v *values) add(c *condition) {
	if d := string(rune(c.of.rules.SMTP.SubAddrDelim)); !slices.Contains(v.delims, d) {
		v.delims = append(v.delims, d)
	}
	if c.part == engine.PartFrom {
		v.looks[sourceOf(c.rule)] = true
	}
	if q := criterion(c.rule, c.part); q.Table != 0 {
		v.conditions = append(v.conditions, *c)
		v.inexact = v.inexact || q.Regex && len(c.table().Entries) > 0
	}
}

// table returns the table of a condition, which has one.
func (c *condition) table() *compile.Table { return c.of.rules.Table(criterion(c.rule, c.part).Table) }

// texts yields what the tables of those conditions hold that want says.
// Tables may be long, and the first entry often does.
func (v *values) texts(want func(c *condition, regex bool) bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range v.conditions {
			c := &v.conditions[i]
			if !want(c, criterion(c.rule, c.part).Regex) {
				continue
			}
			for _, e := range c.table().Entries {
				if !yield(e.Key) {
					return
				}
			}
		}
	}
}

// entries yields all that is no expression.
func (v *values) entries(yield func(string) bool) {
	v.texts(func(_ *condition, regex bool) bool { return !regex })(yield)
}

// domains yields the entries that are domain patterns, where others are
// addresses.
func (v *values) domains(yield func(string) bool) {
	v.texts(func(c *condition, regex bool) bool { return !regex && c.part == engine.PartFor })(yield)
}

// mails yields the entries that are addresses, or parts of one.
func (v *values) mails(yield func(string) bool) {
	v.texts(func(c *condition, regex bool) bool { return !regex && c.part != engine.PartFor })(yield)
}

// listsNames reports whether a condition wants one of a list of exact names.
func (c *condition) listsNames() bool {
	q := criterion(c.rule, c.part)
	switch c.part {
	case engine.PartTag, engine.PartFor, engine.PartHelo:
	default:
		return false
	}
	return q.Table != 0 && !q.Regex && c.holds == (q.Sign == compile.Is) && c.of.isExact(q.Table)
}

func criterion(r *compile.Rule, p engine.Part) compile.Criterion { return certificate.Criterion(r, p) }

// names yields names for domain patterns.
func (v *values) names(patterns iter.Seq[string]) iter.Seq[string] {
	return func(yield func(string) bool) {
		for p := range patterns {
			rest := strings.TrimLeft(p, "*")
			switch {
			case !strings.Contains(p, "*"):
				if !yield(p) {
					return
				}
			case rest == "":
			case rest[0] == '.' && !strings.Contains(rest, "*"):
				if !yield(v.fresh + rest) {
					return
				}
			default:
				v.inexact = true
				if !yield(strings.ReplaceAll(p, "*", "")) || !yield(strings.ReplaceAll(p, "*", v.fresh)) {
					return
				}
			}
		}
		if !yield(v.fresh+".example") || !yield(v.fresh+"."+v.fresh) {
			return
		}
		v.examples(yield)
	}
}

// examples yields the shortest text that each expression is found in.
func (v *values) examples(yield func(string) bool) {
	for expr := range v.texts(func(_ *condition, regex bool) bool { return regex }) {
		if re, err := ere.Compile(expr); err == nil {
			if text, ok := re.Example(); ok && !yield(text) {
				return
			}
		}
	}
}

// addresses yields addresses for entries of tables of addresses, whose
// domains come after those of domain patterns. A user that entries name with
// exact domains only is like any other user elsewhere.
func (v *values) addresses(yield func(engine.Address) bool) {
	for text := range v.examples {
		if at := strings.LastIndexByte(text, '@'); at > 0 && at < len(text)-1 && !yield(engine.Address{User: text[:at], Domain: text[at+1:]}) {
			return
		}
	}
	var users []string
	for e := range v.mails {
		at := strings.LastIndexByte(e, '@')
		switch domain := e[at+1:]; {
		case at < 0:
			users = append(users, v.subAddresses(e)...)
		case domain == "" || strings.Contains(domain, "*"):
			users = append(users, v.subAddresses(e[:at])...)
		default:
			for _, u := range v.subAddresses(e[:at]) {
				if !yield(engine.Address{User: u, Domain: domain}) {
					return
				}
			}
		}
	}
	users = append(users, v.fresh)
	for _, patterns := range []iter.Seq[string]{v.domains, v.mailDomains} {
		for d := range v.names(patterns) {
			for _, u := range users {
				if d != "" && !yield(engine.Address{User: u, Domain: d}) {
					return
				}
			}
		}
	}
}

// mailDomains yields the domain patterns of entries for addresses.
func (v *values) mailDomains(yield func(string) bool) {
	for e := range v.mails {
		if at := strings.LastIndexByte(e, '@'); at >= 0 && !yield(e[at+1:]) {
			return
		}
	}
}

// subAddresses returns a user, and who of him the delimiters can tell apart.
func (v *values) subAddresses(user string) []string {
	if user == "" {
		return nil
	}
	users := []string{user}
	for _, d := range v.delims {
		if base, _, ok := strings.Cut(user, d); ok {
			users = append(users, base)
		}
	}
	for _, u := range slices.Clip(users) {
		for _, d := range v.delims {
			users = append(users, u+d+v.fresh)
		}
	}
	return users
}

func tags(s *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	return func(yield func(engine.Transaction) bool) {
		if s.stranger != nil {
			tx.Tag = s.stranger.listener.Tag
			yield(tx)
			v.inexact = false
			return
		}
		for tag := range inTurn(one("", v.fresh), v.entries, v.examples) {
			if tx.Tag = tag; !yield(tx) {
				return
			}
		}
	}
}

// sources tries every place where the membership in some network changes,
// and every reverse name that conditions speak of.
func sources(s *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	if s.socket {
		return v.reverse(tx)
	}
	addrs := one(tx.Addr)
	if s.stranger != nil {
		addrs = slices.Values(s.stranger.addrs)
	} else if v.looks[compile.FromSrc] {
		addrs = inTurn(one(tx.Addr), slices.Values(usualAddrs), v.edges)
		if c := &v.conditions[0]; c.holds && c.rule.From.Kind == compile.FromSrc && c.rule.From.Sign == compile.Is {
			addrs = inTurn(v.edges, slices.Values(usualAddrs)) // it is in there, or nowhere
		}
	}
	return func(yield func(engine.Transaction) bool) {
		for addr := range addrs {
			if !addr.IsValid() {
				continue
			}
			tx.Kind, tx.Addr = engine.FromAddress, addr
			for t := range v.reverse(tx) {
				if !yield(t) {
					return
				}
			}
		}
		if s.stranger == nil {
			tx.Kind, tx.Addr = engine.FromInternal, netip.Addr{}
			yield(tx)
		}
	}
}

// usualAddrs are tried whatever the networks are.
var usualAddrs = []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::9"),
	netip.IPv4Unspecified(), netip.IPv6Unspecified()}

// edges yields the first addresses of each network, and the one after it.
func (v *values) edges(yield func(netip.Addr) bool) {
	for e := range v.entries {
		if p, ok := engine.ParseNetAddr(e); ok {
			first := p.Masked().Addr()
			if !yield(first) || !yield(first.Next()) || !yield(afterLast(p)) {
				return
			}
		}
	}
}

// one yields some values.
func one[T any](list ...T) iter.Seq[T] { return slices.Values(list) }

// inTurn yields what each of several sequences does.
func inTurn[T any](list ...iter.Seq[T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, seq := range list {
			for t := range seq {
				if !yield(t) {
					return
				}
			}
		}
	}
}

// reverse tries reverse names, if conditions look at them.
func (v *values) reverse(tx engine.Transaction) iter.Seq[engine.Transaction] {
	return func(yield func(engine.Transaction) bool) {
		if !yield(tx) || !v.looks[compile.FromRDNS] {
			return
		}
		for name := range inTurn(one(""), v.names(v.entries)) {
			if tx.RDNS = name; !yield(tx) {
				return
			}
		}
	}
}

// afterLast returns the address that follows a network.
func afterLast(p netip.Prefix) netip.Addr {
	return certificate.Ranges([]netip.Prefix{p})[0].Last.Next()
}

func logins(s *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	return func(yield func(engine.Transaction) bool) {
		if !yield(tx) || s.stranger != nil || s.socket {
			return
		}
		tx.Auth, tx.User = false, ""
		if !yield(tx) {
			return
		}
		tx.Auth = true
		// What came out of an expansion may have come from the socket first.
		if tx.Kind == engine.FromInternal && !yield(tx) {
			return
		}
		for user := range inTurn(one(v.fresh), v.entries, v.examples) {
			if tx.User = user; !strings.HasPrefix(user, "@") && user != "" && !yield(tx) {
				return
			}
		}
		for a := range v.addresses {
			if tx.User = a.String(); !yield(tx) {
				return
			}
		}
	}
}

func tls(s *search, _ *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	both := []bool{false, true}
	if s.stranger != nil {
		both = certificate.TLS(s.stranger.listener)
	}
	return func(yield func(engine.Transaction) bool) {
		for _, tx.TLS = range both {
			if !yield(tx) {
				return
			}
		}
	}
}

func helos(_ *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	return func(yield func(engine.Transaction) bool) {
		for name := range inTurn(one(tx.Helo), v.names(v.entries)) {
			if tx.Helo = name; name != "" && !yield(tx) {
				return
			}
		}
	}
}

func senders(_ *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	return func(yield func(engine.Transaction) bool) {
		if !yield(tx) {
			return
		}
		tx.Sender = engine.Address{}
		if !yield(tx) {
			return
		}
		for a := range v.addresses {
			if tx.Sender = a; !yield(tx) {
				return
			}
		}
	}
}

// recipients tries the domains that "for" speaks of and the addresses that
// "rcpt-to" speaks of, together.
func recipients(_ *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	return func(yield func(engine.Transaction) bool) {
		if !yield(tx) {
			return
		}
		for a := range v.addresses {
			if tx.Rcpt = a; !yield(tx) {
				return
			}
		}
	}
}
