package mda

import (
	"strings"

	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Unsupported lists what the local actions of rs ask for and mda does not do.
func Unsupported(rs *compile.Ruleset) diag.List {
	var l diag.List
	for i := range rs.Actions {
		act := &rs.Actions[i]
		at := token.At(token.Pos{Filename: act.Origin.File, Line: act.Origin.Line, Column: act.Origin.Column})
		if act.Method == compile.Maildir && strings.ContainsAny(act.Argument, "$`") {
			l.Errorf(at, "unsupported", "action %s: shell expansion in the maildir path %q is not supported: use ~/ or %%{user.directory}",
				act.Name, act.Argument)
		}
	}
	return l
}
