package analyze

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/ere"
)

// A group is fields that conditions look at together.
type group struct {
	parts      []engine.Part
	always     bool // chosen even if nothing looks at it; the last one is
	candidates func(s *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction]
}

var groups = []group{
	{parts: []engine.Part{engine.PartTag}, candidates: tags},
	{parts: []engine.Part{engine.PartFrom}, candidates: sources},
	{parts: []engine.Part{engine.PartAuth}, candidates: logins},
	{parts: []engine.Part{engine.PartTLS}, candidates: tls},
	{parts: []engine.Part{engine.PartHelo}, candidates: helos},
	{parts: []engine.Part{engine.PartMailFrom}, candidates: senders},
	{parts: []engine.Part{engine.PartFor, engine.PartRcptTo}, always: true, candidates: recipients},
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
	regexes []string
	fresh   string // occurs in no entry
	inexact bool
	finite  bool // entries are all there can be
}

func newValues(g region) *values {
	v := new(values)
	for _, holds := range []bool{true, false} {
		for _, c := range g {
			q := criterion(c.rule, c.part)
			if c.holds != (q.Sign == compile.Is) == holds || q.Table == 0 {
				continue
			}
			t := c.of.rules.Table(q.Table)
			for _, e := range t.Entries {
				if q.Regex {
					v.regexes = append(v.regexes, e.Key)
				} else {
					v.entries = append(v.entries, e.Key)
				}
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

func criterion(r *compile.Rule, p engine.Part) compile.Criterion {
	return [...]compile.Criterion{r.Tag, r.From.Criterion, r.For.Criterion, r.Helo, r.Auth, r.TLS, r.MailFrom, r.RcptTo}[p]
}

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
// domains come after those given.
func (v *values) addresses(domains []string, entries []string) iter.Seq[engine.Address] {
	users := []string{}
	var patterns []string
	for _, e := range entries {
		user, domain := e, ""
		if at := strings.LastIndexByte(e, '@'); at >= 0 {
			user, domain = e[:at], e[at+1:]
		}
		if user != "" {
			users = append(users, user, user+"+"+v.fresh)
		}
		if domain != "" {
			patterns = append(patterns, domain)
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
		for _, d := range domains {
			for _, u := range users {
				if d != "" && !yield(engine.Address{User: u, Domain: d}) {
					return
				}
			}
		}
	}
}

func tags(s *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	return func(yield func(engine.Transaction) bool) {
		if s.fixed {
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

// sources tries every place where the membership in some network changes.
func sources(s *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	addrs := []netip.Addr{tx.Addr, netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::9"),
		netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("::")}
	for _, e := range v.entries {
		if p, ok := engine.ParseNetAddr(e); ok {
			addrs = append(addrs, p.Masked().Addr(), p.Masked().Addr().Next(), last(p).Next())
		}
	}
	names := append([]string{tx.RDNS, ""}, v.names(v.entries)...)
	return func(yield func(engine.Transaction) bool) {
		for _, addr := range addrs {
			for _, name := range names {
				t := tx
				t.Kind, t.Addr, t.RDNS = engine.FromAddress, addr, name
				if addr.IsValid() && (!s.fixed || s.source(addr)) && !yield(t) {
					return
				}
			}
		}
		if s.fixed {
			return
		}
		for _, kind := range []engine.SourceKind{engine.FromSocket, engine.FromInternal} {
			t := tx
			t.Kind, t.Addr = kind, netip.Addr{}
			if !yield(t) {
				return
			}
		}
	}
}

// last returns the last address of a network.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func logins(s *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	return func(yield func(engine.Transaction) bool) {
		if !yield(tx) || s.fixed {
			return
		}
		if tx.Kind != engine.FromSocket {
			tx.Auth, tx.User = false, ""
			if !yield(tx) {
				return
			}
			tx.Auth = true
			for _, user := range append(slices.Concat(v.entries, v.examples()), v.fresh) {
				if tx.User = user; !strings.HasPrefix(user, "@") && user != "" && !yield(tx) {
					return
				}
			}
			for a := range v.addresses(nil, v.entries) {
				if tx.User = a.String(); !yield(tx) {
					return
				}
			}
			return
		}
		tx.Auth, tx.User = true, ""
		yield(tx)
	}
}

func tls(_ *search, _ *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	return func(yield func(engine.Transaction) bool) {
		tx.TLS = false
		if yield(tx) {
			tx.TLS = true
			yield(tx)
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
		for a := range v.addresses(nil, v.entries) {
			if tx.Sender = a; !yield(tx) {
				return
			}
		}
	}
}

// recipients tries the domains that "for" speaks of and the addresses that
// "rcpt-to" speaks of; their entries are told apart by their @ well enough,
// since either is tried as the other too.
func recipients(_ *search, v *values, tx engine.Transaction) iter.Seq[engine.Transaction] {
	return func(yield func(engine.Transaction) bool) {
		if !yield(tx) {
			return
		}
		plain := slices.DeleteFunc(slices.Clone(v.entries), func(e string) bool { return strings.Contains(e, "@") })
		for a := range v.addresses(v.names(plain), v.entries) {
			if tx.Rcpt = a; !yield(tx) {
				return
			}
		}
	}
}
