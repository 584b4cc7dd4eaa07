package smtp

import (
	"regexp"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/runtime/envelope"
	"smtpd/runtime/mfa"
)

func TestLimitsDeclared(t *testing.T) {
	for _, c := range []struct {
		mails, rcpts int
		want         string
	}{
		{100, 1000, "S: 250-LIMITS MAILMAX=100 RCPTMAX=1000\n"},
		{0, 999999, "S: 250-LIMITS RCPTMAX=999999\n"},
		{1000000, 0, ""},
	} {
		r := newRig(t, func(r *rig, _ *compile.Listener) {
			r.rules.SMTP.MaxMails, r.rules.SMTP.MaxRcpt = c.mails, c.rcpts
		})
		r.run("S: 220\nC: EHLO client.example\n" + strings.Repeat("S: 250-\n", 6) + "S: 250-CHUNKING\nS: 250-SMTPUTF8\n" + c.want + "S: 250 HELP")
	}
}

// TestSMTPUTF8 has addresses that are not ASCII, with the parameter and
// without.
func TestSMTPUTF8(t *testing.T) {
	r := newRig(t)
	r.run(hello + `
C: MAIL FROM:<ünï@example.org>
S: 553 5.6.7 Address is not ASCII: SMTPUTF8 is required
C: MAIL FROM:<a@bücher.example> BODY=8BITMIME
S: 553 5.6.7
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<ünï@example.org>
S: 553 5.6.7
C: RCPT TO:<c@d> ORCPT=utf-8;ü@d
S: 553 5.5.4
C: RCPT TO:<c@d>
S: 250
C: RSET
S: 250
C: MAIL FROM:<ünï@bücher.example> BODY=8BITMIME SMTPUTF8
S: 250 2.0.0 Ok
C: RCPT TO:<nobody@bücher.example>
S: 550 5.1.1 Invalid recipient: <nobody@xn--bcher-kva.example>
C: RCPT TO:<"ü x"@BÜCHER.example> ORCPT=utf-8;ü@d
S: 250 2.1.5
C: DATA
S: 354
C: Subject: ünï
C:
C: .
S: 250 2.0.0
C: MAIL FROM:<\xff@b> SMTPUTF8
S: 500 5.5.1
C: NOOP ünï
S: 500 5.5.1
C: MAIL FROM:<a@b> ünï
S~ ^501 5\.5\.4 [ -~]*$
C: MAIL FROM:<a@b> X=ünï
S~ ^503 5\.5\.4 [ -~]*$
C: QUIT
S: 221
`)
	r.settled()
	q := r.policy.asked[len(r.policy.asked)-1]
	if q.Flags != envelope.SMTPUTF8 || q.Sender.String() != "ünï@xn--bcher-kva.example" || q.Rcpt.User != `"ü x"` || q.ORcpt != `utf-8;\x{FC}@d` {
		t.Errorf("asked for %+v", q)
	}
	if q := r.policy.asked[0]; q.Flags != 0 {
		t.Errorf("asked for %+v", q)
	}
	m := r.messages()[0]
	if !strings.Contains(m, " with UTF8SMTP id ") || !strings.Contains(m, "for <\"ü x\"@xn--bcher-kva.example>;") || !strings.Contains(m, "\nSubject: ünï\n") {
		t.Errorf("stored %s", m)
	}
}

// TestSMTPUTF8NotAgreed checks that HELO, which offers nothing, gets nothing.
func TestSMTPUTF8NotAgreed(t *testing.T) {
	r := newRig(t)
	r.run("S: 220\nC: HELO client.example\nS: 250\nC: MAIL FROM:<ü@b> SMTPUTF8\nS: 503 5.5.4")
}

// TestRewriteKeepsDemands checks that a filter which rewrites the sender does
// not drop what the client demanded.
func TestRewriteKeepsDemands(t *testing.T) {
	r := newRig(t, filtered(map[string]mfa.PhaseVerdict{"mail-from": {Do: compile.Rewrite, Text: "<other@b>"}}, "mail-from"))
	r.run(hello + "C: MAIL FROM:<a@b> SMTPUTF8\nS: 250\nC: RCPT TO:<ü@d>\nS: 250")
	if q := r.policy.asked[0]; q.Flags != envelope.SMTPUTF8 || q.Sender.User != "other" {
		t.Errorf("asked for %+v", q)
	}
}

func TestRequireTLSParameter(t *testing.T) {
	r := newRig(t, withTLS(compile.StartTLS))
	r.run(hello + `
C: MAIL FROM:<a@b> REQUIRETLS
S: 503 5.5.4 Invalid command arguments: Unsupported option REQUIRETLS
C: STARTTLS
S: 220
tls
C: EHLO client.example
` + strings.Repeat("S: 250-\n", 8) + `
S: 250-REQUIRETLS
S: 250-LIMITS
S: 250 HELP
C: MAIL FROM:<a@b> REQUIRETLS=1
S: 503 5.5.4
C: MAIL FROM:<a@b> REQUIRETLS
S: 250
C: RCPT TO:<c@d>
S: 250
C: RSET
S: 250
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<c@d>
S: 250
`)
	if f := []envelope.Flags{r.policy.asked[0].Flags, r.policy.asked[1].Flags}; f[0] != envelope.RequireTLS || f[1] != 0 {
		t.Errorf("asked with flags %v", f)
	}
}

// TestEnhancedCodes checks that every reply of ours that needs an enhanced code
// has one, of its class.
func TestEnhancedCodes(t *testing.T) {
	status := regexp.MustCompile(`^([245])\d\d ([245])\.\d{1,3}\.\d{1,3} `)
	for _, line := range []string{
		replyInvalid, replyReady, replyBye, replyOK, replyReset, replyOctets, replyVerify, replyRecipient, replyAuthenticated, replyTemporary, replyFailure,
		replyShutdown, replyTooLong, replyEarly, replyTooManyConns, replyTooManyErrors, replyTooManyAuth, replyTooManyRcpts, replyUnresolved, replyFilter,
		replyTooManyMails, replyChunk, replyLineTooLong, replyCommandTooLong, replyCommandLineEnd, replyUnrecognized, replyPipelining,
		replyWizard, replyArguments, replyLoop, replyNeedsDomain, replyBadDomain, replyNoParameters, replyNoMechanism,
		replyBadParameters, replyBadOption, replyRcptSyntax, replySyntax, replyNotAllowed, replyNotSupported, replySecured,
		replyAuthAlready, replyMailOption, replyOptionTooLarge, replyRcptOption, replyNoRecipient, replyBadMechanism, replyNeedsTLS,
		replyNeedsAuth, replySender, replyCredentials, replyMalformed, replyDeclaredSize, replyNeedsUTF8, replySenderSyntax,
		replyNotify, replyORcpt, replyTooBig, replyLineEnd,
	} {
		if m := status.FindStringSubmatch(line); m == nil || m[1] != m[2] {
			t.Errorf("no enhanced code: %s", line)
		}
	}
}
