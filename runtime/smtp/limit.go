package smtp

import (
	"log/slog"

	"smtpd/runtime/stat"
)

// A limit is what a client, or all of them, came to the end of: the word that
// sets it in smtpd.conf, or what it bounds where nothing sets it. docs/limits.md
// has them all.
type limit string

const (
	limitSessions       limit = "max-sessions"
	limitConnPerSource  limit = "max-conn-per-source"
	limitLocalSessions  limit = "local-sessions"
	limitGreeting       limit = "greeting-delay"
	limitErrors         limit = "max-errors"
	limitCommands       limit = "max-commands"
	limitWithoutMail    limit = "max-time-without-mail"
	limitIdle           limit = "max-idle-time"
	limitRate           limit = "min-rate"
	limitAuth           limit = "max-auth-failures"
	limitAuthPerSource  limit = "max-auth-failures-per-source"
	limitMails          limit = "max-mails"
	limitRcpts          limit = "max-rcpt"
	limitSize           limit = "max-message-size"
	limitLine           limit = "line-length"
	limitReceivedFields limit = "received-fields"
)

var limits = stat.Counter("smtpd_smtp_limit_total", "How often a limit was reached, by limit.", "limit")

// reached logs and counts a limit that the session came to.
func (s *session) reached(l limit) {
	limits.WithLabelValues(string(l)).Inc()
	s.log("smtp limit", slog.String("limit", string(l)))
}
