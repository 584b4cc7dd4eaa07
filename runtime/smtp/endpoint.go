package smtp

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/mfa"
	"smtpd/runtime/rfc5322"
)

// An endpoint is what a session must know of where it came in.
type endpoint struct {
	addr         netip.Addr // bound; zero for the local socket
	local        bool       // the local socket
	submission   bool       // its users are ours: headers are completed
	tag          string
	hostname     string
	hostnames    compile.TableID
	tls          compile.TLSMode
	tlsConfig    *tls.Config
	auth         compile.AuthMode
	authTable    compile.TableID
	maskSrc      bool
	noDSN        bool
	receivedAuth bool
	proxy        bool // a PROXY header comes first
	proxyFrom    compile.TableID
	senders      compile.TableID
	masquerade   bool
	filter       compile.FilterID
	phases       map[string]bool // in which the filter is to be asked
	programs     bool            // the filter has programs, which say themselves what they want
}

func newEndpoint(rs *compile.Ruleset, l *compile.Listener, t *tls.Config) *endpoint {
	return &endpoint{
		addr:         l.Addr,
		submission:   l.Addr.IsLoopback() && (l.Addr == netip.IPv6Loopback() || l.Addr == loopback4) || l.Port == 587,
		tag:          l.Tag,
		hostname:     l.Hostname,
		hostnames:    l.Hostnames,
		tls:          l.TLS,
		tlsConfig:    t,
		auth:         l.Auth,
		authTable:    l.AuthTable,
		maskSrc:      l.MaskSrc,
		noDSN:        l.NoDSN,
		receivedAuth: l.ReceivedAuth,
		proxy:        l.ProxyV2,
		proxyFrom:    l.ProxyFrom,
		senders:      l.Senders,
		masquerade:   l.Masquerade,
		filter:       l.Filter,
		phases:       mfa.Phases(rs, l.Filter),
		programs:     mfa.Programs(rs, l.Filter),
	}
}

// loopback4 is the one IPv4 address that stands for this host; a listener on
// another of 127/8 serves something else.
var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func newSocketEndpoint(rs *compile.Ruleset) *endpoint {
	s := &rs.Socket
	return &endpoint{
		local:      true,
		submission: true,
		tag:        s.Tag,
		hostname:   s.Hostname,
		maskSrc:    s.MaskSrc,
		noDSN:      s.NoDSN,
		filter:     s.Filter,
		phases:     mfa.Phases(rs, s.Filter),
		programs:   mfa.Programs(rs, s.Filter),
	}
}

func (e *endpoint) offersStartTLS() bool {
	return e.tls == compile.StartTLS || e.tls == compile.RequireTLS
}

// serverName returns the name that the server has on this connection. The
// table of names is asked for the address that the client reached; on a
// listener on all addresses that says more than 0.0.0.0, the key of
// OpenSMTPD, which is asked second.
func (s *server) serverName(ctx context.Context, e *endpoint, local net.Addr) string {
	if e.hostnames == 0 {
		return e.hostname
	}
	reached := e.addr
	if a, ok := local.(*net.TCPAddr); ok {
		reached = a.AddrPort().Addr().Unmap().WithZone("")
	}
	for _, a := range [...]netip.Addr{reached, e.addr} {
		for _, key := range addressKeys(a) {
			name, ok, err := s.names.Lookup(ctx, e.hostnames, engine.AddrName, key)
			if err == nil && ok {
				return name
			}
		}
	}
	return e.hostname
}

// addressKeys returns the spellings under which a table may have an address.
func addressKeys(a netip.Addr) []string {
	if a.Is6() {
		return []string{rfc5322.Bracket(a), a.String()}
	}
	return []string{a.String()}
}
