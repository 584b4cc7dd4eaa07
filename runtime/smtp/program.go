package smtp

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"smtpd/runtime/envelope"
	"smtpd/runtime/filter"
)

// An audience is what the programs among the filters of a session want, and
// what they are still to be told. Events travel with the next question, and
// before the session waits for its client: the programs hear of everything in
// order. A session without programs has none, and no cost.
type audience struct {
	events map[string]bool
	phases map[string]bool
	news   []filter.Event
}

// openAudience introduces the session to its programs. It returns false if
// one of them is down: what it would have refused must not pass.
func (s *session) openAudience() bool {
	if !s.at.programs {
		return true
	}
	events, phases, err := s.srv.mfa.Open(s.ctx, s.at.filter, s.id)
	if err != nil {
		s.warn("smtp: ask filters", err)
		s.end(replyTemporary)
		return false
	}
	s.audience = &audience{events: set(events), phases: set(phases)}
	rdns := s.reverse.name()
	if rdns == "" {
		rdns = "<unknown>"
	}
	s.happened("link-connect", rdns, s.reverse.confirmed().String(), s.endpointText(s.conn.RemoteAddr()), s.endpointText(s.conn.LocalAddr()))
	return true
}

func set(l []string) map[string]bool {
	m := make(map[string]bool, len(l))
	for _, s := range l {
		m[s] = true
	}
	return m
}

// endpointText returns an end of the connection as programs know it.
func (s *session) endpointText(a net.Addr) string {
	if s.at.local {
		return "unix:submit.sock"
	}
	if t, ok := a.(*net.TCPAddr); ok {
		return netip.AddrPortFrom(t.AddrPort().Addr().Unmap().WithZone(""), uint16(t.Port)).String()
	}
	return a.String()
}

// hears reports whether a program wants to hear of an event.
func (s *session) hears(event string) bool { return s.audience != nil && s.audience.events[event] }

// maxNews bounds the events that travel together.
const maxNews = 256

// happened notes an event for those who want to hear of it.
func (s *session) happened(event string, fields ...string) {
	if !s.hears(event) {
		return
	}
	text := ""
	for i, f := range fields {
		if i > 0 {
			text += "|"
		}
		text += f
	}
	a := s.audience
	if a.news = append(a.news, filter.Event{At: time.Now(), Name: event, Text: text}); len(a.news) >= maxNews {
		s.tell()
	}
}

// takeNews returns what has not been told yet; the caller tells it.
func (s *session) takeNews() []filter.Event {
	if s.audience == nil {
		return nil
	}
	news := s.audience.news
	s.audience.news = nil
	return news
}

// tell passes on what has happened.
func (s *session) tell() {
	news := s.takeNews()
	if len(news) == 0 {
		return
	}
	if err := s.srv.mfa.Tell(s.ctx, s.at.filter, s.id, news); err != nil {
		s.warn("smtp: report to filters", err)
	}
}

// asks reports whether a filter is to be asked at a phase.
func (s *session) asks(at phase) bool {
	return s.at.phases[string(at)] || s.audience != nil && s.audience.phases[string(at)]
}

// transactionHeard reports whether a program follows transactions: they then
// begin with MAIL, as programs expect, and not with the first recipient.
func (s *session) transactionHeard() bool {
	return s.hears("tx-begin") || s.hears("tx-mail")
}

// replied tells of a reply to a command of the transaction.
func (s *session) replied(event, line string, a envelope.Address) {
	if s.tx.id == 0 || !s.hears(event) {
		return
	}
	fields := []string{s.tx.id.String(), outcome(line)}
	if event != "tx-data" {
		fields = append(fields, a.String())
	}
	s.happened(event, fields...)
}

// outcome returns the word of the filter protocol for a reply.
func outcome(line string) string {
	switch {
	case line == "" || line[0] == '4':
		return "tempfail"
	case line[0] == '5':
		return "permfail"
	}
	return "ok"
}

// A detour sends a message through the programs: lines that are written to it
// go to them, and those that come back go on to a sink.
type detour struct {
	conn  net.Conn
	out   *bufio.Writer
	inner bool // in the middle of a line

	back chan struct{} // closed when err is set and the sink is left alone
	err  error
}

// A sink takes the lines of a message; *rfc5322.Writer is one.
type sink interface {
	Write(text []byte, eol bool) error
	Close() error
}

var errFilterLost = errors.New("the filters did not give the message back")

// returnTime is how long the programs may keep the end of a message.
const returnTime = 4 * time.Minute

// newDetour begins to send a message through the programs to what.
func (s *session) newDetour(what sink) (*detour, error) {
	f, err := s.srv.mfa.Message(s.ctx, s.at.filter, s.id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	d := &detour{conn: conn, out: bufio.NewWriterSize(conn, 32<<10), back: make(chan struct{})}
	go func() {
		defer close(d.back)
		d.err = returned(bufio.NewReaderSize(conn, 32<<10), what)
	}()
	return d, nil
}

// Write sends a piece of a line, dot-stuffed.
func (d *detour) Write(text []byte, eol bool) error {
	if !d.inner && len(text) > 0 && text[0] == '.' {
		d.out.WriteByte('.')
	}
	d.inner = !eol
	d.conn.SetWriteDeadline(time.Now().Add(returnTime))
	_, err := d.out.Write(text)
	if eol && err == nil {
		err = d.out.WriteByte('\n')
	}
	if err != nil {
		err = contentError{errFilterLost}
	}
	return err
}

// Close ends the message and waits until it has come back.
func (d *detour) Close() error {
	d.conn.SetDeadline(time.Now().Add(returnTime))
	d.out.WriteString(".\n")
	if d.out.Flush() != nil {
		return contentError{errFilterLost}
	}
	<-d.back
	return d.err
}

// end lets go of the sink, whether or not the message has come back.
func (d *detour) end() {
	d.conn.Close()
	<-d.back
}

// returned reads what comes back and passes it to what. All of it is read,
// also when what has refused it.
func returned(r *bufio.Reader, what sink) error {
	var refusal error
	inner := false
	for {
		text, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return contentError{errors.Join(errFilterLost, unlessEOF(err))}
		}
		eol := err == nil
		if eol {
			text = text[:len(text)-1]
		}
		if !inner && len(text) > 0 && text[0] == '.' {
			if text = text[1:]; eol && len(text) == 0 {
				if refusal == nil {
					refusal = what.Close()
				}
				return refusal
			}
		}
		inner = !eol
		if refusal == nil {
			refusal = what.Write(text, eol)
		}
	}
}

func unlessEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
