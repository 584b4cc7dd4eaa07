package certificate

import (
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// Public reports whether strangers reach a listener and can send by it
// without a login.
func Public(l *compile.Listener) bool {
	switch {
	case l.Auth == compile.RequireAuth:
		return false
	case l.Addr.IsValid():
		return !l.Addr.Unmap().IsLoopback()
	}
	return l.Interface != "lo" && l.Interface != "lo0" && l.Interface != "localhost"
}

// Forgeable reports whether strangers choose which address they have on a
// listener: by a PROXY header, unless a table that is known here says whose
// are believed and no part of it is large.
func Forgeable(rs *compile.Ruleset, l *compile.Listener) bool {
	if !l.ProxyV2 || l.ProxyFrom == 0 {
		return l.ProxyV2
	}
	proxies := rs.Table(l.ProxyFrom)
	return proxies.Kind == compile.Dynamic || slices.ContainsFunc(Ranges(Networks(proxies)), Range.IsLarge)
}

// TLS returns whether mail through a listener comes over TLS: it may do
// both.
func TLS(l *compile.Listener) []bool {
	switch l.TLS {
	case compile.NoTLS:
		return []bool{false}
	case compile.StartTLS:
		return []bool{false, true}
	}
	return []bool{true}
}

// Names are domains, and one-label wildcards.
type Names map[string]bool

// Declared returns the domains that a rule names as destinations: exactly, or
// by one label below a domain that is more than a top level. Whoever writes
// that means mail for them, even to relay it.
func Declared(rs *compile.Ruleset, r *compile.Rule) Names {
	names := make(Names)
	if r.For.Kind != compile.ForAny {
		names.add(rs, r.For.Criterion, "")
	}
	names.add(rs, r.RcptTo, "@")
	return names
}

// add adds what comes after sep in the entries of a table.
func (n Names) add(rs *compile.Ruleset, c compile.Criterion, sep string) {
	if c.Sign != compile.Is || c.Regex {
		return
	}
	for _, e := range rs.Table(c.Table).Entries {
		at := strings.LastIndex(e.Key, sep)
		if sep == "" {
			at = 0
		}
		if at < 0 {
			continue // a user of any domain
		}
		name := e.Key[at+len(sep):]
		suffix, wild := strings.CutPrefix(name, "*.")
		if name != "" && !strings.Contains(suffix, "*") && (!wild || strings.Contains(suffix, ".")) {
			n[name] = true
		}
	}
}

// Has reports whether a domain, in lower case, is among the names.
func (n Names) Has(domain string) bool {
	if n[domain] {
		return true
	}
	_, parent, dotted := strings.Cut(domain, ".")
	return dotted && n["*."+parent]
}

// Host returns the addresses of the host, which no stranger has.
func Host(rs *compile.Ruleset) []Range {
	nets := append(Networks(rs.Table(rs.Local)), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	return Ranges(nets)
}

// Networks returns the networks that a table holds.
func Networks(t *compile.Table) []netip.Prefix {
	var nets []netip.Prefix
	for _, e := range t.Entries {
		if p, ok := engine.ParseNetAddr(e.Key); ok {
			nets = append(nets, p.Masked())
		}
	}
	return nets
}

// Ranges returns the addresses of networks as ascending ranges that do not
// touch each other.
func Ranges(nets []netip.Prefix) []Range {
	list := make([]Range, 0, len(nets))
	for _, p := range nets {
		list = append(list, Range{p.Masked().Addr(), last(p)})
	}
	return Join(list)
}

// Join puts ranges in order, and those that touch each other together.
func Join(list []Range) []Range {
	slices.SortFunc(list, func(a, b Range) int { return a.First.Compare(b.First) })
	var joined []Range
	for _, r := range list {
		if n := len(joined); n > 0 && joined[n-1].touches(r) {
			if joined[n-1].Last.Less(r.Last) {
				joined[n-1].Last = r.Last
			}
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// touches reports whether next, which does not begin before r, overlaps it or
// begins where it ends.
func (r Range) touches(next Range) bool {
	return r.First.Is4() == next.First.Is4() && (!r.Last.Less(next.First) || r.Last.Next() == next.First)
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

// Size returns the number of addresses in a range.
func (r Range) Size() *big.Int {
	n := func(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }
	size := n(r.Last)
	return size.Add(size.Sub(size, n(r.First)), big.NewInt(1))
}

// IsLarge reports whether a range holds more addresses than may be somebody's
// own: a private /16, a public /24, an IPv6 /48.
func (r Range) IsLarge() bool {
	bits := uint(8)
	switch {
	case r.First.Is6():
		bits = 80
	case r.First.IsPrivate() && r.Last.IsPrivate():
		bits = 16
	}
	if netip.PrefixFrom(r.First, r.First.BitLen()-int(bits)).Contains(r.Last) {
		return false
	}
	return r.Size().Cmp(new(big.Int).Lsh(big.NewInt(1), bits)) > 0
}
