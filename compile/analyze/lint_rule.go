package analyze

import (
	"fmt"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

func stmtSpan(s *ast.Stmt) token.Span { return token.Span{Start: s.Pos, End: s.EndPos} }

// dead reports the rules that decide nothing.
func (l *linter) dead() {
	var t *table
	for _, r := range Reachable(l.rules) {
		if r.State != Dead || r.Rule >= len(l.matches) {
			continue
		}
		if len(r.Blockers) == 0 {
			l.contradiction(r.Rule)
			continue
		}
		if l.hostDecides(&r) {
			continue
		}
		if t == nil {
			t = newTable(l.rules)
		}
		l.shadowed(t, &r)
	}
}

// hostDecides reports whether a rule may be dead only because the name of
// the host is not known: it goes by the name localhost then, and a rule for
// that domain covers "for local".
func (l *linter) hostDecides(r *Reach) bool {
	if l.rules.ServerName != "localhost" || l.rules.Rules[r.Rule].For.Kind != compile.ForLocal {
		return false
	}
	for _, i := range r.Blockers {
		if l.rules.Rules[i].For.Kind == compile.ForDomain {
			return true
		}
	}
	return false
}

func (l *linter) contradiction(rule int) {
	if l.explained[rule] {
		return
	}
	d := l.list.Reportf(diag.Warning, stmtSpan(l.matches[rule]), "contradictory-rule", "no mail can match this rule")
	d.Label = "its criteria exclude each other"
	for _, c := range l.matches[rule].Match.Criteria {
		arg, _ := criterionArg(c)
		if arg != nil && arg.Ref != nil && !c.Not && l.isEmpty(arg.Ref.Text) {
			d.Label = fmt.Sprintf("table %q has no entries", arg.Ref.Text)
		}
	}
}

func (l *linter) isEmpty(name string) bool {
	t := l.tables[name]
	return t != nil && t.Kind == compile.List && len(t.Entries) == 0
}

// maxBlockers is how many rules are named that take what a dead one matches.
const maxBlockers = 3

// shadowed reports a rule whose mail others decide first.
func (l *linter) shadowed(t *table, r *Reach) {
	at := stmtSpan(l.matches[r.Rule])
	if l.sameAction(r) {
		d := l.list.Reportf(diag.Style, at, "redundant-rule", "the rule decides nothing: rules above do the same with all that it matches")
		l.name(d, r.Blockers)
		return
	}
	d := l.list.Reportf(diag.Warning, at, "dead-rule", "the rule decides nothing: rules above take all that it matches")
	l.name(d, l.worstFirst(r))
	s := search{base: ordinary()}
	if tx, a, f := s.pick(t.covered(r.Rule)); f == found && len(a.list) == 0 {
		d.Help = append(d.Help, fmt.Sprintf("it would match mail from %v to %v, for example", tx.Sender, tx.Rcpt))
	}
}

func (l *linter) name(d *diag.Diagnostic, blockers []int) {
	for i, b := range blockers {
		if i == maxBlockers {
			d.Help = append(d.Help, fmt.Sprintf("%d more rules take a part of it", len(blockers)-i))
			return
		}
		d.Notes = append(d.Notes, diag.Note{Span: stmtSpan(l.matches[b]), Message: "this rule comes first"})
	}
}

func (l *linter) sameAction(r *Reach) bool {
	for _, b := range r.Blockers {
		if l.rules.Rules[b].Action != l.rules.Rules[r.Rule].Action {
			return false
		}
	}
	return true
}

// worstFirst returns the blockers, those that do something else first: they
// are what the reader has to know of.
func (l *linter) worstFirst(r *Reach) []int {
	var other, same []int
	for _, b := range r.Blockers {
		if l.rules.Rules[b].Action != l.rules.Rules[r.Rule].Action {
			other = append(other, b)
		} else {
			same = append(same, b)
		}
	}
	return append(other, same...)
}

// defaults reports rules that leave out where mail comes from although they
// seem to be meant for mail from elsewhere: that means from this host alone.
func (l *linter) defaults() {
	public, auth := l.listens()
	last := l.lastFromElsewhere()
	for i, s := range l.matches {
		r := &l.rules.Rules[i]
		if hasFrom(s.Match) || r.Action == 0 {
			continue
		}
		switch {
		case auth && r.Auth.Sign == compile.Is:
			d := l.list.Reportf(diag.Warning, stmtSpan(s), "auth-from-local", "clients who log in from elsewhere do not match: without from, a rule is for mail from this host")
			d.Help = append(d.Help, "write `from any` before or after `auth`, or `from auth`")
		case public && i > last && r.For.Kind == compile.ForDomain && r.For.Sign == compile.Is && r.Tag.Sign == compile.Absent:
			d := l.list.Reportf(diag.Style, stmtSpan(s), "from-local", "mail for these domains is accepted from this host alone: that is what a rule without from means")
			d.Help = append(d.Help, "write `from any` to take mail from everywhere, or `from local` to say that this is meant")
		}
	}
}

// listens says whether others than this host can connect, and log in.
func (l *linter) listens() (public, auth bool) {
	for i := range l.rules.Listeners {
		s := &l.rules.Listeners[i]
		remote := !s.Addr.IsValid() || !s.Addr.IsLoopback()
		public = public || certificate.Public(s)
		auth = auth || remote && s.Auth != compile.NoAuth
	}
	return public, auth
}

// lastFromElsewhere returns the last rule that accepts mail from others than
// this host, or -1. What stands above it is taken for a rule for local mail.
func (l *linter) lastFromElsewhere() int {
	last := -1
	for i := range l.rules.Rules {
		r := &l.rules.Rules[i]
		if r.Action != 0 && r.From.Kind != compile.FromLocal && r.From.Kind != compile.FromSocket && r.Auth.Sign != compile.Is {
			last = i
		}
	}
	return last
}

func hasFrom(m *ast.Match) bool {
	for _, c := range m.Criteria {
		if c.From != nil {
			return true
		}
	}
	return false
}
