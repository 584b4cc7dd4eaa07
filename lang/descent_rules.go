package lang

import (
	"smtpd/ast"
	"smtpd/lang/token"
)

func (d *descent) listen() *ast.Listen {
	l := new(ast.Listen)
	pos := d.peek().pos
	if d.own("metrics") {
		l.Metrics = d.metrics(pos)
		return l
	}
	d.wantKw("on")
	if d.kw("socket") {
		l.Socket = true
		for o := d.socketOption(); o != nil; o = d.socketOption() {
			l.SocketOptions = append(l.SocketOptions, o)
		}
		return l
	}
	if l.On = d.newStr(); l.On == nil {
		return nil
	}
	for o := d.listenOption(); o != nil; o = d.listenOption() {
		l.Options = append(l.Options, o)
	}
	return l
}

func (d *descent) metrics(pos token.Pos) *ast.Metrics {
	m := &ast.Metrics{Pos: pos}
	d.wantKw("on")
	d.str(&m.On)
	d.wantKw("port")
	if !d.num(&m.Port) {
		return nil
	}
	return m
}

func (d *descent) socketOption() *ast.SocketOption {
	o := &ast.SocketOption{Pos: d.peek().pos}
	switch {
	case d.kw("filter"):
		o.Filter = d.filterRef()
	case d.kw("mask-src"):
		o.MaskSrc = true
	case d.kw("no-dsn"):
		o.NoDSN = true
	case d.kw("tag"):
		o.Tag = d.newStr()
	default:
		return nil
	}
	if d.failed && !inChain(o.Filter) {
		return nil
	}
	o.EndPos = d.end
	return o
}

// inChain reports whether an option that failed did so inside a chain, the
// begin of which is worth keeping: each of its filters has to be there.
func inChain(f *ast.FilterRef) bool { return f != nil && f.Chain != nil }

func (d *descent) listenOption() *ast.ListenOption {
	w := d.word()
	if w == "" {
		return nil
	}
	o := &ast.ListenOption{Pos: d.t.pos}
	d.take()
	switch w {
	case "filter":
		o.Filter = d.filterRef()
	case "mask-src":
		o.MaskSrc = true
	case "no-dsn":
		o.NoDSN = true
	case "tag":
		o.Tag = d.newStr()
	case "inet4":
		o.Inet4 = true
	case "inet6":
		o.Inet6 = true
	case "port":
		o.Port = d.port()
	case "received-auth":
		o.ReceivedAuth = true
	case "proxy-v2":
		o.ProxyV2 = d.proxyV2()
	case "hostname":
		o.Hostname = d.newStr()
	case "hostnames":
		o.Hostnames = d.tableArg()
	case "senders":
		o.Senders = &ast.Senders{Table: d.tableArg()}
		o.Senders.Masquerade = d.kw("masquerade")
	default:
		if !d.tlsOption(o, w) {
			d.refuse()
		}
	}
	if d.failed && !inChain(o.Filter) {
		return nil
	}
	o.EndPos = d.end
	return o
}

func (d *descent) proxyV2() *ast.ProxyV2 {
	p := &ast.ProxyV2{Pos: d.peek().pos}
	if d.own("only-from") {
		p.From = d.tableArg()
	}
	return p
}

// tlsOption parses what a listener says of TLS and of who may use it.
func (d *descent) tlsOption(o *ast.ListenOption, w string) bool {
	switch w {
	case "smtps":
		o.SMTPS = &ast.Verify{Verify: d.kw("verify")}
	case "tls":
		o.TLS = true
	case "tls-require":
		o.TLSRequire = &ast.Verify{Verify: d.kw("verify")}
	case "ciphers":
		o.Ciphers = d.newStr()
	case "protocols":
		o.Protocols = d.newStr()
	case "pki":
		o.PKI = d.newStr()
	case "ca":
		o.CA = d.newStr()
	case "auth":
		o.Auth = &ast.OptTable{Table: d.optTableArg()}
	case "auth-optional":
		o.AuthOptional = &ast.OptTable{Table: d.optTableArg()}
	default:
		return false
	}
	return true
}

func (d *descent) port() *ast.Port {
	p := new(ast.Port)
	switch w := d.word(); {
	case w == "smtp" || w == "smtps":
		p.Keyword = w
		d.take()
	case d.peek().kind == number:
		p.Num = d.newNum()
	default:
		p.Name = d.newStr()
	}
	return p
}

func (d *descent) action() *ast.Action {
	a := d.actions.new()
	if !d.str(&a.Name) {
		return nil
	}
	if d.kw("relay") {
		a.Relay = d.relays.new()
		for o := d.relayOption(); o != nil; o = d.relayOption() {
			d.relayOptions.add(o)
		}
		a.Relay.Options = d.relayOptions.done()
	} else {
		a.Local = d.local()
	}
	for d.kw("ttl") {
		if ttl := d.newStr(); ttl != nil {
			a.TTL = append(a.TTL, ttl)
		}
	}
	return a
}

func (d *descent) local() *ast.Local {
	l := &ast.Local{Pos: d.peek().pos}
	switch {
	case d.kw("mbox"):
		l.MBox = true
	case d.kw("maildir"):
		l.Maildir = &ast.Maildir{Path: d.optStr()}
		l.Maildir.Junk = d.kw("junk")
	case d.kw("lmtp"):
		l.LMTP = new(ast.LMTP)
		d.str(&l.LMTP.Dest)
		l.LMTP.RcptTo = d.kw("rcpt-to")
	case d.kw("mda"):
		l.MDA = d.newStr()
	case d.kw("forward-only"):
		l.ForwardOnly = true
	case d.kw("expand-only"):
		l.ExpandOnly = true
	default:
		d.fail()
	}
	if d.failed {
		return nil
	}
	for o := d.localOption(); o != nil; o = d.localOption() {
		l.Options = append(l.Options, o)
	}
	return l
}

func (d *descent) localOption() *ast.LocalOption {
	o := &ast.LocalOption{Pos: d.peek().pos}
	switch {
	case d.kw("user"):
		o.User = d.newStr()
	case d.kw("alias"):
		o.Alias = d.tableArg()
	case d.kw("virtual"):
		o.Virtual = d.tableArg()
	case d.kw("userbase"):
		o.Userbase = d.tableArg()
	case d.kw("wrapper"):
		o.Wrapper = d.newStr()
	default:
		return nil
	}
	if d.failed {
		return nil
	}
	o.EndPos = d.end
	return o
}

func (d *descent) relayOption() *ast.RelayOption {
	w := d.word()
	if w == "" || w == "ttl" {
		return nil
	}
	o := d.relayOptionSlab.new()
	o.Pos = d.t.pos
	d.take()
	switch w {
	case "host":
		o.Host = d.tableArg()
	case "domain":
		o.Domain = d.tableArg()
	case "helo":
		o.Helo = d.newStr()
	case "helo-src":
		o.HeloSrc = d.tableArg()
	case "src":
		o.Src = d.tableArg()
	case "mail-from":
		o.MailFrom = d.newStr()
	case "backup":
		o.Backup = new(ast.Backup)
		if d.kw("mx") {
			o.Backup.MX = d.newStr()
		}
	case "filter":
		o.Filter = d.filterRef()
	case "srs":
		o.SRS = true
	default:
		if !d.relayTLSOption(o, w) {
			d.refuse()
		}
	}
	if d.failed && !inChain(o.Filter) {
		return nil
	}
	o.EndPos = d.end
	return o
}

func (d *descent) relayTLSOption(o *ast.RelayOption, w string) bool {
	switch w {
	case "pki":
		o.PKI = d.newStr()
	case "ca":
		o.CA = d.newStr()
	case "ciphers":
		o.Ciphers = d.newStr()
	case "protocols":
		o.Protocols = d.newStr()
	case "tls":
		o.TLS = &ast.RelayTLS{NoVerify: d.kw("no-verify")}
	case "auth":
		o.Auth = d.tableArg()
	default:
		return false
	}
	return true
}

func (d *descent) match() *ast.Match {
	m := d.matches.new()
	for c := d.criterion(); c != nil; c = d.criterion() {
		d.criteria.add(c)
	}
	m.Criteria = d.criteria.done()
	switch {
	case d.kw("action"):
		m.Action = d.newStr()
	case d.kw("reject"):
		m.Reject = true
	default:
		d.fail()
	}
	return m
}

func (d *descent) criterion() *ast.Criterion {
	pos := d.peek().pos
	not := d.op("!")
	w := d.word()
	if !not && (w == "" || w == "action" || w == "reject") {
		return nil
	}
	c := d.criterionSlab.new()
	c.Pos, c.Not = pos, not
	switch {
	case d.kw("from"):
		c.From = d.from()
	case d.kw("for"):
		c.For = d.forWhom()
	case d.kw("tag"):
		c.Tag = d.pattern()
	case d.kw("helo"):
		c.Helo = d.pattern()
	case d.kw("tls"):
		c.TLS = true
	case d.kw("auth"):
		c.Auth = d.optPattern()
	case d.kw("mail-from"):
		c.MailFrom = d.pattern()
	case d.kw("rcpt-to"):
		c.RcptTo = d.pattern()
	default:
		d.fail()
	}
	if d.failed {
		return nil
	}
	c.EndPos = d.end
	return c
}

func (d *descent) from() *ast.From {
	f := d.froms.new()
	switch {
	case d.kw("any"):
		f.Any = true
	case d.kw("local"):
		f.Local = true
	case d.kw("socket"):
		f.Socket = true
	case d.kw("src"):
		f.Src = d.pattern()
	case d.kw("rdns"):
		f.RDNS = d.optPattern()
	case d.kw("auth"):
		f.Auth = d.optPattern()
	case d.kw("mail-from"):
		f.MailFrom = d.pattern()
	default:
		d.fail()
	}
	return f
}

func (d *descent) forWhom() *ast.For {
	f := d.fors.new()
	switch {
	case d.kw("any"):
		f.Any = true
	case d.kw("local"):
		f.Local = true
	case d.kw("domain"):
		f.Domain = d.pattern()
	case d.kw("rcpt-to"):
		f.RcptTo = d.pattern()
	default:
		d.fail()
	}
	return f
}
