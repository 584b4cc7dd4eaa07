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
	errNoRecords = &DNSError{Text: "Temporary failure in DNS lookup"}
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
		return d.implicit(ctx, name, false)
	}
	a, err := d.resolver.ask(ctx, question{name + ".", dns.TypeMX})
	switch {
	case err != nil:
		return nil, errLookup
	case a.missing && d.hosts.lookup(name) == nil:
		return nil, errNoDomain
	case len(a.records) == 0:
		return d.implicit(ctx, name, a.secure)
	}
	return d.explicit(ctx, a)
}

// implicit makes a domain without MX records its own host (RFC 5321,
// section 5.1). Secure says that it has none for certain.
func (d *directory) implicit(ctx context.Context, name string, secure bool) ([]MX, *DNSError) {
	mx, failed := d.find(ctx, name)
	switch {
	case len(mx.Addrs) > 0:
		mx.Secure = mx.Secure && secure
		return []MX{mx}, nil
	case failed:
		return nil, errLookup
	}
	return nil, errNoMX
}

// explicit looks up the hosts of MX records. One that is the root or
// localhost says that the domain takes no mail (RFC 7505, section 3); beside
// others it is only a mistake.
func (d *directory) explicit(ctx context.Context, a answer) ([]MX, *DNSError) {
	var hosts []MX
	for _, rec := range a.records {
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
		wg.Go(func() {
			var found MX
			found, failed[i] = d.find(ctx, strings.ToLower(hosts[i].Host))
			found.Host, found.Pref, found.Secure = hosts[i].Host, hosts[i].Pref, found.Secure && a.secure
			hosts[i] = found
		})
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

// host returns a host that the configuration names, with its addresses.
func (d *directory) host(ctx context.Context, host string) (MX, *DNSError) {
	if addr, ok := parseLiteral(host); ok {
		return MX{Host: host, Addrs: []netip.Addr{addr}}, nil
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return MX{Host: host, Addrs: []netip.Addr{addr.WithZone("").Unmap()}}, nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if !isHostName(name) {
		return MX{}, errBadName
	}
	mx, _ := d.find(ctx, name)
	if len(mx.Addrs) == 0 {
		return MX{}, errNoHost
	}
	return mx, nil
}

// txt returns the texts of a name.
func (d *directory) txt(ctx context.Context, name string) ([]string, *DNSError) {
	a, err := d.records(ctx, name, dns.TypeTXT)
	var texts []string
	for _, rec := range a.records {
		texts = append(texts, rec.name)
	}
	return texts, err
}

// tlsa returns the TLSA records of a name if DNSSEC vouches for them.
func (d *directory) tlsa(ctx context.Context, name string) ([]TLSA, bool, *DNSError) {
	a, err := d.records(ctx, name, dns.TypeTLSA)
	if err != nil || !a.secure {
		return nil, false, err
	}
	var records []TLSA
	for _, rec := range a.records {
		records = append(records, rec.tlsa)
	}
	return records, true, nil
}

// records asks for what only name servers know.
func (d *directory) records(ctx context.Context, name string, typ uint16) (answer, *DNSError) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if !isHostName(name) {
		return answer{}, errBadName
	}
	a, err := d.resolver.ask(ctx, question{name + ".", typ})
	if err != nil {
		return answer{}, errNoRecords
	}
	return a, nil
}

// find returns the host of a name in lower case, with its addresses, and
// whether a question for them failed.
func (d *directory) find(ctx context.Context, name string) (host MX, failed bool) {
	host.Host = name
	if host.Addrs = d.hosts.lookup(name); host.Addrs != nil {
		return host, false
	}
	var answers [2]answer
	var errs [2]error
	var wg sync.WaitGroup
	for i, typ := range [...]uint16{dns.TypeAAAA, dns.TypeA} {
		wg.Go(func() { answers[i], errs[i] = d.resolver.ask(ctx, question{name + ".", typ}) })
	}
	wg.Wait()
	for i, a := range answers {
		for _, rec := range a.records[:min(len(a.records), maxAddrs)] {
			host.Addrs = append(host.Addrs, rec.addr)
		}
		if a.canonical != "" {
			host.Canonical = a.canonical
		}
		failed = failed || errs[i] != nil
	}
	// Both must be vouched for: whoever can hide one kind of addresses could
	// lead mail to the other (RFC 7672, section 2.2.2).
	host.Secure = answers[0].secure && answers[1].secure
	return host, failed
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
		host, failed := d.find(ctx, strings.ToLower(rec.name))
		if slices.Contains(host.Addrs, addr) {
			return rec.name, Pass, nil
		}
		if failed && len(host.Addrs) == 0 {
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
