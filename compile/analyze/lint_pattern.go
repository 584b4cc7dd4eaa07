package analyze

import (
	"fmt"
	"strings"

	"smtpd/ast"
	"smtpd/compile/engine"
	"smtpd/compile/ere"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// A test is a criterion of a rule or the condition of a filter, with the
// table that it looks into.
type test struct {
	arg   *ast.TableArg
	what  string // "mail-from", for messages
	as    engine.Service
	not   bool
	rule  int // -1 for a filter
	after string
}

// criterionArg returns the table of a criterion, or nil, and how entries are
// compared.
func criterionArg(c *ast.Criterion) (*ast.TableArg, test) {
	t := test{not: c.Not, after: "the rule"}
	plain := func(what string, as engine.Service, p *ast.Pattern) (*ast.TableArg, test) {
		t.what, t.as, t.arg = what, regexOr(p.Regex, as), p.Table
		return t.arg, t
	}
	optional := func(what string, as engine.Service, p *ast.OptPattern) (*ast.TableArg, test) {
		t.what, t.as, t.arg = what, regexOr(p.Regex, as), p.Arg()
		return t.arg, t
	}
	switch {
	case c.Tag != nil:
		return plain("tag", engine.String, c.Tag)
	case c.Helo != nil:
		return plain("helo", engine.Domain, c.Helo)
	case c.Auth != nil:
		return optional("auth", engine.String, c.Auth)
	case c.MailFrom != nil:
		return plain("mail-from", engine.MailAddr, c.MailFrom)
	case c.RcptTo != nil:
		return plain("rcpt-to", engine.MailAddr, c.RcptTo)
	case c.From != nil && c.From.Src != nil:
		return plain("from src", engine.NetAddr, c.From.Src)
	case c.From != nil && c.From.RDNS != nil:
		return optional("from rdns", engine.Domain, c.From.RDNS)
	case c.From != nil && c.From.Auth != nil:
		return optional("from auth", engine.String, c.From.Auth)
	case c.From != nil && c.From.MailFrom != nil:
		return plain("from mail-from", engine.MailAddr, c.From.MailFrom)
	case c.For != nil && c.For.Domain != nil:
		return plain("for domain", engine.Domain, c.For.Domain)
	case c.For != nil && c.For.RcptTo != nil:
		return plain("for rcpt-to", engine.MailAddr, c.For.RcptTo)
	}
	return nil, t
}

// conditionArg returns what the condition of a filter tests, and its table
// or nil.
func conditionArg(c *ast.Condition) (what string, arg *ast.TableArg, as engine.Service) {
	switch {
	case c.RDNS != nil:
		return "rdns", c.RDNS.Arg(), regexOr(c.RDNS.Regex, engine.Domain)
	case c.Src != nil:
		return "src", c.Src.Table, regexOr(c.Src.Regex, engine.NetAddr)
	case c.Helo != nil:
		return "helo", c.Helo.Table, regexOr(c.Helo.Regex, engine.Domain)
	case c.Auth != nil:
		return "auth", c.Auth.Arg(), regexOr(c.Auth.Regex, engine.String)
	case c.MailFrom != nil:
		return "mail-from", c.MailFrom.Table, regexOr(c.MailFrom.Regex, engine.MailAddr)
	case c.RcptTo != nil:
		return "rcpt-to", c.RcptTo.Table, regexOr(c.RcptTo.Regex, engine.MailAddr)
	}
	return "", nil, 0
}

func regexOr(regex bool, as engine.Service) engine.Service {
	if regex {
		return engine.Regex
	}
	return as
}

// patterns looks at every pattern of the rules and filters.
func (l *linter) patterns() {
	for i, s := range l.matches {
		for _, c := range s.Match.Criteria {
			if c.TLS {
				l.matchTLS(c)
			}
			if arg, t := criterionArg(c); arg != nil {
				t.rule = i
				l.test(t)
			}
		}
	}
	for _, s := range l.file.Stmts {
		if s.Filter == nil || s.Filter.Phase == nil {
			continue
		}
		if what, arg, as := conditionArg(s.Filter.Phase.Condition); arg != nil {
			l.test(test{arg, what, as, s.Filter.Phase.Not, -1, "the filter"})
		}
	}
}

func (l *linter) matchTLS(c *ast.Criterion) {
	d := l.list.Reportf(diag.Portability, token.Span{Start: c.Pos, End: c.EndPos}, "match-tls",
		"OpenSMTPD up to 7.8 answers every recipient that reaches a rule with tls by a temporary failure")
	d.Label = "here it tests whether the session uses TLS"
}

// test looks at the entries of one criterion.
func (l *linter) test(t test) {
	elements := l.elements(t.arg)
	switch t.as {
	case engine.Regex:
		for _, e := range elements {
			l.regex(t, e, len(elements) == 1)
		}
	case engine.Domain:
		l.wildcards(t, elements)
	case engine.MailAddr:
		for _, e := range elements {
			l.userPart(t, e)
			l.everybody(t, e)
		}
		l.wildcards(t, elements)
	case engine.NetAddr:
		for _, e := range elements {
			l.network(t, e, len(elements) == 1)
		}
	}
}

// nothing reports an entry that matches nothing. Behind ! that endangers:
// the rule was to except somebody and excepts nobody. alone is for the only
// entry of its table.
func (l *linter) nothing(t test, e element, code diag.Code, alone bool, what string) *diag.Diagnostic {
	class, effect := diag.Warning, "it matches nothing"
	switch {
	case t.not && alone:
		class, effect = diag.Security, fmt.Sprintf("`! %s` holds for everybody", t.what)
	case t.not:
		class, effect = diag.Security, fmt.Sprintf("`! %s` excepts nobody by it", t.what)
	}
	if alone && t.rule >= 0 {
		l.explained[t.rule] = true
	}
	if !l.once(class, e.at, code, e.text) {
		return nil
	}
	return l.list.Reportf(class, e.at, code, "%s, so %s", what, effect)
}

func (l *linter) regex(t test, e element, alone bool) {
	used := e.used()
	re, err := ere.Compile(used)
	if err != nil {
		if d := l.nothing(t, e, "invalid-regex", alone, fmt.Sprintf("expression %q does not compile", e.text)); d != nil {
			d.Label = err.Error()
		}
		return
	}
	if used != e.text && l.once(0, e.at, "regex-case", e.text) {
		class, what := diag.Style, "capital letters of the expression are made small"
		if escapesCapital(e.text) {
			class, what = diag.Warning, "capital letters behind a backslash are made small, which turns their meaning round"
		}
		l.list.Reportf(class, e.at, "regex-case", "%s: the server uses %q", what, used)
	}
	if notes := re.Notes(); len(notes) > 0 && l.once(0, e.at, "regex-portability", e.text) {
		l.list.Reportf(diag.Portability, e.at, "regex-portability", "expression %q is not read alike on every system: %s", e.text, notes[0].Text)
	}
}

// escapesCapital reports whether an expression has an escape such as \S.
func escapesCapital(expr string) bool {
	for i := 0; i+1 < len(expr); i++ {
		if expr[i] != '\\' {
			continue
		}
		i++
		if 'A' <= expr[i] && expr[i] <= 'Z' {
			return true
		}
	}
	return false
}

// domainPart returns the pattern for the domain in an entry.
func domainPart(t test, used string) string {
	if t.as == engine.Domain {
		return used
	}
	if at := strings.LastIndexByte(used, '@'); at >= 0 {
		return used[at+1:]
	}
	return ""
}

// wildcards reports the first star of a table that does not stand for what
// most readers think.
func (l *linter) wildcards(t test, elements []element) {
	var first *element
	var count int
	names := make(map[string]bool)
	for i := range elements {
		e := &elements[i]
		name := domainPart(t, e.used())
		suffix, oneLabel := strings.CutPrefix(name, "*.")
		switch {
		case !strings.Contains(name, "*"):
			names[name] = true
		case strings.Trim(name, "*") == "":
		case oneLabel && suffix != "" && !strings.Contains(suffix, "*"):
			if count++; first == nil {
				first = e
			}
		default:
			l.strayStar(e, name)
		}
	}
	if first == nil || !l.once(diag.Warning, first.at, "one-label-wildcard", first.text) {
		return
	}
	suffix := strings.TrimPrefix(domainPart(t, first.used()), "*.")
	misses := fmt.Sprintf("a.b.%s", suffix)
	if !names[suffix] {
		misses = fmt.Sprintf("%s nor a.b.%s", suffix, suffix)
	}
	verb := "not"
	if !names[suffix] {
		verb = "neither"
	}
	d := l.list.Reportf(diag.Warning, first.at, "one-label-wildcard", "%q stands for exactly one label: it matches %s %s", first.text, verb, misses)
	if count > 1 {
		d.Help = append(d.Help, fmt.Sprintf("the same holds for %d more entries of this table", count-1))
	}
}

func (l *linter) strayStar(e *element, name string) {
	if !l.once(diag.Warning, e.at, "stray-star", e.text) {
		return
	}
	if rest := strings.TrimLeft(name[strings.IndexByte(name, '*'):], "*"); rest != "" {
		l.list.Reportf(diag.Warning, e.at, "stray-star", "the star in %q skips to the first %q and no further", e.text, rest[:1])
		return
	}
	l.list.Reportf(diag.Warning, e.at, "stray-star", "the star at the end of %q stands for at least one character", e.text)
}

func (l *linter) userPart(t test, e element) {
	user, _, _ := strings.Cut(e.used(), "@")
	if !strings.Contains(user, "*") {
		return
	}
	d := l.nothing(t, e, "wildcard-user", false, fmt.Sprintf("a star before the @ in %q is an ordinary character", e.text))
	if d != nil && strings.HasPrefix(e.text, "*@") {
		d.Help = append(d.Help, fmt.Sprintf("any user of a domain is written %q", e.text[1:]))
	}
}

// network reports an entry for an address that is none.
func (l *linter) network(t test, e element, alone bool) {
	used := e.used()
	if used == "local" {
		return
	}
	if _, ok := engine.ParseNetAddr(used); ok {
		return
	}
	if d := l.nothing(t, e, "not-a-network", alone, fmt.Sprintf("%q is no address and no network", e.text)); d != nil {
		d.Label = "names are not looked up here"
	}
}
