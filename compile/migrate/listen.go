package migrate

import (
	"strings"

	"smtpd/ast/old"
	"smtpd/lang/diag"
)

// confDir is where certificates without a path of their own were.
const confDir = "/etc/mail"

// listen converts a listener.
func (c *converter) listen(l *old.Listen) {
	c.droppedOptions(l)
	if l.Socket {
		words := "listen on socket"
		if l.MaskSource {
			words += " mask-src"
		}
		switch {
		case l.Tag != nil:
			words += " tag " + c.str(l.Tag)
		case c.localTag:
			words += ` tag "local"`
		}
		c.emit("%s", words)
		return
	}
	pki, name := c.listenerPKI(l)
	c.uses = name
	switch l.TLS {
	case "secure", "ssl":
		c.emit("%s", c.listenLine(l, "tls", pki, name))
		c.emit("%s", c.listenLine(l, "smtps", pki, name))
	default:
		if d := c.file.Dialect; l.TLS == "tls-require" && l.Port == nil && (d == old.D541 || d == old.D57 || d == old.D60) {
			c.note(diag.Portability, "migrate-tls-required", "this release offered TLS here without demanding it, against its manual; now it is demanded")
		}
		c.emit("%s", c.listenLine(l, l.TLS, pki, name))
	}
	if c.localTag && !c.socket && c.isLastListener() {
		c.socketLine()
	}
}

// socketLine gives the socket the tag that it had without being told.
func (c *converter) socketLine() {
	c.emit(`listen on socket tag "local"`)
	c.socket = true
}

func (c *converter) isLastListener() bool {
	for _, s := range c.file.Stmts[c.index+1:] {
		if s.Listen != nil {
			return false
		}
	}
	return true
}

// listenLine returns the statement for a listener with a mode of TLS and a
// certificate, as a token and by its name.
func (c *converter) listenLine(l *old.Listen, tls, pki, name string) string {
	words := []string{"listen on", c.name(&l.On)}
	add := func(w ...string) { words = append(words, w...) }
	if l.Family != "" {
		add(l.Family)
	}
	if l.Port != nil {
		add("port", c.port(l.Port))
	}
	if tls != "" {
		add(tls)
		if l.Verify {
			add("verify")
		}
	}
	if pki != "" {
		add("pki", pki)
	}
	if l.CA != nil {
		add("ca", c.certName(l.CA))
	} else if l.Verify && c.cas[name] != "" {
		add("ca", c.quoteName(name))
	}
	if l.Auth != "" {
		add(l.Auth)
		if l.AuthTable != nil {
			add(c.arg(l.AuthTable))
			c.passwords(l.AuthTable)
		}
	}
	if l.Hostname != nil {
		add("hostname", c.str(l.Hostname))
	} else if c.server != "" {
		add("hostname", quote(c.server))
	}
	if l.Hostnames != nil {
		add("hostnames", c.arg(l.Hostnames))
	}
	if l.Senders != nil {
		add("senders", c.arg(l.Senders))
		if l.Masquerade {
			add("masquerade")
		}
	}
	for _, o := range []struct {
		set  bool
		word string
	}{{l.MaskSource, "mask-src"}, {l.ReceivedAuth, "received-auth"}, {l.NoDSN, "no-dsn"}} {
		if o.set {
			add(o.word)
		}
	}
	if tag := c.listenerTag(l); tag != "" {
		add("tag", tag)
	}
	return strings.Join(words, " ")
}

// passwords warns of what is no hash that can be trusted, as far as the table
// is in the text.
func (c *converter) passwords(t *old.TableArg) {
	for _, e := range c.elems(t) {
		if e.Value == nil {
			continue
		}
		hash := e.Value.Text[strings.LastIndexByte(e.Value.Text, ':')+1:]
		strong := false
		for _, prefix := range []string{"$2a$", "$2b$", "$2y$", "$5$", "$6$", "$y$"} {
			strong = strong || strings.HasPrefix(hash, prefix)
		}
		if !strong {
			c.once(diag.Security, "migrate-password", "the password of %q is in no form that is safe: make a hash of it that begins with $2b$ or $6$", e.Key.Text)
		}
	}
}

// listenerTag returns the tag of a listener. In generation 1 it was the name
// of the listener unless there was one; that matters if a rule names it.
func (c *converter) listenerTag(l *old.Listen) string {
	switch {
	case l.Tag != nil:
		return c.str(l.Tag)
	case c.file.Dialect.Generation() == 1 && c.tags[l.On.Text]:
		return quote(l.On.Text)
	}
	return ""
}

func (c *converter) port(p *old.Str) string {
	if p.Text == "smtp" || p.Text == "smtps" {
		return p.Text
	}
	return c.str(p)
}

// droppedOptions says what of a listener has no successor.
func (c *converter) droppedOptions(l *old.Listen) {
	if l.Filter != nil {
		c.note(diag.Warning, "migrate-filter", "filter %q of the listener is left out: the interface of its program is gone", l.Filter.Text)
	}
	if l.DSNNotify {
		c.note(diag.Warning, "migrate-dropped", "`dsn-notify disable` has no successor; the nearest is `no-dsn`")
	}
	if l.DSNRet {
		c.note(diag.Warning, "migrate-dropped", "`dsn-ret headers` has no successor; the nearest is `no-dsn`")
	}
}

// listenerPKI returns the certificate of a listener, as a token and by its
// name: the one that it names, or the one that was found for it; "" if it
// needs none.
func (c *converter) listenerPKI(l *old.Listen) (pki, name string) {
	switch {
	case l.PKI != nil:
		return c.certName(l.PKI), certName(l.PKI.Text)
	case l.TLS == "":
		return "", ""
	case l.Certificate != nil:
		name = c.certificate(l.Certificate.Text)
	case c.file.Dialect < old.D541:
		c.note(diag.Portability, "migrate-pki", "a listener without a certificate of its own used the one called like itself, %q", l.On.Text)
		name = c.certificate(l.On.Text)
	default:
		name = c.unnamedPKI(l)
	}
	return c.quoteName(name), name
}

// unnamedPKI returns the name of the certificate that a listener used
// without naming it.
func (c *converter) unnamedPKI(l *old.Listen) string {
	server := c.opts.ServerName
	if l.Hostname != nil {
		server = l.Hostname.Text
	}
	for _, name := range []string{certName(server), "*"} {
		if c.certs[name] {
			c.note(diag.Portability, "migrate-pki", "the listener used the certificate %q without naming it; it is named now", name)
			return name
		}
	}
	if l.Hostname == nil && server == "" && len(c.certs) == 1 {
		for name := range c.certs {
			c.note(diag.Portability, "migrate-pki", "the listener used the certificate called like the server, which is taken to be the only one there is, %q", name).
				Help = []string{"if the server has another name, TLS did not work here before"}
			return name
		}
	}
	name := certName(server)
	if name == "" {
		name = "*"
	}
	if !c.pki[name] {
		c.pki[name] = true
		file := strings.ReplaceAll(name, "*", "server")
		c.emit("pki %s cert %s", quote(name), quote("/etc/ssl/"+file+".crt"))
		c.emit("pki %s key %s", quote(name), quote("/etc/ssl/private/"+file+".key"))
	}
	c.note(diag.Warning, "migrate-no-pki", "the listener offers TLS and the file has no certificate for it: TLS failed before, now a certificate must be named").
		Help = []string{"put the paths of its certificate and key into the lines for pki " + quote(name) + ", or take TLS from the listener"}
	return name
}

// certificate writes the certificate that a release found by the name of its
// files, once, and returns the name.
func (c *converter) certificate(file string) string {
	name := certName(file)
	if c.pki[name] {
		return name
	}
	c.pki[name] = true
	c.emit("pki %s cert %s", c.quoteName(name), quote(confDir+"/certs/"+file+".crt"))
	c.emit("pki %s key %s", c.quoteName(name), quote(confDir+"/certs/"+file+".key"))
	c.note(diag.Warning, "migrate-certificate", "the files of certificate %q are named now; if there is a %s.ca, its certificates must be appended to %s.crt, and a %s.dh is not used any more", file, file, file, file).
		Help = []string{"on a portable system they were in the directory of the configuration"}
	return name
}

// certName returns the name of a certificate as it is kept.
func certName(name string) string {
	if name == "*" {
		return name
	}
	var b strings.Builder
	for _, ch := range []byte(strings.ToLower(name)) {
		if isAlnum(ch) || ch == '.' || ch == '-' || ch == '_' {
			b.WriteByte(ch)
		}
	}
	return strings.Trim(b.String(), ".-")
}

// certName returns the name of a certificate or an authority as a token.
func (c *converter) certName(s *old.Str) string {
	name := certName(s.Text)
	if name != strings.ToLower(s.Text) {
		c.once(diag.Portability, "migrate-pki-name", "%q is no host name, which the name of a certificate must be now: it is called %q", s.Text, name)
	}
	switch {
	case c.keeps(s.Macro) && name == s.Text:
		return s.Macro
	case s.Quoted:
		return quote(name)
	}
	return c.quoteName(name)
}

// pkiStmt converts a certificate: one statement for each of its parts.
func (c *converter) pkiStmt(p *old.PKI) {
	name := c.certName(&p.Name)
	for _, o := range p.Options {
		value := c.str(&o.Value)
		switch o.Word {
		case "certificate":
			c.emit("pki %s cert %s", name, value)
		case "key", "dhe":
			c.emit("pki %s %s %s", name, o.Word, value)
		case "ca":
			c.emit("ca %s cert %s", name, value)
		case "dhparams":
			c.emit("pki %s dhe %s", name, quote("auto"))
			c.note(diag.Warning, "migrate-dh", "parameters of one's own for Diffie and Hellman cannot be given any more; `dhe \"auto\"` keeps these ciphers")
		}
	}
}
