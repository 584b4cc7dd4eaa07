package analyze

import (
	"errors"
	"slices"
	"strings"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/tableconf"
	"smtpd/compile/tablefile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// relays looks at how relay actions log in to smarthosts.
func (l *linter) relays() {
	for _, s := range l.file.Stmts {
		if s.Action != nil && s.Action.Relay != nil {
			l.relay(s.Action)
		}
	}
}

// A smarthost is an address of the form [scheme://][label@]host[:port].
type smarthost struct {
	scheme, label string
	labelled      bool
	at            token.Span
}

func parseSmarthost(text string, at token.Span) smarthost {
	h := smarthost{scheme: "smtp", at: at}
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		h.scheme, text = strings.ToLower(scheme), rest
	}
	h.label, _, h.labelled = strings.Cut(text, "@")
	return h
}

// encrypted reports whether the scheme demands TLS.
func (h smarthost) encrypted() bool { return h.scheme == "smtp+tls" || h.scheme == "smtps" }

// A login is what an action says of logging in.
type login struct {
	hosts    []smarthost
	unknown  bool // some hosts are in tables that have to be asked
	auth     *ast.RelayOption
	noVerify *ast.RelayOption
}

func (l *linter) login(r *ast.Relay) login {
	var g login
	for _, o := range r.Options {
		switch {
		case o.Host != nil:
			g.unknown = g.unknown || l.opaque(o.Host)
			for _, e := range l.elements(o.Host) {
				g.hosts = append(g.hosts, parseSmarthost(e.text, e.at))
			}
		case o.Domain != nil:
			g.unknown = g.unknown || l.opaque(o.Domain)
			for _, e := range l.elements(o.Domain) {
				g.hosts = append(g.hosts, parseSmarthost(e.value, e.at))
			}
		case o.Auth != nil:
			g.auth = o
		case o.TLS != nil && o.TLS.NoVerify:
			g.noVerify = o
		}
	}
	return g
}

// opaque reports whether what is in a table is not known.
func (l *linter) opaque(arg *ast.TableArg) bool {
	if arg.Ref == nil {
		return false
	}
	t := l.tables[arg.Ref.Text]
	return t == nil || t.Kind == compile.Dynamic
}

func optionSpan(o *ast.RelayOption) token.Span { return token.Span{Start: o.Pos, End: o.EndPos} }

func (l *linter) relay(a *ast.Action) {
	g := l.login(a.Relay)
	for _, h := range g.hosts {
		if h.labelled {
			l.label(&g, h)
		}
	}
	labelled := slices.ContainsFunc(g.hosts, func(h smarthost) bool { return h.labelled })
	switch {
	case g.auth == nil:
	case !labelled && !g.unknown:
		d := l.list.Reportf(diag.Warning, optionSpan(g.auth), "auth-without-label", "action %q never logs in: no host of it names a label in the table of auth", a.Name.Text)
		d.Help = append(d.Help, `write the label before the host: host "smtps://label@mail.example.org"`)
	case g.noVerify != nil:
		d := l.list.Reportf(diag.Security, optionSpan(g.noVerify), "unverified-login", "action %q hands its password to whoever answers: the certificate is not verified", a.Name.Text)
		d.Notes = append(d.Notes, diag.Note{Span: optionSpan(g.auth), Message: "the password is from here"})
	}
}

func (l *linter) label(g *login, h smarthost) {
	switch {
	case !h.encrypted():
		if l.once(diag.Warning, h.at, "label-without-tls", h.label) {
			d := l.list.Reportf(diag.Warning, h.at, "label-without-tls", "mail for this host stays in the queue: a label needs smtp+tls or smtps, not %s", h.scheme)
			d.Help = append(d.Help, "write `smtp+tls://` for STARTTLS, or `smtps://` for TLS from the first byte")
		}
	case g.auth == nil:
		if l.once(diag.Warning, h.at, "label-without-auth", h.label) {
			l.list.Reportf(diag.Warning, h.at, "label-without-auth", "mail for this host stays in the queue: the label %q needs an auth table in the action", h.label)
		}
	case !l.opaque(g.auth.Auth) && !l.holds(g.auth.Auth, h.label):
		if l.once(diag.Warning, h.at, "unknown-label", h.label) {
			d := l.list.Reportf(diag.Warning, h.at, "unknown-label", "mail for this host stays in the queue: the table of auth has no label %q", h.label)
			d.Notes = append(d.Notes, diag.Note{Span: optionSpan(g.auth), Message: "looked up here"})
		}
	}
}

func (l *linter) holds(arg *ast.TableArg, label string) bool {
	return slices.ContainsFunc(l.elements(arg), func(e element) bool { return e.used() == tablefile.Fold(label) })
}

// worldReadable is the permission of everybody to read.
const worldReadable = 0o004

// secrets reports files with passwords or keys that everybody on the host
// can read.
func (l *linter) secrets() {
	for _, s := range l.file.Stmts {
		switch {
		case s.Table != nil:
			if t := l.tables[s.Table.Name.Text]; t != nil && tableconf.HasPassword(t.Backend, t.Config) {
				l.secret(t.Path, span(s.Table.Spec), "the password of a server")
			}
		case s.Listen != nil:
			for _, o := range s.Listen.Options {
				switch {
				case o.Auth != nil:
					l.secretTable(o.Auth.Table)
				case o.AuthOptional != nil:
					l.secretTable(o.AuthOptional.Table)
				}
			}
		case s.Action != nil && s.Action.Relay != nil:
			for _, o := range s.Action.Relay.Options {
				l.secretTable(o.Auth)
			}
		case s.Queue != nil && s.Queue.Encryption != nil && s.Queue.Encryption.Key != nil:
			l.secretHere(s.Queue.Encryption.Key, "the key of the queue")
		case s.SRS != nil && s.SRS.Key != nil:
			l.secretHere(s.SRS.Key, "the key of sender rewriting")
		}
	}
}

func (l *linter) secretTable(arg *ast.TableArg) {
	if arg == nil || arg.Ref == nil {
		return
	}
	t := l.tables[arg.Ref.Text]
	if t == nil {
		return
	}
	switch {
	case t.Path != "" && (t.Backend == "static" || t.Backend == "db" || t.Backend == "passwd"):
		l.secret(t.Path, argSpan(arg), "passwords")
	case l.lists[t.Name] != nil:
		l.secret(l.lists[t.Name].Pos.Filename, argSpan(arg), "passwords")
	}
}

func (l *linter) secretHere(key *ast.Str, what string) {
	if key.Text == "stdin" || key.Text == "-" {
		return
	}
	l.secret(key.Pos.Filename, span(key), what)
}

func (l *linter) secret(path string, at token.Span, what string) {
	f, err := l.host.ReadFile(path)
	if err != nil && !errors.Is(err, compile.ErrContent) || f.Mode&worldReadable == 0 || !l.once(diag.Security, at, "readable-secret", path) {
		return
	}
	d := l.list.Reportf(diag.Security, at, "readable-secret", "everybody on this host can read %s: %s has mode %04o", what, path, f.Mode)
	d.Help = append(d.Help, "chmod 0640 the file, and give it the group of the mail server")
}
