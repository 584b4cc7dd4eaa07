package migrate

import (
	"strings"

	"smtpd/ast/old"
	"smtpd/lang/diag"
)

// A url is where a relay goes, in the notation of the time.
type url struct {
	scheme, label, host string
	auth                bool
	port                string // with its colon
}

// parseURL takes a URL apart. Schemes are in lower case.
func parseURL(text string) url {
	var u url
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "", text
	}
	u.scheme, u.auth = strings.CutSuffix(strings.ToLower(scheme), "+auth")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		u.label, rest = rest[:at], rest[at+1:]
	}
	u.host = rest
	if end := strings.LastIndexByte(rest, ']'); end >= 0 && strings.HasPrefix(rest, "[") {
		u.host, u.port = rest[:end+1], rest[end+1:]
	} else if strings.Count(rest, ":") == 1 {
		at := strings.IndexByte(rest, ':')
		u.host, u.port = rest[:at], rest[at:]
	}
	return u
}

// via returns the options that stand for relay via: host, auth and TLS.
func (c *converter) via(a *old.Action) []string {
	u := parseURL(a.Arg.Text)
	if a.Port != nil {
		u.port = ":" + a.Port.Text
	}
	if a.Transport != "" {
		u.scheme = a.Transport
	}
	if u.scheme == "backup" || u.scheme == "tls+backup" {
		words := []string{"backup mx " + quote(u.host)}
		if u.scheme == "tls+backup" {
			words = append(words, tlsWords(a.Verify)...)
		}
		return words
	}
	auth := a.Auth
	if a.EnabAuth {
		auth = &old.TableArg{Ref: &old.Str{Text: "secrets"}}
	}
	if auth != nil && u.label == "" {
		u.label = u.host // the credentials were those of the host
	}
	scheme, tls := c.scheme(u)
	label := ""
	if auth != nil {
		label = u.label + "@"
	}
	text := scheme + "://" + label + u.host + u.port
	words := []string{"host", c.changed(a.Arg, text)}
	if auth != nil {
		words = append(words, "auth", c.arg(auth))
	}
	if tls {
		words = append(words, tlsWords(a.Verify)...)
	}
	return words
}

func tlsWords(verify bool) []string {
	if verify {
		return []string{"tls"}
	}
	return []string{"tls", "no-verify"}
}

// scheme returns the present scheme, and whether TLS is demanded.
func (c *converter) scheme(u url) (scheme string, tls bool) {
	first := c.file.Dialect.Generation() == 1
	switch u.scheme {
	case "":
		return c.noScheme(u), false
	case "secure", "lmtp", "smtp+tls":
		if first {
			c.note(diag.Language, "migrate-scheme", "generation 1 did not know the scheme %q", u.scheme)
		}
	}
	switch u.scheme {
	case "smtp":
		if first {
			return "smtp", false
		}
		return "smtp+notls", false
	case "smtp+tls":
		return "smtp", false
	case "tls":
		if d := c.file.Dialect; d >= old.D1D && first && !u.auth {
			c.note(diag.Warning, "migrate-tls-fallback", "without STARTTLS this mail went in clear text; now it waits for a server that has it")
		}
		return "smtp+tls", true
	case "smtps", "ssmtp":
		return "smtps", true
	case "ssl", "secure":
		return c.eitherTLS(u, first), true
	case "lmtp":
		return "lmtp", false
	}
	c.note(diag.Language, "migrate-scheme", "no release knew the scheme %q", u.scheme)
	return u.scheme, false
}

// noScheme returns the scheme of a host alone.
func (c *converter) noScheme(u url) string {
	if d := c.file.Dialect; d != old.D53 && d != old.D54 {
		return "smtp"
	}
	if u.port != "" {
		c.note(diag.Warning, "migrate-no-scheme", "without a scheme this release spoke LMTP to a host with a port, though its manual promised SMTP").
			Help = []string{"if the host speaks SMTP, write smtp:// for lmtp://"}
		return "lmtp"
	}
	c.note(diag.Warning, "migrate-no-scheme", "this release refused a host without a scheme; it is read as smtp://")
	return "smtp"
}

// eitherTLS returns the scheme that is kept of those that tried both ways of
// TLS: the one that was tried first, unless the port is that of the other.
func (c *converter) eitherTLS(u url, first bool) string {
	kept, lost := "smtp+tls", "smtps"
	if u.port == ":465" || first && u.port == "" {
		kept, lost = lost, kept
	}
	c.note(diag.Warning, "migrate-one-transport", "%s:// tried both STARTTLS and TLS from the first byte; only %s:// is kept", u.scheme, kept).
		Help = []string{"if the host does not answer to that, write " + lost + "://" + u.host}
	return kept
}
