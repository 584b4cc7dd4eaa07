package mta

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"

	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

// window is how many commands are sent before their replies are read, to a
// host that offers PIPELINING (RFC 2920).
const window = 50

const (
	// errStale is returned for a session that turned out to be over when the
	// next message was begun. Nothing was said of that message yet.
	errStale = textError("connection was closed while idle")

	errClosing = textError("Remote host closes the connection")
	errRefused = textError("Too many consecutive errors, closing connection")
)

// A verb is a command of a transaction.
type verb uint8

const (
	verbMail verb = iota + 1
	verbRcpt
	verbData
)

// A step is a command of a transaction.
type step struct {
	verb verb
	rcpt int // of verbRcpt: index of the envelope
	text string
}

// A transaction is a message being sent.
type transaction struct {
	*session
	t        *task
	pending  []int // envelopes without an answer
	accepted []int // envelopes whose RCPT was accepted
	mail     reply // zero before it came
	data     reply // zero if none came
	sent     bool  // the end of the message was sent
}

// transact sends the message of t to the recipients that are pending. An error
// means that the session cannot be used again; unless it is errStale all is
// known that will ever be.
func (s *session) transact(ctx context.Context, t *task) error {
	s.conn.wake()
	x := &transaction{session: s, t: t, pending: t.pending()}
	for _, i := range x.pending {
		t.outcomes[i] = outcome{}
	}
	t.tried[s.host.addr] = true
	content, err := s.a.queue.Open(ctx, t.envelopes[0].ID.Message())
	if err != nil {
		x.all(unanswered(err, "4.3.0", "message is not available").outcome())
		return nil
	}
	defer content.Close()
	body, err := inspect(content)
	if err != nil {
		x.all(outcome{Result: queue.Result{Outcome: queue.TempFail, Status: "4.3.0", Text: errContent.Error()}})
		return nil
	}
	if !x.suits(body) {
		return nil
	}
	tasksRunning.Inc()
	err = x.run(content, body)
	tasksRunning.Dec()
	x.reportEnd(body.size)
	switch {
	case err == nil:
	case (x.mail.code == 0 || x.mail.code == 421) && (s.rested || s.mails > 0) && ctx.Err() == nil:
		for _, i := range x.pending {
			t.outcomes[i] = outcome{}
		}
		delete(t.tried, s.host.addr)
		return errStale
	default:
		o := broken(err)
		o.again = !x.sent
		x.all(o)
	}
	s.mails++
	s.fruitless++
	for _, i := range x.accepted {
		if t.outcomes[i].Outcome == queue.Delivered {
			s.fruitless = 0
		}
	}
	return err
}

// set notes what the host said of envelope i.
func (x *transaction) set(i int, o outcome) {
	o.session, o.source, o.relay = x.id, sourceText(x.access.source), x.relayText()
	o.Remote, o.policy, o.secured = x.host.host, x.demand.policy, x.secured()
	x.t.set(i, o)
}

// all notes o for every recipient that has no answer.
func (x *transaction) all(o outcome) {
	for _, i := range x.pending {
		if x.t.outcomes[i].Outcome == 0 {
			x.set(i, o)
		}
	}
}

// suits reports whether the host can take the message at all. If not all
// recipients have their answer.
func (x *transaction) suits(b body) bool {
	if x.caps.size > 0 && b.size > x.caps.size {
		x.all(outcome{Result: queue.Result{Outcome: queue.PermFail, Status: "5.3.4", Text: "message too large for peer"}})
		return false
	}
	if x.first().Flags&envelope.RequireTLS != 0 && !(x.proven() && x.caps.requireTLS) {
		// Who asked for it would rather have it back than sent to another
		// (RFC 8689, section 4.2.1).
		x.all(outcome{Result: queue.Result{Outcome: queue.PermFail, Status: "5.7.30", Text: "REQUIRETLS support required, with a certificate that can be verified"}})
		return false
	}
	if x.caps.utf8 {
		return true
	}
	if x.first().Flags&envelope.SMTPUTF8 != 0 && b.utf8Header {
		x.all(outcome{Result: queue.Result{Outcome: queue.PermFail, Status: "5.6.7", Text: "internationalized header not supported by peer"}})
		return false
	}
	left := x.pending[:0]
	for _, i := range x.pending {
		if isASCII(x.t.sender.String()) && isASCII(x.t.envelopes[i].Dest.String()) {
			left = append(left, i)
			continue
		}
		x.set(i, outcome{Result: queue.Result{Outcome: queue.PermFail, Status: "5.6.7", Text: "internationalized address not supported by peer"}})
	}
	x.pending = left
	return len(left) > 0
}

// first returns an envelope for what all envelopes of a message share.
func (x *transaction) first() *envelope.Envelope { return &x.t.envelopes[x.pending[0]] }

// chunks reports whether the message is sent as a chunk, and without DATA. It is
// sent behind the answers to RCPT all the same: a host that wants none of the
// recipients is not to get it.
func (x *transaction) chunks() bool { return x.caps.chunking }

// run says the commands and sends the message.
func (x *transaction) run(content *os.File, b body) error {
	wanted, err := x.negotiate(b)
	switch {
	case err != nil:
		return err
	case wanted && len(x.accepted) == 0:
		// It wants a message for nobody. An empty one ends the matter, and
		// without a way to tell what it will do with it, so does the session.
		return errBadReply
	case wanted:
		return x.sendContent(content, b)
	case x.data.code != 0 && len(x.accepted) > 0:
		o := replied(x.data)
		if o.Outcome == queue.Delivered { // 2xx in place of 354
			o = broken(fmt.Errorf("%w: %s", errBadReply, x.data.text))
		}
		x.all(o)
	}
	return x.reset()
}

// negotiate says MAIL, every RCPT, and DATA if anyone is left to get it, as
// many at a time as the host takes, and reports whether the message is to
// follow. A refused MAIL or RCPT is an answer, not an error.
func (x *transaction) negotiate(b body) (wanted bool, err error) {
	steps := x.steps(b)
	n := 1
	if x.caps.pipelining {
		n = window
	}
	for len(steps) > 0 {
		now := steps[:min(n, len(steps))]
		steps = steps[len(now):]
		if now[0].verb == verbData && len(x.accepted) == 0 {
			return false, nil
		}
		if err := x.exchange(now); err != nil {
			return false, err
		}
		if !x.mail.ok() {
			return x.data.code == 354, nil
		}
		if x.unwelcome() && x.data.code == 0 {
			x.all(outcome{Result: queue.Result{Outcome: queue.TempFail, Status: "4.5.0", Text: errRefused.Error()}})
			return false, nil
		}
	}
	if x.chunks() {
		return len(x.accepted) > 0, nil
	}
	return x.data.code == 354, nil
}

// exchange says steps and takes their replies.
func (x *transaction) exchange(steps []step) error {
	for _, s := range steps {
		x.conn.send(s.text)
	}
	for _, s := range steps {
		r, err := x.conn.recv()
		if err != nil {
			return err
		}
		x.note(s, r)
		if r.code == 421 { // RFC 5321, section 3.8: it closes
			return errClosing
		}
	}
	return nil
}

// note takes the reply to a step for what it says of the recipients.
func (x *transaction) note(s step, r reply) {
	switch s.verb {
	case verbMail:
		x.mail = r
		if !r.ok() {
			x.all(replied(r))
		}
	case verbRcpt:
		switch {
		case !x.mail.ok(): // a consequence of that
		case r.ok():
			x.accepted = append(x.accepted, s.rcpt)
			x.refused = 0
		default:
			x.set(s.rcpt, replied(r))
			x.refused++
		}
	case verbData:
		x.data = r
	}
	x.reportStep(s, r)
}

// steps returns the commands of the transaction.
func (x *transaction) steps(b body) []step {
	steps := []step{{verb: verbMail, text: "MAIL FROM:<" + x.t.sender.String() + ">" + x.mailParams(x.first(), b)}}
	for _, i := range x.pending {
		ev := &x.t.envelopes[i]
		steps = append(steps, step{verbRcpt, i, "RCPT TO:<" + ev.Dest.String() + ">" + x.rcptParams(ev)})
	}
	if x.chunks() {
		return steps
	}
	return append(steps, step{verb: verbData, text: "DATA"})
}

// mailParams returns the parameters of MAIL that the host knows.
func (x *transaction) mailParams(ev *envelope.Envelope, b body) string {
	var p strings.Builder
	if x.caps.size > 0 {
		p.WriteString(" SIZE=" + strconv.FormatInt(b.size, 10))
	}
	if x.caps.eightBit && b.eightBit {
		p.WriteString(" BODY=8BITMIME")
	}
	if x.caps.utf8 && (!x.isASCII() || ev.Flags&envelope.SMTPUTF8 != 0 && b.utf8Header) {
		p.WriteString(" SMTPUTF8")
	}
	if ev.Flags&envelope.RequireTLS != 0 {
		p.WriteString(" REQUIRETLS")
	}
	if x.caps.dsn && ev.Ret != "" {
		p.WriteString(" RET=" + ev.Ret)
	}
	if x.caps.dsn && ev.EnvID != "" {
		p.WriteString(" ENVID=" + ev.EnvID)
	}
	return p.String()
}

// rcptParams returns the parameters of RCPT that the host knows.
func (x *transaction) rcptParams(ev *envelope.Envelope) string {
	if !x.caps.dsn {
		return ""
	}
	p := ""
	if words := notifyWords(ev.Notify); words != "" {
		p = " NOTIFY=" + words
	}
	if ev.ORcpt != "" {
		p += " ORCPT=" + ev.ORcpt
	}
	return p
}

// notifyWords returns the value of NOTIFY (RFC 3461, section 4.1), "" for the
// default.
func notifyWords(n envelope.Notify) string {
	var words []string
	for _, w := range []struct {
		bit  envelope.Notify
		word string
	}{{envelope.NotifySuccess, "SUCCESS"}, {envelope.NotifyFailure, "FAILURE"}, {envelope.NotifyDelay, "DELAY"}} {
		if n&w.bit != 0 {
			words = append(words, w.word)
		}
	}
	if n&envelope.NotifyNever != 0 {
		return "NEVER"
	}
	return strings.Join(words, ",")
}

// isASCII reports whether sender and recipients are.
func (x *transaction) isASCII() bool {
	for _, i := range x.pending {
		if !isASCII(x.t.envelopes[i].Dest.String()) {
			return false
		}
	}
	return isASCII(x.t.sender.String())
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// sendContent sends the message and notes the answer: one for all, or in LMTP
// one for each recipient that was accepted, in order.
func (x *transaction) sendContent(content *os.File, b body) error {
	r := io.NewSectionReader(content, 0, math.MaxInt64)
	var err error
	if x.chunks() {
		err = x.conn.sendChunk(r, b.size)
	} else {
		err = x.conn.sendMessage(r)
	}
	if err != nil {
		return err
	}
	x.sent = true
	bytesSent.Add(float64(b.size))
	if x.r.dest.mode != lmtp {
		r, err := x.conn.recv()
		if err != nil {
			return err
		}
		x.all(x.final(r))
		return closing(r)
	}
	var last reply
	for _, i := range x.accepted {
		r, err := x.conn.recv()
		if err != nil {
			return err
		}
		x.set(i, x.final(r))
		last = r
	}
	return closing(last)
}

// final returns the outcome that the reply to a message stands for.
func (x *transaction) final(r reply) outcome {
	o := replied(r)
	o.DSN = o.Outcome == queue.Delivered && x.caps.dsn
	return o
}

func closing(r reply) error {
	if r.code == 421 {
		return errClosing
	}
	return nil
}

// reset ends a transaction in which nothing was sent.
func (x *transaction) reset() error {
	if !x.mail.ok() {
		return nil
	}
	r, err := x.conn.cmd("RSET")
	if err == nil && !r.ok() {
		err = replyError("RSET", r)
	}
	return err
}

// A body is what the commands tell of a message.
type body struct {
	size       int64 // on the wire, without dots that are added
	eightBit   bool
	utf8Header bool // what is not ASCII is in the header, too
}

// inspect reads content once.
func inspect(content *os.File) (body, error) {
	var b body
	header, last := true, byte('\n') // still in the header, the byte before
	r := getReader(io.NewSectionReader(content, 0, math.MaxInt64))
	defer putReader(r)
	for {
		if _, err := r.Peek(1); err == io.EOF {
			break
		} else if err != nil {
			return b, err
		}
		p, _ := r.Peek(r.Buffered())
		b.size += wireSize(p, last)
		b.eightBit = b.eightBit || !isASCIIBytes(p)
		if header {
			var part []byte
			part, header = headerPart(p, last == '\n')
			b.utf8Header = b.utf8Header || !isASCIIBytes(part)
		}
		last = p[len(p)-1]
		r.Discard(len(p))
	}
	if last != '\n' && last != '\r' { // the last line gets an end
		b.size += 2
	}
	return b, nil
}

// wireSize returns how long p is with each LF, CR and CRLF as CRLF. A CR at the
// end of p stands for both bytes: last, the byte before p, says whether one did
// so for the LF with which p begins.
func wireSize(p []byte, last byte) int64 {
	lf, cr := bytes.Count(p, crlf[1:]), bytes.Count(p, crlf[:1])
	pairs := 0
	if cr > 0 {
		pairs = bytes.Count(p, crlf)
	}
	if last == '\r' && p[0] == '\n' {
		pairs++
	}
	return int64(len(p) + lf + cr - 2*pairs)
}

// headerPart returns how much of p belongs to the header, and whether that goes
// on behind it. Start says that p begins with a line.
func headerPart(p []byte, start bool) (part []byte, more bool) {
	if start && p[0] == '\n' {
		return nil, false
	}
	if i := bytes.Index(p, []byte("\n\n")); i >= 0 {
		return p[:i], false
	}
	return p, true
}

// readers holds the buffers through which contents are read, each of them twice
// and by many sessions at once.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 16<<10) }}

func getReader(src io.Reader) *bufio.Reader {
	r := readers.Get().(*bufio.Reader)
	r.Reset(src)
	return r
}

func putReader(r *bufio.Reader) {
	r.Reset(nil)
	readers.Put(r)
}

func isASCIIBytes(p []byte) bool {
	for _, c := range p {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
