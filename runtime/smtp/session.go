package smtp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/mfa"
	"smtpd/runtime/rfc5321"
	"smtpd/runtime/rfc5322"
)

const (
	inputBuffer    = 4096 // what a session reads at once; holds any command
	outputBuffer   = 8192 // replies that wait for a client which pipelines
	maxCommandLine = 2047 // without CRLF
)

// A session is one connection and all that was said on it. It belongs to the
// goroutine that runs it.
type session struct {
	srv  *server
	at   *endpoint
	conn *patientConn
	wire net.Conn // conn, or TLS over it
	in   *bufio.Reader
	out  []byte // replies not sent yet
	ctx  context.Context

	id      uint64
	addr    netip.Addr // zero for the local socket
	name    string     // of the server, as shown to this client
	reverse *reverse

	state   state
	esmtp   bool
	client  string // HELO or EHLO argument
	tls     *tls.ConnectionState
	authed  bool
	user    string
	line    string // the command in hand, for the log
	spam    bool   // a filter marked the session
	linger  bool
	reason  string // why it ended, for the log
	mails   int
	errors  int
	said    int // commands since the last accepted message
	rejects int // failed authentications
	budget  budget
	since   time.Time // the last accepted message, or the begin
	began   time.Time

	bareLF bool // the client may end lines in LF

	tx message

	audience *audience // nil without programs
}

// A message is a mail transaction.
type message struct {
	sender   envelope.Address
	flags    envelope.Flags // SMTPUTF8 and RequireTLS
	ret      string
	envID    string
	spam     bool               // a filter marked it
	id       envelope.MessageID // 0 before the first RCPT
	content  io.Writer
	accepted []acceptance
	chunks   *chunks // after the first BDAT
}

// An acceptance is a recipient with the last of its envelopes.
type acceptance struct {
	rcpt  envelope.Address
	id    envelope.ID
	asked *mfa.Rcpt // nil without filters that may change the envelope
}

func newSession(ctx context.Context, srv *server, at *endpoint, conn net.Conn) *session {
	b := newBudget(&srv.rules.SMTP)
	p := &patientConn{Conn: conn, timeout: srv.timeout, rate: srv.rate, most: b.withoutMail}
	s := &session{
		srv: srv, at: at, conn: p, wire: p, ctx: ctx,
		in:     bufio.NewReaderSize(p, inputBuffer),
		id:     rand.Uint64(),
		state:  connected,
		authed: at.local,
		reason: "disconnect",
		budget: b,
		began:  time.Now(),
	}
	s.since = s.began
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		s.addr = a.AddrPort().Addr().Unmap().WithZone("")
	}
	return s
}

// run holds the dialogue, from the greeting to the end.
func (s *session) run() {
	defer s.close()
	s.conn.begin()
	if s.at.proxy && !s.takeProxyHeader() {
		return
	}
	s.countOpen() // a proxy has said for whom
	defer s.countClosed()
	if !s.srv.sources.enter(s.addr) {
		s.tooMany()
		return
	}
	defer s.srv.sources.leave(s.addr)
	s.bareLF = s.mayEndInLF()
	s.name = s.srv.serverName(s.ctx, s.at, s.conn.LocalAddr())
	s.reverse = s.srv.lookUpName(s.ctx, s.addr, s.at)
	s.reverse.wait(greetingPatience)
	s.log("smtp connected", slog.String("address", s.addressText()), slog.String("host", s.reverse.text()))
	if !s.openAudience() || s.at.tls == compile.SMTPS && !s.handshake() {
		return
	}
	if s.filterSimple(phaseConnect) && !s.talksEarly() {
		s.happened("link-greeting", s.name)
		s.reply("220 " + s.name + " ESMTP OpenSMTPD")
	}
	for s.state != closing {
		s.step()
	}
}

// tooMany ends a session whose source has enough of them. A client that waits
// for TLS could not read why.
func (s *session) tooMany() {
	s.log("smtp connection-limit", slog.String("address", s.addressText()))
	s.reached(limitConnPerSource)
	if s.at.tls != compile.SMTPS {
		s.reply(replyTooManyConns)
	}
	s.state, s.reason = closing, "connection-limit"
}

// step reads one command and answers it.
func (s *session) step() {
	line, err := s.readLine()
	s.line = redact(line)
	switch {
	case errors.Is(err, rfc5321.ErrLineEnd):
		s.fail(replyCommandLineEnd)
	case errors.Is(err, errCommandLength):
		s.reached(limitLine)
		s.badInput(replyCommandTooLong)
	case err != nil:
		s.lost(err)
	case !s.esmtp && s.in.Buffered() > 0:
		// Who has not seen PIPELINING offered must wait for each reply
		// (RFC 2920, section 3.1). What came early may not be its own words.
		s.badInput(replyPipelining)
	default:
		s.happened("protocol-client", s.line)
		s.execute(line)
	}
}

var errCommandLength = errors.New("command line too long")

// readLine returns the next command line without its line end. It sends what
// was answered so far only when no further command has come: one write for
// a batch of commands (RFC 2920, section 3.2).
func (s *session) readLine() (string, error) {
	if b, _ := s.in.Peek(s.in.Buffered()); bytes.IndexByte(b, '\n') < 0 {
		if err := s.flush(); err != nil {
			return "", err
		}
		s.tell()
	}
	s.conn.begin()
	b, err := s.in.ReadSlice('\n')
	line, ok := bytes.CutSuffix(b, []byte("\r\n"))
	if !ok && err == nil && s.bareLF {
		line, ok = b[:len(b)-1], true
	}
	switch {
	case err == bufio.ErrBufferFull || len(line) > maxCommandLine:
		return "", errCommandLength
	case err != nil:
		return "", err
	case !ok:
		return "", rfc5321.ErrLineEnd
	}
	return string(line), nil
}

// execute answers one command.
func (s *session) execute(line string) {
	if refusal := s.spent(); refusal != "" {
		s.end(refusal)
		return
	}
	verb, arg, err := rfc5321.Split(strings.TrimRight(line, " \t")) // RFC 5321, section 4.1.1
	c, ok := commands[verb]
	if ok {
		c.count.Inc()
	} else {
		otherVerb.Inc()
	}
	switch {
	case err != nil || !ok:
		s.fail(replyUnrecognized)
	case c.bare && arg != "":
		s.fail(replyArguments)
	case s.state&c.in == 0:
		s.fail(replyNotAllowed)
	default:
		c.run(s, arg)
	}
}

// reply queues one line of a reply.
func (s *session) reply(line string) {
	line = printable(line)
	s.happened("protocol-server", line)
	s.out = append(append(s.out, line...), "\r\n"...)
	if len(s.out) > outputBuffer {
		s.flush()
	}
}

// refuse answers with a reply that begins with 4 or 5 and logs it.
func (s *session) refuse(line string) {
	s.log("smtp failed-command", slog.String("command", s.line), slog.String("result", line))
	s.reply(line)
}

// fail refuses a command that the client should not have sent.
func (s *session) fail(format string, args ...any) {
	s.refuse(fmt.Sprintf(format, args...))
	if s.errors++; s.errors >= s.budget.errors && s.state != closing {
		s.reached(limitErrors)
		s.end(replyTooManyErrors)
	}
}

// end refuses and closes the session.
func (s *session) end(line string) {
	s.refuse(line)
	s.state, s.linger = closing, true
}

// badInput ends a session whose input cannot be trusted any more.
func (s *session) badInput(line string) {
	s.log("smtp bad-input", slog.String("result", line))
	s.reply(line)
	s.state, s.linger = closing, true
}

// lost ends a session the client of which is gone, too slow, or to be told
// that the service stops.
func (s *session) lost(err error) {
	s.state = closing
	var timeout net.Error
	switch {
	case errors.Is(err, errInterrupted):
		s.reason = "shutdown"
		s.reply(replyShutdown)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
	case errors.As(err, &timeout) && timeout.Timeout():
		s.reason = "timeout"
		s.happened("timeout")
		switch {
		case s.conn.endless():
			s.reached(limitWithoutMail)
		case s.conn.slow():
			s.reached(limitRate)
		default:
			s.reached(limitIdle)
		}
		s.out = s.out[:0] // closed silently
	default:
		s.reason = "io-error: " + err.Error()
		s.out = s.out[:0]
	}
}

func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.wire.Write(s.out)
	s.out = s.out[:0]
	if cap(s.out) > 1024 {
		s.out = nil // an idle session keeps little
	}
	return err
}

func (s *session) close() {
	s.rollback()
	s.flush()
	if t, ok := s.wire.(*tls.Conn); ok {
		t.CloseWrite()
	}
	if s.linger {
		s.conn.linger()
	}
	s.conn.Close()
	s.happened("link-disconnect")
	s.tell()
	s.log("smtp disconnected", slog.String("reason", s.reason))
}

// rollback forgets the transaction and what the queue holds of it.
func (s *session) rollback() {
	s.tx.chunks.release()
	if s.tx.id != 0 {
		s.srv.queue.Rollback(s.ctx, s.tx.id)
		s.happened("tx-rollback", s.tx.id.String())
		s.happened("tx-reset", s.tx.id.String())
	}
	s.forget()
}

// forget clears the transaction.
func (s *session) forget() {
	s.tx.chunks.release()
	clear(s.tx.accepted)
	kept := s.tx.accepted[:0]
	if cap(kept) > 16 {
		kept = nil // an idle session keeps little
	}
	s.tx = message{accepted: kept}
	if s.state&transaction != 0 {
		s.state = greeted
	}
}

// addressText returns the client's address as logs show it.
func (s *session) addressText() string {
	switch {
	case s.at.local:
		return "local"
	case s.addr.Is6():
		return rfc5322.Bracket(s.addr)
	}
	return s.addr.String()
}

// describe returns what rules may ask about the session.
func (s *session) describe() mfa.Session {
	kind := engine.FromAddress
	if s.at.local {
		kind = engine.FromSocket
	}
	return mfa.Session{
		ID:       s.id,
		Kind:     kind,
		Addr:     s.addr,
		Tag:      s.at.tag,
		SMTPName: s.name,
		Helo:     s.client,
		RDNS:     s.reverse.name(),
		Auth:     s.authed,
		User:     s.user,
		TLS:      s.tls != nil,
	}
}

func (s *session) log(msg string, attrs ...slog.Attr) {
	s.srv.log.LogAttrs(s.ctx, slog.LevelInfo, msg, append([]slog.Attr{sessionAttr(s.id)}, attrs...)...)
}

// warn logs what another component could not do.
func (s *session) warn(msg string, err error) {
	s.srv.log.LogAttrs(s.ctx, slog.LevelWarn, msg, sessionAttr(s.id), slog.String("error", err.Error()))
}

func sessionAttr(id uint64) slog.Attr { return slog.String("session", fmt.Sprintf("%016x", id)) }
