package mta

import (
	"testing"
	"time"

	"smtpd/compile"
	"smtpd/runtime/envelope"
)

func TestRewriteSender(t *testing.T) {
	a := &agent{rules: new(compile.Ruleset)}
	for _, c := range []struct{ mailFrom, sender, want string }{
		{"", "bob@example.net", "bob@example.net"},
		{"@relay.example", "bob@example.net", "bob@relay.example"},
		{"robot", "bob@example.net", "robot@example.net"},
		{"robot@relay.example", "bob@example.net", "robot@relay.example"},
		{"robot@relay.example", "", ""},
	} {
		action := &compile.Action{Relay: compile.RelayOptions{MailFrom: c.mailFrom}}
		ev := &envelope.Envelope{Sender: envelope.ParseAddress(c.sender)}
		if got := a.rewriteSender(action, ev).String(); got != c.want {
			t.Errorf("mail-from %q makes %q of %q, want %q", c.mailFrom, got, c.sender, c.want)
		}
	}
}

func TestSRS(t *testing.T) {
	a := &agent{rules: &compile.Ruleset{SRS: compile.SRS{Key: "secret"}}}
	action := &compile.Action{Relay: compile.RelayOptions{SRS: true}}
	ev := &envelope.Envelope{
		Sender: envelope.ParseAddress("bob@example.net"),
		Rcpt:   envelope.ParseAddress("alice@here.example"), Dest: envelope.ParseAddress("alice@there.example"),
	}
	got := a.rewriteSender(action, ev)
	if got.Domain != "here.example" || got.User[:5] != "SRS0=" || got.User[9:10] != "=" || got.User[12:] != "=example.net=bob" {
		t.Errorf("sender became %v", got)
	}
	ev.Dest = ev.Rcpt
	if got := a.rewriteSender(action, ev); got != ev.Sender {
		t.Errorf("without forwarding the sender became %v", got)
	}
}

// TestSRSForms checks each form, with hashes that another program worked out:
// the first four characters of base64url(sha1(key, text)).
func TestSRSForms(t *testing.T) {
	day := time.Unix(0, 0).Add(33 * 24 * time.Hour) // 33 = 1*32 + 1
	for sender, want := range map[string]string{
		"bob@example.net":                            "SRS0=zf6r=BB=example.net=bob@h.example",
		"SRS0=abcd=XY=a.example=bob@first.example":   "SRS1=gXt2=first.example==abcd=XY=a.example=bob@h.example",
		"SRS1=efgh=first.example==abcd=XY=a=b@mid.e": "SRS1=UFkS=first.example==abcd=XY=a=b@h.example",
		`"b> SIZE=1"@example.net`:                    `"SRS0=Aiw7=BB=example.net=b> SIZE=1"@h.example`,
	} {
		if got := srsEncode("k", envelope.ParseAddress(sender), "h.example", day).String(); got != want {
			t.Errorf("%s became\n%s, want\n%s", sender, got, want)
		}
	}
}
