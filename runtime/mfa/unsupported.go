package mfa

import (
	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Unsupported lists the filters of rs that are in use: none is run yet.
func Unsupported(rs *compile.Ruleset) diag.List {
	var l diag.List
	report := func(id compile.FilterID, o compile.Origin) {
		if id != 0 {
			at := token.At(token.Pos{Filename: o.File, Line: o.Line, Column: o.Column})
			l.Errorf(at, "unsupported", "filter %q is not supported: it would not be asked", rs.Filter(id).Name)
		}
	}
	for i := range rs.Listeners {
		report(rs.Listeners[i].Filter, rs.Listeners[i].Origin)
	}
	report(rs.Socket.Filter, rs.Socket.Origin)
	for i := range rs.Actions {
		report(rs.Actions[i].Relay.Filter, rs.Actions[i].Origin)
	}
	return l
}
