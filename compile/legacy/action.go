package legacy

import (
	"regexp"
	"strings"

	"smtpd/ast/old"
	"smtpd/compile"
)

// action adds what a rule does with mail that has met a condition; virtual is
// the map that the condition looked into.
func (c *compiler) action(r *old.Rule, virtual *old.TableArg) compile.ActionID {
	a := compile.Action{Name: "rule", TTL: c.lifetime, Origin: c.origin}
	if r.Expire != nil {
		a.TTL = c.duration(r.Expire)
	}
	switch {
	case r.ForwardOnly:
		a.Method = compile.ForwardOnly
	case r.Action == nil:
		a.Method = compile.ExpandOnly
	case relays(r):
		a.Method = compile.Relay
		a.Relay = c.relay(r.Action)
	default:
		c.local(&a, r.Action)
	}
	if a.Method != compile.Relay {
		c.users(&a, r, virtual)
	}
	c.rs.Actions = append(c.rs.Actions, a)
	return compile.ActionID(len(c.rs.Actions))
}

// users sets how the users of a delivery are found.
func (c *compiler) users(a *compile.Action, r *old.Rule, virtual *old.TableArg) {
	a.Alias, a.Virtual, a.Userbase = c.table(r.Alias), c.table(r.Virtual), c.table(r.Userbase)
	if virtual != nil {
		a.Virtual, a.Alias = c.table(virtual), 0
	}
	if implicit, ok := c.tables["aliases"]; ok && c.file.Dialect == old.D1A && a.Alias == 0 && a.Virtual == 0 {
		a.Alias = implicit
	}
	if r.Action != nil && r.Action.User != nil {
		a.User = r.Action.User.Text
	}
}

// local sets a delivery on this host.
func (c *compiler) local(a *compile.Action, o *old.Action) {
	arg := ""
	if o.Arg != nil {
		arg = o.Arg.Text
	}
	switch o.Method {
	case old.MBox:
		a.Method = compile.MBox
		if arg != "" && arg != "/var/mail/%u" && arg != "/var/spool/mail/%u" { // a file of one's own, in 2009
			a.Method, a.Argument = compile.MDA, "/usr/libexec/mail.mboxfile -f %{mbox.from} "+c.specifiers(arg)
		}
	case old.Maildir:
		a.Method, a.Argument = compile.Maildir, c.specifiers(arg)
	case old.MDA:
		a.Method, a.Argument = compile.MDA, c.specifiers(arg)
	case old.LMTP:
		a.Method, a.Argument, a.RcptTo = compile.LMTP, arg, o.RcptTo
	}
}

var (
	long  = regexp.MustCompile(`%\{([^}\[:]*)\}`)
	short = regexp.MustCompile(`%([0-9]?)([uadAUD])|%([%{])`)
)

// specifiers returns a path or a command with the expansions that mean what
// those of the dialect meant.
func (c *compiler) specifiers(text string) string {
	switch {
	case c.file.Dialect == old.D53: // all values were in lower case
		return long.ReplaceAllString(text, "%{${1}:lowercase}")
	case c.file.Dialect.Generation() == 2:
		return text
	}
	names := map[string]string{"u": "user.username", "a": "dest.user", "d": "dest.domain", "A": "sender.user", "U": "sender.user", "D": "sender.domain"}
	return short.ReplaceAllStringFunc(text, func(s string) string {
		part := short.FindStringSubmatch(s)
		switch {
		case part[3] != "": // a percent sign that would begin something now
			return "%%" + part[3]
		case part[1] != "":
			return "%{" + names[part[2]] + "[" + part[1] + "]}"
		case part[2] == "u": // a name of the system, as it is
			return "%{user.username}"
		}
		return "%{" + names[part[2]] + ":lowercase}"
	})
}

// relay returns how mail is sent on.
func (c *compiler) relay(o *old.Action) compile.RelayOptions {
	r := compile.RelayOptions{HeloSrc: c.table(o.Helo), Src: c.table(o.Source), Helo: c.helo, TLS: o.TLS}
	if o.Hostname != nil {
		r.Helo = o.Hostname.Text
	}
	if o.As != nil {
		r.MailFrom = c.sender(o.As.Text)
	}
	switch o.Method {
	case old.RelayBackup:
		c.backup(&r, o.Arg)
	case old.RelayVia:
		c.via(&r, o)
	}
	r.NoVerify = r.TLS && !o.Verify
	c.certificates(&r, o)
	return r
}

func (c *compiler) backup(r *compile.RelayOptions, name *old.Str) {
	r.Backup = true
	switch {
	case name != nil:
		r.BackupMX = name.Text
	case c.ownNames: // the server's, whichever listener took the mail
		r.BackupMX = c.rs.ServerName
	}
}

// sender returns the sender that a relay shows.
func (c *compiler) sender(as string) string {
	user, domain, _ := strings.Cut(as, "@")
	if user != "" && domain == "" {
		if c.rs.ServerName == "localhost" { // not known
			return user + "@"
		}
		return user + "@" + c.rs.ServerName
	}
	return as
}

// transports says how a scheme of generation 2 spoke to the host. Those with
// two are told apart by the port.
var transports = map[string]struct {
	scheme    string
	tls       bool
	alternate string // the scheme if the port is that of smtps, 465
}{
	"":         {scheme: "smtp"},
	"smtp":     {scheme: "smtp+notls"},
	"smtp+tls": {scheme: "smtp"},
	"tls":      {scheme: "smtp+tls", tls: true},
	"smtps":    {scheme: "smtps", tls: true},
	"ssmtp":    {scheme: "smtps", tls: true},
	"ssl":      {scheme: "smtp+tls", tls: true, alternate: "smtps"},
	"secure":   {scheme: "smtp+tls", tls: true, alternate: "smtps"},
	"lmtp":     {scheme: "lmtp"},
}

var relayURL = regexp.MustCompile(`^(?:([A-Za-z+]+)://)?(?:(.*)@)?(\[[^\]]*\]|[^:]*|[^@]*:[^@]*:[^@]*?)(:[0-9A-Za-z]+)?$`)

// via sets the host that mail is sent to.
func (c *compiler) via(r *compile.RelayOptions, o *old.Action) {
	part := relayURL.FindStringSubmatch(o.Arg.Text)
	if part == nil {
		c.fail("%s: %q is no host", o.Arg.Pos, o.Arg.Text)
		return
	}
	scheme, label, host, port := strings.ToLower(part[1]), part[2], part[3], part[4]
	scheme = strings.TrimSuffix(scheme, "+auth")
	if o.Transport != "" {
		scheme = o.Transport
	}
	if o.Port != nil {
		port = ":" + o.Port.Text
	}
	if rest, ok := strings.CutSuffix(scheme, "backup"); ok {
		r.Backup, r.BackupMX, r.TLS = true, host, rest == "tls+"
		return
	}
	t, ok := transports[scheme]
	if !ok {
		c.fail("%s: no release knew the scheme %q", o.Arg.Pos, scheme)
	}
	switch d := c.file.Dialect; {
	case d.Generation() == 1 && scheme == "smtp":
		t.scheme = "smtp" // with STARTTLS if it is offered
	case d.Generation() == 1 && scheme == "ssl" && port == "":
		t.scheme = "smtps" // tried first there
	case t.alternate != "" && port == ":465":
		t.scheme = t.alternate
	case (d == old.D53 || d == old.D54) && scheme == "" && port != "":
		t.scheme = "lmtp"
	}
	r.TLS = t.tls
	auth := o.Auth
	if o.EnabAuth {
		auth = &old.TableArg{Ref: &old.Str{Text: "secrets"}}
	}
	if r.Auth = c.table(auth); r.Auth != 0 {
		if label == "" { // the credentials were those of the host
			label = host
		}
		host = label + "@" + host
	}
	r.Host = c.keys(t.scheme + "://" + host + port)
}

// certificates sets what is shown to the other side and what its certificate
// is checked with.
func (c *compiler) certificates(r *compile.RelayOptions, o *old.Action) {
	var own string // pki with a ca of its own: 5.4.1 to 5.4.6
	switch {
	case o.PKI != nil:
		own = o.PKI.Text
		r.PKI = hostName(own)
	case o.Cert != nil:
		r.PKI = hostName(o.Cert.Text)
	case c.file.Dialect >= old.D541 && c.mayUseTLS(r):
		name := r.Helo
		if name == "" && c.rs.ServerName != "localhost" {
			name = c.rs.ServerName
		}
		for _, n := range []string{strings.ToLower(name), "*"} {
			if c.pki[n] {
				r.PKI = hostName(n)
				break
			}
		}
	}
	switch {
	case o.CA != nil:
		r.CA = hostName(o.CA.Text)
	case own != "" && o.Verify && c.ownCA(own):
		r.CA = hostName(own)
	}
}

func (c *compiler) mayUseTLS(r *compile.RelayOptions) bool {
	if r.Host == 0 {
		return true
	}
	url := c.rs.Table(r.Host).Entries[0].Key
	return !strings.HasPrefix(url, "smtp+notls:") && !strings.HasPrefix(url, "lmtp:")
}

// ownCA reports whether the certificate called name has an authority beside
// it.
func (c *compiler) ownCA(name string) bool {
	for _, s := range c.file.Stmts {
		if s.PKI == nil || !strings.EqualFold(s.PKI.Name.Text, name) {
			continue
		}
		for _, o := range s.PKI.Options {
			if o.Word == "ca" {
				return true
			}
		}
	}
	return false
}
