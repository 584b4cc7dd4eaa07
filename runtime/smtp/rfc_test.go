package smtp

import (
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/internal/smtptest"
)

// TestSessionOrder holds what begins, clears and leaves a transaction to RFC
// 5321, sections 4.1.1 and 4.1.4.
func TestSessionOrder(t *testing.T) {
	r := newRig(t)
	const rcpt = "C: RCPT TO:<c@d>\nS: 250\n"
	r.run(hello + `
c: noop  \r\n
S: 250
c: mAiL fRoM:<A@b>  \r\n
S: 250
C: RCPT TO:<C@D>
S: 250
# a nested MAIL changes nothing
C: MAIL FROM:<x@y>
S: 503
C: NOOP
S: 250
C: VRFY c
S: 252
C: HELP
S: 214
C: RCPT TO:<c@d>
S: 250
# EHLO is RSET
C: EHLO client.example
S: 250
C: RCPT TO:<c@d>
S: 503
C: MAIL FROM:<>
S: 250
` + rcpt + `
C: HELO client.example
S: 250
C: DATA
S: 503
C: MAIL FROM:<a@b>
S: 250
` + rcpt + `
# a bad name does not
C: EHLO -
S: 501
c: RSET \r\n
S: 250
C: DATA
S: 503
C: MAIL FROM:<a@b>
S: 250
` + rcpt + `
c: DATA \t\r\n
S: 354
C: .
S: 250
# a message ends its transaction
C: RCPT TO:<c@d>
S: 503
C: QUIT
S: 221
closed
`)
	r.settled()
	if q := r.policy.asked[0]; q.Sender.User != "A" || q.Rcpt.User != "C" {
		t.Errorf("case is not kept: %v %v", q.Sender, q.Rcpt)
	}
	if n := len(r.queue.committed); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestMinimumLengths takes the longest objects that RFC 5321, section 4.5.3.1
// has every server take.
func TestMinimumLengths(t *testing.T) {
	r := newRig(t, func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxRcpt = 100 })
	label := strings.Repeat("d", 63)
	domain := label + "." + label + "." + label + "." + strings.Repeat("d", 59) // 251 bytes
	r.run(hello + "C: MAIL FROM:<" + strings.Repeat("a", 64) + "@" + domain + ">\nS: 250\n" +
		strings.Repeat("C: RCPT TO:<c@d>\nS: 250\n", 100) +
		"C: DATA\nS: 354\nC: Subject: x\nC: \nC: " + strings.Repeat("x", 998) + "\nC: .\nS: 250")
}

// TestStartTLSForgets checks that TLS leaves nothing of what was said in clear,
// and that EHLO must come again (RFC 3207, section 4.2).
func TestStartTLSForgets(t *testing.T) {
	r := newRig(t, withTLS(compile.StartTLS))
	r.run(hello + `
C: STARTTLS
S: 220
tls
C: MAIL FROM:<a@b>
S: 503
C: EHLO other.example
S: 250-mx.example Hello other.example
S: 250
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<c@d>
S: 250
`)
	if q := r.policy.asked[0].Session; q.Helo != "other.example" || !q.TLS {
		t.Errorf("asked for %+v", q)
	}
}

// TestDialogues holds the server to the dialogues that bench/conformance holds
// others to.
func TestDialogues(t *testing.T) {
	cases, err := smtptest.Load("testdata/dialogue", "u@relay.test", "a@client.example")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, withAuth(compile.OptionalAuth))
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { runOn(t, r.dial(), c.Script) })
	}
}
