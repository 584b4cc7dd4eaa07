package mfa

import (
	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Unsupported lists the filters that are never asked: whatever stands at a
// relay action.
func Unsupported(rs *compile.Ruleset) diag.List {
	var l diag.List
	for i := range rs.Actions {
		if id := rs.Actions[i].Relay.Filter; id != 0 {
			o := rs.Actions[i].Origin
			at := token.At(token.Pos{Filename: o.File, Line: o.Line, Column: o.Column})
			l.Errorf(at, "unsupported", "filter %q is not supported here: it would not hear of what is relayed", rs.Filter(id).Name)
		}
	}
	return l
}
