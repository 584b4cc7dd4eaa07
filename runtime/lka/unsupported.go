package lka

import (
	"smtpd/compile"
	"smtpd/compile/tableconf"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Unsupported lists the tables of rs that lka cannot serve: those whose
// configuration could not be read. A socketmap may be a socket.
func Unsupported(rs *compile.Ruleset) diag.List {
	var l diag.List
	for i := range rs.Tables {
		t := &rs.Tables[i]
		if t.Config != "" || t.Backend != "passwd" && (!tableconf.Serves(t.Backend) || t.Backend == "socketmap") {
			continue
		}
		at := token.At(token.Pos{Filename: t.Origin.File, Line: t.Origin.Line, Column: t.Origin.Column})
		l.Errorf(at, "unsupported", "table %s: %s could not be read, or is empty", t.Name, t.Path)
	}
	return l
}
