package generation

import (
	"fmt"
	"slices"

	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Refuse returns the one finding about a configuration of an older
// generation, in the place of all that the parser of the present language said
// of it. It is nil if list has nothing of that kind.
func Refuse(list diag.List, name string, opts lang.Options) *diag.Diagnostic {
	if !slices.ContainsFunc(list, func(d *diag.Diagnostic) bool { return d.Code == "old-generation" }) {
		return nil
	}
	scanned, _ := lang.Scan(name, opts)
	g, mixed := Recognise(scanned)
	if mixed != nil {
		return mixed
	}
	releases := map[int]string{1: "OpenSMTPD before 5.3", 2: "OpenSMTPD 5.3 to 6.0"}[g.Generation]
	if releases == "" {
		return nil
	}
	d := &diag.Diagnostic{
		Class: diag.Language, Code: "old-generation",
		Message: fmt.Sprintf("the configuration is of generation %d of the language, which %s read", g.Generation, releases),
		Label:   "the present language has `action` and `match`",
		Help:    []string{fmt.Sprintf("`smtpd-check migrate %s` converts it and proves that it decides the same", name)},
	}
	// Where the present parser stopped is where OpenSMTPD would.
	for _, first := range list {
		if first.Class == diag.Language && first.Span.Start.IsValid() {
			d.Span = token.Span{Start: first.Span.Start, End: first.Span.End}
			break
		}
	}
	if g.Mark.Start.IsValid() {
		d.Notes = []diag.Note{{Span: g.Mark, Message: fmt.Sprintf("%s is of generation %d", g.Why, g.Generation)}}
	}
	return d
}
