package mta

import (
	"cmp"
	"crypto/sha1"
	"encoding/base64"
	"strings"
	"time"

	"smtpd/compile"
	"smtpd/compile/expand"
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
	user, quoted := expand.Unquote(sender.User)
	form, rest := "SRS0", srsStamp(now)+"="+sender.Domain+"="+user
	if len(user) > 5 && strings.ContainsRune("=-+", rune(user[4])) {
		switch strings.ToUpper(user[:4]) {
		case "SRS0":
			form, rest = "SRS1", sender.Domain+"="+user[4:]
		case "SRS1":
			if _, inner, ok := strings.Cut(user[5:], "="); ok {
				form, rest = "SRS1", inner
			}
		}
	}
	user = form + "=" + srsHash(key, rest+"@"+domain) + "=" + rest
	if quoted {
		user = expand.Quote(user)
	}
	return envelope.Address{User: user, Domain: domain}
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
