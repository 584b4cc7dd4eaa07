package analyze

import (
	"strings"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/tablefile"
	"smtpd/lang/diag"
)

// tags reports rules for a tag that no listener gives. It goes by the text,
// as a listener on an interface that the host lacks gives a tag elsewhere.
func (l *linter) tags() {
	given := map[string]bool{"": true} // what a listener without a tag gives
	for _, s := range l.file.Stmts {
		if s.Listen != nil {
			addTags(given, s.Listen)
		}
	}
	for _, s := range l.matches {
		for _, c := range s.Match.Criteria {
			if c.Tag != nil && !c.Tag.Regex && !l.opaque(c.Tag.Table) {
				l.tag(c, given)
			}
		}
	}
}

func addTags(given map[string]bool, s *ast.Listen) {
	for _, o := range s.Options {
		if o.Tag != nil {
			given[tablefile.Fold(o.Tag.Text)] = true
		}
	}
	for _, o := range s.SocketOptions {
		if o.Tag != nil {
			given[tablefile.Fold(o.Tag.Text)] = true
		}
	}
}

func (l *linter) tag(c *ast.Criterion, given map[string]bool) {
	var asked []string
	for _, e := range l.elements(c.Tag.Table) {
		if given[e.used()] {
			return
		}
		asked = append(asked, e.text)
	}
	if len(asked) == 0 {
		return // an empty table is reported as such
	}
	what := "so this rule matches nothing"
	if c.Not {
		what = "so the criterion always holds"
	}
	name := strings.Join(asked[:min(len(asked), 3)], ", ")
	if !l.once(diag.Warning, argSpan(c.Tag.Table), "unknown-tag", name) {
		return
	}
	d := l.list.Reportf(diag.Warning, argSpan(c.Tag.Table), "unknown-tag", "no listener gives the tag %q, %s", name, what)
	d.Label = "mail has the tag of the listener that took it"
}

// everybody reports an entry for the null sender that is one for everybody:
// where an address is compared, "@" leaves both parts open.
func (l *linter) everybody(t test, e element) {
	if used := e.used(); used != "@" && used != "" {
		return
	}
	class, effect := diag.Warning, "matches every address, not the null sender alone"
	if t.not {
		class, effect = diag.Security, "matches every address, so the criterion holds for nobody"
		if t.rule >= 0 {
			l.explained[t.rule] = true
		}
	}
	if !l.once(class, e.at, "every-address", e.text) {
		return
	}
	d := l.list.Reportf(class, e.at, "every-address", "%q %s", e.text, effect)
	d.Help = append(d.Help, "the null sender alone is written: mail-from regex \"^@$\"")
}

// localRelays reports rules that leave out where mail goes although their
// action sends it elsewhere: that means to this host alone.
func (l *linter) localRelays() {
	for i, s := range l.matches {
		r := &l.rules.Rules[i]
		if r.Action == 0 || l.rules.Action(r.Action).Method != compile.Relay || hasFor(s.Match) {
			continue
		}
		d := l.list.Reportf(diag.Warning, stmtSpan(s), "for-local", "only mail for the names of this host is relayed: that is what a rule without for means")
		d.Help = append(d.Help, "write `for any` to relay to everywhere, or `for local` to say that this is meant")
	}
}

func hasFor(m *ast.Match) bool {
	for _, c := range m.Criteria {
		if c.For != nil {
			return true
		}
	}
	return false
}
