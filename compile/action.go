package compile

import (
	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// action declares an action.
func (c *compiler) action(a *ast.Action) {
	errors := c.errors
	c.actions.taken(c, &a.Name, a.Name.Pos)
	action := Action{Name: a.Name.Text, Origin: c.here()}
	switch {
	case a.Local != nil:
		c.local(&action, a.Local)
	case a.Relay != nil:
		action.Method = Relay
		c.relay(&action.Relay, a.Relay)
	}
	for _, ttl := range a.TTL {
		c.once("ttl", span(ttl), ttl.Pos)
		action.TTL, _ = c.delay(ttl, "ttl")
	}
	c.rs.Actions = append(c.rs.Actions, action)
	c.actions.declare(&a.Name, ActionID(len(c.rs.Actions)), c.failed(errors))
}

// resolveTTL gives the actions without a lifetime that of the queue, which
// may stand anywhere in the file.
func (c *compiler) resolveTTL() {
	for i := range c.rs.Actions {
		if c.rs.Actions[i].TTL == 0 {
			c.rs.Actions[i].TTL = c.rs.Queue.TTL
		}
	}
}

// local sets how an action delivers on this host.
func (c *compiler) local(a *Action, l *ast.Local) {
	switch {
	case l.MBox:
		a.Method = MBox
	case l.Maildir != nil:
		a.Method, a.Junk = Maildir, l.Maildir.Junk
		if l.Maildir.Path != nil {
			a.Argument = l.Maildir.Path.Text
		}
	case l.LMTP != nil:
		a.Method, a.Argument, a.RcptTo = LMTP, l.LMTP.Dest.Text, l.LMTP.RcptTo
	case l.MDA != nil:
		a.Method, a.Argument = MDA, l.MDA.Text
	case l.ForwardOnly:
		a.Method = ForwardOnly
	case l.ExpandOnly:
		a.Method = ExpandOnly
	}
	for _, o := range l.Options {
		c.localOption(a, o)
	}
}

func (c *compiler) localOption(a *Action, o *ast.LocalOption) {
	at := token.Span{Start: o.Pos, End: o.EndPos}
	switch {
	case o.User != nil:
		c.user(a, o.User, at)
	case o.Alias != nil:
		if c.once("alias", at, seenArg(o.Alias)) {
			c.excludes(at, seenArg(o.Alias), "alias", "virtual")
		}
		a.Alias = c.use(o.Alias, forAlias, false)
	case o.Virtual != nil:
		if c.once("virtual", at, seenArg(o.Virtual)) {
			c.excludes(at, seenArg(o.Virtual), "virtual", "alias")
		}
		a.Virtual = c.use(o.Virtual, forVirtual, false)
	case o.Userbase != nil:
		c.once("userbase", at, seenArg(o.Userbase))
		a.Userbase = c.use(o.Userbase, forUserbase, false)
	case o.Wrapper != nil:
		// The one option that may be repeated: the last one holds.
		if _, ok := c.wrappers.find(c, o.Wrapper, o.Wrapper.Pos); ok {
			a.Wrapper = o.Wrapper.Text
		}
	}
}

// user sets the user as which an action delivers, which some methods have of
// their own.
func (c *compiler) user(a *Action, user *ast.Str, at token.Span) {
	switch a.Method {
	case MBox, ForwardOnly, ExpandOnly:
		d := c.errorf(at, user.Pos, "conflicting-options", "user cannot be given with %s", a.Method)
		d.Label = "not with " + a.Method.String()
		return
	}
	c.once("user", at, user.Pos)
	a.User = user.Text
}

// excludes reports that an option cannot stand beside one that was given.
func (c *compiler) excludes(at token.Span, seen token.Pos, option, other string) {
	if first, ok := c.place(other); ok {
		d := c.errorf(at, seen, "conflicting-options", "%s cannot be given with %s", option, other)
		d.Notes = append(d.Notes, diag.Note{Span: first, Message: other + " is given here"})
	}
}

// relay sets how an action sends mail on.
func (c *compiler) relay(r *RelayOptions, l *ast.Relay) {
	for i, o := range l.Options {
		next := c.stmt.EndPos
		if i+1 < len(l.Options) {
			next = l.Options[i+1].Pos
		}
		c.relayOption(r, o, next)
	}
}

// relayOption sets one option; next is the token behind it or the end of the
// statement.
func (c *compiler) relayOption(r *RelayOptions, o *ast.RelayOption, next token.Pos) {
	at := token.Span{Start: o.Pos, End: o.EndPos}
	text := func(to *string, option string, s *ast.Str) {
		c.once(option, at, s.Pos)
		*to = s.Text
	}
	switch {
	case o.Helo != nil:
		text(&r.Helo, "helo", o.Helo)
	case o.HeloSrc != nil:
		c.once("helo-src", at, seenArg(o.HeloSrc))
		r.HeloSrc = c.use(o.HeloSrc, forHeloSrc, false)
	case o.PKI != nil:
		text(&r.PKI, "pki", o.PKI)
	case o.CA != nil:
		text(&r.CA, "ca", o.CA)
	case o.Ciphers != nil:
		text(&r.Ciphers, "ciphers", o.Ciphers)
	case o.Protocols != nil:
		text(&r.Protocols, "protocols", o.Protocols)
	case o.Src != nil:
		c.once("src", at, seenArg(o.Src))
		r.Src = c.use(o.Src, forSource, false)
	case o.MailFrom != nil:
		text(&r.MailFrom, "mail-from", o.MailFrom)
	case o.Filter != nil:
		c.once("filter", at, filterSeen(o.Filter))
		r.Filter = c.filterRef(o.Filter)
	case o.SRS:
		if c.rs.SRS.Key == "" {
			d := c.errorf(at, o.Pos, "missing-srs-key", "srs needs a key")
			d.Help = append(d.Help, `put srs key "secret" before this action`)
		}
		c.once("srs", at, o.Pos)
		r.SRS = true
	default:
		c.route(r, o, at, next)
	}
}

// route sets the options that say where mail goes and how it is protected.
func (c *compiler) route(r *RelayOptions, o *ast.RelayOption, at token.Span, next token.Pos) {
	switch {
	case o.Backup != nil:
		seen := next
		if o.Backup.MX != nil {
			seen = o.Backup.MX.Pos
			r.BackupMX = o.Backup.MX.Text
		}
		if c.once("backup", at, seen) {
			c.excludes(at, seen, "backup", "host")
			c.excludes(at, seen, "backup", "domain")
		}
		r.Backup = true
	case o.Host != nil:
		seen := seenArg(o.Host)
		if c.once("host", at, seen) {
			c.excludes(at, seen, "host", "domain")
			c.excludes(at, seen, "host", "backup")
		}
		r.Host = c.use(o.Host, forRelayHost, false)
	case o.Domain != nil:
		seen := seenArg(o.Domain)
		if c.once("domain", at, seen) {
			c.excludes(at, seen, "domain", "host")
			c.excludes(at, seen, "domain", "backup")
		}
		r.Domain = c.use(o.Domain, forRelayDomain, false)
	case o.TLS != nil:
		seen := next
		if o.TLS.NoVerify {
			seen = o.EndPos
		}
		c.once("tls", at, seen)
		r.TLS, r.NoVerify = true, o.TLS.NoVerify
	case o.Auth != nil:
		_, host := c.place("host")
		_, domain := c.place("domain")
		if !host && !domain {
			d := c.errorf(at, seenArg(o.Auth), "missing-host", "auth needs a host or domain before it")
			d.Help = append(d.Help, "credentials belong to a smarthost: name it first")
		}
		c.once("auth", at, seenArg(o.Auth))
		r.Auth = c.use(o.Auth, forRelayAuth, false)
	}
}
