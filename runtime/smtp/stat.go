package smtp

import (
	"time"

	"smtpd/compile"
	"smtpd/runtime/stat"
)

var (
	sessionsOpen = stat.Gauge("smtpd_smtp_sessions", "SMTP sessions that are open, by how the client came.", "family")
	sessions     = stat.Counter("smtpd_smtp_sessions_total", "SMTP sessions, by how the client came.", "family")
	sessionTime  = stat.Histogram("smtpd_smtp_session_seconds", "How long SMTP sessions took.")
	tlsOpen      = stat.Gauge("smtpd_smtp_tls_sessions", "SMTP sessions that are open and secured, by how TLS began.", "kind")
	handshakes   = stat.Counter("smtpd_smtp_tls_handshakes_total", "TLS handshakes of clients, by how they ended.", "result")
	verbs        = stat.Counter("smtpd_smtp_commands_total", "Commands of clients, by verb; those of none of ours are other.", "verb")
	logins       = stat.Counter("smtpd_smtp_auth_total", "Checked passwords of clients, by result.", "result")
	recipients   = stat.Counter("smtpd_smtp_recipients_total", "Recipients that clients named, by result.", "result")
	messages     = stat.Counter("smtpd_smtp_messages_total", "Messages that clients sent to their end, by what came of them.", "result")
	octets       = stat.Counter("smtpd_smtp_message_bytes_total", "Bytes of the messages that were accepted.")
)

// The results of messages.
var (
	messageAccepted  = messages.WithLabelValues("accepted")
	messageTooBig    = messages.WithLabelValues("too-big")
	messageLoops     = messages.WithLabelValues("loop")
	messageMalformed = messages.WithLabelValues("malformed")
	messageLineEnd   = messages.WithLabelValues("line-end")
	messageFiltered  = messages.WithLabelValues("filter")
	messageFailed    = messages.WithLabelValues("tempfail")
)

// otherVerb counts what is no command.
var otherVerb = verbs.WithLabelValues("other")

// family returns how the client came, in a word of OpenSMTPD's.
func (s *session) family() string {
	switch {
	case s.at.local:
		return "local"
	case s.addr.Is4():
		return "inet4"
	}
	return "inet6"
}

// countOpen counts a session; countClosed is its counterpart.
func (s *session) countOpen() {
	sessions.WithLabelValues(s.family()).Inc()
	sessionsOpen.WithLabelValues(s.family()).Inc()
}

func (s *session) countClosed() {
	sessionsOpen.WithLabelValues(s.family()).Dec()
	sessionTime.WithLabelValues().Observe(time.Since(s.began).Seconds())
	if s.tls != nil {
		tlsOpen.WithLabelValues(s.tlsKind()).Dec()
	}
}

// countHandshake counts the end of a TLS handshake.
func (s *session) countHandshake(ok bool) {
	if !ok {
		handshakes.WithLabelValues("failed").Inc()
		return
	}
	handshakes.WithLabelValues("ok").Inc()
	tlsOpen.WithLabelValues(s.tlsKind()).Inc()
}

func (s *session) tlsKind() string {
	if s.at.tls == compile.SMTPS {
		return "smtps"
	}
	return "starttls"
}
