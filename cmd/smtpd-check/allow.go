package main

import (
	"cmp"
	"regexp"
	"slices"

	"smtpd/lang/diag"
	"smtpd/lang/diag/codes"
	"smtpd/lang/directive"
	"smtpd/lang/token"
)

// A permit is a comment that allows findings of one code on a line.
type permit struct {
	at   token.Span
	line int // where the findings are
	code diag.Code
	used bool
}

// allowRx takes the words of a suppression apart.
var allowRx = regexp.MustCompile(`^#\s*smtpd-check:\s*allow\s+(\S+)\s+reason="([^"]+)"\s*$`)

// allow takes the findings away that comments in the source permit:
//
//	# smtpd-check: allow CODE reason="why"
//
// at the end of the line it is about, or alone above it. What makes the
// language wrong stays. A comment that permits nothing is a finding itself.
func allow(r *diag.Report) {
	files := make(map[string][]*permit)
	permits := func(name string) []*permit {
		if _, ok := files[name]; !ok {
			files[name] = findPermits(r, name)
		}
		return files[name]
	}
	permits(r.File)
	kept := r.List[:0:0]
	for _, d := range r.List {
		if d.Class == diag.Language || !permitted(permits(d.Span.Start.Filename), d) {
			kept = append(kept, d)
		}
	}
	r.List = append(kept, complaints(files)...)
}

// permitted reports whether one of the permits allows d.
func permitted(permits []*permit, d *diag.Diagnostic) bool {
	found := false
	for _, p := range permits {
		if p.code == d.Code && p.line == d.Span.Start.Line {
			p.used, found = true, true
		}
	}
	return found
}

// complaints returns the findings about the permits themselves.
func complaints(files map[string][]*permit) diag.List {
	var list diag.List
	for _, permits := range files {
		for _, p := range permits {
			switch {
			case p.code == "":
				d := list.Reportf(diag.Warning, p.at, "bad-allow", "suppression is not understood and has no effect")
				d.Help = []string{`write: # smtpd-check: allow CODE reason="why"`}
			case !p.used && !known(p.code):
				list.Reportf(diag.Warning, p.at, "bad-allow", "no finding has the code %q", p.code)
			case !p.used:
				list.Reportf(diag.Warning, p.at, "unused-allow", "nothing here is a finding of the code %q", p.code)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b *diag.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Span.Start.Filename, b.Span.Start.Filename), cmp.Compare(a.Span.Start.Line, b.Span.Start.Line))
	})
	return list
}

func known(code diag.Code) bool {
	title, _ := codes.Page(code)
	return title != ""
}

// findPermits lists the permits of a source.
func findPermits(r *diag.Report, name string) []*permit {
	var permits []*permit
	for _, d := range directive.In(r.Set, name) {
		if d.Verb() != "label" {
			permits = append(permits, newPermit(d))
		}
	}
	return permits
}

func newPermit(d *directive.Directive) *permit {
	p := &permit{at: d.At, line: d.Line}
	if m := allowRx.FindStringSubmatch(d.Text); m != nil {
		p.code = diag.Code(m[1])
	}
	return p
}
