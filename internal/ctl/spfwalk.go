package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Bounds on what the records of one domain can make this program ask for.
const (
	maxSPFRecords = 100 // records that include one another
	maxSPFHosts   = 10  // of one mx
)

// A spfNetwork is what spf walk finds.
type spfNetwork struct {
	Domain  string `json:"domain"` // that was asked for, not the one it includes
	Network string `json:"network"`
}

// spfWalk prints the addresses and networks that may send mail of the domains
// on standard input, one a line, as the domains publish them in SPF records.
// The daemon is not asked.
func spfWalk(network string) func(*terminal, options, []string) error {
	return func(t *terminal, o options, _ []string) error {
		return spfDomains(t, o, network, net.DefaultResolver)
	}
}

// spfDomains walks each domain that it reads. What is known of a domain whose
// records are broken is printed, and the status tells that something is not.
func spfDomains(t *terminal, o options, network string, r *net.Resolver) error {
	var failed error
	in := bufio.NewScanner(t.in)
	for in.Scan() {
		domain := strings.TrimSpace(in.Text())
		if domain == "" {
			continue
		}
		w := &spfWalker{resolver: r, network: network, found: make(map[netip.Prefix]bool), seen: make(map[string]bool)}
		w.walk(context.Background(), domain)
		for _, p := range w.sorted() {
			if err := printSPF(t, o, domain, p); err != nil {
				return err
			}
		}
		for _, err := range w.errs {
			fmt.Fprintf(t.err, "smtpctl: spf walk: %q: %v\n", domain, err)
			failed = errNotFound
		}
	}
	return errors.Join(failed, in.Err())
}

func printSPF(t *terminal, o options, domain string, p netip.Prefix) error {
	text := p.String()
	if p.IsSingleIP() {
		text = p.Addr().String()
	}
	if o.json {
		return t.printJSON(&spfNetwork{Domain: domain, Network: text})
	}
	_, err := fmt.Fprintln(t.out, text)
	return err
}

// A spfWalker follows the records of one domain.
type spfWalker struct {
	resolver *net.Resolver
	network  string // ip, ip4, ip6
	found    map[netip.Prefix]bool
	seen     map[string]bool // names whose record was read
	errs     []error
}

func (w *spfWalker) failed(name string, err error) {
	w.errs = append(w.errs, fmt.Errorf("%q: %w", name, err))
}

// plain returns err without the name that an error of DNS repeats as a record
// had it: it could be anything.
func plain(err error) error {
	if d := (*net.DNSError)(nil); errors.As(err, &d) {
		return errors.New(d.Err)
	}
	return err
}

// walk takes the record of a domain, and those that it names, each once.
func (w *spfWalker) walk(ctx context.Context, domain string) {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if w.seen[domain] {
		return
	}
	if len(w.seen) == maxSPFRecords {
		w.failed(domain, fmt.Errorf("more than %d records include one another", maxSPFRecords))
		return
	}
	w.seen[domain] = true
	record, err := w.record(ctx, domain)
	if err != nil {
		w.failed(domain, plain(err))
		return
	}
	for _, term := range strings.Fields(record)[1:] {
		w.term(ctx, domain, term)
	}
}

// record returns the SPF record of a domain, of which there must be one.
func (w *spfWalker) record(ctx context.Context, domain string) (string, error) {
	texts, err := w.resolver.LookupTXT(ctx, domain+".")
	if err != nil {
		return "", err
	}
	texts = slices.DeleteFunc(texts, func(s string) bool {
		version, _, _ := strings.Cut(s, " ")
		return !strings.EqualFold(version, "v=spf1")
	})
	if len(texts) != 1 {
		return "", fmt.Errorf("it has %d SPF records, not one", len(texts))
	}
	return texts[0], nil
}

// term takes one word of a record of domain. Words that let nobody send, and
// those that depend on the mail, name no addresses.
func (w *spfWalker) term(ctx context.Context, domain, term string) {
	if strings.ContainsAny(term[:1], "-~?") || strings.Contains(term, "%") {
		return
	}
	term = strings.TrimPrefix(term, "+")
	if target, ok := cutFold(term, "redirect="); ok {
		w.walk(ctx, target)
		return
	}
	end := strings.IndexAny(term, ":/")
	if end < 0 {
		end = len(term)
	}
	mechanism, value := strings.ToLower(term[:end]), strings.TrimPrefix(term[end:], ":")
	var err error
	switch mechanism {
	case "include":
		w.walk(ctx, value)
	case "ip4", "ip6":
		err = w.literal(mechanism, value)
	case "a", "mx":
		err = w.hosts(ctx, domain, mechanism, value)
	}
	if err != nil {
		w.failed(domain, fmt.Errorf("%q: %w", term, plain(err)))
	}
}

// literal takes the address or network of ip4: or ip6:.
func (w *spfWalker) literal(mechanism, value string) error {
	p, err := netip.ParsePrefix(value)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(value); err != nil {
			return errors.New("no address and no network")
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4() != (mechanism == "ip4") || p.Addr().Zone() != "" {
		return errors.New("no address of that family")
	}
	w.add(p)
	return nil
}

// hosts takes the addresses of a host or of the mail hosts of a domain, or
// the networks of the lengths given that they are in.
func (w *spfWalker) hosts(ctx context.Context, domain, mechanism, value string) error {
	name, lengths, _ := strings.Cut(value, "/")
	len4, len6, err := prefixLengths(lengths)
	if err != nil {
		return err
	}
	if name == "" {
		name = domain
	}
	names := []string{strings.TrimSuffix(name, ".") + "."}
	if mechanism == "mx" {
		if names, err = w.mailHosts(ctx, names[0]); err != nil {
			return err
		}
	}
	for _, n := range names {
		addrs, err := w.resolver.LookupNetIP(ctx, w.network, n)
		if err != nil && !isNoSuchHost(err) {
			return err
		}
		for _, a := range addrs {
			a = a.Unmap()
			bits := len6
			if a.Is4() {
				bits = len4
			}
			w.add(netip.PrefixFrom(a, bits))
		}
	}
	return nil
}

func (w *spfWalker) mailHosts(ctx context.Context, domain string) ([]string, error) {
	mxs, err := w.resolver.LookupMX(ctx, domain)
	if err != nil && !isNoSuchHost(err) {
		return nil, err
	}
	if len(mxs) > maxSPFHosts {
		return nil, fmt.Errorf("it has more than %d mail hosts", maxSPFHosts)
	}
	var names []string
	for _, mx := range mxs {
		names = append(names, mx.Host)
	}
	return names, nil
}

// isNoSuchHost reports whether err says that there is none, or none of the
// family that was asked for: it may send no mail then.
func isNoSuchHost(err error) bool {
	var d *net.DNSError
	var a *net.AddrError
	return errors.As(err, &d) && d.IsNotFound || errors.As(err, &a)
}

// prefixLengths reads what follows the first slash of a or mx: 24, 24//64, or
// /64. What is not said is a whole address.
func prefixLengths(s string) (len4, len6 int, err error) {
	len4, len6 = 32, 128
	text4, text6, two := strings.Cut(s, "//")
	if rest, ok := strings.CutPrefix(s, "/"); ok {
		text4, text6, two = "", rest, true
	}
	if text4 != "" {
		if len4, err = strconv.Atoi(text4); err != nil || len4 < 0 || len4 > 32 {
			return 0, 0, errors.New("no length of an IPv4 network")
		}
	}
	if two {
		if len6, err = strconv.Atoi(text6); err != nil || len6 < 0 || len6 > 128 {
			return 0, 0, errors.New("no length of an IPv6 network")
		}
	}
	return len4, len6, nil
}

func (w *spfWalker) add(p netip.Prefix) {
	if w.network == "ip4" && !p.Addr().Is4() || w.network == "ip6" && p.Addr().Is4() {
		return
	}
	w.found[p.Masked()] = true
}

func (w *spfWalker) sorted() []netip.Prefix {
	var ps []netip.Prefix
	for p := range w.found {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, netip.Prefix.Compare)
	return ps
}

// cutFold is strings.CutPrefix without regard to case.
func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
