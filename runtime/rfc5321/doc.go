// Package rfc5321 owns the vocabulary of SMTP as a server reads it: command
// lines, mail addresses, their parameters, and the text of a message as it
// arrives, dot-stuffed and with CRLF.
//
// Everything here is a whitelist: what the grammar does not name is refused,
// because an address travels on into tables, file names, commands and log
// lines. The package does no policy and makes no replies; runtime/smtp, which
// calls it for every line, turns its errors into them.
//
// What must never happen here: two readings of where a message ends; an
// accepted address with a byte in it that the grammar does not allow; memory
// that grows with what a client sends.
package rfc5321
