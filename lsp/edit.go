package lsp

import (
	"smtpd/lang"
	"smtpd/lang/diag"
)

// format lays the document out, if its layout is not the canonical one.
func (v *view) format(*placeParams) ([]textEdit, error) {
	out, err := lang.Format(v.doc.path, []byte(v.doc.text))
	if err != nil {
		return nil, err
	}
	if string(out) == v.doc.text {
		return []textEdit{}, nil
	}
	return []textEdit{{v.lines.stretch(0, len(v.doc.text)), string(out)}}, nil
}

// codeActions offers the fixes of the findings in a range, and, if there is
// a safe one anywhere in the document, all of those together.
func (v *view) codeActions(r textRange) []codeAction {
	actions := []codeAction{}
	var safe []diag.Edit
	for _, d := range v.report.List {
		if !v.is(d.Span.Start.Filename, v.doc) {
			continue
		}
		shown := v.diagnostic(d)
		for _, f := range d.Fixes {
			if f.Grade == diag.Safe {
				safe = append(safe, f.Edits...)
			}
			if overlap(shown.Range, r) {
				actions = append(actions, codeAction{
					Title:       f.Message,
					Kind:        "quickfix",
					Preferred:   f.Grade == diag.Safe,
					Diagnostics: []diagnostic{shown},
					Edit:        v.workspaceEdit(f.Edits),
				})
			}
		}
	}
	if len(safe) > 0 {
		actions = append(actions, codeAction{
			Title: "make all changes that are safe",
			Kind:  "source.fixAll",
			Edit:  v.workspaceEdit(safe),
		})
	}
	return actions
}

// workspaceEdit returns edits in the form of the protocol, which forbids that
// they overlap: those that overlap one before them are left out.
func (v *view) workspaceEdit(edits []diag.Edit) *workspaceEdit {
	out := &workspaceEdit{make(map[string][]textEdit)}
next:
	for _, e := range edits {
		at := v.location(e.Span)
		for _, other := range out.Changes[at.URI] {
			if overlap(at.Range, other.Range) {
				continue next
			}
		}
		out.Changes[at.URI] = append(out.Changes[at.URI], textEdit{at.Range, e.New})
	}
	return out
}

// overlap reports whether two ranges have a place in common, be it an end.
func overlap(a, b textRange) bool { return !a.End.before(b.Start) && !b.End.before(a.Start) }

func (p position) before(q position) bool {
	return p.Line < q.Line || p.Line == q.Line && p.Character < q.Character
}
