package analyze

import (
	"net/netip"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// noAddress reports whether no address of a stranger fits the facts. It
// looks at every place where the membership in some network changes.
func (v *verifier) noAddress(facts []fact) bool {
	own := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	own = append(append(own, v.trusted...), nets(v.rs.Table(v.rs.Local).Entries)...)
	edges := append(slices.Clone(own), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
	for _, f := range facts {
		list, _ := v.entries(f)
		edges = append(edges, nets(list)...)
	}
	for _, p := range edges {
		for _, a := range []netip.Addr{p.Masked().Addr(), last(p).Next()} {
			if !a.IsValid() || !v.listener.ProxyV2 && contains(own, a) {
				continue
			}
			if !v.fails(facts, func(f fact) membership { return v.from(f, a) }) {
				return false
			}
		}
	}
	return true
}

func (v *verifier) from(f fact, a netip.Addr) membership {
	switch v.rs.Rules[f.rule].From.Kind {
	case compile.FromSocket:
		return no
	case compile.FromRDNS:
		return unclear
	}
	list, known := v.entries(f)
	if !known {
		return unclear
	}
	return membershipOf(contains(nets(list), a) || a.IsLoopback() && slices.ContainsFunc(list, func(e compile.Entry) bool { return e.Key == "local" }))
}

func nets(entries []compile.Entry) []netip.Prefix {
	var list []netip.Prefix
	for _, e := range entries {
		if p, ok := engine.ParseNetAddr(e.Key); ok {
			list = append(list, p)
		}
	}
	return list
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// noReverse reports whether no reverse name, nor its absence, fits.
func (v *verifier) noReverse(facts []fact) bool {
	facts = slices.DeleteFunc(slices.Clone(facts), func(f fact) bool { return v.rs.Rules[f.rule].From.Kind != compile.FromRDNS })
	if !slices.ContainsFunc(facts, func(f fact) bool { return f.holds }) {
		return false // having none fits, whatever the signs
	}
	names := []string{""} // a name that no table holds
	for _, f := range facts {
		list, _ := v.entries(f)
		for _, e := range list {
			names = append(names, e.Key)
		}
	}
	return !slices.ContainsFunc(names, func(name string) bool {
		return !v.fails(facts, func(f fact) membership {
			if v.criterion(f).Table == 0 {
				return yes
			}
			if list, _ := v.entries(f); len(nets(list)) > 0 {
				return unclear // a name may look like an address
			}
			return v.listed(f, name)
		})
	})
}

// A cell is addresses, or for "helo" names, that no entry tells apart. The
// domain is a name, a wildcard for what else it fits, or empty for any
// other; noDomain is that of the null sender. The user is a text, or empty
// for any other; base is that without its tag.
type cell struct{ base, user, domain string }

const noDomain = "@"

// noName reports whether no name or address fits. Recipients that the rule
// means to relay to are no concern.
func (v *verifier) noName(facts []fact, p engine.Part) bool {
	users, domains := []cell{{}}, []string{""}
	meant := make(map[string]bool)
	if p == engine.PartFor || p == engine.PartRcptTo {
		meant = v.meant()
		for d := range meant {
			domains = append(domains, d)
		}
	}
	if p == engine.PartMailFrom {
		domains = append(domains, noDomain)
	}
	for _, f := range facts {
		list, _ := v.entries(f)
		for _, e := range list {
			user, domain := halves(f.part, e.Key)
			base, _, _ := strings.Cut(user, v.delim())
			users = append(users, cell{base: base}, cell{base: base, user: base}, cell{base: base, user: user})
			domains = append(domains, domain)
		}
	}
	slices.Sort(domains)
	domains = slices.Compact(domains)
	for _, d := range domains {
		if fits(meant, d) {
			continue
		}
		for _, c := range users {
			c.domain = d
			if !v.fails(facts, func(f fact) membership { return v.holds(f, c) }) {
				return false
			}
		}
	}
	return true
}

func (v *verifier) delim() string { return string(rune(v.rs.SMTP.SubAddrDelim)) }

// halves takes an entry apart; a list of stars becomes one.
func halves(p engine.Part, entry string) (user, domain string) {
	domain = entry
	if p == engine.PartMailFrom || p == engine.PartRcptTo {
		at := strings.LastIndexByte(entry, '@')
		if user, domain = entry, ""; at >= 0 {
			user, domain = entry[:at], entry[at+1:]
		}
	}
	if rest := strings.TrimLeft(domain, "*"); rest != domain {
		domain = "*" + rest
	}
	return user, domain
}

// holds says whether the table of a fact holds what is in a cell.
func (v *verifier) holds(f fact, c cell) membership {
	list, known := v.entries(f)
	if !known {
		return unclear
	}
	result := no
	for _, e := range list {
		user, domain := halves(f.part, e.Key)
		tagged := strings.Contains(user, v.delim())
		if user != "" && (tagged && user != c.user || !tagged && user != c.base) {
			continue
		}
		switch {
		case domain == "" && f.part != engine.PartFor && f.part != engine.PartHelo || fits(map[string]bool{domain: true}, c.domain):
			return yes
		case isOdd(domain):
			result = unclear
		}
	}
	return result
}

// isOdd reports whether a pattern has stars elsewhere than before a dot.
func isOdd(pattern string) bool {
	rest := strings.TrimPrefix(pattern, "*")
	return strings.Contains(rest, "*") || rest != pattern && rest != "" && rest[0] != '.'
}

// fits reports whether one of the patterns fits all of the names of a cell.
func fits(patterns map[string]bool, domain string) bool {
	if domain == noDomain {
		return false
	}
	_, rest, dotted := strings.Cut(domain, ".")
	return patterns["*"] || domain != "" && patterns[domain] || dotted && patterns["*."+rest]
}

// meant returns the names of domains that the rule means to relay to.
func (v *verifier) meant() map[string]bool {
	names := make(map[string]bool)
	r := &v.rs.Rules[v.rule]
	for _, p := range []engine.Part{engine.PartFor, engine.PartRcptTo} {
		f := fact{v.rule, p, true}
		list, _ := v.entries(f)
		if v.criterion(f).Sign != compile.Is || p == engine.PartFor && r.For.Kind != compile.ForDomain {
			continue
		}
		for _, e := range list {
			name := e.Key[strings.LastIndexByte(e.Key, '@')+1:]
			suffix, wild := strings.CutPrefix(name, "*.")
			if name != "" && !strings.Contains(suffix, "*") && (!wild || strings.Contains(suffix, ".")) {
				names[name] = true
			}
		}
	}
	return names
}
