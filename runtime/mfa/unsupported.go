package mfa

import (
	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Unsupported lists milters that would see nothing, and warns of built-in
// filters that nobody asks: at a relay action programs hear of what happens, and
// no filter has a say.
func Unsupported(rs *compile.Ruleset) diag.List {
	var l diag.List
	for i := range rs.Actions {
		id := rs.Actions[i].Relay.Filter
		if id == 0 {
			continue
		}
		o := rs.Actions[i].Origin
		at := token.At(token.Pos{Filename: o.File, Line: o.Line, Column: o.Column})
		for f := range members(rs, id) {
			switch {
			case f.Milter != "":
				l.Errorf(at, "unsupported", "milter %q is not supported at a relay action: name it at the listener that takes the mail", f.Name)
			case f.Proc == "":
				l.Reportf(diag.Warning, at, "no-effect", "filter %q has no effect at a relay action: only filter processes hear of what is relayed", f.Name)
			}
		}
	}
	return l
}
