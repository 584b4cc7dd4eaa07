package smtp

import (
	"errors"
	"io"
	"log/slog"
	"strconv"
	"time"

	"smtpd/runtime/cipher"
	"smtpd/runtime/envelope"
	"smtpd/runtime/rfc5321"
	"smtpd/runtime/rfc5322"
)

var errTooBig = errors.New("message too big")

// A contentError is a failure to store, not one of the client.
type contentError struct{ err error }

func (e contentError) Error() string { return "write message: " + e.err.Error() }
func (e contentError) Unwrap() error { return e.err }

// data takes the content and answers once for the whole message.
func (s *session) data(string) {
	if len(s.tx.accepted) == 0 {
		s.fail(replyNoRecipient)
		s.afterRefusedData()
		return
	}
	if !s.filterSimple(phaseData) {
		s.replied("tx-data", "5", s.tx.sender)
		s.afterRefusedData()
		return
	}
	s.replied("tx-data", replyData, s.tx.sender)
	s.reply(replyData)
	if err := s.flush(); err != nil {
		s.lost(err)
		return
	}
	size, err := s.receive()
	s.line = "DATA"
	s.conclude(size, err)
}

// conclude answers for a message that has been read to its end.
func (s *session) conclude(size int64, err error) {
	if err != nil {
		s.refuseContent(err)
		return
	}
	s.settle(size)
}

// afterRefusedData closes the session of a client that has already sent more:
// it will go on with text, which must not be taken for commands.
func (s *session) afterRefusedData() {
	if s.in.Buffered() > 0 {
		s.state, s.linger = closing, true
	}
}

// receive takes the message behind DATA and returns how many bytes were
// stored.
func (s *session) receive() (size int64, err error) {
	c := s.openContent()
	defer c.release()
	if err := s.copy(c); err != nil {
		return 0, err
	}
	return c.size(), nil
}

// trace returns the fields that stand before the message.
func (s *session) trace() []byte {
	b := make([]byte, 0, 512)
	if s.spam || s.tx.spam {
		b = append(b, "X-Spam: Yes\n"...)
	}
	received := s.received()
	return received.Append(b)
}

// copy reads the message to its end and passes it to h.
// Whatever is wrong with the content, all of it is read, so that the session
// can go on.
func (s *session) copy(h sink) error {
	s.conn.begin()
	var refusal error
	d := rfc5321.NewDataReader(s.in)
	d.BareLF = s.bareLF
	for {
		text, eol, err := d.Next()
		switch {
		case err == io.EOF && refusal != nil:
			return refusal
		case err == io.EOF:
			return h.Close()
		case errors.Is(err, rfc5321.ErrLineEnd):
			if end := d.Discard(); end != nil {
				return end
			}
			return err
		case err != nil:
			return err
		case refusal != nil:
			continue
		case d.Size() > s.srv.rules.SMTP.MaxMessageSize:
			refusal = errTooBig
		default:
			refusal = h.Write(text, eol)
		}
	}
}

// refuseContent answers a message that was not stored.
func (s *session) refuseContent(err error) {
	s.rollback()
	var stored contentError
	switch {
	case errors.Is(err, errTooBig):
		messageTooBig.Inc()
		s.reached(limitSize)
		s.fail(replyTooBig)
	case errors.Is(err, rfc5322.ErrLoop):
		messageLoops.Inc()
		s.reached(limitReceivedFields)
		s.fail(replyLoop)
	case errors.Is(err, rfc5322.ErrMalformed):
		messageMalformed.Inc()
		s.fail(replyMalformed)
	case errors.Is(err, rfc5321.ErrLineEnd):
		messageLineEnd.Inc()
		s.fail(replyLineEnd)
	case errors.Is(err, rfc5321.ErrAmbiguousEnd):
		// What follows may be text or commands that somebody wants us to
		// take for the client's.
		messageLineEnd.Inc()
		s.end(replyLineEnd)
	case errors.Is(err, rfc5321.ErrLineLength):
		s.reached(limitLine)
		s.badInput(replyLineTooLong)
	case errors.As(err, &stored):
		messageFailed.Inc()
		s.warn("smtp: store message", err)
		if isFull(stored.err) {
			s.refuse(replyFull)
		} else {
			s.refuse(replyTemporary)
		}
	default:
		s.lost(err)
	}
}

// commit makes the message durable and only then acknowledges it.
func (s *session) commit(size int64) {
	id := s.tx.id
	s.tx.id = 0 // after Commit, whatever its result, there is nothing to roll back
	if err := s.srv.queue.Commit(s.ctx, id); err != nil {
		messageFailed.Inc()
		s.warn("smtp: commit message", err)
		s.forget()
		s.end(replyFailure)
		return
	}
	s.log("smtp message", slog.String("msgid", id.String()), slog.Int64("size", size),
		slog.Int("nrcpt", len(s.tx.accepted)), slog.String("proto", s.protocol()))
	for _, a := range s.tx.accepted {
		s.log("smtp envelope", slog.String("evpid", a.id.String()),
			slog.String("from", "<"+s.tx.sender.String()+">"), slog.String("to", "<"+a.rcpt.String()+">"))
	}
	s.happened("tx-commit", id.String(), strconv.FormatInt(size, 10))
	s.happened("tx-reset", id.String())
	messageAccepted.Inc()
	octets.WithLabelValues().Add(float64(size))
	s.acknowledge(id)
}

// acknowledge ends the transaction of a message that was taken.
func (s *session) acknowledge(id envelope.MessageID) {
	s.mails++
	s.said, s.since = 0, time.Now()
	s.forget()
	s.reply("250 2.0.0 " + id.String() + " Message accepted for delivery")
}

// protocol returns the word for how the client speaks, without TLS and AUTH
// (RFC 6531, section 4.3).
func (s *session) protocol() string {
	switch {
	case s.tx.flags&envelope.SMTPUTF8 != 0:
		return "UTF8SMTP"
	case s.esmtp:
		return "ESMTP"
	}
	return "SMTP"
}

// received returns what the header says of this message's arrival.
func (s *session) received() *rfc5322.Received {
	r := &rfc5322.Received{
		MaskSrc: s.at.maskSrc,
		Helo:    s.client,
		RDNS:    s.reverse.name(),
		Source:  rfc5322.Bracket(s.addr),
		Name:    s.name,
		Proto:   s.protocol(),
		ID:      s.tx.id.String(),
		Date:    time.Now(),
	}
	if len(s.tx.accepted) == 1 {
		r.For = s.tx.accepted[0].rcpt.String()
	}
	if s.tls != nil {
		r.Proto += "S"
		r.TLS = cipher.Describe(s.tls) + ":" + yesNo(len(s.tls.VerifiedChains) > 0)
	}
	if s.authed {
		r.Proto += "A"
	}
	if s.tls != nil && s.at.receivedAuth {
		r.Auth = s.authText()
	}
	return r
}

func (s *session) authText() string {
	switch {
	case s.user != "":
		return "yes user=" + s.user
	case s.authed:
		return "yes"
	}
	return "no"
}

func yesNo(b bool) string {
	if b {
		return "YES"
	}
	return "NO"
}

// completion returns how to complete the header of a message that a user
// submits; nil for mail in transit, which is not ours to change.
func (s *session) completion() *rfc5322.Completion {
	if !s.at.submission {
		return nil
	}
	return &rfc5322.Completion{Domain: s.name, Date: time.Now()}
}
