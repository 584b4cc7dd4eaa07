package compile

import (
	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// match adds a rule.
func (c *compiler) match(m *ast.Match) {
	c.matched = true
	rule := Rule{
		From:   From{FromLocal, Criterion{Sign: Is, Table: c.rs.Local}},
		For:    For{ForLocal, Criterion{Sign: Is, Table: c.rs.LocalNames}},
		Origin: c.here(),
	}
	for i, cr := range m.Criteria {
		// A criterion whose table may be absent is complete only when
		// the next token is known.
		k := criterion{c: c, rule: &rule, sign: sign(cr.Not)}
		k.at = token.Span{Start: cr.Pos, End: cr.EndPos}
		k.next = c.dispositionPos(m)
		if i+1 < len(m.Criteria) {
			k.next = m.Criteria[i+1].Pos
		}
		k.compile(cr)
	}
	if m.Action != nil {
		rule.Action, _ = c.actions.find(c, m.Action, m.Action.Pos)
	}
	c.rs.Rules = append(c.rs.Rules, rule)
}

// dispositionPos returns where the word after the criteria is.
func (c *compiler) dispositionPos(m *ast.Match) token.Pos {
	if m.Action != nil {
		return m.Action.Pos
	}
	return c.stmt.EndPos
}

// A criterion is one criterion of a rule on its way into it.
type criterion struct {
	c    *compiler
	rule *Rule
	sign Sign
	at   token.Span
	next token.Pos // the token behind it
}

// compile puts a criterion into its rule. A second one of its group is a
// mistake (language.md 3.4).
func (k criterion) compile(cr *ast.Criterion) {
	c, r := k.c, k.rule
	switch {
	case cr.From != nil:
		k.from(cr.From)
	case cr.For != nil:
		k.forPart(cr.For)
	case cr.Tag != nil:
		k.plain(&r.Tag, "tag", cr.Tag, forTag)
	case cr.Helo != nil:
		k.plain(&r.Helo, "helo", cr.Helo, forHelo)
	case cr.TLS:
		c.once("tls", k.at, k.at.End)
		r.TLS.Sign = k.sign
	case cr.Auth != nil:
		id, ok := k.table(cr.Auth.Arg(), forAuth, cr.Auth.Regex, "auth")
		if ok {
			r.Auth = Criterion{k.sign, id, cr.Auth.Regex}
		}
	case cr.MailFrom != nil:
		k.plain(&r.MailFrom, "mail-from", cr.MailFrom, forMailFrom)
	case cr.RcptTo != nil:
		k.plain(&r.RcptTo, "rcpt-to", cr.RcptTo, forRcptTo)
	}
}

// plain sets a criterion that has a table.
func (k criterion) plain(to *Criterion, group string, p *ast.Pattern, serves purpose) {
	if id, ok := k.table(p.Table, serves, p.Regex, group); ok {
		*to = Criterion{k.sign, id, p.Regex}
	}
}

// table returns the table of a criterion, 0 without arg, after the checks in
// OpenSMTPD's order: is there such a table, is the group free, does the
// table serve.
func (k criterion) table(arg *ast.TableArg, p purpose, regex bool, group string) (id TableID, ok bool) {
	seen, known := k.next, true
	if arg != nil {
		seen = seenArg(arg)
		id, known = k.c.table(arg)
	}
	free := k.c.once(group, k.at, seen)
	if arg == nil {
		return 0, free
	}
	return id, known && free && k.c.suits(id, arg, p, regex)
}

// from sets the from part.
func (k criterion) from(f *ast.From) {
	c, r := k.c, k.rule
	set := func(kind FromKind, table TableID, regex bool) {
		r.From = From{kind, Criterion{k.sign, table, regex}}
	}
	word := func(kind FromKind, table TableID) {
		if c.once("from", k.at, k.at.End) {
			set(kind, table, false)
		}
	}
	switch {
	case f.Any:
		word(FromAny, c.rs.AnyHost)
	case f.Local:
		word(FromLocal, c.rs.Local)
	case f.Socket:
		word(FromSocket, 0)
	case f.Src != nil:
		if id, ok := k.table(f.Src.Table, forSrc, f.Src.Regex, "from"); ok {
			set(FromSrc, id, f.Src.Regex)
		}
	case f.RDNS != nil:
		if id, ok := k.table(f.RDNS.Arg(), forRDNS, f.RDNS.Regex, "from"); ok {
			set(FromRDNS, id, f.RDNS.Regex)
		}
	case f.Auth != nil:
		if id, ok := k.table(f.Auth.Arg(), forFromAuth, f.Auth.Regex, "from"); ok {
			r.From = From{FromAny, Criterion{Sign: Is, Table: c.rs.AnyHost}}
			k.override(&r.Auth, "auth", id, f.Auth.Regex)
		}
	case f.MailFrom != nil:
		if id, ok := k.table(f.MailFrom.Table, forMailFrom, f.MailFrom.Regex, "from"); ok {
			r.From = From{FromAny, Criterion{Sign: Is, Table: c.rs.AnyHost}}
			k.override(&r.MailFrom, "mail-from", id, f.MailFrom.Regex)
		}
	}
}

// forPart sets the for part.
func (k criterion) forPart(f *ast.For) {
	c, r := k.c, k.rule
	switch {
	case f.Any:
		if c.once("for", k.at, k.at.End) {
			r.For = For{ForAny, Criterion{Sign: k.sign, Table: c.rs.AnyDest}}
		}
	case f.Local:
		if c.once("for", k.at, k.at.End) {
			r.For = For{ForLocal, Criterion{Sign: k.sign, Table: c.rs.LocalNames}}
		}
	case f.Domain != nil:
		if id, ok := k.table(f.Domain.Table, forDomain, f.Domain.Regex, "for"); ok {
			r.For = For{ForDomain, Criterion{k.sign, id, f.Domain.Regex}}
		}
	case f.RcptTo != nil:
		if id, ok := k.table(f.RcptTo.Table, forRcptTo, f.RcptTo.Regex, "for"); ok {
			r.For = For{ForAny, Criterion{Sign: Is, Table: c.rs.AnyDest}}
			k.override(&r.RcptTo, "rcpt-to", id, f.RcptTo.Regex)
		}
	}
}

// override sets a group from within from or for. It does not ask whether the
// group is taken: like OpenSMTPD it overwrites the sign and, if it names
// one, the table of an earlier criterion, whose table stays otherwise and
// whose regex stays always.
func (k criterion) override(to *Criterion, group string, id TableID, regex bool) {
	if first, ok := k.c.place(group); ok {
		d := k.c.diags.Reportf(diag.Warning, k.at, "overridden-criterion", "this overrides the %s before it", group)
		d.Notes = append(d.Notes, diag.Note{Span: first, Message: "no longer tested as written"})
	} else {
		k.c.given = append(k.c.given, given{group, k.at})
	}
	to.Sign = k.sign
	if id != 0 {
		to.Table = id
	}
	to.Regex = to.Regex || regex
}
