package analyze

import (
	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/tablefile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// uses is what a configuration refers to.
type uses struct {
	tables                   map[string]bool
	actions                  map[compile.ActionID]bool
	filters                  map[compile.FilterID]bool
	procs, wrappers, pki, ca map[string]bool
	macros                   map[macroDef]bool
}

// A macroDef is one definition of a macro; the zero position is that of the
// command line, which overrides all others.
type macroDef struct {
	name string
	def  token.Pos
}

func (l *linter) uses() *uses {
	u := &uses{
		tables: make(map[string]bool), actions: make(map[compile.ActionID]bool), filters: make(map[compile.FilterID]bool),
		procs: make(map[string]bool), wrappers: make(map[string]bool), pki: make(map[string]bool), ca: make(map[string]bool),
		macros: make(map[macroDef]bool),
	}
	for i := range l.rules.Rules {
		u.actions[l.rules.Rules[i].Action] = true
	}
	for i := range l.rules.Filters {
		f := &l.rules.Filters[i]
		u.procs[f.Proc] = true
		for _, id := range f.Chain {
			u.filters[id] = true
		}
	}
	for i := range l.rules.Actions {
		a := &l.rules.Actions[i]
		u.filters[a.Relay.Filter] = true
		u.pki[tablefile.Fold(a.Relay.PKI)] = true
		u.ca[tablefile.Fold(a.Relay.CA)] = true
	}
	for _, s := range l.file.Stmts {
		u.statement(s)
	}
	u.filters[l.rules.Socket.Filter] = true
	for i := range l.rules.Listeners {
		u.filters[l.rules.Listeners[i].Filter] = true
	}
	if l.file.Set != nil {
		for _, f := range l.file.Set.Expansions() {
			u.macros[macroDef{f.Name, f.Def}] = true
		}
	}
	return u
}

// statement notes the names in a statement. It goes by the text and not by
// the rule table because a listener on an interface that the host lacks, or
// an option that a later one overrides, is a use all the same.
func (u *uses) statement(s *ast.Stmt) {
	switch {
	case s.Match != nil:
		for _, c := range s.Match.Criteria {
			arg, _ := criterionArg(c)
			u.table(arg)
		}
	case s.Action != nil && s.Action.Local != nil:
		for _, o := range s.Action.Local.Options {
			u.table(o.Alias)
			u.table(o.Virtual)
			u.table(o.Userbase)
			if o.Wrapper != nil {
				u.wrappers[o.Wrapper.Text] = true
			}
		}
	case s.Action != nil:
		for _, o := range s.Action.Relay.Options {
			u.table(o.HeloSrc)
			u.table(o.Src)
			u.table(o.Host)
			u.table(o.Domain)
			u.table(o.Auth)
		}
	case s.SMTP != nil && s.SMTP.BareLF != nil:
		u.table(s.SMTP.BareLF.From)
	case s.Listen != nil:
		for _, o := range s.Listen.Options {
			u.listenOption(o)
		}
	case s.Filter != nil && s.Filter.Phase != nil:
		_, arg, _ := conditionArg(s.Filter.Phase.Condition)
		u.table(arg)
	}
}

func (u *uses) listenOption(o *ast.ListenOption) {
	u.table(o.Hostnames)
	switch {
	case o.Auth != nil:
		u.table(o.Auth.Table)
	case o.AuthOptional != nil:
		u.table(o.AuthOptional.Table)
	case o.Senders != nil:
		u.table(o.Senders.Table)
	case o.ProxyV2 != nil && o.ProxyV2.From != nil:
		u.table(o.ProxyV2.From)
	case o.PKI != nil:
		u.pki[tablefile.Fold(o.PKI.Text)] = true
	case o.CA != nil:
		u.ca[tablefile.Fold(o.CA.Text)] = true
	}
}

func (u *uses) table(arg *ast.TableArg) {
	if arg != nil && arg.Ref != nil {
		u.tables[arg.Ref.Text] = true
	}
}

// unused reports what is declared and nowhere used.
func (l *linter) unused() {
	u := l.uses()
	filters := make(map[string]compile.FilterID, len(l.rules.Filters))
	for i := range l.rules.Filters {
		filters[l.rules.Filters[i].Name] = compile.FilterID(i + 1)
	}
	var action compile.ActionID
	for _, s := range l.file.Stmts {
		switch {
		case s.Macro != nil:
			l.unusedMacro(u, &s.Macro.Name)
		case s.Table != nil:
			l.unless(u.tables[s.Table.Name.Text], "unused-table", "table", &s.Table.Name)
		case s.Action != nil:
			action++
			l.unless(u.actions[action], "unused-action", "action", &s.Action.Name)
		case s.Filter != nil:
			l.unless(u.filters[filters[s.Filter.Name.Text]], "unused-filter", "filter", &s.Filter.Name)
		case s.Proc != nil:
			l.unless(u.procs[s.Proc.Name.Text], "unused-proc", "process", &s.Proc.Name)
		case s.MDA != nil && s.MDA.Wrapper != nil:
			l.unless(u.wrappers[s.MDA.Wrapper.Name.Text], "unused-wrapper", "wrapper", &s.MDA.Wrapper.Name)
		case s.PKI != nil:
			l.unlessNamed(u.pki, "unused-pki", "pki", &s.PKI.Name)
		case s.CA != nil:
			l.unlessNamed(u.ca, "unused-ca", "ca", &s.CA.Name)
		}
	}
}

func (l *linter) unusedMacro(u *uses, name *ast.Str) {
	used := u.macros[macroDef{name.Text, token.Pos{}}] || u.macros[macroDef{name.Text, name.Pos}]
	l.unless(used, "unused-macro", "macro", name)
}

// unlessNamed is unless for names that are folded and may be declared in
// several statements: the first one is where an unused one is reported.
func (l *linter) unlessNamed(used map[string]bool, code diag.Code, what string, name *ast.Str) {
	folded := tablefile.Fold(name.Text)
	l.unless(used[folded], code, what, name)
	used[folded] = true
}

func (l *linter) unless(used bool, code diag.Code, what string, name *ast.Str) {
	if !used {
		d := l.list.Reportf(diag.Warning, span(name), code, "%s %q is never used", what, name.Text)
		d.Label = "nothing refers to it"
	}
}
