package smtp

import (
	"testing"

	"smtpd/compile"
)

// TestSenders checks what users may put in MAIL when the listener has a table
// of senders; who has not authenticated is not held to it.
func TestSenders(t *testing.T) {
	r := newRig(t, withAuth(compile.OptionalAuth), func(r *rig, l *compile.Listener) {
		l.Senders = 1
		r.rules.SMTP.SubAddrDelim = '+'
	})
	r.run(secured + `
C: MAIL FROM:<anyone@example.net>
S: 250
C: RSET
S: 250
C: AUTH PLAIN ` + plain("", "Alice", "secret") + `
S: 235
C: MAIL FROM:<bob@example.org>
S: 530 Sender rejected
C: MAIL FROM:<>
S: 530 Sender rejected
C: RCPT TO:<b@c>
S: 503
C: MAIL FROM:<Alice+news@EXAMPLE.org>
S: 250
C: RSET
S: 250
C: MAIL FROM:<any@lists.example.net>
S: 250
`)
	r.run(secured + `
C: AUTH PLAIN ` + plain("", "label", "secret") + `
S: 235
C: MAIL FROM:<label@example.org>
S: 421 4.3.0 Temporary Error
C: QUIT
S: 221
closed
`)
}
