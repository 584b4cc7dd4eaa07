package smtp

import (
	"log/slog"
	"strings"

	"smtpd/compile"
	"smtpd/runtime/envelope"
	"smtpd/runtime/filter"
	"smtpd/runtime/mfa"
)

// A phase is a moment of the session as filters name it.
type phase string

const (
	phaseConnect  phase = "connect"
	phaseHelo     phase = "helo"
	phaseEhlo     phase = "ehlo"
	phaseAuth     phase = "auth"
	phaseMailFrom phase = "mail-from"
	phaseRcptTo   phase = "rcpt-to"
	phaseData     phase = "data"
	phaseCommit   phase = "commit"
	phaseStartTLS phase = "starttls"
	phaseRset     phase = "rset"
	phaseQuit     phase = "quit"
	phaseNoop     phase = "noop"
	phaseDataLine phase = filter.DataLine // the message itself
)

// filter asks the filters of the listener about the command in hand, which
// has passed the checks of the server. It returns false if the command is
// thereby answered. For a verdict of Rewrite it is the caller's to check the
// new argument. Who has no filter for the phase is not asked.
func (s *session) filter(at phase, p mfa.Phase) (v mfa.PhaseVerdict, ok bool) {
	if !s.asks(at) {
		return v, true
	}
	s.reverse.wait(lookupPatience) // conditions may be about the name
	p.Filter, p.Name, p.Forward, p.Events = s.at.filter, string(at), s.reverse.confirmed(), s.takeNews()
	p.Message = s.tx.id
	v, err := s.srv.mfa.Phase(s.ctx, p)
	if err != nil {
		s.warn("smtp: ask filters", err)
		s.refuseBy(at, replyFilter)
		return v, false
	}
	for _, text := range v.Reports {
		s.log("smtp filter-report", slog.String("phase", string(at)), slog.String("report", text))
	}
	switch v.Do {
	case compile.Reject:
		s.refuseBy(at, v.Text)
		return v, false
	case compile.Disconnect:
		s.end(v.Text)
		return v, false
	case compile.Junk:
		s.junk(at)
	}
	return v, true
}

// filterSimple is filter for a phase without an argument to rewrite.
func (s *session) filterSimple(at phase) bool {
	_, ok := s.filter(at, mfa.Phase{Session: s.describe(), Sender: s.tx.sender})
	return ok
}

// filterAuth is filterSimple for AUTH, whose argument programs see.
func (s *session) filterAuth(arg string) bool {
	_, ok := s.filter(phaseAuth, mfa.Phase{Session: s.describe(), Argument: arg})
	return ok
}

// filterAddress is filter for an address, the sender's or a recipient's.
func (s *session) filterAddress(at phase, sender, rcpt envelope.Address) (rewritten string, is, ok bool) {
	v, ok := s.filter(at, mfa.Phase{Session: s.describe(), Sender: sender, Rcpt: rcpt})
	return v.Text, v.Do == compile.Rewrite, ok
}

// refuseBy refuses a command for a filter. Code 421 closes the session; any
// other at the greeting leaves it open for QUIT (RFC 5321, section 3.1).
func (s *session) refuseBy(at phase, line string) {
	if strings.HasPrefix(line, "421") {
		s.end(line)
		return
	}
	s.refuse(line)
	if at == phaseConnect {
		s.state = unwelcome
	}
}

// junk marks the message, or all of the session before there is one.
func (s *session) junk(at phase) {
	switch at {
	case phaseMailFrom, phaseRcptTo, phaseData:
		s.tx.spam = true
	case phaseCommit: // its header is written
	default:
		s.spam = true
	}
}
