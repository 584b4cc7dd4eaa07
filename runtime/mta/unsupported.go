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
		o := &act.Relay
		if act.Method != compile.Relay {
			continue
		}
		at := token.At(token.Pos{Filename: act.Origin.File, Line: act.Origin.Line, Column: act.Origin.Column})
		for _, x := range []struct {
			asked  bool
			option string
		}{
			{o.Ciphers != "", "ciphers"},
			{o.Protocols != "", "protocols"},
		} {
			if x.asked {
				l.Errorf(at, "unsupported", "action %s: the relay option %s is not supported", act.Name, x.option)
			}
		}
	}
	return l
}
