package compile

import (
	"cmp"
	"strconv"

	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// proc declares a filter process.
func (c *compiler) proc(p *ast.Proc) {
	errors := c.errors
	c.procs.taken(c, &p.Name, p.Command.Pos)
	proc := Proc{Name: p.Name.Text, Command: p.Command.Text, Origin: c.here()}
	c.procOptions(&proc, p.Options)
	c.procs.declare(&p.Name, len(c.rs.Procs), c.failed(errors))
	c.rs.Procs = append(c.rs.Procs, proc)
}

// procOptions sets how a process runs.
func (c *compiler) procOptions(p *Proc, options []*ast.ProcOption) {
	for _, o := range options {
		at := token.Span{Start: o.Pos, End: o.EndPos}
		switch {
		case o.User != nil:
			c.once("user", at, o.User.Pos)
			p.User = o.User.Text
		case o.Group != nil:
			c.once("group", at, o.Group.Pos)
			p.Group = o.Group.Text
		case o.Chroot != nil:
			c.once("chroot", at, o.Chroot.Pos)
			p.Chroot = o.Chroot.Text
		}
	}
}

// filter declares a filter.
func (c *compiler) filter(f *ast.Filter) {
	errors := c.errors
	filter := Filter{Name: f.Name.Text, Origin: c.here()}
	if f.KindPos.IsValid() {
		c.filters.taken(c, &f.Name, f.KindPos)
	}
	switch {
	case f.Proc != nil:
		c.filters.taken(c, &f.Name, f.Proc.Pos)
		if _, ok := c.procs.find(c, f.Proc, f.Proc.Pos); ok {
			filter.Proc = f.Proc.Text
		}
	case f.ProcExec != nil:
		c.filters.taken(c, &f.Name, f.ProcExec.Command.Pos)
		c.procExec(&filter, f.ProcExec, &f.Name)
	case f.Milter != nil:
		c.filters.taken(c, &f.Name, f.Milter.Address.Pos)
		c.milter(&filter, f.Milter)
	case f.Chain != nil:
		filter.Chain = c.chain(f.Chain)
	case f.Phase != nil:
		c.phase(&filter, f.Phase)
	}
	if o := f.OnFailure; o != nil {
		filter.Bypass = o.Bypass
		c.extension(token.Span{Start: o.Pos, End: o.EndPos}, o.Pos, "filter on-failure")
	}
	c.rs.Filters = append(c.rs.Filters, filter)
	c.filters.declare(&f.Name, FilterID(len(c.rs.Filters)), c.failed(errors))
}

func (c *compiler) milter(f *Filter, m *ast.Milter) {
	c.extension(token.At(m.Pos), m.Pos, "filter milter")
	f.Milter = MilterAddr(m.Address.Text)
	if _, _, ok := f.Milter.Split(); !ok {
		c.errorf(span(&m.Address), m.Address.Pos, "milter-address", "%q is not where a milter listens: write \"inet:host:port\" or \"unix:/path\"", m.Address.Text)
	}
}

// procExec gives a filter a process of its own, under its own name. A
// process that was declared under that name is replaced, as in OpenSMTPD.
func (c *compiler) procExec(f *Filter, p *ast.ProcExec, name *ast.Str) {
	proc := Proc{Name: f.Name, Command: p.Command.Text, Origin: f.Origin}
	c.procOptions(&proc, p.Options)
	f.Proc = f.Name
	if old, ok := c.procs.names[f.Name]; ok && !old.wrong {
		d := c.diags.Reportf(diag.Warning, span(name), "replaced-proc", "filter %q replaces the process of that name", f.Name)
		d.Notes = append(d.Notes, diag.Note{Span: span(old.at), Message: "its command is no longer run"})
		c.rs.Procs[old.id] = proc
		return
	}
	c.procs.declare(name, len(c.rs.Procs), c.broken)
	c.rs.Procs = append(c.rs.Procs, proc)
}

// chain returns the members of a chain.
func (c *compiler) chain(l *ast.List) []FilterID {
	var ids []FilterID
	first := make(map[string]*ast.Str, len(l.Elems))
	for _, e := range l.Elems {
		id, ok := c.filters.find(c, &e.Key, e.Key.Pos)
		if !ok {
			continue
		}
		if c.rs.Filter(id).Chain != nil {
			c.errorf(span(&e.Key), e.Key.Pos, "nested-chain", "filter %q is a chain and cannot be in one", e.Key.Text)
			continue
		}
		if at := first[e.Key.Text]; at != nil {
			d := c.errorf(span(&e.Key), e.Key.Pos, "repeated-filter", "filter %q is in this chain twice", e.Key.Text)
			d.Notes = append(d.Notes, diag.Note{Span: span(at), Message: "first here"})
			continue
		}
		first[e.Key.Text] = &e.Key
		ids = append(ids, id)
	}
	return ids
}

// filterRef returns the filter that an option names, or a new chain.
func (c *compiler) filterRef(r *ast.FilterRef) FilterID {
	if r.Name != nil {
		id, _ := c.filters.find(c, r.Name, r.Name.Pos)
		return id
	}
	f := Filter{
		Name:   "<dynamic:" + strconv.Itoa(c.dynFilters) + ">",
		Chain:  c.chain(r.Chain),
		Origin: origin(r.Chain.Pos),
	}
	c.dynFilters++
	c.rs.Filters = append(c.rs.Filters, f)
	return FilterID(len(c.rs.Filters))
}

// filterSeen returns where OpenSMTPD notices that the option is there: at the
// name or at the brace.
func filterSeen(r *ast.FilterRef) token.Pos {
	if r.Name != nil {
		return r.Name.Pos
	}
	return r.Chain.Pos
}

// phase compiles a built-in filter. Its tables may be of any kind, as in
// OpenSMTPD, which asks them all the same.
func (c *compiler) phase(f *Filter, p *ast.Phase) {
	f.Phase = p.Name
	f.Test.Sign = sign(p.Not)
	if p.Condition != nil {
		var arg *ast.TableArg
		f.Test.Field, f.Test.Regex, arg = condition(p.Condition)
		if arg != nil {
			f.Test.Table, _ = c.table(arg)
		}
	}
	if p.Decision != nil {
		f.Do, f.Text = decision(p.Decision)
		c.checkReply(p.Decision)
	}
}

// checkReply warns of a refusal that is no reply of SMTP.
func (c *compiler) checkReply(d *ast.Decision) {
	text := cmp.Or(d.Reject, d.Disconnect)
	if text == nil || isReply(text.Text) {
		return
	}
	w := c.diags.Reportf(diag.Warning, span(text), "filter-reply", "%q is no reply, so clients get a temporary failure instead", text.Text)
	w.Label = "expected 4xx or 5xx, a blank and a text"
}

// isReply reports whether s is a negative reply with a text.
func isReply(s string) bool {
	return len(s) > 4 && (s[0] == '4' || s[0] == '5') && '0' <= s[1] && s[1] <= '9' && '0' <= s[2] && s[2] <= '9' && s[3] == ' '
}

func sign(not bool) Sign {
	if not {
		return Not
	}
	return Is
}

// condition returns what a built-in filter looks at and in which table.
func condition(c *ast.Condition) (field FilterField, regex bool, arg *ast.TableArg) {
	plain := func(field FilterField, p *ast.Pattern) (FilterField, bool, *ast.TableArg) {
		return field, p.Regex, p.Table
	}
	switch {
	case c.FCrDNS:
		return FieldFCrDNS, false, nil
	case c.RDNS != nil:
		return FieldRDNS, c.RDNS.Regex, c.RDNS.Arg()
	case c.Src != nil:
		return plain(FieldSrc, c.Src)
	case c.Helo != nil:
		return plain(FieldHelo, c.Helo)
	case c.Auth != nil:
		return FieldAuth, c.Auth.Regex, c.Auth.Arg()
	case c.MailFrom != nil:
		return plain(FieldMailFrom, c.MailFrom)
	}
	return plain(FieldRcptTo, c.RcptTo)
}

func decision(d *ast.Decision) (Verdict, string) {
	switch {
	case d.Reject != nil:
		return Reject, d.Reject.Text
	case d.Disconnect != nil:
		return Disconnect, d.Disconnect.Text
	case d.Rewrite != nil:
		return Rewrite, d.Rewrite.Text
	case d.Report != nil:
		return Report, d.Report.Text
	case d.Junk:
		return Junk, ""
	}
	return Bypass, ""
}

// A given is an option that the statement in hand has.
type given struct {
	option string
	at     token.Span
}

// once remembers that an option is given, and reports one that was given
// before. seen is where OpenSMTPD notices.
func (c *compiler) once(option string, at token.Span, seen token.Pos) bool {
	for _, g := range c.given {
		if g.option == option {
			d := c.errorf(at, seen, "repeated-option", "%s is already given", option)
			d.Notes = append(d.Notes, diag.Note{Span: g.at, Message: "first given here"})
			return false
		}
	}
	c.given = append(c.given, given{option, at})
	return true
}

// place returns where the statement in hand has an option.
func (c *compiler) place(option string) (at token.Span, ok bool) {
	for _, g := range c.given {
		if g.option == option {
			return g.at, true
		}
	}
	return at, false
}
