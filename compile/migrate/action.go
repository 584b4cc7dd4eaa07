package migrate

import (
	"strings"

	"smtpd/ast/old"
	"smtpd/lang/diag"
)

// action returns the definition of what a rule does; virtual is the map of
// the condition that it is for, if that is for virtual.
func (c *converter) action(r *old.Rule, virtual *old.TableArg) string {
	var text string
	switch {
	case r.ForwardOnly:
		text = "forward-only"
	case r.Action == nil:
		text = "expand-only"
	case r.Action.Method >= old.Relay:
		text = c.relay(r.Action)
	default:
		text = c.deliver(r)
	}
	if r.Action == nil || r.Action.Method < old.Relay {
		text += c.usersOf(r, virtual)
	}
	if r.Expire != nil {
		text += " ttl " + c.delay(r.Expire)
	}
	return text
}

// delay returns a delay, without quotes if it needs none.
func (c *converter) delay(s *old.Str) string {
	if _, ok := delayOf(s.Text); ok && !c.keeps(s.Macro) {
		return s.Text
	}
	return c.str(s)
}

func (c *converter) usersOf(r *old.Rule, virtual *old.TableArg) string {
	text := ""
	alias := r.Alias
	if virtual == nil {
		virtual = r.Virtual
	}
	if c.file.Dialect < old.D1B && alias == nil && virtual == nil && c.tables["aliases"] != nil {
		c.once(diag.Portability, "migrate-alias", "this dialect used the map called aliases without being told; it is named now")
		text += ` alias <aliases>`
	}
	if alias != nil && virtual == nil {
		text += " alias " + c.arg(alias)
	}
	if virtual != nil {
		text += " virtual " + c.arg(virtual)
	}
	if r.Userbase != nil {
		text += " userbase " + c.arg(r.Userbase)
	}
	if r.Action != nil && r.Action.User != nil {
		if r.Userbase != nil {
			c.note(diag.Warning, "migrate-user", "user %q was looked up in the userbase; now it must be a user of the system", r.Action.User.Text)
		}
		c.once(diag.Warning, "migrate-forward", "the .forward of every recipient was read here; with `user` now only that user's own is")
		text += " user " + c.str(r.Action.User)
	}
	return text
}

func (c *converter) deliver(r *old.Rule) string {
	a := r.Action
	if a.Method != old.MBox && r.Alias == nil && r.Virtual == nil && r.Userbase == nil && a.User == nil {
		c.once(diag.Warning, "migrate-root", "mail for root is delivered to its mailbox only; by another way it fails until an alias sends it to a person")
	}
	switch a.Method {
	case old.Maildir:
		return c.maildir(a)
	case old.MDA:
		c.once(diag.Portability, "migrate-environment", "the command had PATH alone in its environment; now also HOME, USER, SENDER, RECIPIENT and others")
		text := c.expand(a.Arg)
		if strings.ContainsAny(text, "\"$`\\") {
			c.note(diag.Warning, "migrate-command", "the command holds a character that a second shell reads in some releases: look at it, or put it into a script")
		}
		return "mda " + c.changed(a.Arg, text)
	case old.LMTP:
		if a.RcptTo {
			return "lmtp " + c.str(a.Arg) + " rcpt-to"
		}
		return "lmtp " + c.str(a.Arg)
	}
	if a.Arg != nil { // 2009
		return c.mailboxFile(a)
	}
	return "mbox"
}

// mailboxFile converts delivery to a file that is a mailbox, as 2009 had it.
func (c *converter) mailboxFile(a *old.Action) string {
	if p := a.Arg.Text; p == "/var/mail/%u" || p == "/var/spool/mail/%u" {
		return "mbox"
	}
	c.note(diag.Warning, "migrate-mailbox", "a mailbox with a path of its own is written by a command now; see that mail.mboxfile is installed")
	return "mda " + quote("/usr/libexec/mail.mboxfile -f %{mbox.from} "+c.expand(a.Arg))
}

func (c *converter) maildir(a *old.Action) string {
	if a.Arg == nil {
		return "maildir"
	}
	text := c.expand(a.Arg)
	switch {
	case strings.HasPrefix(text, "~") && !strings.HasPrefix(text, "~/"):
		c.note(diag.Warning, "migrate-path", "path %q begins with the home directory of a named user; write that directory", a.Arg.Text)
	case !strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "~/") && !strings.HasPrefix(text, "%{user.directory"):
		c.note(diag.Warning, "migrate-path", "path %q is relative; only absolute paths and those that begin with ~/ work now", a.Arg.Text)
	}
	if d := c.file.Dialect; d == old.D53 || d == old.D54 {
		c.once(diag.Warning, "migrate-maildir-tag", "mail with a part after a + went to the folder of that name, which was made; now only if it exists")
	}
	return "maildir " + c.changed(a.Arg, text)
}

// relay converts what is sent on.
func (c *converter) relay(a *old.Action) string {
	words := []string{"relay"}
	add := func(w ...string) { words = append(words, w...) }
	switch a.Method {
	case old.RelayVia:
		add(c.via(a)...)
	case old.RelayBackup:
		add(c.backup(a.Arg))
	default:
		if c.file.Dialect == old.D53 || c.file.Dialect == old.D54 {
			c.once(diag.Warning, "migrate-clear-text", "this release relayed in clear text; now STARTTLS is used where it is offered")
		}
	}
	if a.TLS {
		if add("tls"); !a.Verify {
			add("no-verify")
		}
	}
	add(c.relayPKI(a)...)
	if a.Source != nil {
		add("src", c.arg(a.Source))
	}
	if a.Hostname != nil {
		add("helo", c.str(a.Hostname))
	} else if c.server != "" {
		add("helo", quote(c.server))
	}
	if a.Helo != nil {
		add("helo-src", c.arg(a.Helo))
	}
	if a.As != nil {
		add("mail-from", c.sender(a.As))
	}
	return strings.Join(words, " ")
}

// backup returns backup, and for which exchanger.
func (c *converter) backup(name *old.Str) string {
	switch {
	case name != nil:
		return "backup mx " + c.str(name)
	case !c.hostnames:
		return "backup"
	case c.opts.ServerName == "":
		c.note(diag.Portability, "migrate-backup-name", "backup without a name meant the server's name; now it means that of the listener").
			Help = []string{`write the server's name: backup mx "NAME"`}
		return "backup"
	}
	c.note(diag.Portability, "migrate-backup-name", "backup without a name meant the server's name, which is written out: now it would mean that of the listener")
	return "backup mx " + quote(c.opts.ServerName)
}

// sender converts the address that replaces the sender.
func (c *converter) sender(as *old.Str) string {
	c.once(diag.Warning, "migrate-sender", "`as` replaced the sender for good; now bounces go to the original sender, and only the next host sees the new one")
	user, domain, at := strings.Cut(as.Text, "@")
	if at && domain != "" || user == "" {
		return c.str(as)
	}
	if c.opts.ServerName == "" {
		c.note(diag.Warning, "migrate-sender", "`as %s` took the server's name as domain; now the sender's domain stays", as.Text).
			Help = []string{"write the whole address"}
		return quote(user + "@")
	}
	return quote(user + "@" + c.opts.ServerName)
}

// relayPKI returns the certificate and the authority of a relay.
func (c *converter) relayPKI(a *old.Action) []string {
	var words []string
	name := ""
	switch {
	case a.PKI != nil:
		name = certName(a.PKI.Text)
		words = append(words, "pki", c.certName(a.PKI))
	case a.Cert != nil:
		name = c.certificate(a.Cert.Text)
		words = append(words, "pki", c.quoteName(name))
	case c.file.Dialect >= old.D541 && offersCertificate(a):
		name = c.implicitPKI(a)
		if name != "" {
			words = append(words, "pki", c.quoteName(name))
		}
	}
	switch {
	case a.CA != nil:
		words = append(words, "ca", c.certName(a.CA))
	case name != "" && c.cas[name] != "" && a.Verify:
		words = append(words, "ca", c.quoteName(name))
	}
	return words
}

// offersCertificate reports whether a relay may come to speak TLS.
func offersCertificate(a *old.Action) bool {
	if a.Method != old.RelayVia {
		return true
	}
	scheme := parseURL(a.Arg.Text).scheme
	return scheme != "smtp" && scheme != "lmtp"
}

// implicitPKI returns the certificate that was offered without being named.
func (c *converter) implicitPKI(a *old.Action) string {
	helo := c.opts.ServerName
	if a.Hostname != nil {
		helo = a.Hostname.Text
	}
	for _, name := range []string{certName(helo), "*"} {
		if c.certs[name] {
			c.once(diag.Portability, "migrate-pki", "the certificate called %q was offered by its name alone; it is named now", name)
			return name
		}
	}
	return ""
}
