package lka

import (
	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Unsupported lists the tables of rs that lka cannot serve.
func Unsupported(rs *compile.Ruleset) diag.List {
	var l diag.List
	for i := range rs.Tables {
		t := &rs.Tables[i]
		if isServed(t.Backend) {
			continue
		}
		at := token.At(token.Pos{Filename: t.Origin.File, Line: t.Origin.Line, Column: t.Origin.Column})
		l.Errorf(at, "unsupported", "table %s: backend %q is not supported", t.Name, t.Backend)
	}
	return l
}
