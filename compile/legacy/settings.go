package legacy

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"smtpd/ast/old"
	"smtpd/compile"
)

// setting sets what holds for the whole server.
func (c *compiler) setting(s *old.Setting) {
	switch s.Word {
	case "expire":
		c.rs.Queue.TTL = c.lifetime
	case "max-message-size":
		c.rs.SMTP.MaxMessageSize = c.bytes(s.Args[0])
	case "bounce-warn":
		c.rs.Bounce = nil
		for _, a := range s.Args[:min(4, len(s.Args))] { // more were never looked at
			c.rs.Bounce = append(c.rs.Bounce, c.duration(a))
		}
	case "queue compression":
		c.rs.Queue.Compression = true
	case "queue encryption":
		c.rs.Queue.Encryption = true
		for _, a := range s.Args {
			c.rs.Queue.Key = a.Text
			// No release started with a key of another length.
			if c.rs.Queue.Encryption = len(a.Text) == 32; !c.rs.Queue.Encryption {
				c.rs.Queue.Key = ""
			}
		}
	case "max-mta-deferred":
		c.limit(reflect.ValueOf(&c.rs.MTA), "max-deferred", s.Args[0])
	case "ciphers":
		c.rs.SMTP.Ciphers = s.Args[0].Text
	case "limit session":
		c.limits(reflect.ValueOf(&c.rs.SMTP), s.Args)
	case "limit mda":
		c.limits(reflect.ValueOf(&c.rs.MDA), s.Args)
	case "limit scheduler":
		c.limits(reflect.ValueOf(&c.rs.Scheduler), s.Args)
	case "limit mta":
		c.limits(reflect.ValueOf(c.mtaLimits(s.Domain)), s.Args)
	}
}

// mtaLimits returns the limits for a domain, which begin as those for all.
func (c *compiler) mtaLimits(domain *old.Str) *compile.MTALimits {
	if domain == nil {
		return &c.rs.MTA.Limits
	}
	name := strings.ToLower(domain.Text)
	for i := range c.rs.MTA.Domains {
		if c.rs.MTA.Domains[i].Domain == name {
			return &c.rs.MTA.Domains[i].Limits
		}
	}
	c.rs.MTA.Domains = append(c.rs.MTA.Domains, compile.DomainLimits{Domain: name, Limits: c.rs.MTA.Limits})
	return &c.rs.MTA.Domains[len(c.rs.MTA.Domains)-1].Limits
}

// limits sets limits by their names, each of which is that of a field.
func (c *compiler) limits(to reflect.Value, args []*old.Str) {
	for i := 0; i < len(args); i++ {
		switch name := args[i].Text; {
		case name == "inet4" || name == "inet6":
			to.Elem().FieldByName("Family").SetString(name)
		case i+1 < len(args):
			i++
			c.limit(to, name, args[i])
		}
	}
}

func (c *compiler) limit(to reflect.Value, name string, value *old.Str) {
	field := ""
	for part := range strings.SplitSeq(name, "-") {
		if part != "" {
			field += strings.ToUpper(part[:1]) + part[1:]
		}
	}
	f := to.Elem().FieldByName(field)
	n, err := strconv.ParseInt(value.Text, 10, 64)
	if !f.IsValid() || !f.CanInt() || err != nil {
		c.fail("%s: no limit is called %s", value.Pos, name)
		return
	}
	f.SetInt(n)
}

// bytes reads a size such as 35M.
func (c *compiler) bytes(s *old.Str) int64 {
	text := strings.TrimSpace(s.Text)
	units := "BKMGTPE"
	shift := 0
	if text != "" {
		if at := strings.IndexByte(units, text[len(text)-1]&^0x20); at >= 0 {
			shift, text = 10*at, text[:len(text)-1]
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 {
		c.fail("%s: %q is no size", s.Pos, s.Text)
	}
	return int64(n * float64(int64(1)<<shift))
}

// listen adds a listener, without its address: two if it offers TLS in both
// ways.
func (c *compiler) listen(s *old.Stmt) {
	l := s.Listen
	origin := compile.Origin{File: s.Start.Filename, Line: s.Start.Line, Column: s.Start.Column}
	if l.Socket {
		c.rs.Socket.MaskSrc, c.rs.Socket.Origin = l.MaskSource, origin
		return
	}
	n := compile.Listener{
		Interface: l.On.Text, Hostname: c.rs.ServerName, Verify: l.Verify, AuthTable: c.table(l.AuthTable),
		Hostnames: c.table(l.Hostnames), Senders: c.table(l.Senders), Masquerade: l.Masquerade,
		MaskSrc: l.MaskSource, NoDSN: l.NoDSN, ReceivedAuth: l.ReceivedAuth, Origin: origin,
		Auth: map[string]compile.AuthMode{"auth": compile.RequireAuth, "auth-optional": compile.OptionalAuth}[l.Auth],
	}
	for _, name := range []*old.Str{{Text: c.helo}, l.Hostname} {
		if name != nil && name.Text != "" {
			n.Hostname = name.Text
		}
	}
	n.Tag = c.listenerTag(l)
	modes := map[string][]compile.TLSMode{
		"": {compile.NoTLS}, "tls": {compile.StartTLS}, "tls-require": {compile.RequireTLS}, "smtps": {compile.SMTPS},
		"secure": {compile.StartTLS, compile.SMTPS}, "ssl": {compile.StartTLS, compile.SMTPS},
	}
	c.listenerPKI(&n, l)
	for _, mode := range modes[l.TLS] {
		n.TLS, n.Port = mode, c.port(l.Port, mode)
		c.rs.Listeners = append(c.rs.Listeners, n)
	}
}

// listenerTag returns the tag of a listener; in generation 1 that is its name
// unless it has one. One that no rule asks for is left out.
func (c *compiler) listenerTag(l *old.Listen) string {
	switch {
	case l.Tag != nil:
		return l.Tag.Text
	case c.file.Dialect.Generation() == 2:
		return ""
	}
	for _, s := range c.file.Stmts {
		if s.Rule != nil && s.Rule.Tag != nil && s.Rule.Tag.Text == l.On.Text {
			return l.On.Text
		}
	}
	return ""
}

func (c *compiler) port(p *old.Str, mode compile.TLSMode) uint16 {
	switch {
	case p == nil && mode == compile.SMTPS:
		return 465
	case p == nil:
		return 25
	}
	if n, err := strconv.ParseUint(p.Text, 10, 16); err == nil {
		return uint16(n)
	}
	n, ok := c.host.Service(p.Text)
	if !ok {
		return 25
	}
	return n
}

// listenerPKI sets the certificate and the authority of a listener. PKI stays
// empty if it cannot be known which certificate was used.
func (c *compiler) listenerPKI(n *compile.Listener, l *old.Listen) {
	name := ""
	switch {
	case l.TLS == "":
		return
	case l.PKI != nil:
		name = l.PKI.Text
	case l.Certificate != nil:
		name = l.Certificate.Text
	case c.file.Dialect < old.D541:
		name = l.On.Text
	case c.pki[strings.ToLower(n.Hostname)]:
		name = n.Hostname
	case c.pki["*"]:
		name = "*"
	}
	if name != "" {
		n.PKI = []string{hostName(name)}
	}
	switch {
	case l.CA != nil:
		n.CA = hostName(l.CA.Text)
	case l.PKI != nil && l.Verify && c.ownCA(name):
		n.CA = hostName(name)
	}
}

var notInHostName = regexp.MustCompile(`[^a-z0-9._-]+`)

// hostName returns the name of a certificate without what cannot be in one
// any more: early releases took any text.
func hostName(name string) string {
	if name == "*" {
		return name
	}
	return strings.Trim(notInHostName.ReplaceAllString(strings.ToLower(name), ""), ".-")
}

// Settings says what two rule tables, of an old file and of what it was
// converted to, have set differently for the server and its listeners.
func Settings(f *old.File, before, after *compile.Ruleset) []string {
	for _, s := range f.Stmts {
		if s.Present != nil {
			return nil // statements of the present language are not for this package
		}
	}
	d := difference{}
	d.same("smtp", before.SMTP, after.SMTP)
	d.same("queue", before.Queue, after.Queue)
	d.same("mda limits", before.MDA, after.MDA)
	d.same("scheduler limits", before.Scheduler, after.Scheduler)
	d.same("mta limits", before.MTA, after.MTA)
	if f.Dialect.Generation() == 2 && len(before.Bounce) > 0 {
		d.same("bounce", before.Bounce, after.Bounce)
	}
	d.same("socket mask-src", before.Socket.MaskSrc, after.Socket.MaskSrc)
	old, now := statements(before.Listeners), statements(after.Listeners)
	if len(old) != len(now) {
		return append(d.list, fmt.Sprintf("%d listeners, were %d", len(now), len(old)))
	}
	for i := range old {
		d.listener(before, after, old[i], now[i])
	}
	return d.list
}

// statements returns one listener for each statement.
func statements(list []compile.Listener) []compile.Listener {
	var out []compile.Listener
	for _, l := range list {
		if n := len(out); n == 0 || out[n-1].Origin != l.Origin || out[n-1].TLS != l.TLS {
			out = append(out, l)
		}
	}
	return out
}

type difference struct{ list []string }

func (d *difference) same(what string, before, after any) {
	if !reflect.DeepEqual(before, after) {
		d.list = append(d.list, fmt.Sprintf("%s: %v, was %v", what, after, before))
	}
}

func (d *difference) listener(before, after *compile.Ruleset, old, now compile.Listener) {
	what := func(option string) string { return fmt.Sprintf("%s of the listener on %s", option, old.Interface) }
	d.same(what("table of auth"), content(before, old.AuthTable), content(after, now.AuthTable))
	d.same(what("hostnames"), content(before, old.Hostnames), content(after, now.Hostnames))
	d.same(what("senders"), content(before, old.Senders), content(after, now.Senders))
	if len(old.PKI) > 0 {
		d.same(what("pki"), old.PKI, now.PKI)
	}
	d.same(what("tag"), strings.ToLower(old.Tag), strings.ToLower(now.Tag))
	for _, l := range []*compile.Listener{&old, &now} {
		l.AuthTable, l.Hostnames, l.Senders, l.PKI, l.Tag = 0, 0, 0, nil, ""
		l.Addr, l.Origin = now.Addr, now.Origin
	}
	d.same(what("options"), old, now)
}

// content says what a table holds.
func content(rs *compile.Ruleset, id compile.TableID) string {
	if id == 0 {
		return ""
	}
	t := rs.Table(id)
	return fmt.Sprint(t.Kind, t.Backend, t.Path, t.Entries)
}
