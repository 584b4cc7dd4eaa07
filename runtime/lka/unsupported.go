package lka

import (
	"fmt"

	"smtpd/compile"
	"smtpd/compile/tableconf"
	"smtpd/lang/diag"
	"smtpd/lang/token"
	"smtpd/runtime/lka/backend"
)

// Unsupported lists the tables of rs that lka cannot serve: those whose
// configuration could not be read, or asks for what their backend does not do.
func Unsupported(rs *compile.Ruleset) diag.List {
	var l diag.List
	for i := range rs.Tables {
		t := &rs.Tables[i]
		if err := servable(t); err != nil {
			at := token.At(token.Pos{Filename: t.Origin.File, Line: t.Origin.Line, Column: t.Origin.Column})
			l.Errorf(at, "unsupported", "table %s: %v", t.Name, err)
		}
	}
	return l
}

func servable(t *compile.Table) error {
	if t.Backend == "passwd" && t.Config == "" || tableconf.Serves(t.Backend) && t.Backend != "socketmap" && t.Config == "" {
		return fmt.Errorf("%s could not be read, or is empty", t.Path)
	}
	if !tableconf.Serves(t.Backend) {
		return nil
	}
	b, err := backend.Open(t)
	if err != nil {
		return err
	}
	b.Close()
	return nil
}
