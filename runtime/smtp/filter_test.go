package smtp

import (
	"fmt"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/runtime/lka"
	"smtpd/runtime/mfa"
)

// filtered has a built-in filter in each of the phases, which decides as
// verdicts say.
func filtered(verdicts map[string]mfa.PhaseVerdict, phases ...string) func(*rig, *compile.Listener) {
	return func(r *rig, l *compile.Listener) {
		chain := compile.Filter{Name: "chain"}
		for _, p := range phases {
			r.rules.Filters = append(r.rules.Filters, compile.Filter{Name: p, Phase: p})
			chain.Chain = append(chain.Chain, compile.FilterID(len(r.rules.Filters)))
		}
		r.rules.Filters = append(r.rules.Filters, chain)
		l.Filter = compile.FilterID(len(r.rules.Filters))
		r.policy.verdicts = verdicts
	}
}

var mailPhases = []string{"connect", "helo", "ehlo", "mail-from", "rcpt-to", "data", "commit"}

// TestFilterPhases checks in which order filters are asked, and what they are
// told.
func TestFilterPhases(t *testing.T) {
	r := newRig(t, filtered(nil, mailPhases...))
	r.run(upToData + `
C: .
S: 250 2.0.0
C: QUIT
S: 221
closed
`)
	r.settled()
	var got []string
	for _, p := range r.policy.phases {
		got = append(got, fmt.Sprintf("%s %s %s <%s> <%s> %t", p.Name, p.Session.Helo, p.Session.RDNS, p.Sender, p.Rcpt, p.Forward == lka.Pass))
	}
	want := []string{
		"connect  client.example <> <> true",
		"ehlo client.example client.example <> <> true",
		"mail-from client.example client.example <a@example.org> <> true",
		"rcpt-to client.example client.example <a@example.org> <b@example.com> true",
		"data client.example client.example <a@example.org> <> true",
		"commit client.example client.example <a@example.org> <> true",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestFilterNotAsked checks that mfa hears nothing of a session, or of a
// phase, in which no filter has a say.
func TestFilterNotAsked(t *testing.T) {
	for _, phases := range [][]string{nil, {"helo"}} {
		r := newRig(t, func(r *rig, l *compile.Listener) {
			if phases != nil {
				filtered(nil, phases...)(r, l)
			}
		})
		r.run(upToData + "C: .\nS: 250\n")
		r.settled()
		if len(r.policy.phases) > 0 {
			t.Errorf("with filters for %q: asked %v", phases, r.policy.phases)
		}
	}
}

// TestFilterVerdicts has one phase decide and checks what the client sees.
func TestFilterVerdicts(t *testing.T) {
	reject := mfa.PhaseVerdict{Do: compile.Reject, Text: "550 no"}
	disconnect := mfa.PhaseVerdict{Do: compile.Disconnect, Text: "550 go away"}
	rewrite := func(text string) mfa.PhaseVerdict { return mfa.PhaseVerdict{Do: compile.Rewrite, Text: text} }
	tests := []struct {
		phase   string
		verdict mfa.PhaseVerdict
		script  string
	}{
		{"connect", reject, "S: 550 no\nC: EHLO a\nS: 503 5.5.1\nC: NOOP\nS: 250\nC: QUIT\nS: 221\nclosed\n"},
		{"connect", mfa.PhaseVerdict{Do: compile.Reject, Text: "421 later"}, "S: 421 later\nclosed\n"},
		{"connect", disconnect, "S: 550 go away\nclosed\n"},
		{"ehlo", reject, "S: 220\nC: EHLO a\nS: 550 no\nC: MAIL FROM:<a@b>\nS: 503\nC: HELO a\nS: 250\n"},
		{"helo", rewrite("other.example"), "S: 220\nC: HELO a\nS: 250 mx.example Hello other.example [127.0.0.1]\n"},
		{"helo", rewrite("not valid"), "S: 220\nC: HELO a\nS: 501 5.5.4\nC: MAIL FROM:<a@b>\nS: 503\n"},
		{"mail-from", reject, hello + "C: MAIL FROM:<a@b>\nS: 550 no\nC: RCPT TO:<b@c>\nS: 503\nC: MAIL FROM:<bad\nS: 553\n"},
		{"mail-from", disconnect, hello + "C: MAIL FROM:<a@b>\nS: 550 go away\nclosed\n"},
		{"mail-from", rewrite("no brackets"), hello + "C: MAIL FROM:<a@b>\nS: 553 5.1.0\nC: RCPT TO:<b@c>\nS: 503\n"},
		{"rcpt-to", reject, hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<b@c>\nS: 550 no\nC: DATA\nS: 503 5.5.4\n"},
		{"rcpt-to", rewrite("<nobody@c>"), hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<b@c>\nS: 550 5.1.1 Invalid recipient: <nobody@c>\n"},
		{"rcpt-to", rewrite("<>"), hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<b@c>\nS: 501 5.1.3\n"},
		{"data", reject, hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<b@c>\nS: 250\nC: DATA\nS: 550 no\nC: RSET\nS: 250\n"},
		{"commit", reject, upToData + "C: .\nS: 550 no\nC: MAIL FROM:<a@b>\nS: 250\n"},
		{"commit", disconnect, upToData + "C: .\nS: 550 go away\nclosed\n"},
		{"data", mfa.PhaseVerdict{Reports: []string{"seen"}}, upToData + "C: .\nS: 250\n"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %d %s", tt.phase, tt.verdict.Do, tt.verdict.Text), func(t *testing.T) {
			r := newRig(t, filtered(map[string]mfa.PhaseVerdict{tt.phase: tt.verdict}, tt.phase))
			r.run(tt.script)
			r.settled()
			if refused := tt.verdict.Do != 0; refused && len(r.queue.committed) > 0 {
				t.Error("a message was taken")
			}
			for _, text := range tt.verdict.Reports {
				if !strings.Contains(r.logs.String(), `msg="smtp filter-report"`) || !strings.Contains(r.logs.String(), text) {
					t.Errorf("no report of %q in the log:\n%s", text, r.logs)
				}
			}
		})
	}
}

// TestFilterRewrite checks that what filters put in place is what counts.
func TestFilterRewrite(t *testing.T) {
	r := newRig(t, filtered(map[string]mfa.PhaseVerdict{
		"mail-from": {Do: compile.Rewrite, Text: "<x@new.example>"},
		"rcpt-to":   {Do: compile.Rewrite, Text: "<y@new.example>"},
	}, mailPhases...))
	r.run(upToData + "C: .\nS: 250\n")
	r.settled()
	if len(r.policy.asked) != 1 || r.policy.asked[0].Sender.String() != "x@new.example" || r.policy.asked[0].Rcpt.String() != "y@new.example" {
		t.Errorf("recipient %+v", r.policy.asked)
	}
}

// TestFilterJunk checks which messages are marked: the one that was being
// sent, or all when the session was.
func TestFilterJunk(t *testing.T) {
	for phase, want := range map[string]int{"connect": 2, "ehlo": 2, "mail-from": 1, "rcpt-to": 1, "data": 1} {
		t.Run(phase, func(t *testing.T) {
			r := newRig(t, filtered(map[string]mfa.PhaseVerdict{phase: {Do: compile.Junk}}, phase))
			d := r.dial()
			runOn(t, d, upToData+"C: .\nS: 250\n")
			r.policy.mu.Lock()
			r.policy.verdicts = nil
			r.policy.mu.Unlock()
			runOn(t, d, "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<b@c>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\n")
			marked := 0
			for _, m := range r.messages() {
				if strings.HasPrefix(m, "X-Spam: Yes\nReceived: ") {
					marked++
				}
			}
			if marked != want {
				t.Errorf("%d messages are marked, want %d", marked, want)
			}
		})
	}
}

// TestFilterFails checks that what filters cannot decide is put off.
func TestFilterFails(t *testing.T) {
	for phase, script := range map[string]string{
		"connect":   "S: 451 4.3.0\nC: EHLO a\nS: 503\nC: QUIT\nS: 221\nclosed\n",
		"ehlo":      "S: 220\nC: EHLO a\nS: 451 4.3.0\nC: HELO a\nS: 250\n",
		"mail-from": hello + "C: MAIL FROM:<a@b>\nS: 451 4.3.0\nC: RCPT TO:<b@c>\nS: 503\n",
		"rcpt-to":   hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<b@c>\nS: 451 4.3.0\n",
		"data":      hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<b@c>\nS: 250\nC: DATA\nS: 451 4.3.0\nC: RSET\nS: 250\n",
		"commit":    upToData + "C: .\nS: 451 4.3.0\n",
	} {
		t.Run(phase, func(t *testing.T) {
			r := newRig(t, filtered(nil, phase), func(r *rig, _ *compile.Listener) { r.policy.gone = true })
			r.run(script)
			r.settled()
			if len(r.queue.committed) > 0 {
				t.Error("a message was taken")
			}
		})
	}
}

// TestFilterAuth checks that filters are asked before a password is.
func TestFilterAuth(t *testing.T) {
	r := newRig(t, filtered(map[string]mfa.PhaseVerdict{"auth": {Do: compile.Reject, Text: "550 not from there"}}, "auth"),
		func(_ *rig, l *compile.Listener) {
			l.TLS, l.Auth, l.AuthTable = compile.StartTLS, compile.OptionalAuth, 1
			l.PKI = []string{"mx.example"}
		})
	r.run(hello + `
C: STARTTLS
S: 220
tls
C: EHLO client.example
S: 250
C: AUTH WRONG
S: 504
C: AUTH PLAIN
S: 550 not from there
C: MAIL FROM:<a@b>
S: 250
`)
	r.settled()
	if len(r.policy.phases) != 1 || r.policy.phases[0].Session.Helo != "client.example" {
		t.Errorf("asked %+v", r.policy.phases)
	}
}

// TestFilterConnectTLS checks that a client that begins with TLS can read why
// it is refused.
func TestFilterConnectTLS(t *testing.T) {
	r := newRig(t, filtered(map[string]mfa.PhaseVerdict{"connect": {Do: compile.Reject, Text: "554 no"}}, "connect"),
		func(_ *rig, l *compile.Listener) { l.TLS, l.PKI = compile.SMTPS, []string{"mx.example"} })
	r.run(`
tls
S: 554 no
C: QUIT
S: 221
closed
`)
}
