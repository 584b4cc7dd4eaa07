package postfix

import (
	"net/netip"
	"strings"

	"smtpd/lang/diag"
)

// A hop is where mail goes next.
type hop struct {
	host, port string
	exact      bool // in brackets: the host itself, not its exchangers
}

// parseHop reads [host]:port or the like.
func parseHop(text string) (h hop, ok bool) {
	text = strings.TrimPrefix(text, "inet:")
	switch {
	case strings.HasPrefix(text, "["):
		end := strings.IndexByte(text, ']')
		if end < 0 {
			return h, false
		}
		h.host, h.exact = text[1:end], true
		if h.port, ok = strings.CutPrefix(text[end+1:], ":"); !ok && text[end+1:] != "" {
			return h, false
		}
	default:
		h.host, h.port, _ = strings.Cut(text, ":")
	}
	h.host = strings.ToLower(strings.TrimPrefix(h.host, "ipv6:"))
	if number := map[string]string{"smtp": "25", "submission": "587", "smtps": "465", "submissions": "465"}[h.port]; number != "" {
		h.port = number
	}
	a, err := netip.ParseAddr(h.host)
	switch {
	case h.port != "" && (!isPort(h.port) || h.port[0] > '9'):
		return h, false
	case err != nil:
		return h, isDomain(h.host) && strings.ContainsAny(h.host, "abcdefghijklmnopqrstuvwxyz")
	case a.Zone() != "":
		return h, false
	case a.Is6():
		h.host = "[" + a.String() + "]"
	}
	h.exact = true
	return h, true
}

func (h hop) url(scheme, label string) string {
	text := scheme + "://"
	if label != "" {
		text += label + "@"
	}
	text += h.host
	if h.port != "" {
		text += ":" + h.port
	}
	return text
}

// relayTo returns the action that relays to what is written in a parameter
// or in a transport table; "" is to the exchangers of each domain. It is
// false if that is not understood.
func (im *importer) relayTo(p *param, next string, auth bool) (action string, ok bool) {
	if next == "" {
		return im.action("relay", "relay"+im.exchangerTLS()+im.outgoing()), true
	}
	h, ok := parseHop(next)
	if !ok {
		return "", false
	}
	if !h.exact {
		im.note(p, diag.Warning, "postfix-exchanger", "Postfix asks for the exchangers of %s, and the result connects to the host of that name", h.host).
			Help = []string{"name the host that takes the mail"}
	}
	scheme, tls := im.relayTLS(h)
	label, secrets := "", ""
	if auth {
		label, secrets = im.password(p, next, h)
	}
	if label != "" && (scheme == "smtp" || scheme == "smtp+notls") {
		im.note(im.main.lookup("smtp_tls_security_level"), diag.Warning, "postfix-tls", "the password for %s is never sent in clear: TLS is demanded there now", h.host)
		scheme, tls = "smtp+tls", " tls no-verify"
	}
	def := "relay host " + quote(h.url(scheme, label)) + secrets + tls + im.outgoing()
	return im.action("relay-"+strings.Trim(h.host, "[]"), def), true
}

// level returns how TLS is used for outgoing mail.
func (im *importer) level() string {
	level := im.value("smtp_tls_security_level")
	switch {
	case level != "":
		return level
	case im.yes(im.main, "smtp_enforce_tls"):
		return "verify"
	case im.yes(im.main, "smtp_use_tls"):
		return "may"
	}
	return "none"
}

// exchangerTLS returns the options for relaying to exchangers.
func (im *importer) exchangerTLS() string {
	p := im.main.lookup("smtp_tls_security_level")
	switch level := im.level(); level {
	case "may":
		return ""
	case "encrypt":
		return " tls no-verify"
	case "verify", "secure":
		return " tls"
	case "none":
		im.note(p, diag.Portability, "postfix-tls", "Postfix relays without TLS; here STARTTLS is used where the other side offers it")
		return ""
	case "dane":
		im.note(p, diag.Warning, "postfix-tls", "dane has no counterpart: STARTTLS is used where it is offered, and no certificate is looked at")
		return ""
	default:
		im.note(p, diag.Warning, "postfix-tls", "%s has no counterpart: TLS is demanded, and the certificate must be that of the host", clip(level))
		return " tls"
	}
}

// relayTLS returns the scheme and the options for relaying to a host.
func (im *importer) relayTLS(h hop) (scheme, options string) {
	p := im.main.lookup("smtp_tls_security_level")
	switch level := im.level(); level {
	case "may":
		scheme = "smtp"
	case "none":
		scheme = "smtp+notls"
	case "encrypt":
		scheme, options = "smtp+tls", " tls no-verify"
	case "dane":
		im.note(p, diag.Warning, "postfix-tls", "dane has no counterpart: STARTTLS is used where it is offered, and no certificate is looked at")
		scheme = "smtp"
	case "verify", "secure":
		scheme, options = "smtp+tls", " tls"
	default:
		im.note(p, diag.Warning, "postfix-tls", "%s has no counterpart: TLS is demanded, and the certificate must be that of the host", clip(level))
		scheme, options = "smtp+tls", " tls"
	}
	if im.yes(im.main, "smtp_tls_wrappermode") {
		scheme = "smtps"
		if options == "" {
			options = " tls no-verify"
		}
	}
	if ca := im.value("smtp_tls_CAfile"); options == " tls" && isPath(ca) {
		options += " ca " + im.ca(ca)
	}
	return scheme, options
}

// password returns the label and the option for logging in at a host. The
// passwords stay where they are: nothing of them is written or printed.
func (im *importer) password(p *param, next string, h hop) (label, option string) {
	if !im.yes(im.main, "smtp_sasl_auth_enable") {
		return "", ""
	}
	var from string
	for _, r := range im.maps("smtp_sasl_password_maps") {
		entries, known := im.entries(r)
		found := !known
		for _, e := range entries {
			found = found || e.Key == next || strings.ToLower(e.Key) == h.host
		}
		if found {
			from = r.name
			if r.kind == "inline" {
				from = "smtp_sasl_password_maps"
			}
			break
		}
	}
	if from == "" {
		return "", ""
	}
	name, ok := im.tables["secrets"]
	if !ok {
		name = im.name("secrets")
		im.tables["secrets"] = name
		im.decls = append(im.decls, "table "+name+" file:/etc/mail/secrets")
	}
	label = strings.Trim(h.host, "[]")
	if strings.Contains(label, ":") {
		label = "relay"
	}
	im.note(im.main.lookup("smtp_sasl_password_maps"), diag.Warning, "postfix-password",
		"the password for %s has to be copied: write `%s USER:PASSWORD` into /etc/mail/secrets, with what %s says, and make the file readable for root alone", next, label, from)
	return label, " auth <" + name + ">"
}

// outgoing returns the options of every relay.
func (im *importer) outgoing() string {
	text := ""
	if helo := im.value("smtp_helo_name"); isDomain(helo) {
		text += " helo " + quote(helo)
	} else if name := im.hostname(); name != "" && im.main.set("myhostname") {
		text += " helo " + quote(name)
	}
	var from []string
	for _, name := range []string{"smtp_bind_address", "smtp_bind_address6"} {
		if a, err := netip.ParseAddr(strings.Trim(im.value(name), "[]")); err == nil && a.Zone() == "" {
			from = append(from, quote(a.String()))
		}
	}
	if len(from) > 0 {
		text += " src { " + strings.Join(from, ", ") + " }"
	}
	return text
}
