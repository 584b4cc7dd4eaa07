package smtp

import (
	"fmt"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/runtime/mfa"
)

// amending has a milter that gives this verdict on each message.
func amending(v mfa.PhaseVerdict) func(*rig, *compile.Listener) {
	return func(r *rig, l *compile.Listener) {
		r.rules.Filters = []compile.Filter{{Name: "m", Milter: "unix:/m"}}
		l.Filter = 1
		r.policy.wants, r.policy.verdicts = []string{"commit"}, map[string]mfa.PhaseVerdict{"commit": v}
	}
}

const twoRecipients = hello + `
C: MAIL FROM:<a@example.org> RET=HDRS
S: 250
C: RCPT TO:<b@example.com> NOTIFY=NEVER
S: 250
C: RCPT TO:<c@example.com>
S: 250
C: DATA
S: 354
C: Subject: x
C:
C: .
`

// TestAmend checks what mfa is asked when a milter changes the envelope, and
// what becomes of the message.
func TestAmend(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes mfa.Changes
		want    string // of mfa, anew; a line for each recipient
		reply   string
	}{
		{"nothing", mfa.Changes{}, "", "250 2.0.0"},
		{"sender", mfa.Changes{From: "<new@example.org>"}, "new@example.org b@example.com 8 HDRS true ; new@example.org c@example.com 0 HDRS false ", "250 2.0.0"},
		{"null sender", mfa.Changes{From: "<>"}, " b@example.com 8 HDRS true ;  c@example.com 0 HDRS false ", "250 2.0.0"},
		{"one less", mfa.Changes{Del: []string{"<b@EXAMPLE.com>", "<nowhere@example.com>"}}, "a@example.org c@example.com 0 HDRS true ", "250 2.0.0"},
		{"one more", mfa.Changes{Add: []string{"d@example.com", "<c@example.com>"}, Del: []string{"<b@example.com>"}},
			"a@example.org c@example.com 0 HDRS true ; a@example.org d@example.com 0 HDRS false ", "250 2.0.0"},
		{"held", mfa.Changes{Quarantine: "smells"}, "a@example.org b@example.com 8 HDRS true smells; a@example.org c@example.com 0 HDRS false smells", "250 2.0.0"},
		{"refused", mfa.Changes{Add: []string{"<nobody@example.com>"}, Del: []string{"<b@example.com>"}},
			"a@example.org c@example.com 0 HDRS true ; a@example.org nobody@example.com 0 HDRS false ", "550 5.1.1 Invalid recipient: <nobody@example.com>"},
		{"mfa fails", mfa.Changes{Add: []string{"<broken@example.com>"}, Del: []string{"<b@example.com>"}},
			"a@example.org c@example.com 0 HDRS true ; a@example.org broken@example.com 0 HDRS false ", "421 4.3.0"},
		{"no address", mfa.Changes{From: "<a b>"}, "", "421 4.3.0"},
		{"no path", mfa.Changes{Add: []string{"<a@b> SIZE=1"}}, "", "421 4.3.0"},
		{"nobody", mfa.Changes{Del: []string{"<b@example.com>", "<c@example.com>"}}, "", "250 2.0.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, amending(mfa.PhaseVerdict{Changes: c.changes}))
			r.run(twoRecipients + "S: " + c.reply)
			r.settled()
			var got []string
			for _, q := range r.policy.asked[2:] {
				got = append(got, fmt.Sprintf("%s %s %d %s %t %s", q.Sender, q.Rcpt, q.Notify, q.Ret, q.Anew, q.Hold))
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("asked\n%q, want\n%q", s, c.want)
			}
			kept := c.reply == "250 2.0.0" && c.name != "nobody"
			if is := len(r.queue.committed) == 1; is != kept || len(r.queue.open) > 0 {
				t.Errorf("committed %v, open %v", r.queue.committed, r.queue.open)
			}
		})
	}
}

// TestDiscard says that a message was taken, and forgets it.
func TestDiscard(t *testing.T) {
	r := newRig(t, amending(mfa.PhaseVerdict{Discard: true, Changes: mfa.Changes{Quarantine: "no"}}))
	r.run(twoRecipients + "S: 250 2.0.0\nC: MAIL FROM:<a@example.org>\nS: 250\nC: QUIT\nS: 221\nclosed\n")
	r.settled()
	if len(r.queue.committed) > 0 || len(r.queue.open) > 0 || len(r.policy.asked) != 2 {
		t.Errorf("committed %v, open %v, asked %d times", r.queue.committed, r.queue.open, len(r.policy.asked))
	}
	if !strings.Contains(r.logs.String(), "smtp message-discarded") {
		t.Errorf("log: %s", r.logs)
	}
}
