package smtp

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
}

// commands holds every verb that is not refused as unknown.
var commands map[string]command

func init() {
	// In init, because HELP and the like lead back here.
	commands = map[string]command{
		"HELO":     {anywhere, false, (*session).helo},
		"EHLO":     {anywhere, false, (*session).ehlo},
		"STARTTLS": {greeted, false, (*session).starttls},
		"AUTH":     {greeted, false, (*session).auth},
		"MAIL":     {greeted, false, (*session).mail},
		"RCPT":     {addressing, false, (*session).rcpt},
		"DATA":     {addressing, true, (*session).data},
		"BDAT":     {anywhere | unwelcome, false, (*session).bdat}, // its bytes follow, in order or not
		"RSET":     {greeted | transaction, true, (*session).rset},
		"NOOP":     {anywhere | unwelcome, false, (*session).noop},
		"HELP":     {anywhere, true, (*session).help},
		"QUIT":     {anywhere | unwelcome, true, (*session).quit},
		"VRFY":     {anywhere, false, (*session).vrfy},
		"WIZ":      {anywhere, false, (*session).wiz},
	}
}
