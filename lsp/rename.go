package lsp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// prepareRename says whether the name at the place can be changed.
func (v *view) prepareRename(*placeParams) (*placeholder, error) {
	o := v.occurrence()
	if o == nil {
		return nil, nil
	}
	if err := v.renamable(o); err != nil {
		return nil, err
	}
	return &placeholder{v.lines.span(o.span), o.name}, nil
}

// rename changes a name wherever it is written.
func (v *view) rename(p *placeParams) (*workspaceEdit, error) {
	o := v.occurrence()
	if o == nil {
		return nil, errors.New("there is no name here")
	}
	if err := v.renamable(o); err != nil {
		return nil, err
	}
	if err := v.free(o, p.NewName); err != nil {
		return nil, err
	}
	edit := &workspaceEdit{make(map[string][]textEdit)}
	seen := make(map[location]bool) // a file may be included twice
	for i := range v.names {
		q := &v.names[i]
		if !q.same(o) {
			continue
		}
		at := v.location(q.span)
		if !seen[at] {
			seen[at] = true
			edit.Changes[at.URI] = append(edit.Changes[at.URI], textEdit{at.Range, v.written(q, p.NewName)})
		}
	}
	return edit, nil
}

// renamable explains why not all uses of a name are known, or can be
// changed, if that is so.
func (v *view) renamable(o *occurrence) error {
	switch o.kind {
	case tableName, actionName, filterName, macroName:
	default:
		return fmt.Errorf("the name of a %s is not changed: it may have a meaning outside the configuration", o.kind)
	}
	for _, d := range v.parsed {
		if d.Class == diag.Language {
			return fmt.Errorf("not all uses of %q can be found before this is mended: %w", o.name, d)
		}
	}
	declared := v.declarations(o)
	if len(declared) == 0 {
		return fmt.Errorf("%s %q is not declared in the configuration", o.kind, o.name)
	}
	for i := range v.names {
		q := &v.names[i]
		if q.same(o) && !v.plain(q) {
			return fmt.Errorf("%s %q is written with the help of a macro at %s", o.kind, o.name, q.span)
		}
		if o.kind == filterName && q.same(o) && q.stmt != nil && q.stmt.Filter.ProcExec != nil {
			return fmt.Errorf("filter %q is also the process of that name, which its program may know", o.name)
		}
	}
	return nil
}

// plain reports whether an occurrence is written in a file as it is meant.
func (v *view) plain(o *occurrence) bool {
	if frames := v.file.Set.Trace(o.span.Start); len(frames) > 0 && frames[0].Kind == token.Macro {
		return false
	}
	text := v.source(o)
	if o.kind == macroName && o.stmt == nil {
		return text == "$"+o.name
	}
	pieces := lang.Pieces([]byte(text))
	return len(pieces) == 1 && (pieces[0].Kind == lang.WordPiece || pieces[0].Kind == lang.StringPiece)
}

// source returns an occurrence as it is written.
func (v *view) source(o *occurrence) string {
	l := v.linesOf(o.span.Start.Filename)
	from := l.at(o.span.Start)
	return l.text[from:max(from, l.at(o.span.End))]
}

// free refuses a new name that is none, or that is taken.
func (v *view) free(o *occurrence, name string) error {
	for _, c := range []byte(name) {
		if c < ' ' || c == 0x7f || c == '"' || c == '\'' || c == '\\' {
			return fmt.Errorf("%q holds what a name should not: quotes, backslashes or control characters", clip(name))
		}
		if o.kind == macroName && !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", rune(c)) {
			return fmt.Errorf("%q cannot be the name of a macro: letters, digits and _ can", clip(name))
		}
	}
	if n := len(name); n == 0 || n > 255 {
		return fmt.Errorf("a name of %d bytes: 1 to 255 are possible", n)
	}
	if o.kind == tableName && strings.ContainsAny(name, "<>") {
		return fmt.Errorf("%q looks like a table that is built in", clip(name))
	}
	wanted := &occurrence{kind: o.kind, name: name}
	if !wanted.same(o) && slices.ContainsFunc(v.names, func(q occurrence) bool { return q.same(wanted) }) {
		return fmt.Errorf("%s %q exists already", o.kind, name)
	}
	if o.kind == macroName && slices.ContainsFunc(v.server.config.Defines, func(d lang.Define) bool { return d.Name == name || d.Name == o.name }) {
		return fmt.Errorf("macro %q is defined on the command line", name)
	}
	return nil
}

// written returns how a name is written at an occurrence: quoted if it was,
// or if it must be.
func (v *view) written(o *occurrence, name string) string {
	if o.kind == macroName && o.stmt == nil {
		return "$" + name
	}
	was := v.source(o)
	if was[0] == '"' || was[0] == '\'' || !bare(name) {
		return `"` + name + `"`
	}
	return name
}

// bare reports whether a name may be written without quotes.
func bare(name string) bool {
	pieces := lang.Pieces([]byte(name))
	return len(pieces) == 1 && pieces[0].Kind == lang.WordPiece && pieces[0].Text == name
}
