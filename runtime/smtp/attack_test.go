package smtp

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"smtpd/compile"
)

// TestStartTLSInjectionMatrix sends what must not survive the switch to TLS in
// the same segment as STARTTLS: commands, passwords and chunks. Nothing of it is
// answered, and nothing has an effect under TLS (CVE-2011-0411 and the NO
// STARTTLS study).
func TestStartTLSInjectionMatrix(t *testing.T) {
	for name, injected := range map[string]string{
		"name":             `EHLO evil.example\r\n`,
		"transaction":      `EHLO evil.example\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: evil\r\n\r\n.\r\n`,
		"without a name":   `MAIL FROM:<evil@example.org>\r\nRCPT TO:<c@d>\r\n`,
		"chunk":            `EHLO evil.example\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<c@d>\r\nBDAT 4 LAST\r\nS: x`,
		"begin of a chunk": `EHLO evil.example\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<c@d>\r\nBDAT 400\r\n`,
		"chunk alone":      `BDAT 4 LAST\r\nS: x`,
		"password":         `EHLO evil.example\r\nAUTH PLAIN ` + plain("", "alice", "secret") + `\r\n`,
		"half a password":  `EHLO evil.example\r\nAUTH LOGIN YWxpY2U=\r\n`,
		"half a line":      `EHLO evil.exa`,
		"another STARTTLS": `STARTTLS\r\n`,
		"QUIT":             `QUIT\r\n`,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, withAuth(compile.RequireAuth))
			r.run(hello + `
c: STARTTLS\r\n` + injected + `
S: 220
tls
C: NOOP
S: 250 2.0.0 Ok
C: MAIL FROM:<a@b>
S: 503 5.5.1
C: EHLO client.example
S: 250-mx.example Hello client.example
S: 250
C: MAIL FROM:<a@b>
S: 530 5.5.1 Invalid command: Must issue an AUTH command first
C: AUTH PLAIN ` + plain("", "alice", "secret") + `
S: 235
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<honest@d>
S: 250
C: DATA
S: 354
C: .
S: 250
C: QUIT
S: 221
closed
`)
			r.settled()
			if n := len(r.messages()); n != 1 || len(r.policy.asked) != 1 || r.policy.asked[0].Rcpt.User != "honest" {
				t.Errorf("%d messages, asked for %v", n, r.policy.asked)
			}
		})
	}
}

// TestStartTLSInside has STARTTLS come where it is text, or out of order.
func TestStartTLSInside(t *testing.T) {
	r := newRig(t, withTLS(compile.StartTLS))
	r.run(hello + `
c: MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nSTARTTLS\r\n
S: 250
S: 250
S: 503 5.5.1 Invalid command: Command not allowed at this point.
c: BDAT 13\r\nX: STARTTLS\r\nSTARTTLS\r\nBDAT 12 LAST\r\n\r\nSTARTTLS\r\n
S: 250 2.0.0 13 octets
S: 503 5.5.1
S: 250 2.0.0 0000
C: STARTTLS
S: 220
tls
C: EHLO client.example
S: 250
`)
	r.settled()
}

// login is a dialogue of AUTH LOGIN up to the reply.
func login(user, password string) string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: %s\nS: 334 UGFzc3dvcmQ6\nC: %s\n", b64([]byte(user)), b64([]byte(password)))
}

// TestAuthMixUps mixes identities up in more ways: whatever is tried, the
// session is the user's whose password was right, or nobody's.
func TestAuthMixUps(t *testing.T) {
	const cancel = "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501 5.5.2\n"
	good := "C: AUTH PLAIN " + plain("", "alice", "secret") + "\nS: 235\n"
	for name, tt := range map[string]struct{ script, user string }{
		"authorization as another":            {"C: AUTH PLAIN " + plain("label", "alice", "secret") + "\nS: 501\n", ""},
		"authorization in other letters":      {"C: AUTH PLAIN " + plain("ALICE", "alice", "secret") + "\nS: 501\n", ""},
		"authorization with a blank":          {"C: AUTH PLAIN " + plain("alice ", "alice", "secret") + "\nS: 501\n", ""},
		"a fourth part":                       {"C: AUTH PLAIN " + plain("", "alice", "secret\x00label") + "\nS: 501\n", ""},
		"two parts":                           {"C: AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("alice\x00secret")) + "\nS: 501\n", ""},
		"NUL in a name":                       {login("alice\x00label", "secret") + "S: 501\n", ""},
		"line end in a password":              {login("alice", "secret\r\nMAIL FROM:<a@b>") + "S: 501\n", ""},
		"cancelled":                           {cancel, ""},
		"cancelled between name and password": {"C: AUTH LOGIN YWxpY2U=\nS: 334\nC: *\nS: 501 5.5.2\nC: c2VjcmV0\nS: 500\n", ""},
		"the password of another attempt":     {"C: AUTH LOGIN YWxpY2U=\nS: 334\nC: *\nS: 501\nC: AUTH LOGIN bm9ib2R5\nS: 334\nC: c2VjcmV0\nS: 535\n", ""},
		"failed, then another":                {login("alice", "wrong") + "S: 535\nC: AUTH PLAIN " + plain("", "label", "secret") + "\nS: 235\n", "label"},
		"cancelled, then another":             {cancel + login("label", "secret") + "S: 235\n", "label"},
		"twice":                               {good + "C: AUTH PLAIN " + plain("", "label", "secret") + "\nS: 503 5.5.1\n", "alice"},
		"twice, pipelined":                    {`c: AUTH PLAIN ` + plain("", "alice", "secret") + `\r\nAUTH PLAIN ` + plain("", "label", "secret") + "\\r\\n\nS: 235\nS: 503\n", "alice"},
		"answers sent ahead":                  {`c: AUTH LOGIN\r\nYWxpY2U=\r\nc2VjcmV0\r\n` + "\nS: 334\nS: 334\nS: 235\n", "alice"},
		"across RSET":                         {good + "C: RSET\nS: 250\n", "alice"},
		"across EHLO":                         {good + "C: EHLO other.example\nS: 250\n", "alice"},
		"across STARTTLS":                     {good + "C: STARTTLS\nS: 503 5.5.1\n", "alice"},
		"in a transaction":                    {good + "C: MAIL FROM:<a@b>\nS: 250\nC: AUTH PLAIN " + plain("", "label", "secret") + "\nS: 503\nC: RSET\nS: 250\n", "alice"},
		"by MAIL":                             {good + "C: MAIL FROM:<a@b> AUTH=label@example\nS: 250\nC: RSET\nS: 250\n", "alice"},
		"a mechanism not offered":             {"C: AUTH EXTERNAL YWxpY2U=\nS: 504\nC: AUTH ANONYMOUS\nS: 504\nC: AUTH CRAM-MD5\nS: 504\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, withAuth(compile.OptionalAuth))
			r.run(securely + tt.script + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: QUIT\nS: 221\nclosed")
			r.settled()
			if q := r.policy.asked[0].Session; q.User != tt.user || q.Auth != (tt.user != "") {
				t.Errorf("the session is of %q, auth %v, want %q", q.User, q.Auth, tt.user)
			}
		})
	}
}

// TestAuthInClear tries every way to give a password away in clear. None is
// even looked at.
func TestAuthInClear(t *testing.T) {
	r := newRig(t, withAuth(compile.OptionalAuth))
	r.run(hello + strings.Repeat("C: AUTH PLAIN "+plain("", "alice", "secret")+"\nS: 503 5.5.1\nC: AUTH LOGIN\nS: 503 5.5.1\nC: auth\nS: 503 5.5.1\n", 3) +
		"C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250")
	r.stop()
	if q := r.policy.asked[0].Session; q.Auth || strings.Contains(r.logs.String(), "smtp authentication") {
		t.Errorf("auth %v, log:\n%s", q.Auth, r.logs)
	}
}
