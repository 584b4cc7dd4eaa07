package mfa

import (
	"crypto/sha1"
	"encoding/base64"
	"testing"
	"time"

	"smtpd/compile"
	"smtpd/compile/expand"
	"smtpd/runtime/envelope"
)

// TestSRSRecipient has a report come back to an address that we rewrote: it
// goes to the sender, as internal mail.
func TestSRSRecipient(t *testing.T) {
	rs := testRules()
	rs.SRS = compile.SRS{Key: "secret", TTL: 4 * 24 * time.Hour}
	p := &peers{}
	a := newAgent(Config{Rules: rs})
	a.lookups, a.homes, a.queue = p, p, p
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	day := time.Now().Unix() / (24 * 60 * 60) % 1024
	body := string([]byte{digits[day>>5], digits[day&31]}) + "=remote.net=alice"
	hash := sha1.Sum([]byte("secret" + body + "@maildir.example"))
	q := testRcpt(1, "SRS0="+base64.URLEncoding.EncodeToString(hash[:])[:4]+"="+body+"@maildir.example")
	if v := a.rcpt(t.Context(), q); v.Reply != expand.ReplyInvalid {
		t.Errorf("with a sender it is decoded: %+v", v)
	}
	q.Sender = envelope.Address{}
	if v := a.rcpt(t.Context(), q); v.Reply != "" || p.queued[0].Dest.String() != "alice@remote.net" || p.queued[0].Flags&envelope.Internal == 0 {
		t.Errorf("%+v, %+v", v, p.queued)
	}
	q.Rcpt.User += "x"
	if v := a.rcpt(t.Context(), q); v.Reply != expand.ReplyInvalid {
		t.Errorf("altered: %+v", v)
	}
}
