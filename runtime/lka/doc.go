// Package lka is the lookup agent: it answers what the Ruleset does not
// contain.
//
//	purpose    tables that are not constants, users, include files, DNS
//	user       _smtpd
//	root       none: table files and include files are read where they lie
//	promises   no lookup waits for another; every answer has a deadline; a
//	           table that is a file follows it, as a whole or not at all
//	peers      smtp, mfa, mda, mta, control (they ask); mfa (is told);
//	           parent (is asked for passwords of accounts)
//	messages   in: lookup, check, fetch, user, include, mx, addrs, ptr,
//	           txt, tlsa, update, probe, snapshot; out: change
//	keeps      Ruleset.Tables
//
// What must never happen here: an error turned into "not there"; a slow
// backend or resolver that delays the answers of another; an answer from the
// network that costs more memory or time than its budget.
package lka
