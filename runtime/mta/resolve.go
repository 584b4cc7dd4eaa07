package mta

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/lka"
)

// destination returns where action sends ev.
func (a *agent) destination(ctx context.Context, action *compile.Action, ev *envelope.Envelope) (destination, error) {
	o := &action.Relay
	domain := strings.ToLower(ev.Dest.Domain)
	if o.Host == 0 && o.Domain == 0 {
		d := destination{smarthost: smarthost{mode: opportunistic}, name: domain, byMX: true}
		if o.TLS {
			d.mode = startTLS
		}
		if o.Backup {
			d.backup = strings.ToLower(cmp.Or(o.BackupMX, ev.SMTPName, a.rules.ServerName))
		}
		return d, nil
	}
	var url string
	var ok bool
	var err error
	if o.Host != 0 {
		url, ok, err = a.tables.Fetch(ctx, o.Host, engine.RelayHost)
	} else {
		url, ok, err = a.tables.Lookup(ctx, o.Domain, engine.RelayHost, domain)
	}
	if err != nil || !ok {
		return destination{}, unanswered(err, "4.3.0", "Cannot retrieve smarthost")
	}
	h, err := parseSmarthost(url)
	switch {
	case err != nil:
		return destination{}, &failure{status: "4.3.5", text: errURL.Error()}
	case h.label != "" && o.Auth == 0:
		return destination{}, &failure{status: "4.3.5", text: "No auth table for relaying"}
	case o.TLS && (h.mode == plain || h.mode == lmtp):
		return destination{}, &failure{status: "4.3.5", text: "TLS required for relaying"}
	case o.TLS && h.mode == opportunistic:
		h.mode = startTLS
	}
	return destination{smarthost: h, name: strings.ToLower(h.host)}, nil
}

// resolve returns the hosts that take mail for r, best first.
func (a *agent) resolve(ctx context.Context, r *relay) ([]candidate, error) {
	if r.dest.byMX {
		return a.resolveMX(ctx, r)
	}
	if addr, err := netip.ParseAddr(r.dest.host); err == nil {
		return []candidate{{host: r.dest.host, addr: addr.Unmap()}}, nil
	}
	h, err := a.tables.Host(ctx, r.dest.host)
	if err != nil {
		return nil, dnsFailure(err, "Host not found")
	}
	h.Host = r.dest.host
	if len(h.Addrs) == 0 {
		return nil, &failure{status: "4.4.3", text: "Host not found"}
	}
	return candidates(h), nil
}

// candidates returns a host once for each of its addresses.
func candidates(mx lka.MX) []candidate {
	var l []candidate
	for _, addr := range mx.Addrs {
		l = append(l, candidate{
			host: strings.Trim(mx.Host, "[]"), pref: mx.Pref, addr: addr.Unmap(), secure: mx.Secure, canonical: mx.Canonical,
		})
	}
	return l
}

// resolveMX returns the mail exchangers of r's domain.
func (a *agent) resolveMX(ctx context.Context, r *relay) ([]candidate, error) {
	mxs, err := a.tables.MX(ctx, r.dest.name)
	if err != nil {
		return nil, dnsFailure(err, "Temporary failure in MX lookup")
	}
	below := uint32(math.MaxUint32)
	for _, mx := range mxs {
		if r.dest.backup != "" && strings.EqualFold(mx.Host, r.dest.backup) {
			below = min(below, uint32(mx.Pref))
		}
	}
	own := a.ownPreference(mxs, cmp.Or(r.dest.port, a.port))
	var l []candidate
	for _, mx := range mxs {
		if p := uint32(mx.Pref); p >= below || p >= own {
			continue
		}
		l = append(l, candidates(mx)...)
	}
	slices.SortStableFunc(l, func(x, y candidate) int { return int(x.pref) - int(y.pref) })
	if len(l) == 0 && own < below && r.dest.backup == "" {
		// RFC 5321, section 5.1: this is a configuration error, and a loop if
		// mail were sent.
		return nil, &failure{permanent: true, status: "5.4.6", text: "mail for " + r.dest.name + " loops back to this host"}
	}
	return a.policed(ctx, r, l)
}

// ownPreference returns the best preference under which mxs hold this host.
// What is as good or worse must not be used: it would send the mail back here
// (RFC 5321, section 5.1).
func (a *agent) ownPreference(mxs []lka.MX, port uint16) uint32 {
	own := uint32(math.MaxUint32)
	for _, mx := range mxs {
		if strings.EqualFold(mx.Host, a.rules.ServerName) || slices.ContainsFunc(mx.Addrs, func(addr netip.Addr) bool {
			return a.self[netip.AddrPortFrom(addr.Unmap(), port)]
		}) {
			own = min(own, uint32(mx.Pref))
		}
	}
	return own
}

// selfAddrs returns every address and port at which this daemon listens.
func selfAddrs(rs *compile.Ruleset) map[netip.AddrPort]bool {
	self := make(map[netip.AddrPort]bool)
	for _, l := range rs.Listeners {
		if !l.Addr.IsUnspecified() {
			self[netip.AddrPortFrom(l.Addr.Unmap().WithZone(""), l.Port)] = true
			continue
		}
		if rs.Local == 0 {
			continue
		}
		for _, e := range rs.Table(rs.Local).Entries {
			if addr, err := netip.ParseAddr(strings.Trim(e.Key, "[]")); err == nil && addr.Is4() == l.Addr.Is4() {
				self[netip.AddrPortFrom(addr.WithZone(""), l.Port)] = true
			}
		}
	}
	return self
}

// dnsFailure returns what an error of a DNS lookup means: its own words, or
// text if lka could not say.
func dnsFailure(err error, text string) error {
	var e *lka.DNSError
	if !errors.As(err, &e) {
		return unanswered(err, "4.4.3", text)
	}
	f := &failure{permanent: e.Permanent, status: "4.4.3", text: e.Text}
	if e.Permanent {
		f.status = "5.1.2"
		if e.Text == "Domain does not accept mail" {
			f.status = "5.1.10" // RFC 7505, section 4.2
		}
	}
	return f
}

// An access is how a session presents itself.
type access struct {
	source         netip.Addr // local address; invalid: any
	helo           string
	user, password string // "" for no AUTH
}

// access returns how the next session of r presents itself.
func (a *agent) access(ctx context.Context, r *relay) (access, error) {
	o := &r.action.Relay
	acc := access{helo: cmp.Or(o.Helo, a.rules.ServerName)}
	if r.dest.label != "" {
		var err error
		if acc.user, acc.password, err = a.credentials(ctx, r); err != nil {
			return acc, err
		}
	}
	if o.Src == 0 {
		return acc, nil
	}
	text, ok, err := a.tables.Fetch(ctx, o.Src, engine.Source)
	addr, perr := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil || !ok || perr != nil {
		return acc, unanswered(err, "4.3.0", "Could not retrieve source address")
	}
	acc.source = addr.Unmap()
	if o.HeloSrc == 0 {
		return acc, nil
	}
	key := acc.source.WithZone("").String()
	if acc.source.Is6() {
		key = "[" + key + "]"
	}
	acc.helo, ok, err = a.tables.Lookup(ctx, o.HeloSrc, engine.AddrName, key)
	if err != nil || !ok {
		f := unanswered(err, "4.3.0", "Could not retrieve helo name for source address")
		f.bySource = true
		return acc, f
	}
	return acc, nil
}

// credentials returns the user and password of r's label.
func (a *agent) credentials(ctx context.Context, r *relay) (user, password string, err error) {
	value, ok, err := a.tables.Lookup(ctx, r.action.Relay.Auth, engine.Credentials, r.dest.label)
	user, password, split := strings.Cut(value, ":")
	if !split {
		user, password = r.dest.label, value
	}
	if err != nil || !ok || user == "" || password == "" {
		return "", "", unanswered(err, "4.3.0", "Could not retrieve credentials")
	}
	return user, password, nil
}
