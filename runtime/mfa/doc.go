// Package mfa is the mail filter agent: it decides whether a recipient is
// accepted and what becomes of it.
//
//	purpose    run the rules and the expansion of a recipient into envelopes
//	user       _smtpd
//	root       empty
//	promises   a recipient is accepted whole or refused whole
//	peers      smtp (asks), mta (tells), queue (asks for reports, is asked),
//	           lka and parent (are asked), control (asks why)
//	messages   in: rcpt, phase, open, events, message; from mta: open, events;
//	           from queue: report; from lka: change; from control: recent,
//	           explain
//	keeps      Ruleset.Rules, Actions, Filters, Tables
//
// Tables that are files are in memory as constants are, if a rule or the
// condition of a filter looks into them: lka hands over each version, and a
// decision is made with one version of each (view).
//
// What must never happen here: a lookup error that becomes a permanent
// refusal; a recipient answered before all its envelopes are with the queue;
// a command or path taken from an address.
package mfa
