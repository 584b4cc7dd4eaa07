package smtp

import (
	"cmp"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"smtpd/compile"
)

// What a client may do before it is told to come back later, unless the
// configuration says otherwise. Slowness has limits of its own: patientConn.
const (
	maxErrors       = 50   // of protocol
	spareCommands   = 1000 // without a message being accepted, besides two for each recipient allowed
	maxAuthFailures = 3
	withoutMail     = time.Hour // from one message to the next

	maxSourceAuthFailures = 30 // of a source, within failureMemory
)

// A budget is what one session may do.
type budget struct {
	errors, commands, authFailures int
	withoutMail                    time.Duration
}

func newBudget(l *compile.SMTP) budget {
	return budget{
		errors:       cmp.Or(l.MaxErrors, maxErrors),
		commands:     cmp.Or(l.MaxCommands, spareCommands) + 2*l.MaxRcpt,
		authFailures: cmp.Or(l.MaxAuthFailures, maxAuthFailures),
		withoutMail:  cmp.Or(time.Duration(l.MaxWithoutMail)*time.Second, withoutMail),
	}
}

// spent counts a command, and returns why it is one too many.
func (s *session) spent() (refusal string) {
	s.said++
	switch {
	case s.said > s.budget.commands:
		s.reached(limitCommands)
		return replyTooManyErrors
	case time.Since(s.since) > s.budget.withoutMail:
		s.reached(limitWithoutMail)
		return replyTooLong
	}
	return ""
}

// talksEarly refuses a client that did not wait for the greeting, as most that
// send spam do (RFC 5321, section 4.3.1). What it said is not read. Clients of
// this host are not kept waiting.
func (s *session) talksEarly() bool {
	if s.at.local || s.tls != nil {
		return false
	}
	delay := s.srv.greetingDelay
	if s.addr.IsLoopback() {
		delay = 0
	}
	if !speaks(s.conn, delay) {
		return false
	}
	s.log("smtp early-talker")
	s.reached(limitGreeting)
	s.badInput(replyEarly)
	return true
}

// speaks reports whether a byte has come on c that was not read, or comes
// within delay.
func speaks(c *patientConn, delay time.Duration) bool {
	sys, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return false
	}
	if delay > 0 && !c.expect(time.Now().Add(delay)) {
		return false
	}
	n := 0
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		var errno error
		n, _, errno = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return delay == 0 || errno != unix.EAGAIN
	})
	return err == nil && n > 0
}
