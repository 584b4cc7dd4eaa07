// Package smtp is the SMTP server: the component that speaks RFC 5321 with
// every client, on the listeners of the configuration and on the local
// submission socket.
//
//	purpose   sessions, their limits and timeouts, TLS, headers of received mail
//	user      an unprivileged one; as a process of its own: _smtpd, in an empty root
//	peers     mfa (each recipient), queue (message, commit), lka (names), control (local sessions)
//	asked     Session: a descriptor of a local session
//	asks      mfa.Rcpt; queue.Create, Commit, Rollback; lka.PTR, Lookup, Check, Authenticate
//	keeps     of the Ruleset: Listeners, Socket, SMTP
//
// It owns no policy: which recipient is accepted, and why not, is mfa's
// answer, passed on word for word.
//
// What must never happen here: a 250 after the final dot before the queue has
// said that the message is on disk; an end of data that is not CRLF.CRLF, but
// for sources that the configuration names; a byte of a chunk acted on; a
// byte that came in clear acted on after STARTTLS; input, however malformed,
// that ends more than its own session.
package smtp
