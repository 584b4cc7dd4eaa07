package postfix

import (
	"net/netip"
	"slices"
	"strings"

	"smtpd/lang/diag"
)

// A listener is a service that clients connect to.
type listener struct {
	sv       *service
	port     string
	on       []string // addresses or names
	loopback bool     // only this host can connect
	tls      string   // the mode, or ""
	auth     string   // auth, auth-optional or ""
	policy   policy
	scanner  string // the content filter
	words    []string
	tag      string
}

// possible are the clients that there can be.
func (l *listener) possible(n networks) who {
	var w who
	for kind := range w {
		w[kind] = (l.auth != "auth" || kind&loggedIn != 0) && (l.auth != "" || kind&loggedIn == 0) &&
			(!l.loopback || (kind&inNetworks != 0) == n.loopback)
	}
	return w
}

// listeners converts the services that listen.
func (im *importer) listeners(n networks) []*listener {
	var list []*listener
	for _, sv := range im.services {
		if sv.kind != "inet" {
			continue
		}
		command := sv.command
		if command == "postscreen" {
			im.serviceNote(sv, "what postscreen tests before a session begins is not carried over")
			command = "smtpd"
			for _, other := range im.services {
				if other.kind == "pass" && other.command == "smtpd" {
					sv.scope = other.scope
				}
			}
		}
		if command != "smtpd" {
			im.serviceNote(sv, "the service "+clip(sv.name)+" runs "+clip(sv.command)+", which has no counterpart")
			continue
		}
		if l := im.listener(sv, n); l != nil {
			list = append(list, l)
		}
	}
	return list
}

func (im *importer) serviceNote(sv *service, text string) *diag.Diagnostic {
	return im.note(&param{at: sv.at}, diag.Warning, "postfix-service", "%s", text)
}

// listener converts one service.
func (im *importer) listener(sv *service, n networks) *listener {
	l := &listener{sv: sv}
	host, port := "", sv.name
	if i := strings.LastIndexByte(sv.name, ':'); i >= 0 {
		host, port = strings.Trim(sv.name[:i], "[]"), sv.name[i+1:]
	}
	if !isPort(port) {
		im.serviceNote(sv, "the port of the service "+clip(sv.name)+" is not understood, it is left out")
		return nil
	}
	l.port = port
	if l.on = im.addresses(sv.scope); host != "" {
		l.on = []string{host}
	}
	if i := slices.IndexFunc(l.on, func(on string) bool { _, err := netip.ParseAddr(on); return err != nil && !isDomain(on) }); i >= 0 {
		im.serviceNote(sv, "the address "+clip(l.on[i])+" is not understood, the service "+clip(sv.name)+" is left out")
		return nil
	}
	l.loopback = !slices.ContainsFunc(l.on, func(on string) bool { return !isLoopback(on) })
	trusted := true
	if p := sv.params["mynetworks"]; p != nil && im.get(sv.scope, "mynetworks") != im.value("mynetworks") {
		im.used["mynetworks"] = true
		// On an address that only this host can reach it does not matter who
		// else is trusted.
		if trusted = l.loopback && n.loopback; !trusted {
			im.serviceNote(sv, "the service "+clip(sv.name)+" has trusted networks of its own: on it nobody is trusted for his address")
		}
	}
	l.policy = im.policyOf(sv.scope, trusted)
	l.demandTLS()
	im.tlsOf(l)
	im.login(l)
	l.scanner = im.get(sv.scope, "content_filter")
	return l
}

func isLoopback(on string) bool {
	a, err := netip.ParseAddr(on)
	return on == "localhost" || err == nil && a.IsLoopback()
}

// isPort reports whether text is a port as the language knows it.
func isPort(text string) bool {
	if slices.Contains([]string{"smtp", "smtps", "submission", "submissions"}, text) {
		return true
	}
	n := 0
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' || n > 65535 {
			return false
		}
		n = 10*n + int(text[i]-'0')
	}
	return n > 0 && n <= 65535
}

// addresses returns what inet_interfaces and inet_protocols come to.
func (im *importer) addresses(s *scope) []string {
	protocols := words(im.get(s, "inet_protocols"))
	v4 := slices.Contains(protocols, "all") || slices.Contains(protocols, "ipv4")
	v6 := slices.Contains(protocols, "all") || slices.Contains(protocols, "ipv6")
	var list []string
	add := func(four, six string) {
		if v4 {
			list = append(list, four)
		}
		if v6 {
			list = append(list, six)
		}
	}
	for _, w := range words(im.get(s, "inet_interfaces")) {
		switch w {
		case "all":
			add("0.0.0.0", "::")
		case "loopback-only":
			add("127.0.0.1", "::1")
		default:
			if w = strings.Trim(w, "[]"); w != unnamed {
				list = append(list, w)
				continue
			}
			im.note(s.lookup("inet_interfaces"), diag.Warning, "postfix-hostname", "the name of this host is not known, so that its address is not: set myhostname in main.cf, and convert again")
		}
	}
	return list
}

// demandTLS is for a restriction that refuses those who do not use TLS.
func (l *listener) demandTLS() {
	for _, stage := range stages {
		if v, err := l.sv.value(stage); err == nil && slices.Contains(words(v), "reject_plaintext_session") {
			l.tls = "tls-require"
		}
	}
}

// tlsOf converts the settings of TLS of a listener.
func (im *importer) tlsOf(l *listener) {
	s := l.sv.scope
	level := im.get(s, "smtpd_tls_security_level")
	switch {
	case im.yes(s, "smtpd_tls_wrappermode"):
		l.tls = "smtps"
	case level == "encrypt" || level == "" && im.yes(s, "smtpd_enforce_tls"):
		l.tls = "tls-require"
	case level == "may" || level == "" && im.yes(s, "smtpd_use_tls"):
		if l.tls == "" {
			l.tls = "tls"
		}
	}
	if l.tls == "" {
		return
	}
	pki := im.pki(s)
	if pki == "" {
		im.note(s.lookup("smtpd_tls_security_level"), diag.Warning, "postfix-tls", "there is no certificate for TLS on port %s: name one with `pki`, and add `%s pki NAME` to the listener", l.port, l.tls)
		if l.tls != "tls" {
			// What must be encrypted is not offered in clear.
			l.on = nil
		}
		l.tls = ""
		return
	}
	l.words = append(l.words, l.tls)
	if im.yes(s, "smtpd_tls_req_ccert") {
		l.words = append(l.words, "verify")
		if ca := im.get(s, "smtpd_tls_CAfile"); isPath(ca) {
			l.words = append(l.words, "ca "+im.ca(ca))
		}
	}
	l.words = append(l.words, "pki "+pki)
}

// pki returns the name of the certificate of a service.
func (im *importer) pki(s *scope) string {
	cert, key := im.get(s, "smtpd_tls_cert_file"), im.get(s, "smtpd_tls_key_file")
	if chain := words(im.get(s, "smtpd_tls_chain_files")); len(chain) > 0 {
		cert, key = chain[0], chain[0]
		if len(chain) > 1 {
			cert = chain[1]
		}
		im.note(s.lookup("smtpd_tls_chain_files"), diag.Warning, "postfix-tls",
			"smtpd_tls_chain_files: here the certificates, the server's own first, and the key are two files: look at `pki`, and split the file if it is one")
	} else if cert == key && cert != "" && cert != "none" {
		im.note(s.lookup("smtpd_tls_cert_file"), diag.Warning, "postfix-tls", "%s holds the certificate and the key: see to it that the file is readable for root alone", clip(cert))
	}
	if !isPath(cert) || !isPath(key) {
		return ""
	}
	name := im.hostname()
	if name == "" {
		name = "mail"
	}
	files := "pki " + cert + " " + key
	if known, ok := im.tables[files]; ok {
		return known
	}
	for im.taken["pki "+name] {
		name += "-2"
	}
	im.taken["pki "+name] = true
	im.certs = append(im.certs, "pki "+quote(name)+" cert "+quote(cert), "pki "+quote(name)+" key "+quote(key))
	im.tables[files] = quote(name)
	return quote(name)
}

// ca declares certificates that are trusted.
func (im *importer) ca(file string) string {
	if name, ok := im.tables["ca "+file]; ok {
		return name
	}
	name := strings.TrimPrefix(im.name("ca trusted"), "ca ")
	im.tables["ca "+file] = name
	im.certs = append(im.certs, "ca "+name+" cert "+quote(file))
	return name
}

// login converts who can log in.
func (im *importer) login(l *listener) {
	s := l.sv.scope
	if !im.yes(s, "smtpd_sasl_auth_enable") {
		return
	}
	if l.tls == "" {
		if len(l.on) > 0 {
			im.serviceNote(l.sv, "there is no TLS on port "+l.port+", and nobody can log in without")
		}
		return
	}
	if l.tls == "tls" && !im.yes(s, "smtpd_tls_auth_only") {
		im.serviceNote(l.sv, "on port "+l.port+" clients may log in only after STARTTLS now")
	}
	// Where everybody has to log in the listener says so by itself.
	l.auth = "auth"
	for kind, taken := range l.policy.ours.with(l.policy.other) {
		if taken && kind&loggedIn == 0 && l.plain(kind) {
			l.auth = "auth-optional"
		}
	}
	l.words = append(l.words, l.auth+" <"+im.credentials(l.sv)+">")
}

// plain reports whether there can be such a client who has not logged in.
func (l *listener) plain(kind int) bool { return !l.loopback || kind&inNetworks != 0 }

// credentials declares the table of those who can log in. Postfix asks SASL,
// which may know others than the system does: so they have to be named.
func (im *importer) credentials(sv *service) string {
	if name, ok := im.tables["credentials"]; ok {
		return name
	}
	name := im.name("credentials")
	im.tables["credentials"] = name
	im.decls = append(im.decls, "table "+name+" file:/etc/mail/credentials")
	p := im.main.lookup("smtpd_sasl_type")
	if p == nil {
		p = &param{at: sv.at}
	}
	im.note(p, diag.Warning, "postfix-login",
		"who can log in was asked of SASL (%s): write a line with the name and the hash of the password of each into /etc/mail/credentials",
		clip(im.value("smtpd_sasl_type"))).Help = []string{"if they are the users of the system, leave out `<credentials>` at the listeners, and the table"}
	return name
}

// write makes the statement of a listener.
func (im *importer) write(l *listener, filter string) {
	for _, on := range l.on {
		text := "listen on " + quote(on)
		if on != "localhost" && isAlnum(on[0]) && strings.Trim(on, "0123456789.") == "" {
			text = "listen on " + on
		}
		if l.port != "smtp" && l.port != "25" {
			text += " port " + l.port
		}
		for _, w := range l.words {
			text += " " + w
		}
		if name := im.hostname(); name != "" && im.main.set("myhostname") {
			text += " hostname " + quote(name)
		}
		if l.tag != "" {
			text += " tag " + quote(l.tag)
		}
		if filter != "" {
			text += " filter " + quote(filter)
		}
		im.listens = append(im.listens, text)
	}
}

// hostname returns the name of this host, or "".
func (im *importer) hostname() string {
	name := strings.ToLower(im.value("myhostname"))
	if !isDomain(name) || len(name) > 64 {
		return ""
	}
	return name
}
