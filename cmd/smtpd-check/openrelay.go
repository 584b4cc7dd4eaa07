package main

import (
	"fmt"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// openRelay returns what is to be said of who can send mail out through the
// host: an error for each rule by which strangers certainly can, a remark
// where it depends on tables or could not be proved.
func openRelay(rs *compile.Ruleset) diag.List {
	r := analyze.Relay(rs)
	var list diag.List
	said := make(map[int]bool) // by rule: one listener shows it as well as all
	for i := range r.Open {
		if o := &r.Open[i]; !said[o.Rule] {
			said[o.Rule] = true
			list = append(list, openRelayBy(rs, o))
		}
	}
	if r.Verdict == analyze.Unknown {
		list = append(list, &diag.Diagnostic{
			Class: diag.Warning, Code: "relay-unproved",
			Message: "it could not be proved that no stranger can relay; smtpd-check explain answers for one transaction",
		})
	}
	return list
}

func openRelayBy(rs *compile.Ruleset, o *analyze.Open) *diag.Diagnostic {
	at := rs.Rules[o.Rule].Origin
	tx := &o.Witness.Transaction
	d := &diag.Diagnostic{
		Span:  token.At(token.Pos{Filename: at.File, Line: at.Line, Column: at.Column}),
		Class: diag.Security, Code: "open-relay",
		Message: fmt.Sprintf("strangers can relay by this rule: %s, from %q to %q", tx.SourceKey(), tx.Sender, tx.Rcpt),
		Help:    []string{"smtpd-check relay prints the session that shows it"},
	}
	if len(o.Witness.Assumed) > 0 {
		a := o.Witness.Assumed[0]
		d.Class, d.Code = diag.Warning, "relay-unproved"
		d.Message = fmt.Sprintf("strangers can relay by this rule if table %s %s %q", a.Table, holds(a.Found), a.Key)
	}
	return d
}

// holds says what a table is assumed to say of a key.
func holds(found bool) string {
	if found {
		return "holds"
	}
	return "lacks"
}
