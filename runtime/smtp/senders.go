package smtp

import (
	"strings"

	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
)

// holdsToSenders reports whether the listener's table of senders is for this
// client: only for who has authenticated.
func (s *session) holdsToSenders() bool { return s.at.senders != 0 && s.user != "" }

// maySend checks that the user may send as the sender of s.tx, the null sender
// included, and refuses the command otherwise.
func (s *session) maySend() bool {
	if !s.holdsToSenders() {
		return true
	}
	list, ok, err := s.srv.names.Lookup(s.ctx, s.at.senders, engine.MailAddrMap, strings.ToLower(s.user))
	switch {
	case err != nil:
		s.warn("smtp: check sender", err)
		s.refuse(replyTemporary)
		return false
	case !ok || !s.srv.allows(list, s.tx.sender):
		s.refuse(replySender)
		return false
	}
	return true
}

// allows reports whether a comma-separated list of addresses holds a.
func (s *server) allows(list string, a envelope.Address) bool {
	for entry := range strings.SplitSeq(list, ",") {
		if engine.MatchMailAddr(strings.TrimSpace(entry), engine.Address(a).String(), s.rules.SMTP.SubAddrDelim) {
			return true
		}
	}
	return false
}
