// Package rfc5322 owns the header of a message as a mail server touches it:
// it checks the header section while a message streams by, counts the hops,
// writes the Received field, and completes the header of a message that a
// user submits.
//
// Mail in transit is never altered but for the Received field before it:
// signatures cover the header. The package does no input or output of its
// own; runtime/smtp calls it for every line of a message.
//
// What must never happen here: memory that grows with the header, except for
// one address field that is bounded; a byte of a message in transit changed.
package rfc5322
