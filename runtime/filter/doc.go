// Package filter owns the protocol in which the daemon speaks with programs
// that filter mail, version 0.7: handshake, reports of what happens in a
// session, requests for a decision at each phase, and the lines of messages.
//
// runtime/mfa calls it and decides who is asked when. One program serves all
// sessions of its listeners at once; per session reports and requests reach
// it in order. The package starts nothing: it is handed a connection.
//
// What must never happen here: a program that dies, hangs or talks nonsense
// taking more with it than the answers it owes; a session that one program
// holds up waiting behind another session; text from a client that makes a
// line or an earlier field of its own; memory that grows with what a program
// does not read.
package filter
