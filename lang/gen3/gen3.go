// Package gen3 brings text of the early releases of the present generation of
// the language, 6.4 to 7.7, to what it is now. The differences are few and
// small: they are edits, and what is not edited stays as it was written.
package gen3

import (
	"slices"
	"strings"

	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Options say what is known of the text beside it.
type Options struct {
	Release    string // that it was written for; "" if it is not known
	ServerName string // of the host; "" if it is not known
}

// Modernize returns the edits that make of the statements what they would be
// now. The list holds what is to be said of them.
func Modernize(s *lang.Scanned, opts Options) ([]diag.Edit, diag.List) {
	m := modernizer{Options: opts, certs: make(map[string]string)}
	for _, toks := range s.Statements {
		m.survey(toks)
	}
	for _, toks := range s.Statements {
		m.statement(toks)
	}
	m.socketTag(s)
	return m.edits, m.notes
}

type modernizer struct {
	Options
	edits []diag.Edit
	notes diag.List

	certs     map[string]string // names of certificates, by themselves in lower case
	fold      bool              // a listener names one with capital letters
	tags      []string          // of listeners
	localTag  *lang.Token       // a match for the tag local
	socket    []lang.Token      // the statement for the socket
	lastOn    []lang.Token      // the last listener
	early     bool              // there is what only a release before 6.6 had
	inventing bool              // a certificate was made up
}

// is reports whether the statement begins with words; * is any token.
func is(toks []lang.Token, words ...string) bool {
	if len(toks) <= len(words) {
		return false
	}
	for i, w := range words {
		if w != "*" && !toks[i].Is(w) {
			return false
		}
	}
	return true
}

// after returns the string after the first word w, or nil.
func after(toks []lang.Token, w string) *lang.Token {
	for i := range toks[:len(toks)-1] {
		if toks[i].Is(w) && toks[i+1].IsString() {
			return &toks[i+1]
		}
	}
	return nil
}

func (m *modernizer) survey(toks []lang.Token) {
	switch {
	case is(toks, "set"), is(toks, "limit"), is(toks, "filter", "*", "builtin"):
		m.early = true
	case is(toks, "pki", "*"):
		m.certs[strings.ToLower(toks[1].Text)] = toks[1].Text
	case is(toks, "listen", "on", "socket"):
		m.socket = toks
	case is(toks, "listen", "on"):
		m.lastOn = toks
		if pki := after(toks, "pki"); pki != nil && pki.Text != strings.ToLower(pki.Text) {
			m.fold = true
		}
	case is(toks, "match"):
		if tag := after(toks, "tag"); tag != nil && strings.EqualFold(tag.Text, "local") {
			m.localTag = tag
		}
	}
	if is(toks, "listen", "on") {
		if tag := after(toks, "tag"); tag != nil {
			m.tags = append(m.tags, strings.ToLower(tag.Text))
		}
	}
}

func (m *modernizer) replace(t *lang.Token, text string) {
	m.edits = append(m.edits, diag.Edit{Span: token.Span{Start: t.Pos, End: t.End}, New: text})
}

// before inserts text before a token.
func (m *modernizer) before(t *lang.Token, text string) {
	m.edits = append(m.edits, diag.Edit{Span: token.At(t.Pos), New: text})
}

// after inserts text at the end of a statement.
func (m *modernizer) after(toks []lang.Token, text string) {
	m.edits = append(m.edits, diag.Edit{Span: token.At(toks[len(toks)-2].End), New: text})
}

func (m *modernizer) statement(toks []lang.Token) {
	switch {
	case is(toks, "set", "*"):
		m.edits = append(m.edits, diag.Edit{Span: token.Span{Start: toks[0].Pos, End: toks[1].Pos}})
	case is(toks, "limit", "smtp"), is(toks, "limit", "mda"), is(toks, "limit", "mta"), is(toks, "limit", "scheduler"):
		m.replace(&toks[0], toks[1].Text)
		m.replace(&toks[1], "limit")
	case is(toks, "filter", "*", "builtin", "*"):
		m.replace(&toks[2], "phase")
		m.before(&toks[4], "match ")
	case is(toks, "action", "*", "relay"):
		m.unverified(toks)
	case is(toks, "table", "*", "*") && toks[2].IsString():
		m.backend(toks)
	case is(toks, "listen", "on") && !is(toks, "listen", "on", "socket"):
		m.listenerPKI(toks)
	}
	if m.fold && (is(toks, "listen") || is(toks, "pki") || is(toks, "action")) {
		for i := range toks[:len(toks)-1] {
			name := &toks[i+1]
			if toks[i].Is("pki") && name.IsString() && name.Text != strings.ToLower(name.Text) {
				m.replace(name, `"`+strings.ToLower(name.Text)+`"`)
			}
		}
	}
}

// unverified keeps what 6.9 and 7.0 did: they looked at the certificate of a
// host only where tls said so.
func (m *modernizer) unverified(toks []lang.Token) {
	host := after(toks, "host")
	if m.Release != "6.9" && m.Release != "7.0" || host == nil || slices.ContainsFunc(toks, func(t lang.Token) bool { return t.Is("tls") }) {
		return
	}
	if scheme, _, _ := strings.Cut(host.Text, "://"); scheme != "smtps" && scheme != "smtp+tls" {
		return
	}
	m.note(diag.Portability, toks, "migrate-verify", "releases 6.9 and 7.0 did not check the certificate of this host without `tls`; `tls no-verify` keeps that").Help =
		[]string{"take `tls no-verify` away if the host has a certificate that can be checked"}
	if ttl := slices.IndexFunc(toks, func(t lang.Token) bool { return t.Is("ttl") }); ttl > 0 {
		m.before(&toks[ttl], "tls no-verify ") // nothing follows ttl
		return
	}
	m.after(toks, " tls no-verify")
}

// builtin are the backends of tables that need no program.
var builtin = []string{"file", "db", "static", "getpwnam", "passwd", "sqlite", "postgres", "mysql", "ldap", "redis", "socketmap"}

// backend says that a program which serves a table must speak the protocol of
// 7.6.
func (m *modernizer) backend(toks []lang.Token) {
	name, _, ok := strings.Cut(toks[2].Text, ":")
	if !ok || strings.HasPrefix(toks[2].Text, "/") || slices.Contains(builtin, name) || (m.Release == "" || m.Release >= "7.6") && !m.early {
		return
	}
	m.note(diag.Warning, toks, "migrate-backend", "tables of type `"+name+"` are served by the program table-"+name+", which speaks another protocol since 7.6: install its present release")
}

// listenerPKI names the certificate of a listener that has TLS and names
// none, which releases up to 6.8 allowed.
func (m *modernizer) listenerPKI(toks []lang.Token) {
	tls := slices.ContainsFunc(toks, func(t lang.Token) bool { return t.Is("tls") || t.Is("smtps") || t.Is("tls-require") })
	if !tls || slices.ContainsFunc(toks, func(t lang.Token) bool { return t.Is("pki") }) || onlyPort(toks) {
		return
	}
	server := m.ServerName
	if host := after(toks, "hostname"); host != nil {
		server = host.Text
	}
	name := m.certificate(server)
	if name == "" {
		name = server
		if name == "" {
			name = "*"
		}
		if !m.inventing {
			m.inventing = true
			file := strings.ReplaceAll(name, "*", "server")
			m.before(&toks[0], `pki "`+name+`" cert "/etc/ssl/`+file+".crt\"\npki \""+name+`" key "/etc/ssl/private/`+file+".key\"\n")
		}
		m.note(diag.Warning, toks, "migrate-no-pki", "the listener offers TLS and the file has no certificate for it, which must be named now").Help =
			[]string{"put the paths of its certificate and key into the lines for pki `" + name + "`"}
	} else {
		m.note(diag.Portability, toks, "migrate-pki", "the listener used the certificate `"+name+"` without naming it; it is named now")
	}
	m.after(toks, ` pki "`+name+`"`)
}

// onlyPort reports whether the only word for TLS is the name of a port.
func onlyPort(toks []lang.Token) bool {
	for i := range toks {
		if (toks[i].Is("tls") || toks[i].Is("smtps") || toks[i].Is("tls-require")) && !toks[i-1].Is("port") {
			return false
		}
	}
	return true
}

// certificate returns the certificate that serves a name without being named.
func (m *modernizer) certificate(server string) string {
	for _, name := range []string{strings.ToLower(server), "*"} {
		if _, ok := m.certs[name]; ok && name != "" {
			return name
		}
	}
	if server == "" && len(m.certs) == 1 {
		for name := range m.certs {
			return name
		}
	}
	return ""
}

func (m *modernizer) note(class diag.Class, toks []lang.Token, code diag.Code, message string) *diag.Diagnostic {
	return m.notes.Reportf(class, token.Span{Start: toks[0].Pos, End: toks[0].End}, code, "%s", message)
}

// socketTag gives the socket the tag that it had up to 6.6 without being
// told.
func (m *modernizer) socketTag(s *lang.Scanned) {
	if m.localTag == nil || slices.Contains(m.tags, "local") || m.Release > "6.6" {
		return
	}
	if m.Release == "" && !m.early {
		m.notes.Reportf(diag.Portability, token.Span{Start: m.localTag.Pos, End: m.localTag.End}, "migrate-socket-tag",
			"no listener has the tag `local`: up to 6.6 that was the tag of the socket, which is given it").Help =
			[]string{"if the file was written for 6.7 or later, take the tag from the socket: the rule matched nothing there"}
	}
	switch {
	case m.socket != nil:
		m.after(m.socket, ` tag "local"`)
	case m.lastOn != nil:
		m.before(&m.lastOn[len(m.lastOn)-1], "\nlisten on socket tag \"local\"")
	default:
		m.before(&s.Statements[0][0], "listen on socket tag \"local\"\n")
	}
}
