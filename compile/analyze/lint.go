package analyze

import (
	"cmp"
	"slices"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/tablefile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Lint says what is doubtful about a configuration that can be loaded: what
// is declared and not used, rules that decide nothing, patterns that mean
// something else than they seem to, and credentials that are not safe. rs is
// what f was compiled to for the host h, of which only the protection of
// files is asked. The findings are in the order of the text.
func Lint(f *ast.File, rs *compile.Ruleset, h compile.Host) diag.List {
	l := &linter{
		file: f, rules: rs, host: h,
		tables:    make(map[string]*compile.Table),
		lists:     make(map[string]*ast.List),
		seen:      make(map[said]bool),
		explained: make([]bool, len(rs.Rules)),
	}
	for i := range rs.Tables {
		l.tables[rs.Tables[i].Name] = &rs.Tables[i]
	}
	for _, s := range f.Stmts {
		switch {
		case s.Table != nil:
			l.lists[s.Table.Name.Text] = s.Table.List
		case s.Match != nil:
			l.matches = append(l.matches, s)
		}
	}
	l.unused()
	l.patterns()
	l.tags()
	l.defaults()
	l.localRelays()
	l.dead()
	l.relays()
	l.secrets()
	slices.SortStableFunc(l.list, func(a, b *diag.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Span.Start.Offset, b.Span.Start.Offset), cmp.Compare(a.Code, b.Code))
	})
	return l.list
}

// A linter is the state of one Lint.
type linter struct {
	file  *ast.File
	rules *compile.Ruleset
	host  compile.Host
	list  diag.List

	tables  map[string]*compile.Table
	lists   map[string]*ast.List // of declared tables; nil for a file
	matches []*ast.Stmt          // by the number of the rule
	seen    map[said]bool
	// explained are the rules of which a finding on a pattern says already
	// why they match nothing.
	explained []bool
}

// A said tells findings apart: a declared table is looked at for every
// use of it.
type said struct {
	code   diag.Code
	class  diag.Class
	offset int
	text   string
}

// once reports whether a finding is new.
func (l *linter) once(class diag.Class, at token.Span, code diag.Code, text string) bool {
	k := said{code, class, at.Start.Offset, text}
	if l.seen[k] {
		return false
	}
	l.seen[k] = true
	return true
}

// An element is one entry of a table as it was written.
type element struct {
	text, value string
	at          token.Span
}

// elements returns what is in the table of an argument, as far as it is
// written in the configuration or in a file that was read; entries of a file
// are in lower case already.
func (l *linter) elements(arg *ast.TableArg) []element {
	list := arg.List
	switch {
	case arg.Str != nil:
		return []element{{text: arg.Str.Text, at: span(arg.Str)}}
	case arg.Ref != nil:
		if list = l.lists[arg.Ref.Text]; list == nil {
			return l.fileElements(arg)
		}
	}
	elements := make([]element, 0, len(list.Elems))
	for _, e := range list.Elems {
		el := element{text: e.Key.Text, at: span(&e.Key)}
		if e.Value != nil {
			el.value = e.Value.Text
		}
		elements = append(elements, el)
	}
	return elements
}

func (l *linter) fileElements(arg *ast.TableArg) []element {
	t := l.tables[arg.Ref.Text]
	if t == nil || t.Origin.Line == 0 {
		return nil // a built-in table is as it should be
	}
	elements := make([]element, 0, len(t.Entries))
	for _, e := range t.Entries {
		elements = append(elements, element{e.Key, e.Value, argSpan(arg)})
	}
	return elements
}

// used returns the text of an element as the server compares it.
func (e element) used() string { return tablefile.Fold(e.text) }

func span(s *ast.Str) token.Span { return token.Span{Start: s.Pos, End: s.EndPos} }

func argSpan(a *ast.TableArg) token.Span { return token.Span{Start: a.Pos, End: a.EndPos} }
