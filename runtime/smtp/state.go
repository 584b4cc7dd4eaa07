package smtp

import "github.com/prometheus/client_golang/prometheus"

// A state is how far a session has come (RFC 5321, section 4.1.4).
type state uint8

const (
	connected state = 1 << iota // nothing said yet, or forgotten by STARTTLS
	greeted                     // HELO or EHLO
	sender                      // MAIL
	recipient                   // at least one RCPT accepted
	chunking                    // at least one BDAT, and not the last
	unwelcome                   // a filter refused the connection
	closing                     // nothing more is read

	addressing  = sender | recipient
	transaction = addressing | chunking
	anywhere    = connected | greeted | transaction
)

// A command is how the server takes one verb.
type command struct {
	in   state // the states in which it is in order
	bare bool  // it has no argument
	run  func(s *session, arg string)

	count prometheus.Counter
}

// commands holds every verb that is not refused as unknown.
var commands = make(map[string]command)

func init() {
	// In init, because HELP and the like lead back here.
	for verb, c := range map[string]command{
		"HELO":     {in: anywhere, run: (*session).helo},
		"EHLO":     {in: anywhere, run: (*session).ehlo},
		"STARTTLS": {in: greeted, run: (*session).starttls},
		"AUTH":     {in: greeted, run: (*session).auth},
		"MAIL":     {in: greeted, run: (*session).mail},
		"RCPT":     {in: addressing, run: (*session).rcpt},
		"DATA":     {in: addressing, bare: true, run: (*session).data},
		"BDAT":     {in: anywhere | unwelcome, run: (*session).bdat}, // its bytes follow, in order or not
		"RSET":     {in: greeted | transaction, bare: true, run: (*session).rset},
		"NOOP":     {in: anywhere | unwelcome, run: (*session).noop},
		"HELP":     {in: anywhere, bare: true, run: (*session).help},
		"QUIT":     {in: anywhere | unwelcome, bare: true, run: (*session).quit},
		"VRFY":     {in: anywhere, run: (*session).vrfy},
		"WIZ":      {in: anywhere, run: (*session).wiz},
	} {
		c.count = verbs.WithLabelValues(verb)
		commands[verb] = c
	}
}
