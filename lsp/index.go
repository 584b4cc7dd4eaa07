package lsp

import (
	"strings"

	"smtpd/ast"
	"smtpd/lang/token"
)

// A kind is a name space.
type kind string

const (
	macroName   kind = "macro"
	tableName   kind = "table"
	actionName  kind = "action"
	filterName  kind = "filter"
	procName    kind = "proc"
	wrapperName kind = "wrapper"
	pkiName     kind = "pki"
	caName      kind = "ca"
)

// An occurrence is a place where a name is declared or used.
type occurrence struct {
	kind kind
	name string
	span token.Span
	stmt *ast.Stmt // what declares it; nil for a use
}

// same reports whether two occurrences are of one thing. The names of
// certificates are compared as the language does, without regard to case.
func (o *occurrence) same(p *occurrence) bool {
	if o.kind != p.kind {
		return false
	}
	if o.kind == pkiName || o.kind == caName {
		return strings.EqualFold(o.name, p.name)
	}
	return o.name == p.name
}

// occurrences lists the names of a configuration, macros first: a name that
// comes out of a macro is there as a macro and as a name, in one place.
func occurrences(f *ast.File) []occurrence {
	x := &indexer{}
	seen := make(map[token.Pos]bool) // refused statements are read twice
	for _, e := range f.Set.Expansions() {
		if seen[e.Use] {
			continue
		}
		seen[e.Use] = true
		end := e.Use
		end.Column += len(e.Name) + 1
		end.Offset += len(e.Name) + 1
		x.list = append(x.list, occurrence{kind: macroName, name: e.Name, span: token.Span{Start: e.Use, End: end}})
	}
	for _, st := range f.Stmts {
		x.stmt = st
		x.declaration(st)
		ast.Inspect(st, func(n any) bool {
			x.uses(n)
			return true
		})
	}
	return x.list
}

type indexer struct {
	list []occurrence
	stmt *ast.Stmt
}

func (x *indexer) declare(k kind, s *ast.Str) {
	x.list = append(x.list, occurrence{k, s.Text, token.Span{Start: s.Pos, End: s.EndPos}, x.stmt})
}

func (x *indexer) use(k kind, s *ast.Str) {
	if s != nil {
		x.list = append(x.list, occurrence{kind: k, name: s.Text, span: token.Span{Start: s.Pos, End: s.EndPos}})
	}
}

func (x *indexer) chain(l *ast.List) {
	if l != nil {
		for _, e := range l.Elems {
			x.use(filterName, &e.Key)
		}
	}
}

func (x *indexer) declaration(st *ast.Stmt) {
	switch {
	case st.Macro != nil:
		x.declare(macroName, &st.Macro.Name)
	case st.Table != nil:
		x.declare(tableName, &st.Table.Name)
	case st.Action != nil:
		x.declare(actionName, &st.Action.Name)
	case st.Filter != nil:
		x.declare(filterName, &st.Filter.Name)
	case st.Proc != nil:
		x.declare(procName, &st.Proc.Name)
	case st.MDA != nil && st.MDA.Wrapper != nil:
		x.declare(wrapperName, &st.MDA.Wrapper.Name)
	case st.PKI != nil:
		x.declare(pkiName, &st.PKI.Name)
	case st.CA != nil:
		x.declare(caName, &st.CA.Name)
	}
}

// uses notes the names that node n itself uses.
func (x *indexer) uses(n any) {
	switch n := n.(type) {
	case *ast.TableArg:
		x.use(tableName, n.Ref)
	case *ast.Match:
		x.use(actionName, n.Action)
	case *ast.Filter:
		x.use(procName, n.Proc)
		x.chain(n.Chain)
	case *ast.FilterRef:
		x.use(filterName, n.Name)
		x.chain(n.Chain)
	case *ast.LocalOption:
		x.use(wrapperName, n.Wrapper)
	case *ast.ListenOption:
		x.use(pkiName, n.PKI)
		x.use(caName, n.CA)
	case *ast.RelayOption:
		x.use(pkiName, n.PKI)
		x.use(caName, n.CA)
	}
}

// occurrence returns the name at the place of the view.
func (v *view) occurrence() *occurrence {
	for i := range v.names {
		o := &v.names[i]
		if v.is(o.span.Start.Filename, v.doc) && v.lines.at(o.span.Start) <= v.offset && v.offset <= v.lines.at(o.span.End) {
			return o
		}
	}
	return nil
}

// declarations returns where the thing of o is declared.
func (v *view) declarations(o *occurrence) (list []*occurrence) {
	for i := range v.names {
		if p := &v.names[i]; p.stmt != nil && p.same(o) {
			list = append(list, p)
		}
	}
	return list
}

func (v *view) definition(*placeParams) ([]location, error) {
	list := []location{}
	if o := v.occurrence(); o != nil {
		for _, d := range v.declarations(o) {
			list = append(list, v.location(d.span))
		}
	}
	return list, nil
}

func (v *view) references(p *placeParams) ([]location, error) {
	list := []location{}
	o := v.occurrence()
	if o == nil {
		return list, nil
	}
	seen := make(map[location]bool) // a file may be included twice
	for i := range v.names {
		if q := &v.names[i]; q.same(o) && (q.stmt == nil || p.Context.IncludeDeclaration) {
			if at := v.location(q.span); !seen[at] {
				seen[at] = true
				list = append(list, at)
			}
		}
	}
	return list, nil
}
