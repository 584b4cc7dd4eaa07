package mta

import (
	"cmp"
	"crypto/sha1"
	"encoding/base64"
	"strings"
	"time"

	"smtpd/compile"
	"smtpd/runtime/envelope"
)

// rewriteSender returns the sender under which action sends ev on. The null
// sender stays: a report must not get a report.
func (a *agent) rewriteSender(action *compile.Action, ev *envelope.Envelope) envelope.Address {
	s := ev.Sender
	if s.IsNull() {
		return s
	}
	if action.Relay.MailFrom != "" {
		with := envelope.ParseAddress(action.Relay.MailFrom)
		s = envelope.Address{User: cmp.Or(with.User, s.User), Domain: cmp.Or(with.Domain, s.Domain)}
	}
	if action.Relay.SRS && a.rules.SRS.Key != "" && ev.Rcpt != ev.Dest {
		s = srsEncode(a.rules.SRS.Key, s, ev.Rcpt.Domain, time.Now())
	}
	return s
}

// srsEncode returns an address in domain under which reports to sender come
// back here, so that a receiver that checks senders by SPF lets it pass. An
// address that was rewritten before keeps what the first host made of it.
func srsEncode(key string, sender envelope.Address, domain string, now time.Time) envelope.Address {
	form, rest := "SRS0", srsStamp(now)+"="+sender.Domain+"="+sender.User
	if len(sender.User) > 5 && strings.ContainsRune("=-+", rune(sender.User[4])) {
		switch strings.ToUpper(sender.User[:4]) {
		case "SRS0":
			form, rest = "SRS1", sender.Domain+"="+sender.User[4:]
		case "SRS1":
			if _, inner, ok := strings.Cut(sender.User[5:], "="); ok {
				form, rest = "SRS1", inner
			}
		}
	}
	return envelope.Address{User: form + "=" + srsHash(key, rest+"@"+domain) + "=" + rest, Domain: domain}
}

// srsStamp returns the day in two characters.
func srsStamp(now time.Time) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	day := now.Unix() / (24 * 60 * 60) % 1024
	return string([]byte{digits[day>>5], digits[day&31]})
}

// srsHash returns the four characters by which this host knows text again.
func srsHash(key, text string) string {
	sum := sha1.New()
	sum.Write([]byte(key))
	sum.Write([]byte(text))
	return base64.URLEncoding.EncodeToString(sum.Sum(nil))[:4]
}
