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
	entries []string // in the order of the conditions, those that must hold first
	domains []string // of them those that are domain patterns,
	mails   []string // and those that are addresses, or parts of one
	regexes []string
	delims  []string // before sub-addresses
	fresh   string   // occurs in no entry
	inexact bool
	finite  bool                       // entries are all there can be
	looks   [compile.FromRDNS + 1]bool // by sourceOf: some condition looks at that
}

func newValues(g region) *values {
	v := new(values)
	for _, holds := range []bool{true, false} {
		for i := range g {
			if c := &g[i]; c.holds != (criterion(c.rule, c.part).Sign == compile.Is) != holds {
				v.add(c)
			}
		}
	}
	v.inexact = len(v.regexes) > 0
	v.finite = slices.ContainsFunc(g, func(c condition) bool { return c.listsNames() }) &&
		!slices.ContainsFunc(g, func(c condition) bool { return c.part != g[0].part })
	v.fresh = "other"
	for i := 0; slices.ContainsFunc(v.entries, func(e string) bool { return strings.Contains(e, v.fresh) }); i++ {
		v.fresh = fmt.Sprint("other", i)
	}
	return v
}

// add adds what the table of a condition holds.
func (v *values) add(c *condition) {
	if d := string(rune(c.of.rules.SMTP.SubAddrDelim)); !slices.Contains(v.delims, d) {
		v.delims = append(v.delims, d)
	}
	if c.part == engine.PartFrom {
		v.looks[sourceOf(c.rule)] = true
	}
	q := criterion(c.rule, c.part)
	if q.Table == 0 {
		return
	}
	for _, e := range c.of.rules.Table(q.Table).Entries {
		if q.Regex {
			v.regexes = append(v.regexes, e.Key)
			continue
		}
		v.entries = append(v.entries, e.Key)
		if c.part == engine.PartFor {
			v.domains = append(v.domains, e.Key)
		} else {
			v.mails = append(v.mails, e.Key)
		}
	}
}

// listsNames reports whether a condition wants one of a list of exact names.
func (c *condition) listsNames() bool {
	q := criterion(c.rule, c.part)
	switch c.part {
	case engine.PartTag, engine.PartFor, engine.PartHelo:
	default:
		return false
	}
	if q.Table == 0 || q.Regex || c.holds != (q.Sign == compile.Is) {
		return false
	}
	t := c.of.rules.Table(q.Table)
	return t.Kind != compile.Dynamic &&
		!slices.ContainsFunc(t.Entries, func(e compile.Entry) bool { return strings.Contains(e.Key, "*") })
}

func criterion(r *compile.Rule, p engine.Part) compile.Criterion { return certificate.Criterion(r, p) }

// names returns names for domain patterns.
func (v *values) names(patterns []string) []string {
	names := []string{}
	for _, p := range patterns {
		rest := strings.TrimLeft(p, "*")
		switch {
		case !strings.Contains(p, "*"):
			names = append(names, p)
		case rest == "":
		case rest[0] == '.' && !strings.Contains(rest, "*"):
			names = append(names, v.fresh+rest)
		default:
			v.inexact = true
			names = append(names, strings.ReplaceAll(p, "*", ""), strings.ReplaceAll(p, "*", v.fresh))
		}
	}
	return append(append(names, v.fresh+".example", v.fresh+"."+v.fresh), v.examples()...)
}

// examples returns the shortest text that each expression is found in.
func (v *values) examples() []string {
	var texts []string
	for _, expr := range v.regexes {
		if re, err := ere.Compile(expr); err == nil {
			if text, ok := re.Example(); ok {
				texts = append(texts, text)
			}
		}
	}
	return texts
}

// addresses returns addresses for entries of tables of addresses, whose
// domains come after those given. A user that entries name with exact domains
// only is like any other user elsewhere.
func (v *values) addresses(domains []string) iter.Seq[engine.Address] {
	var users, patterns []string
	var exact []engine.Address
	for _, e := range v.mails {
		at := strings.LastIndexByte(e, '@')
		switch domain := e[at+1:]; {
		case at < 0:
			users = append(users, v.subAddresses(e)...)
		case domain == "" || strings.Contains(domain, "*"):
			users, patterns = append(users, v.subAddresses(e[:at])...), append(patterns, domain)
		default:
			patterns = append(patterns, domain)
			for _, u := range v.subAddresses(e[:at]) {
				exact = append(exact, engine.Address{User: u, Domain: domain})
			}
		}
	}
	users = append(users, v.fresh)
	domains = append(slices.Clip(domains), v.names(patterns)...)
	return func(yield func(engine.Address) bool) {
		for _, text := range v.examples() {
			if at := strings.LastIndexByte(text, '@'); at > 0 && at < len(text)-1 && !yield(engine.Address{User: text[:at], Domain: text[at+1:]}) {
				return
			}
		}
		for _, a := range exact {
			if a.User != "" && !yield(a) {
				return
			}
		}
		for _, d := range domains {
			for _, u := range users {
				if d != "" && u != "" && !yield(engine.Address{User: u, Domain: d}) {
					return
				}
			}
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
		for _, tag := range append(slices.Concat([]string{""}, v.entries, v.examples()), v.fresh) {
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
	addrs := []netip.Addr{tx.Addr}
	if s.stranger != nil {
		addrs = s.stranger.addrs
	} else if v.looks[compile.FromSrc] {
		addrs = append(addrs, netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::9"),
			netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("::"))
		for _, e := range v.entries {
			if p, ok := engine.ParseNetAddr(e); ok {
				addrs = append(addrs, p.Masked().Addr(), p.Masked().Addr().Next(), afterLast(p))
			}
		}
	}
	return func(yield func(engine.Transaction) bool) {
		for _, addr := range addrs {
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

// reverse tries reverse names, if conditions look at them.
func (v *values) reverse(tx engine.Transaction) iter.Seq[engine.Transaction] {
	return func(yield func(engine.Transaction) bool) {
		if !yield(tx) || !v.looks[compile.FromRDNS] {
			return
		}
		for _, name := range append([]string{""}, v.names(v.entries)...) {
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
		for _, user := range append(slices.Concat(v.entries, v.examples()), v.fresh) {
			if tx.User = user; !strings.HasPrefix(user, "@") && user != "" && !yield(tx) {
				return
			}
		}
		for a := range v.addresses(nil) {
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
		for _, name := range append([]string{tx.Helo}, v.names(v.entries)...) {
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
		for a := range v.addresses(nil) {
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
		for a := range v.addresses(v.names(v.domains)) {
			if tx.Rcpt = a; !yield(tx) {
				return
			}
		}
	}
}
