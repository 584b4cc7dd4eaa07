package smtp

import (
	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Unsupported lists what the listeners of rs ask for and the server does not
// do.
func Unsupported(rs *compile.Ruleset) diag.List {
	var list diag.List
	for i := range rs.Listeners {
		l := &rs.Listeners[i]
		if l.Auth == compile.NoAuth || l.AuthTable != 0 {
			continue
		}
		at := token.At(token.Pos{Filename: l.Origin.File, Line: l.Origin.Line, Column: l.Origin.Column})
		list.Errorf(at, "unsupported", "listener option auth without a table is not supported: "+
			"the passwords of system accounts cannot be checked; name a table of credentials")
	}
	return list
}
