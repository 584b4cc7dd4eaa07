// Package milter speaks with milters on behalf of a mail server: the filters
// of Sendmail's protocol, of which there are many. The protocol itself is
// github.com/emersion/go-milter's; this package bounds it in time and memory,
// and does to a message what a milter asks for.
//
// runtime/mfa calls it and decides what an answer means. One connection serves
// one session with a client. The package opens none: it is handed them.
//
// What must never happen here: a milter that hangs, dies or answers without
// end taking more with it than the answers it owes; a field that it adds
// becoming another line of the header, or the end of it; a part of a message
// that is lost because a milter was.
package milter
