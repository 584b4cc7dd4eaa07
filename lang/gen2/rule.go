package gen2

import (
	"smtpd/ast/old"
	"smtpd/lang/generation"
)

// tableArg takes a table that the rules of the time name in angle brackets. A
// bare name that is declared is taken for one all the same.
func (g *grammar) tableArg() *old.TableArg { return g.named(g.TableArg()) }

func (g *grammar) optTable() *old.TableArg {
	t := g.OptTableArg()
	if t == nil {
		return nil
	}
	return g.named(t)
}

func (g *grammar) named(t *old.TableArg) *old.TableArg {
	if t.Ref == nil && !t.Braces && len(t.Elems) == 1 && g.tables[t.Elems[0].Key.Text] {
		key := &t.Elems[0].Key
		g.Note("`%s` is read as the table <%s>", key.Text, key.Text)
		t.Ref, t.Elems, t.Macro = key, nil, ""
	}
	return t
}

// rule takes what follows accept or reject: clauses in any order.
func (g *grammar) rule(reject bool) *old.Rule {
	r := &old.Rule{Reject: reject}
	for !g.Ended() && (g.decision(r) || g.lookup(r) || g.action(r)) {
	}
	if reject && (r.Action != nil || r.Expire != nil || r.ForwardOnly) {
		g.Refuse("syntax", "`reject` takes no action")
	}
	if r.ForwardOnly && r.Action != nil {
		g.Refuse("conflicting-options", "`forward-only` has no action beside it")
	}
	if r.Alias != nil && r.Virtual != nil {
		g.Refuse("conflicting-options", "`alias` and `virtual` exclude each other")
	}
	if r.Action != nil && r.Action.Method >= old.Relay && g.Dialect >= old.D541 && (r.Alias != nil || r.Virtual != nil || r.Userbase != nil) {
		g.Refuse("conflicting-options", "a relaying rule has no users: `alias`, `virtual` and `userbase` do not go with `relay`")
	}
	if len(r.For) == 0 && g.Dialect < old.D541 {
		g.Note("release %s demanded `for`, it is read as `for local`", g.Dialect)
	}
	return r
}

// decision takes a clause that says which mail the rule is about.
func (g *grammar) decision(r *old.Rule) bool {
	switch {
	case g.Take("tagged"):
		r.NotTag = g.Take("!")
		r.Tag = g.Str()
	case g.Take("on"):
		g.Note("`on` is of generation 1, read as `tagged`")
		r.Tag = g.Str()
	case g.Take("authenticated"):
		r.Auth = true
	case g.Take("from"):
		g.Dup(r.From != nil, "from")
		r.From = g.from()
	case g.Take("for"):
		g.Dup(len(r.For) > 0, "for")
		r.For = append(r.For, g.destination())
	case g.Take("sender"):
		g.Dup(r.Sender != nil, "sender")
		r.Sender = &old.Addresses{Not: g.Take("!"), Table: g.tableArg()}
	case g.Take("recipient"):
		g.Dup(r.Recipient != nil, "recipient")
		r.Recipient = &old.Addresses{Not: g.Take("!"), Table: g.tableArg()}
	case g.Take("!"):
		g.Want("authenticated")
		r.Auth, r.NotAuth = true, true
	default:
		return false
	}
	return true
}

func (g *grammar) from() *old.From {
	f := &old.From{Not: g.Take("!")}
	switch {
	case g.Take("any"):
		f.Any = true
	case g.Take("all"):
		g.Note("`all` is of generation 1, read as `any`")
		f.Any = true
	case g.Take("local"):
		f.Local = true
	case g.Take("source"):
		f.Source = g.tableArg()
	case g.Take("map"):
		g.Note("`map` is of generation 1, read as a table")
		f.Source = g.tableArg()
	default:
		if f.Source = g.tableArg(); g.Dialect >= old.D541 {
			g.Note("release %s wanted `source` before the addresses", g.Dialect)
		}
	}
	return f
}

func (g *grammar) destination() *old.For {
	f := &old.For{Not: g.Take("!")}
	switch {
	case g.Take("any"):
		f.Any = true
	case g.Take("all"):
		g.Note("`all` is of generation 1, read as `any`")
		f.Any = true
	case g.Take("local"):
		f.Local = true
	default:
		g.Want("domain")
		f.Domain = g.tableArg()
	}
	return f
}

// lookup takes a clause that says where users are found.
func (g *grammar) lookup(r *old.Rule) bool {
	switch w := g.TakeOneOf("alias", "virtual", "userbase"); w {
	case "alias":
		g.Dup(r.Alias != nil, w)
		r.Alias = g.tableArg()
	case "virtual":
		g.Dup(r.Virtual != nil, w)
		r.Virtual = g.tableArg()
	case "userbase":
		g.Dup(r.Userbase != nil, w)
		r.Userbase = g.tableArg()
	default:
		return false
	}
	return true
}

// action takes a clause that says what is done with the mail.
func (g *grammar) action(r *old.Rule) bool {
	switch w := g.TakeOneOf("deliver", "relay", "expire", "forward-only"); w {
	case "deliver":
		g.Dup(r.Action != nil, w)
		g.Want("to")
		r.Action = g.deliver()
	case "relay":
		g.Dup(r.Action != nil, w)
		r.Action = g.relay()
	case "expire":
		g.Dup(r.Expire != nil, w)
		r.Expire = g.Str()
	case "forward-only":
		g.Dup(r.ForwardOnly, w)
		r.ForwardOnly = true
	default:
		return false
	}
	return true
}

func (g *grammar) deliver() *old.Action {
	a := &old.Action{}
	switch g.TakeOneOf("mbox", "maildir", "mda", "lmtp") {
	case "mbox":
		a.Method = old.MBox
	case "maildir":
		a.Method = old.Maildir
		a.Arg = g.OptStr()
	case "mda":
		a.Method = old.MDA
		a.Arg = g.Str()
	case "lmtp":
		a.Method = old.LMTP
		a.Arg = g.Str()
		a.RcptTo = g.Take("rcpt-to")
	default:
		g.Want("mbox")
	}
	if a.Method != old.MBox && g.Take("as") {
		a.User = g.Str()
	}
	return a
}

func (g *grammar) relay() *old.Action {
	a := &old.Action{Method: old.Relay}
	if g.Take("via") {
		a.Method = old.RelayVia
		if g.Next("map") {
			g.Take("map")
			g.Refuse("migrate-draft", "no release had `relay via map`; the present language has `relay host <TABLE>`")
		}
		a.Arg = g.Str()
		if g.Take("port") {
			g.Note("`port` after the host is of generation 1")
			a.Port = g.StrOrNumber()
		}
	}
	for !g.Ended() && (g.relayOption(a) || a.Method != old.RelayVia && g.mxOption(a) || a.Method == old.RelayVia && g.viaOption(a)) {
	}
	return a
}

func (g *grammar) relayOption(a *old.Action) bool {
	switch g.TakeOneOf("as", "source", "helo", "hostname", "hostnames", "pki", "ca", "certificate") {
	case "as":
		a.As = g.Str()
	case "source":
		a.Source = g.tableArg()
	case "helo", "hostnames":
		a.Helo = g.tableArg()
	case "hostname":
		a.Hostname = g.Str()
	case "pki":
		a.PKI = g.Str()
	case "ca":
		a.CA = g.Str()
	case "certificate":
		a.Cert = g.Str()
	default:
		return false
	}
	return true
}

// mxOption takes an option of a relay that looks for mail exchangers.
func (g *grammar) mxOption(a *old.Action) bool {
	switch g.TakeOneOf("backup", "tls") {
	case "backup":
		a.Method = old.RelayBackup
		a.Arg = g.OptStr()
	case "tls":
		a.TLS = true
		a.Verify = g.Take("verify")
	default:
		return false
	}
	return true
}

// viaOption takes an option of a relay to a host.
func (g *grammar) viaOption(a *old.Action) bool {
	switch g.TakeOneOf("auth", "verify") {
	case "auth":
		a.Auth = g.tableArg()
	case "verify":
		a.Verify = true
	default:
		return false
	}
	if a.Verify && !generation.HasTLS(a.Arg.Text) {
		g.Refuse("conflicting-options", "`verify` needs a URL with TLS")
	}
	return true
}
