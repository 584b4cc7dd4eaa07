package main

import (
	"slices"

	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lang/token"
	"smtpd/runtime/lka"
	"smtpd/runtime/lka/source"
	"smtpd/runtime/mda"
	"smtpd/runtime/mfa"
	"smtpd/runtime/mta"
)

// unsupported lists what rs asks for and this version does not do. The daemon
// does not start with any of it: a word of the configuration is obeyed or
// refused, never passed over.
func unsupported(rs *compile.Ruleset) diag.List {
	return slices.Concat(
		mfa.Unsupported(rs),
		lka.Unsupported(rs),
		source.Unsupported(rs),
		mda.Unsupported(rs),
		mta.Unsupported(rs),
		rounds(rs),
	)
}

// rounds warns of limits that shape the rounds of OpenSMTPD's scheduler. Ours
// has none: it hands out what is due as soon as there is room for it.
func rounds(rs *compile.Ruleset) diag.List {
	var l diag.List
	for _, limit := range []struct {
		name            string
		value, standard int
	}{
		{"max-schedule", rs.Scheduler.MaxSchedule, 10},
		{"max-evp-batch-size", rs.Scheduler.MaxEvpBatchSize, 256},
		{"max-msg-batch-size", rs.Scheduler.MaxMsgBatchSize, 1024},
	} {
		if limit.value != limit.standard {
			l.Reportf(diag.Warning, token.Span{}, "no-effect", "scheduler limit %s has no effect: mail is handed out when it is due", limit.name)
		}
	}
	return l
}
