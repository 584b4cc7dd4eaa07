package compile

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"smtpd/ast"
	"smtpd/compile/tablefile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Limits of a listener.
const (
	maxTag = 32 // bytes
	maxPKI = 32
)

// Default ports.
const (
	smtpPort  = 25
	smtpsPort = 465
)

// listen declares the socket listener or network listeners.
func (c *compiler) listen(l *ast.Listen) {
	switch {
	case l.Socket:
		c.listenSocket(l)
		return
	case l.Metrics != nil:
		c.listenMetrics(l.Metrics)
		return
	case l.On == nil:
		return // broken, and reported
	}
	p := pending{c: c, stmt: l, listener: Listener{
		Interface: l.On.Text,
		Hostname:  c.rs.ServerName,
		Origin:    c.here(),
	}}
	for i, o := range l.Options {
		// An option that may have another word behind it is complete
		// only when the next token is known.
		next := c.stmt.EndPos
		if i+1 < len(l.Options) {
			next = l.Options[i+1].Pos
		}
		p.option(o, next)
	}
	if !c.broken {
		p.finish()
	}
}

// listenSocket sets up the local submission socket.
func (c *compiler) listenSocket(l *ast.Listen) {
	at := token.Span{Start: c.stmt.Pos, End: c.stmt.EndPos}
	if c.socket != nil {
		d := c.errorf(at, c.stmt.EndPos, "duplicate-socket", "the socket listener is already declared")
		d.Notes = append(d.Notes, diag.Note{Span: token.At(c.socket.Pos), Message: "first declared here"})
	}
	if !c.broken {
		c.socket = c.stmt
	}
	s := Socket{Hostname: c.rs.ServerName, Origin: c.here()}
	for _, o := range l.SocketOptions {
		at := token.Span{Start: o.Pos, End: o.EndPos}
		switch {
		case o.Filter != nil:
			c.once("filter", at, filterSeen(o.Filter))
			s.Filter = c.filterRef(o.Filter)
		case o.MaskSrc:
			c.once("mask-src", at, o.Pos)
			s.MaskSrc = true
		case o.NoDSN:
			c.once("no-dsn", at, o.Pos)
			s.NoDSN = true
		case o.Tag != nil:
			c.once("tag", at, o.Tag.Pos)
			c.tag(&s.Tag, o.Tag)
		}
	}
	c.rs.Socket = s
}

// listenMetrics says where the numbers of the service can be read. Only an
// address will do: this is not to be reachable by accident.
func (c *compiler) listenMetrics(m *ast.Metrics) {
	c.extension(token.At(m.Pos), m.Pos, "listen metrics")
	addr, err := netip.ParseAddr(m.On.Text)
	if err != nil || addr.Zone() != "" {
		c.errorf(span(&m.On), m.On.Pos, "bad-address", "%q is no address to listen on", m.On.Text).Label = "such as 127.0.0.1 or ::1"
		return
	}
	port, err := strconv.ParseUint(m.Port.Text, 10, 16)
	if err != nil || port == 0 {
		c.errorf(token.Span{Start: m.Port.Pos, End: m.Port.EndPos}, m.Port.Pos, "bad-port", "%s is no port", m.Port.Text).Label = "expected 1 to 65535"
		return
	}
	if !c.broken {
		c.rs.Metrics = append(c.rs.Metrics, MetricsListener{Addr: addr, Port: uint16(port), Origin: c.here()})
	}
}

// tag sets a listener's tag.
func (c *compiler) tag(to *string, tag *ast.Str) {
	if len(tag.Text) > maxTag {
		c.errorf(span(tag), tag.Pos, "bad-tag", "tag of %d bytes is too long, the limit is %d", len(tag.Text), maxTag)
		return
	}
	*to = tag.Text
}

// A pending listener collects its options before it is spread over
// addresses.
type pending struct {
	c        *compiler
	stmt     *ast.Listen
	listener Listener
	pki      []*ast.Str
	ca       *ast.Str
	inet4    bool
	inet6    bool
	tlsAt    token.Span // the option that asks for TLS
	authAt   token.Span // that which asks for AUTH
}

// option sets one option; next is the token behind it.
func (p *pending) option(o *ast.ListenOption, next token.Pos) {
	c, l := p.c, &p.listener
	at := token.Span{Start: o.Pos, End: o.EndPos}
	switch {
	case o.Filter != nil:
		c.once("filter", at, filterSeen(o.Filter))
		l.Filter = c.filterRef(o.Filter)
	case o.MaskSrc:
		c.once("mask-src", at, o.Pos)
		l.MaskSrc = true
	case o.NoDSN:
		c.once("no-dsn", at, o.Pos)
		l.NoDSN = true
	case o.Tag != nil:
		c.once("tag", at, o.Tag.Pos)
		c.tag(&l.Tag, o.Tag)
	case o.Inet4, o.Inet6:
		c.once("address family", at, o.Pos)
		p.inet4, p.inet6 = o.Inet4, o.Inet6
	case o.Port != nil:
		seen := o.EndPos
		if o.Port.Name != nil {
			seen = o.Port.Name.Pos
		}
		c.once("port", at, seen)
		p.port(o.Port, at)
	case o.Hostname != nil:
		c.once("hostname", at, o.Hostname.Pos)
		l.Hostname = o.Hostname.Text
	case o.Hostnames != nil:
		c.once("hostnames", at, seenArg(o.Hostnames))
		l.Hostnames = c.use(o.Hostnames, forHostnames, false)
	case o.ReceivedAuth:
		c.once("received-auth", at, o.Pos)
		l.ReceivedAuth = true
	case o.ProxyV2 != nil:
		c.once("proxy-v2", at, o.Pos)
		l.ProxyV2 = true
		if from := o.ProxyV2.From; from != nil {
			c.extension(token.At(o.ProxyV2.Pos), o.ProxyV2.Pos, "proxy-v2 only-from")
			l.ProxyFrom = c.use(from, forProxies, false)
		}
	case o.Senders != nil:
		seen := o.EndPos
		if !o.Senders.Masquerade {
			seen = next
		}
		c.once("senders", at, seen)
		l.Senders = c.use(o.Senders.Table, forSenders, false)
		l.Masquerade = o.Senders.Masquerade
	default:
		p.security(o, at, next)
	}
}

// security sets the options of TLS and authentication.
func (p *pending) security(o *ast.ListenOption, at token.Span, next token.Pos) {
	c, l := p.c, &p.listener
	switch {
	case o.TLS:
		p.mode(StartTLS, "tls", at, o.Pos)
	case o.SMTPS != nil:
		l.Verify = o.SMTPS.Verify
		p.mode(SMTPS, "smtps", at, verifySeen(o.SMTPS, o, next))
	case o.TLSRequire != nil:
		l.Verify = o.TLSRequire.Verify
		p.mode(RequireTLS, "tls-require", at, verifySeen(o.TLSRequire, o, next))
	case o.Ciphers != nil:
		c.once("ciphers", at, o.Ciphers.Pos)
		l.Ciphers = o.Ciphers.Text
	case o.Protocols != nil:
		c.once("protocols", at, o.Protocols.Pos)
		l.Protocols = o.Protocols.Text
	case o.PKI != nil:
		if len(p.pki) == maxPKI {
			c.errorf(at, o.PKI.Pos, "too-many-pki", "more than %d pki on one listener", maxPKI)
		}
		p.pki = append(p.pki, o.PKI)
	case o.CA != nil:
		c.once("ca", at, o.CA.Pos)
		p.ca = o.CA
	case o.Auth != nil:
		p.auth(RequireAuth, o.Auth.Table, at, o, next)
	case o.AuthOptional != nil:
		p.auth(OptionalAuth, o.AuthOptional.Table, at, o, next)
	}
}

// verifySeen returns where an option with "verify" behind it is complete.
func verifySeen(v *ast.Verify, o *ast.ListenOption, next token.Pos) token.Pos {
	if v.Verify {
		return o.EndPos
	}
	return next
}

// mode sets the TLS mode; there is one.
func (p *pending) mode(m TLSMode, word string, at token.Span, seen token.Pos) {
	if c := p.c; p.listener.TLS != NoTLS {
		d := c.errorf(at, seen, "conflicting-options", "%s: the TLS mode is already given", word)
		first, _ := c.place("TLS mode")
		d.Notes = append(d.Notes, diag.Note{Span: first, Message: "first given here"})
		return
	}
	p.c.once("TLS mode", at, seen)
	p.listener.TLS, p.tlsAt = m, at
}

// auth offers AUTH. Its table may be of any kind.
func (p *pending) auth(m AuthMode, table *ast.TableArg, at token.Span, o *ast.ListenOption, next token.Pos) {
	seen := next
	if table != nil {
		seen = seenArg(table)
	}
	p.c.once("auth", at, seen)
	p.listener.Auth, p.authAt = m, at
	if table != nil {
		p.listener.AuthTable, _ = p.c.table(table)
	}
}

// port sets the port.
func (p *pending) port(port *ast.Port, at token.Span) {
	c := p.c
	if n := port.Num; n != nil {
		v, err := strconv.ParseUint(n.Text, 10, 16)
		if err != nil || v == 0 {
			c.errorf(token.Span{Start: n.Pos, End: n.EndPos}, n.Pos, "bad-port", "%s is no port", n.Text).Label = "expected 1 to 65535"
			return
		}
		p.listener.Port = uint16(v)
		return
	}
	name, where := port.Keyword, at
	if port.Name != nil {
		name, where = port.Name.Text, span(port.Name)
	}
	v, ok := c.host.Service(name)
	if ok {
		p.listener.Port = v
		return
	}
	if _, err := strconv.Atoi(name); err == nil {
		// No services database names a service by a number.
		d := c.errorf(where, where.Start, "bad-port", "a quoted port is the name of a service, and %q is none", name)
		if !c.fromMacro(where.Start) && port.Name != nil {
			d.Fixes = append(d.Fixes, diag.Fix{
				Message: "take the quotes away",
				Grade:   diag.Suggested,
				Edits:   []diag.Edit{{Span: where, New: name}},
			})
		}
		return
	}
	c.lacks(where, "unknown-service", "TCP service %q is not known", name).Label = "a number from 1 to 65535 serves as well"
	p.listener.Port = smtpPort
}

// finish checks the options against each other and adds one listener for
// each address.
func (p *pending) finish() {
	c, l := p.c, &p.listener
	if l.Auth != NoAuth && l.TLS == NoTLS {
		d := c.fatalf(p.authAt, "auth-without-tls", "auth needs TLS: without it passwords cross the network in the clear")
		d.Help = append(d.Help, "add tls, tls-require or smtps, and pki")
	}
	if len(p.pki) > 0 && l.TLS == NoTLS {
		c.fatalf(span(p.pki[0]), "pki-without-tls", "pki does nothing without tls, tls-require or smtps")
	}
	if len(p.pki) == 0 && l.TLS != NoTLS {
		c.fatalf(p.tlsAt, "tls-without-pki", "TLS needs a certificate").Label = "no pki among the options"
	}
	if l.Port == 0 {
		l.Port = smtpPort
		if l.TLS == SMTPS {
			l.Port = smtpsPort
		}
	}
	addrs, silent := p.addresses()
	if !silent {
		p.certificates()
	}
	for _, a := range addrs {
		l.Addr = a
		c.rs.Listeners = append(c.rs.Listeners, *l)
	}
}

// certificates looks up what pki and ca name. A pki is looked up as it is
// spelled, and declared in lower case: language.md 3.3.
func (p *pending) certificates() {
	c := p.c
	for _, name := range p.pki {
		if i, ok := c.pki.names[tablefile.Fold(name.Text)]; ok && !i.wrong && tablefile.Fold(name.Text) != name.Text {
			p.spelledUpper(name)
			continue
		}
		before := len(c.diags)
		if i, ok := c.pki.find(c, name, name.Pos); ok {
			p.listener.PKI = append(p.listener.PKI, c.rs.PKI[i].Name)
		}
		markFatal(c.diags[before:])
	}
	if p.ca == nil {
		return
	}
	folded := *p.ca
	folded.Text = tablefile.Fold(p.ca.Text)
	before := len(c.diags)
	if i, ok := c.ca.find(c, &folded, p.ca.Pos); ok {
		p.listener.CA = c.rs.CA[i].Name
	}
	markFatal(c.diags[before:])
}

// spelledUpper reports a pki that exists, but not as it is spelled.
func (p *pending) spelledUpper(name *ast.Str) {
	c, folded := p.c, tablefile.Fold(name.Text)
	d := c.fatalf(span(name), "undefined-pki", "undefined pki %q: the names of pki are kept in lower case", name.Text)
	d.Notes = append(d.Notes, diag.Note{Span: span(c.pki.names[folded].at), Message: "declared here as " + strconv.Quote(folded)})
	if !c.fromMacro(name.Pos) {
		d.Fixes = append(d.Fixes, diag.Fix{
			Message: "spell it in lower case",
			Grade:   diag.Suggested,
			Edits:   []diag.Edit{{Span: span(name), New: quote(folded)}},
		})
	}
}

func markFatal(l diag.List) {
	for _, d := range l {
		d.Fatal = true
	}
}

// addresses returns the addresses on which to listen: those of an interface
// or group, the literal address, or those of the host name. silent is set
// where OpenSMTPD drops the listener without looking up its certificates.
func (p *pending) addresses() (addrs []netip.Addr, silent bool) {
	c, on := p.c, p.stmt.On
	ours, _ := c.host.Interface(on.Text)
	if addrs = p.family(ours); len(addrs) > 0 {
		return addrs, false
	}
	if a, zone, ok := parseAddr(on.Text); ok {
		if p.inet4 {
			a = a.Unmap()
		}
		switch {
		case p.inet6 && a.Is4() || p.inet4 && !a.Is4():
			c.diags.Reportf(diag.Warning, span(on), "wrong-family", "no listener: %s is no address of the family that is asked for", on.Text)
			return nil, true
		case zone == "" || p.hasZone(a, zone):
			return []netip.Addr{a}, false
		}
	}
	list, err := c.host.Resolve(on.Text)
	if addrs = p.family(list); err == nil && len(addrs) > 0 {
		return addrs, false
	}
	if strings.HasPrefix(on.Text, "[") {
		d := c.fatalf(span(on), "unknown-address", "%q is no address", on.Text)
		d.Label = "an IPv6 address stands here without brackets"
		return nil, false
	}
	if errors.Is(err, ErrUnknown) {
		c.lacks(span(on), "unknown-address", "listen on %q needs an interface or host name of that name", on.Text).Fatal = true
		return []netip.Addr{{}}, false
	}
	d := c.lacks(span(on), "unknown-address", "nowhere to listen: %q is no interface, address or host name", on.Text)
	d.Fatal = true
	if len(ours)+len(list) > 0 {
		d.Label = "none with an address of the family that is asked for"
	}
	return []netip.Addr{{}}, false
}

// hasZone reports whether the interface zone is there, or may be, for an
// address of its link. Other addresses have no zone.
func (p *pending) hasZone(a netip.Addr, zone string) bool {
	if !a.IsLinkLocalUnicast() && !a.IsLinkLocalMulticast() {
		return false
	}
	_, there := p.c.host.Interface(zone)
	return there
}

// family returns the addresses of the family that is asked for.
func (p *pending) family(list []netip.Addr) []netip.Addr {
	var kept []netip.Addr
	for _, a := range list {
		a = a.Unmap()
		if p.inet4 && !a.Is4() || p.inet6 && a.Is4() {
			continue
		}
		kept = append(kept, a)
	}
	return kept
}
