package mta

import (
	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Unsupported lists what the relay actions of rs ask for and mta does not do.
func Unsupported(rs *compile.Ruleset) diag.List {
	var l diag.List
	for i := range rs.Actions {
		act := &rs.Actions[i]
		if act.Method != compile.Relay {
			continue
		}
		if _, err := configOf(rs, act); err != nil {
			at := token.At(token.Pos{Filename: act.Origin.File, Line: act.Origin.Line, Column: act.Origin.Column})
			l.Errorf(at, "unsupported", "action %s: %v", act.Name, err)
		}
	}
	return l
}
