package smtp

import (
	"encoding/base64"
	"strings"
	"testing"

	"smtpd/compile"
)

func withAuth(mode compile.AuthMode) func(*rig, *compile.Listener) {
	return func(_ *rig, l *compile.Listener) {
		l.TLS, l.PKI, l.Auth, l.AuthTable, l.ReceivedAuth = compile.StartTLS, []string{"mx.example"}, mode, 1, true
	}
}

func plain(authzid, user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(authzid + "\x00" + user + "\x00" + password))
}

const securely = hello + `
C: STARTTLS
S: 220
tls
C: EHLO client.example
S: 250
`

func TestAuth(t *testing.T) {
	r := newRig(t, withAuth(compile.RequireAuth))
	r.run(hello + `
C: AUTH PLAIN ` + plain("", "alice", "secret") + `
S: 503 5.5.1 Invalid command: Command not supported
C: MAIL FROM:<a@b>
S: 530 5.5.1 Invalid command: Must issue an AUTH command first
C: STARTTLS
S: 220
tls
C: EHLO client.example
S: 250-mx.example
S: 250-8BITMIME
S: 250-ENHANCEDSTATUSCODES
S: 250-PIPELINING
S: 250-SIZE
S: 250-DSN
S: 250-AUTH PLAIN LOGIN
S: 250 HELP
C: MAIL FROM:<a@b>
S: 530 5.5.1 Invalid command: Must issue an AUTH command first
C: AUTH
S: 501 5.5.4 Invalid command arguments: No parameters given
C: AUTH CRAM-MD5
S: 504 5.7.4 Security features not supported: AUTH method "CRAM-MD5" not supported
C: AUTH plain ` + plain("", "Alice", "secret") + `
S: 235 2.0.0 Authentication succeeded
C: AUTH PLAIN
S: 503 5.5.1 Invalid command: Already authenticated
C: EHLO client.example
S: 250-mx.example
S: 250-8BITMIME
S: 250-ENHANCEDSTATUSCODES
S: 250-PIPELINING
S: 250-SIZE
S: 250-DSN
S: 250 HELP
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<c@d>
S: 250
C: DATA
S: 354
C: .
S: 250
C: QUIT
S: 221
`)
	r.settled()
	if m := r.messages()[0]; !strings.Contains(m, "with ESMTPSA id") || !strings.Contains(m, " auth=yes user=Alice\n") {
		t.Errorf("stored\n%s", m)
	}
	if q := r.policy.asked[0].Session; !q.Auth || q.User != "Alice" {
		t.Errorf("asked for %+v", q)
	}
	if log := r.logs.String(); strings.Contains(log, plain("", "alice", "secret")) || !strings.Contains(log, `user=Alice result=ok`) {
		t.Errorf("log:\n%s", log)
	}
}

func TestAuthExchanges(t *testing.T) {
	for name, exchange := range map[string]string{
		"plain, challenged": "C: AUTH PLAIN\nS: 334 \nC: " + plain("", "alice", "secret") + "\nS: 235",
		"own authorization": "C: AUTH PLAIN " + plain("alice", "alice", "secret") + "\nS: 235",
		"of another":        "C: AUTH PLAIN " + plain("bob", "alice", "secret") + "\nS: 501 5.5.2 Syntax error: Syntax error",
		"login":             "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YWxpY2U=\nS: 334 UGFzc3dvcmQ6\nC: c2VjcmV0\nS: 235",
		"login, initial":    "C: AUTH LOGIN YWxpY2U=\nS: 334 UGFzc3dvcmQ6\nC: c2VjcmV0\nS: 235",
		"wrong password":    "C: AUTH PLAIN " + plain("", "alice", "Secret") + "\nS: 535 5.7.8 Authentication failed\nC: NOOP\nS: 250",
		"unknown user":      "C: AUTH PLAIN " + plain("", "nobody", "secret") + "\nS: 535 5.7.8 Authentication failed",
		"lookup failure":    "C: AUTH PLAIN " + plain("", "broken", "secret") + "\nS: 421 4.3.0 Temporary failure\nC: NOOP\nS: 250",
		"cancelled":         "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501 5.5.2",
		"no base64":         "C: AUTH PLAIN !!!\nS: 501 5.5.2",
		"empty user":        "C: AUTH PLAIN " + plain("", "", "secret") + "\nS: 501 5.5.2",
		"empty password":    "C: AUTH PLAIN " + plain("", "alice", "") + "\nS: 501 5.5.2",
		"line end inside":   "C: AUTH PLAIN " + plain("", "alice\r\n", "secret") + "\nS: 501 5.5.2",
		"too long":          "C: AUTH PLAIN " + plain("", strings.Repeat("x", 1100), "p") + "\nS: 501 5.5.2",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, withAuth(compile.OptionalAuth))
			r.run(securely + exchange)
		})
	}
}

// TestAuthIdentities mixes identities up: a failure leaves nothing for the next
// mechanism (CVE-2011-1720), TLS and EHLO forget none, and a success is final.
func TestAuthIdentities(t *testing.T) {
	r := newRig(t, withAuth(compile.RequireAuth))
	r.run(securely + `
C: AUTH LOGIN YWxpY2U=
S: 334 UGFzc3dvcmQ6
C: *
S: 501 5.5.2
C: AUTH PLAIN ` + plain("", "nobody", "secret") + `
S: 535 5.7.8
C: MAIL FROM:<a@b>
S: 530
C: AUTH PLAIN ` + plain("", "alice", "secret") + `
S: 235
C: AUTH PLAIN ` + plain("", "label", "secret") + `
S: 503 5.5.1 Invalid command: Already authenticated
C: AUTH LOGIN
S: 503 5.5.1
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<c@d>
S: 250
C: AUTH PLAIN ` + plain("", "label", "secret") + `
S: 503 5.5.1
`)
	if q := r.policy.asked[0].Session; q.User != "alice" {
		t.Errorf("asked for user %q", q.User)
	}
}

// TestAuthBudget checks that guessing ends the session.
func TestAuthBudget(t *testing.T) {
	r := newRig(t, withAuth(compile.OptionalAuth))
	r.run(securely + strings.Repeat("C: AUTH PLAIN "+plain("", "alice", "x")+"\nS: 535\n", maxAuthFailures) +
		"S: 421 4.7.0 Too many failed authentications\nclosed")
}
