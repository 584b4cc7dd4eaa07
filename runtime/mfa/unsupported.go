package mfa

import (
	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Unsupported lists the filters in use that are never asked: processes, and
// whatever stands at a relay action.
func Unsupported(rs *compile.Ruleset) diag.List {
	var l diag.List
	report := func(f *compile.Filter, o compile.Origin) {
		at := token.At(token.Pos{Filename: o.File, Line: o.Line, Column: o.Column})
		l.Errorf(at, "unsupported", "filter %q is not supported: it would not be asked", f.Name)
	}
	processes := func(id compile.FilterID, o compile.Origin) {
		if id == 0 {
			return
		}
		for f := range members(rs, id) {
			if f.Proc != "" {
				report(f, o)
			}
		}
	}
	for i := range rs.Listeners {
		processes(rs.Listeners[i].Filter, rs.Listeners[i].Origin)
	}
	processes(rs.Socket.Filter, rs.Socket.Origin)
	for i := range rs.Actions {
		if id := rs.Actions[i].Relay.Filter; id != 0 {
			report(rs.Filter(id), rs.Actions[i].Origin)
		}
	}
	return l
}
