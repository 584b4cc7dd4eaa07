package smtp

import (
	"strings"
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
	r.run(securely + `
C: MAIL FROM:<anyone@example.net>
S: 250
C: RSET
S: 250
C: AUTH PLAIN ` + plain("", "Alice", "secret") + `
S: 235
C: MAIL FROM:<bob@example.org>
S: 530 5.7.1 Sender rejected
C: MAIL FROM:<>
S: 530 5.7.1 Sender rejected
C: RCPT TO:<b@c>
S: 503
C: MAIL FROM:<Alice+news@EXAMPLE.org>
S: 250
C: RSET
S: 250
C: MAIL FROM:<any@lists.example.net>
S: 250
`)
	r.run(securely + `
C: AUTH PLAIN ` + plain("", "label", "secret") + `
S: 235
C: MAIL FROM:<label@example.org>
S: 421 4.3.0 Temporary Error
C: QUIT
S: 221
closed
`)
}

// TestMasquerade checks whose From is replaced: that of users of a listener
// with masquerade, and nobody else's.
func TestMasquerade(t *testing.T) {
	send := func(from string) string {
		return `
C: MAIL FROM:<` + from + `>
S: 250
C: RCPT TO:<b@c>
S: 250
C: DATA
S: 354
C: From: Boss <boss@example.org>
C:
C: .
S: 250
`
	}
	r := newRig(t, withAuth(compile.OptionalAuth), func(_ *rig, l *compile.Listener) { l.Senders, l.Masquerade = 1, true })
	r.run(securely + send("x@example.net") + `
C: AUTH PLAIN ` + plain("", "alice", "secret") + `
S: 235
` + send("alice@example.org"))
	got := r.bodies()
	want := []string{"From: Boss <boss@example.org>\n\n", "From: Boss <alice@example.org>\n\n"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q, want %q", got, want)
	}
}
