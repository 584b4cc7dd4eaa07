package policy

import (
	"regexp"

	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/directive"
	"smtpd/lang/token"
)

// labelRx takes the words of a label apart.
var labelRx = regexp.MustCompile(`^# smtpd-check:\s*label\s+"([^"]+)"\s*$`)

// Labels returns the names that comments give to rules, by the index of the
// rule:
//
//	# smtpd-check: label "NAME"
//
// A name belongs to one rule, and a label to a match statement.
func Labels(set *token.FileSet, rs *compile.Ruleset) (map[int]string, diag.List) {
	type place struct {
		file string
		line int
	}
	at := make(map[place]int)
	var files []string
	for i := range rs.Rules {
		o := rs.Rules[i].Origin
		if len(files) == 0 || files[len(files)-1] != o.File {
			files = append(files, o.File)
		}
		at[place{o.File, o.Line}] = i
	}
	labels := make(map[int]string)
	first := make(map[string]token.Span)
	read := make(map[string]bool)
	var list diag.List
	for _, file := range files {
		if read[file] {
			continue
		}
		read[file] = true
		for _, d := range directive.In(set, file) {
			if d.Verb() != "label" {
				continue
			}
			m := labelRx.FindStringSubmatch(d.Text)
			rule, ok := at[place{file, d.Line}]
			switch {
			case m == nil:
				list.Errorf(d.At, "bad-label", "label is not understood").Help = []string{`write: # smtpd-check: label "NAME"`}
			case !ok:
				list.Errorf(d.At, "bad-label", "label %q stands at no rule", m[1]).Help = []string{"put it above a match statement or at the end of its first line"}
			case first[m[1]].Start.IsValid():
				e := list.Errorf(d.At, "bad-label", "label %q is taken", m[1])
				e.Notes = append(e.Notes, diag.Note{Span: first[m[1]], Message: "first given here"})
			default:
				labels[rule], first[m[1]] = m[1], d.At
			}
		}
	}
	return labels, list
}
