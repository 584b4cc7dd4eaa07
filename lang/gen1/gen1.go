// Package gen1 is the grammar of generation 1 of the language: map, and rules
// that begin with accept or reject, as the development tree of 2009 to 2012
// and OpenSMTPD 5.2 read them.
//
// It reads all dialects at once: what one of them dropped another one still
// has, and files of that time are found with either.
package gen1

import (
	"smtpd/ast/old"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/generation"
)

// Read makes the tree of a text of generation 1. Statements that could not
// be read are left out of it, and each is explained in the list.
func Read(s *lang.Scanned, d old.Dialect) (*old.File, diag.List) {
	f := generation.File(s, d)
	var diags diag.List
	g := grammar{Reader: generation.Reader{Dialect: d, Diags: &diags}, scanned: s}
	for _, toks := range s.Statements {
		g.Begin(toks)
		st := g.statement()
		g.Finish()
		if !g.Failed() {
			st.Start, st.End = g.Start(), g.End()
			f.Stmts = append(f.Stmts, st)
		}
	}
	return f, diags
}

type grammar struct {
	generation.Reader
	scanned *lang.Scanned
}

// statement takes one statement.
func (g *grammar) statement() *old.Stmt {
	if m := g.Macro(); m != nil {
		return &old.Stmt{Macro: m}
	}
	switch g.TakeOneOf("accept", "reject", "listen", "ssmtp", "map", "include") {
	case "accept":
		return &old.Stmt{Rule: g.rule(false)}
	case "reject":
		return &old.Stmt{Rule: g.rule(true)}
	case "listen":
		return &old.Stmt{Listen: g.listen()}
	case "ssmtp":
		g.Want("listen")
		l := g.listen()
		l.TLS = "smtps"
		return &old.Stmt{Listen: l}
	case "map":
		return &old.Stmt{Table: g.mapStmt()}
	case "include":
		return &old.Stmt{Include: g.Str()}
	}
	return &old.Stmt{Setting: g.setting()}
}

func (g *grammar) setting() *old.Setting {
	s := &old.Setting{}
	switch s.Word = g.TakeOneOf("hostname", "size", "expire", "queue"); s.Word {
	case "hostname", "expire":
		s.Args = append(s.Args, g.Str())
	case "size":
		s.Word = "max-message-size"
		s.Args = append(s.Args, g.StrOrNumber())
	case "queue":
		switch w := g.TakeOneOf("interval", "compress", "compression"); w {
		case "interval":
			s.Word = "queue interval"
			s.Args = append(s.Args, g.StrOrNumber())
		case "compress", "compression":
			s.Word = "queue compression"
			if a := g.OptStr(); a != nil {
				s.Args = append(s.Args, a)
			}
		default:
			g.Want("compression")
		}
	default:
		g.Want("accept")
	}
	return s
}

// listen takes what follows listen. The options came in one order, which is
// not insisted on.
func (g *grammar) listen() *old.Listen {
	l := &old.Listen{}
	g.Want("on")
	l.On = *g.Str()
	for !g.Ended() && g.listenOption(l) {
	}
	return l
}

func (g *grammar) listenOption(l *old.Listen) bool {
	switch w := g.TakeOneOf("port", "smtps", "tls", "tls-require", "use", "certificate", "enable", "auth", "auth-optional", "tag"); w {
	case "port":
		l.Port = g.StrOrNumber()
	case "smtps", "tls", "tls-require":
		g.Dup(l.TLS != "", w)
		l.TLS = w
	case "use":
		g.Want("certificate")
		l.Certificate = g.Str()
	case "certificate":
		l.Certificate = g.Str()
	case "enable":
		g.Want("auth")
		l.Auth = "auth-optional"
	case "auth", "auth-optional":
		g.Dup(l.Auth != "", w)
		l.Auth = w
	case "tag":
		l.Tag = g.Str()
	default:
		return false
	}
	return true
}

// mapStmt takes what follows map, in braces or not.
func (g *grammar) mapStmt() *old.Table {
	t := &old.Table{Name: *g.Str()}
	braces := g.Take("{")
	for g.Separators(); !g.Ended() && g.mapOption(t); g.Separators() {
	}
	if !braces && t.Spec == nil && t.Source == "" {
		t.Spec = g.Str()
	}
	if braces {
		if g.IsString() {
			t.Spec = g.Str()
		}
		g.Separators()
		g.Want("}")
	}
	return t
}

func (g *grammar) mapOption(t *old.Table) bool {
	switch g.TakeOneOf("type", "source", "config", "file") {
	case "type":
		if g.TakeOneOf("single", "list", "hash") == "" {
			g.Want("single")
		}
	case "config":
		g.Str()
	case "file": // published once in place of source
		t.Source, t.Path = "file", g.Str()
	case "source":
		switch w := g.TakeOneOf("db", "plain", "file", "dns", "external", "sqlite"); w {
		case "db", "plain":
			t.Source, t.Path = w, g.Str()
		case "file":
			t.Source = w
			if t.Path = g.OptStr(); t.Path == nil {
				t.Source = "dns" // without an argument it was as useless
			}
		case "dns", "external":
			t.Source = "dns"
		case "sqlite":
			g.Refuse("migrate-draft", "no release had `source sqlite`; the present language has tables served by a program")
		default:
			g.Want("db")
		}
	default:
		return false
	}
	return true
}

// mapRef takes an argument that names a map or lists values.
func (g *grammar) mapRef() *old.TableArg {
	if g.Take("map") {
		return g.named()
	}
	return g.TableArg()
}

// named takes the name of a map.
func (g *grammar) named() *old.TableArg {
	name := g.Str()
	return &old.TableArg{Pos: name.Pos, End: name.End, Ref: name}
}

// rule takes what follows accept or reject.
func (g *grammar) rule(reject bool) *old.Rule {
	r := &old.Rule{Reject: reject}
	if g.Take("on") {
		r.Tag = g.Str()
	}
	if g.Take("from") {
		r.From = g.from()
	}
	g.Want("for")
	if g.Take("{") {
		for g.Separators(); !g.Ended() && !g.Next("}"); g.Separators() {
			r.For = append(r.For, g.condition(r))
		}
		g.Want("}")
	} else {
		r.For = append(r.For, g.condition(r))
	}
	if !reject || !g.Ended() {
		r.Action = g.action()
		g.trailer(r)
	}
	if r.Alias != nil && r.Action != nil && r.Action.Method >= old.Relay && g.Dialect >= old.D1C {
		g.Refuse("conflicting-options", "`alias` does not go with `relay`")
	}
	return r
}

// trailer takes what may follow the action.
func (g *grammar) trailer(r *old.Rule) {
	if g.Take("tag") {
		tag := g.Str()
		if g.Dialect > old.D1B { // parsed and ignored until then
			r.Tag = tag
		}
	}
	if g.Take("expire") {
		r.Expire = g.Str()
	}
}

func (g *grammar) from() *old.From {
	f := &old.From{}
	switch {
	case g.Take("all"):
		f.Any = g.Dialect != old.D1E
		if !f.Any {
			all := g.Taken()
			g.Diags.Reportf(diag.Warning, all, "migrate-from-all", "`from all` was no keyword in release 5.2: it names a network that nothing is in").
				Help = []string{"if it was meant to be everybody, write `from any` and convert again"}
			f.Source = &old.TableArg{Pos: all.Start, End: all.End, Elems: []*old.Elem{{Key: old.Str{Pos: all.Start, End: all.End, Text: "all"}}}}
		}
	case g.Take("any"):
		f.Any = true
	case g.Take("local"):
		f.Local = true
	default:
		f.Source = g.mapRef()
	}
	return f
}

// condition takes one condition; alias serves for all conditions of a block.
func (g *grammar) condition(r *old.Rule) *old.For {
	f := &old.For{}
	switch g.TakeOneOf("local", "all", "any", "domain", "virtual", "network") {
	case "local":
		f.Local = true
	case "all", "any":
		f.Any = true
	case "domain":
		f.Domain = g.mapRef()
	case "virtual":
		g.Take("map")
		f.Virtual = g.named()
	case "network":
		f.Network = g.mapRef()
	default:
		g.Want("local")
	}
	if g.Take("alias") {
		r.Alias = g.named()
	}
	return f
}

func (g *grammar) action() *old.Action {
	if g.Take("relay") {
		return g.relay()
	}
	a := &old.Action{}
	g.Want("deliver")
	g.Want("to")
	switch g.TakeOneOf("mbox", "maildir", "mda") {
	case "mbox":
		a.Method = old.MBox
		a.Arg = g.OptStr()
	case "maildir":
		a.Method = old.Maildir
		a.Arg = g.OptStr()
	case "mda":
		a.Method = old.MDA
		a.Arg = g.Str()
	default:
		g.Want("mbox")
	}
	if a.Method != old.MBox && g.TakeOneOf("user", "as") != "" {
		a.User = g.Str()
	}
	return a
}

func (g *grammar) relay() *old.Action {
	a := &old.Action{Method: old.Relay}
	switch g.TakeOneOf("backup", "via") {
	case "backup":
		a.Method = old.RelayBackup
		a.Arg = g.Str()
	case "via":
		g.via(a)
	}
	if g.Take("as") {
		a.As = g.Str()
	}
	return a
}

// via takes what follows relay via: in each dialect other words, in any
// order but for the host.
func (g *grammar) via(a *old.Action) {
	a.Method = old.RelayVia
	if g.Next("map") {
		g.Take("map")
		g.Refuse("migrate-draft", "no release had `relay via map`; the present language has `relay host <TABLE>`")
	}
	if w := g.TakeOneOf("ssmtp", "tls", "ssl"); w != "" { // before the host in 2009
		a.Transport = w
		if w == "ssmtp" {
			a.Transport = "smtps"
		}
	}
	a.Arg = g.Str()
	for !g.Ended() {
		switch w := g.TakeOneOf("port", "smtps", "tls", "ssl", "certificate", "enable", "auth"); w {
		case "port":
			a.Port = g.StrOrNumber()
		case "smtps", "tls", "ssl":
			a.Transport = w
		case "certificate":
			a.Cert = g.Str()
		case "enable":
			g.Want("auth")
			a.EnabAuth = true
		case "auth":
			a.Auth = g.named()
		default:
			return
		}
	}
}
