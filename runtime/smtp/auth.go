package smtp

import "smtpd/compile"

// offersAuth reports whether the client may authenticate: never in clear.
func (s *session) offersAuth() bool { return s.at.auth != compile.NoAuth && s.tls != nil }

func (s *session) auth(arg string) {
	s.fail(replyNotSupported)
}
