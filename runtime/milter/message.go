package milter

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	wire "github.com/emersion/go-milter"
)

// Sizes of a message.
const (
	maxHeld   = 256 << 20
	blockSize = 64 << 10
	lineCost  = 32    // what a line of the header takes besides its text
	maxValue  = 60000 // of a field, as told: what libmilter takes in one piece
)

var (
	errHeld    = errors.New("the message is too large to be held for a milter")
	errGivenUp = errors.New("the message was given up")
)

// Changes are what a milter wants of an envelope.
type Changes struct {
	From       string // "<a@b>"; "" if it stays
	Add, Del   []string
	Quarantine string // why the message is to be held; "" if it is not
}

// A Message is one message on its way through a milter. The milter decides at
// its end, so it is held until then. Lines are dot-stuffed as on the wire; the
// last is a single dot.
//
// Send is for one caller, and Next for one at the same time.
type Message struct {
	ctx    context.Context
	s      *Session
	bypass bool // if the milter is lost the message passes as it is

	header  []field
	inBody  bool
	body    [][]byte // blocks of whole lines with LF
	held    int
	asked   bool   // the milter wants no more of it, or is lost
	chunk   []byte // of the body, to be told
	replace bool   // body is the milter's, not stuffed

	done    chan struct{} // closed when the rest is set
	answer  Answer
	changes Changes
	err     error

	sent int // of Next: 0 the header, n the n-th block, beyond: the end
}

// A field is a field of the header as it came, or as a milter has made it.
type field struct {
	name   string
	lines  []string // the first begins with name and colon
	hidden bool     // the milter does not know it: it is the server's own
	gone   bool
}

// Message begins the message for which Mail and Rcpt were asked. If the
// milter is lost meanwhile, bypass says whether the message passes as it is.
func (s *Session) Message(ctx context.Context, bypass bool, m Macros) *Message {
	msg := &Message{ctx: ctx, s: s, bypass: bypass, done: make(chan struct{}), answer: Answer{Verdict: Continue}}
	s.mu.Lock()
	s.current = msg
	s.mu.Unlock()
	msg.tell(func() (*wire.Action, error) {
		return &wire.Action{Code: wire.ActContinue}, errors.Join(s.macros(wire.CodeEOH, m), s.macros(wire.CodeEOB, m))
	})
	return msg
}

// tell asks the milter for as long as it wants to be asked.
func (m *Message) tell(f func() (*wire.Action, error)) {
	if m.asked {
		return
	}
	a, err := m.s.ask(m.ctx, func() (*wire.Action, error) {
		if m.s.current != m {
			return nil, errGivenUp
		}
		a, err := f()
		if err == nil && a.Code != wire.ActContinue {
			m.s.begun = false
		}
		return a, err
	})
	switch {
	case err != nil:
		m.asked, m.err = true, err
	case a.Verdict != Continue:
		m.asked, m.answer = true, a
	}
}

// Send gives the milter lines, without their ends.
func (m *Message) Send(lines ...string) error {
	for _, line := range lines {
		if m.err != nil && !m.bypass {
			return m.err
		}
		if err := m.line(line); err != nil {
			return err
		}
	}
	return nil
}

func (m *Message) line(line string) error {
	if m.held += len(line) + 1; m.held > maxHeld {
		return errHeld
	}
	switch {
	case line == ".":
		m.end()
	case m.inBody:
		m.bodyLine(line)
	case line == "":
		m.endHeader()
		m.bodyLine(line)
	case (line[0] == ' ' || line[0] == '\t') && len(m.header) > 0:
		f := &m.header[len(m.header)-1]
		f.lines = append(f.lines, line)
		m.held += lineCost
	default:
		name, _, ok := strings.Cut(line, ":")
		if name = strings.TrimRight(name, " \t"); !ok || !isName(name) {
			m.endHeader() // what is no field is text
			m.bodyLine(line)
			return nil
		}
		m.tellField()
		m.header = append(m.header, field{name: name, lines: []string{line}, hidden: m.ours(name)})
		m.held += lineCost
	}
	return nil
}

// ours reports whether a field, the next of the header, is one that the server
// has put there: a milter is to see what the client sent.
func (m *Message) ours(name string) bool {
	if strings.EqualFold(name, "X-Spam") {
		return len(m.header) == 0
	}
	if !strings.EqualFold(name, "Received") {
		return false
	}
	for i := range m.header {
		if strings.EqualFold(m.header[i].name, name) {
			return false
		}
	}
	return true
}

// isName reports whether s can be the name of a field (RFC 5322, section 2.2).
func isName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) < 0
}

// tellField tells the last field of the header, which is complete.
func (m *Message) tellField() {
	if len(m.header) == 0 {
		return
	}
	f := &m.header[len(m.header)-1]
	if f.hidden {
		return
	}
	_, value, _ := strings.Cut(strings.Join(f.lines, "\n"), ":")
	if !m.leading() {
		value = strings.TrimLeft(value, " \t")
	}
	value = cstring(value)
	value = value[:min(len(value), maxValue)]
	m.tell(func() (*wire.Action, error) { return m.s.wire.HeaderField(f.name, value) })
}

// leading reports whether values have the space that stands before them.
func (m *Message) leading() bool { return m.s.wire.ProtocolOption(wire.OptHeaderLeadingSpace) }

func (m *Message) endHeader() {
	m.tellField()
	m.inBody = true
	m.tell(m.s.wire.HeaderEnd)
}

// bodyLine holds a line and tells it. The empty line that ends the header is
// held with the body and is no part of it.
func (m *Message) bodyLine(line string) {
	n := len(m.body)
	first := n == 0
	if first || len(m.body[n-1])+len(line)+1 > cap(m.body[n-1]) {
		m.body = append(m.body, make([]byte, 0, max(blockSize, len(line)+1)))
		n++
	}
	m.body[n-1] = append(append(m.body[n-1], line...), '\n')
	if first && line == "" || m.asked || m.s.wire.ProtocolOption(wire.OptNoBody) {
		return
	}
	m.chunk = append(append(m.chunk, strings.TrimPrefix(line, ".")...), '\r', '\n')
	for len(m.chunk) >= wire.MaxBodyChunk {
		m.tellChunk(wire.MaxBodyChunk)
	}
}

func (m *Message) tellChunk(n int) {
	m.tell(func() (*wire.Action, error) { return m.s.wire.BodyChunk(m.chunk[:n]) })
	m.chunk = append(m.chunk[:0], m.chunk[n:]...)
}

// end asks for the decision.
func (m *Message) end() {
	if !m.inBody {
		m.endHeader()
	}
	if len(m.chunk) > 0 {
		m.tellChunk(len(m.chunk))
	}
	m.chunk = nil
	if !m.asked {
		m.asked = true
		m.err = m.s.do(m.ctx, maxEndAnswer, func() error {
			if m.s.current != m {
				return errGivenUp
			}
			acts, a, err := m.s.wire.End()
			if err == nil {
				m.s.begun = false
				if m.answer = answer(a); m.answer.Verdict <= Accept {
					m.apply(acts)
				}
			}
			return err
		})
	}
	if m.bypass && m.err != nil {
		m.err, m.answer = nil, Answer{Verdict: Continue}
	}
	close(m.done)
}

// apply does to the message what the milter wants.
func (m *Message) apply(acts []wire.ModifyAction) {
	var body []byte
	for i := range acts {
		a := &acts[i]
		switch a.Code {
		case wire.ActAddHeader:
			m.insert(len(m.header), a)
		case wire.ActInsertHeader:
			m.insert(m.place(a.HeaderIndex), a)
		case wire.ActChangeHeader:
			m.change(a)
		case wire.ActReplBody:
			m.replace = true
			body = append(body, a.Body...)
		case wire.ActAddRcpt:
			m.changes.Add = append(m.changes.Add, a.Rcpt)
		case wire.ActDelRcpt:
			m.changes.Del = append(m.changes.Del, a.Rcpt)
		case wire.ActChangeFrom:
			m.changes.From = a.From
		case wire.ActQuarantine:
			m.changes.Quarantine = a.Reason
			if a.Reason == "" {
				m.changes.Quarantine = "no reason was given"
			}
		}
	}
	if m.replace {
		m.body = [][]byte{body}
	}
}

// place returns where the field at index of the milter's count is inserted: 0
// is before everything, and 1 before the first field that it has seen.
func (m *Message) place(index uint32) int {
	if index == 0 {
		return 0
	}
	seen := uint32(0)
	for i := range m.header {
		if f := &m.header[i]; !f.hidden && !f.gone {
			if seen++; seen == index {
				return i
			}
		}
	}
	return len(m.header)
}

func (m *Message) insert(i int, a *wire.ModifyAction) {
	if f := m.made(a); f.name != "" {
		m.header = append(m.header[:i:i], append([]field{f}, m.header[i:]...)...)
	}
}

// change puts another value into the n-th field of a name, or removes it. Those
// that were removed still count, as for Sendmail; one that is not there is
// added.
func (m *Message) change(a *wire.ModifyAction) {
	n := uint32(0)
	for i := range m.header {
		f := &m.header[i]
		if f.hidden || !strings.EqualFold(f.name, a.HeaderName) {
			continue
		}
		if n++; n == max(a.HeaderIndex, 1) {
			if a.HeaderValue == "" {
				f.gone = true
			} else if made := m.made(a); made.name != "" {
				*f = made
			}
			return
		}
	}
	if a.HeaderValue != "" {
		m.insert(len(m.header), a)
	}
}

// made returns the field that a milter asks for; without a name if it cannot
// be one. Lines of its value stay lines of this field.
func (m *Message) made(a *wire.ModifyAction) field {
	if !isName(a.HeaderName) {
		return field{}
	}
	f := field{name: a.HeaderName}
	head := a.HeaderName + ":"
	if !m.leading() {
		head += " "
	}
	for line := range strings.SplitSeq(a.HeaderValue, "\n") {
		line = strings.Map(func(r rune) rune {
			if r == '\r' || r == 0 {
				return -1
			}
			return r
		}, line)
		switch {
		case f.lines == nil:
			line = head + line
		case strings.Trim(line, " \t") == "":
			continue // it would look like the end of the header
		case line[0] != ' ' && line[0] != '\t':
			line = "\t" + line
		}
		f.lines = append(f.lines, line)
	}
	return f
}

// Outcome returns what the milter says of the message, once Next has returned
// something.
func (m *Message) Outcome() (Answer, Changes) {
	select {
	case <-m.done:
		return m.answer, m.changes
	default:
		return Answer{Verdict: Continue}, Changes{}
	}
}

// Next returns lines of the message as the milter has made it, at least one;
// io.EOF after the last, which is a dot and is returned too.
func (m *Message) Next(ctx context.Context) ([]string, error) {
	select {
	case <-m.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if m.err != nil {
		return nil, m.err
	}
	part := m.sent
	m.sent++
	switch {
	case part == 0:
		if lines := m.headerLines(); len(lines) > 0 {
			return lines, nil
		}
		return m.Next(ctx)
	case part <= len(m.body):
		b := m.body[part-1]
		m.body[part-1] = nil
		if lines := m.bodyLines(b); len(lines) > 0 {
			return lines, nil
		}
		return m.Next(ctx)
	case part == len(m.body)+1:
		return []string{"."}, nil
	}
	return nil, io.EOF
}

func (m *Message) headerLines() []string {
	var lines []string
	for i := range m.header {
		if !m.header[i].gone {
			lines = append(lines, m.header[i].lines...)
		}
	}
	m.header = nil
	if m.replace {
		lines = append(lines, "")
	}
	return lines
}

// bodyLines returns the lines of a block, dot-stuffed.
func (m *Message) bodyLines(b []byte) []string {
	var lines []string
	for line := range bytes.Lines(b) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if !m.replace {
			lines = append(lines, string(line))
			continue
		}
		line = bytes.TrimSuffix(line, []byte("\r"))
		text := strings.ReplaceAll(string(line), "\r", "")
		if strings.HasPrefix(text, ".") {
			text = "." + text
		}
		lines = append(lines, text)
	}
	return lines
}

// Close ends the message. If it has not come to its end the milter can forget
// it.
func (m *Message) Close() {
	select {
	case <-m.done:
	default:
		ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), goodbyeTime)
		defer cancel()
		m.s.do(ctx, maxAnswer, func() error {
			if m.s.current != m || !m.s.begun {
				return nil
			}
			m.s.begun, m.s.current = false, nil
			return m.s.wire.Abort()
		})
	}
}
