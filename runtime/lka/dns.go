package lka

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Budgets of one domain.
const (
	maxMX       = 32 // hosts that are looked up
	maxAddrs    = 16 // addresses of a host
	maxPTRNames = 4  // reverse names that are checked
)

// What a domain or a host is found to be (runtime.md 5.3).
var (
	errNoDomain  = &DNSError{Text: "Domain does not exist", Permanent: true}
	errNoMail    = &DNSError{Text: "Domain does not accept mail", Permanent: true}
	errBadName   = &DNSError{Text: "Invalid domain name", Permanent: true}
	errLookup    = &DNSError{Text: "Temporary failure in MX lookup"}
	errNoMX      = &DNSError{Text: "No MX found for domain"}
	errNoHost    = &DNSError{Text: "Host not found"}
	errNoReverse = &DNSError{Text: "Temporary failure in reverse lookup"}
)

// A directory finds hosts: in the hosts file first, then by asking name
// servers.
type directory struct {
	hosts    hosts
	resolver *resolver
}

// mx returns the hosts that take mail for domain, best first. Each has its
// addresses; a host without any stays, for its preference may be asked for.
func (d *directory) mx(ctx context.Context, domain string) ([]MX, *DNSError) {
	if addr, ok := parseLiteral(domain); ok {
		return []MX{{Host: domain, Addrs: []netip.Addr{addr}}}, nil
	}
	name := strings.ToLower(strings.TrimSuffix(domain, "."))
	if !isHostName(name) {
		return nil, errBadName
	}
	if isLocalhost(name) {
		return d.implicit(ctx, name)
	}
	a, err := d.resolver.ask(ctx, question{name + ".", dns.TypeMX})
	switch {
	case err != nil:
		return nil, errLookup
	case a.missing && d.hosts.lookup(name) == nil:
		return nil, errNoDomain
	case len(a.records) == 0:
		return d.implicit(ctx, name)
	}
	return d.explicit(ctx, a.records)
}

// implicit makes a domain without MX records its own host (RFC 5321,
// section 5.1).
func (d *directory) implicit(ctx context.Context, name string) ([]MX, *DNSError) {
	addrs, failed := d.find(ctx, name)
	switch {
	case len(addrs) > 0:
		return []MX{{Host: name, Addrs: addrs}}, nil
	case failed:
		return nil, errLookup
	}
	return nil, errNoMX
}

// explicit looks up the hosts of MX records. One that is the root or
// localhost says that the domain takes no mail (RFC 7505, section 3); beside
// others it is only a mistake.
func (d *directory) explicit(ctx context.Context, records []record) ([]MX, *DNSError) {
	var hosts []MX
	for _, rec := range records {
		known := slices.ContainsFunc(hosts, func(mx MX) bool { return strings.EqualFold(mx.Host, rec.name) })
		if rec.name != "" && !isLocalhost(strings.ToLower(rec.name)) && !known && len(hosts) < maxMX {
			hosts = append(hosts, MX{Host: rec.name, Pref: rec.pref})
		}
	}
	if len(hosts) == 0 {
		return nil, errNoMail
	}
	failed := make([]bool, len(hosts))
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() { hosts[i].Addrs, failed[i] = d.find(ctx, strings.ToLower(hosts[i].Host)) })
	}
	wg.Wait()
	switch {
	case slices.ContainsFunc(hosts, func(mx MX) bool { return len(mx.Addrs) > 0 }):
		return hosts, nil
	case slices.Contains(failed, true):
		return nil, errLookup
	}
	return nil, errNoMX
}

// addrs returns the addresses of a host that the configuration names.
func (d *directory) addrs(ctx context.Context, host string) ([]netip.Addr, *DNSError) {
	if addr, ok := parseLiteral(host); ok {
		return []netip.Addr{addr}, nil
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.WithZone("").Unmap()}, nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if !isHostName(name) {
		return nil, errBadName
	}
	addrs, _ := d.find(ctx, name)
	if len(addrs) == 0 {
		return nil, errNoHost
	}
	return addrs, nil
}

// find returns the addresses of a name in lower case, and whether a question
// for them failed.
func (d *directory) find(ctx context.Context, name string) (addrs []netip.Addr, failed bool) {
	if addrs := d.hosts.lookup(name); addrs != nil {
		return addrs, false
	}
	var answers [2]answer
	var errs [2]error
	var wg sync.WaitGroup
	for i, typ := range [...]uint16{dns.TypeAAAA, dns.TypeA} {
		wg.Go(func() { answers[i], errs[i] = d.resolver.ask(ctx, question{name + ".", typ}) })
	}
	wg.Wait()
	for _, a := range answers {
		for _, rec := range a.records[:min(len(a.records), maxAddrs)] {
			addrs = append(addrs, rec.addr)
		}
	}
	return addrs, errs[0] != nil || errs[1] != nil
}

// ptr returns the reverse name of an address and whether it leads back. Of
// several names one that does is taken.
func (d *directory) ptr(ctx context.Context, addr netip.Addr) (name string, forward FCrDNS, derr *DNSError) {
	addr = addr.WithZone("").Unmap()
	if name, ok := d.hosts.name(addr); ok {
		return name, Pass, nil
	}
	reverse, err := dns.ReverseAddr(addr.String())
	if err != nil {
		return "", Error, errNoReverse
	}
	a, err := d.resolver.ask(ctx, question{strings.ToLower(reverse), dns.TypePTR})
	switch {
	case err != nil:
		return "", Error, errNoReverse
	case len(a.records) == 0:
		return "", Fail, nil
	}
	forward = Fail
	for _, rec := range a.records[:min(len(a.records), maxPTRNames)] {
		addrs, failed := d.find(ctx, strings.ToLower(rec.name))
		if slices.Contains(addrs, addr) {
			return rec.name, Pass, nil
		}
		if failed && len(addrs) == 0 {
			forward = Error
		}
	}
	return a.records[0].name, forward, nil
}

func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// parseLiteral reads an address literal, [192.0.2.1] or [IPv6:2001:db8::1]
// (RFC 5321, section 4.1.3); the tag may be missing.
func parseLiteral(s string) (netip.Addr, bool) {
	s, ok := strings.CutPrefix(s, "[")
	if !ok {
		return netip.Addr{}, false
	}
	if s, ok = strings.CutSuffix(s, "]"); !ok {
		return netip.Addr{}, false
	}
	if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
		s = s[5:]
	}
	addr, err := netip.ParseAddr(s)
	return addr.WithZone("").Unmap(), err == nil
}

// isHostName reports whether s is a name that a host can have: labels of
// letters, digits, hyphens and, for they are met, underscores.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			letter := 'a' <= c|0x20 && c|0x20 <= 'z'
			if !letter && !('0' <= c && c <= '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
