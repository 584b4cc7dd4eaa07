package milter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	wire "github.com/emersion/go-milter"
)

// A Dial connects to a milter.
type Dial func(ctx context.Context) (net.Conn, error)

// A Verdict is what a milter says of a session, a recipient or a message.
type Verdict uint8

// The verdicts.
const (
	Continue Verdict = iota + 1
	Accept           // and ask no more
	Refuse           // with a reply
	Discard          // say that it was taken
)

// An Answer is a verdict with the reply of Refuse.
type Answer struct {
	Verdict Verdict
	Reply   string // one line
}

// The replies for a milter that gives none.
const (
	replyReject   = "550 5.7.1 Refused"
	replyTempFail = "451 4.7.1 Try again later"
)

// The sizes of what a milter may say: at the end of a message it may send
// another.
const (
	maxAnswer    = 1 << 20
	maxEndAnswer = 256 << 20
)

var (
	errTooMuch = errors.New("the milter answers without end")
	errHangs   = errors.New("the milter does not answer")
)

// A Session is a connection to a milter for one session with a client.
type Session struct {
	conn *boundedConn
	wire *wire.ClientSession

	mu      sync.Mutex // held while the milter is asked
	begun   bool       // a message, and it has not ended
	current *Message   // whose turn it is; what an earlier one still has to say is not said
	err     error      // why it is over
}

// A boundedConn lets a milter say so much and no more.
type boundedConn struct {
	net.Conn
	left int
}

func (c *boundedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left -= n; c.left < 0 {
		return 0, errTooMuch
	}
	return n, err
}

const (
	oldActions = wire.OptAddHeader | wire.OptChangeBody | wire.OptAddRcpt | wire.OptRemoveRcpt | wire.OptChangeHeader | wire.OptQuarantine
	newActions = oldActions | wire.OptChangeFrom

	// What a milter may leave out, and what it need not answer.
	oldProtocol = wire.OptNoConnect | wire.OptNoHelo | wire.OptNoMailFrom | wire.OptNoRcptTo | wire.OptNoBody | wire.OptNoHeaders | wire.OptNoEOH
	newProtocol = oldProtocol | wire.OptNoUnknown | wire.OptNoData | wire.OptHeaderLeadingSpace | wire.OptNoHeaderReply |
		wire.OptNoConnReply | wire.OptNoHeloReply | wire.OptNoMailReply | wire.OptNoRcptReply | wire.OptNoDataReply |
		wire.OptNoUnknownReply | wire.OptNoEOHReply | wire.OptNoBodyReply
)

// Open connects to a milter and agrees with it on what both can do.
func Open(ctx context.Context, dial Dial) (*Session, error) {
	s, err := open(ctx, dial, newActions, newProtocol)
	if errors.Is(err, wire.ErrUnsupportedMilterVersion) { // before version 6: it takes no word that it does not know
		s, err = open(ctx, dial, oldActions, oldProtocol)
	}
	return s, err
}

func open(ctx context.Context, dial Dial, actions wire.OptAction, protocol wire.OptProtocol) (*Session, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	s := &Session{conn: &boundedConn{Conn: conn}}
	// Times are the caller's: the library is told of none.
	c := wire.NewClientWithOptions("", "", wire.ClientOptions{Dialer: s, ActionMask: actions, ProtocolMask: protocol})
	err = s.do(ctx, maxAnswer, func() (err error) {
		s.wire, err = c.Session()
		return err
	})
	if err != nil {
		return nil, err
	}
	if excess := s.wire.ActionOpts &^ actions; excess != 0 {
		s.Close()
		return nil, fmt.Errorf("the milter insists on changes that cannot be made: %#x", uint32(excess))
	}
	return s, nil
}

// Dial implements the dialer of the library: the connection is there.
func (s *Session) Dial(string, string) (net.Conn, error) { return s.conn, nil }

// answerTime is how long a milter may take for one answer: below the five
// minutes that clients wait.
const answerTime = 3 * time.Minute

// do has f speak with the milter, until ctx is done or it takes too long. After
// an error the session cannot be used any more.
func (s *Session) do(ctx context.Context, most int, f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, errHangs)
	defer cancel()
	s.conn.left = most
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	err := f()
	switch {
	case !stop():
		err = context.Cause(ctx)
	case err == errGivenUp: // nothing was said
		return err
	}
	if s.err = err; err != nil {
		s.conn.Close()
	}
	return err
}

// Err returns why the session cannot be used any more, nil if it can.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// ask is do for a question that is answered with an action.
func (s *Session) ask(ctx context.Context, f func() (*wire.Action, error)) (Answer, error) {
	var a *wire.Action
	err := s.do(ctx, maxAnswer, func() (err error) {
		a, err = f()
		return err
	})
	if err != nil {
		return Answer{}, err
	}
	return answer(a), nil
}

// answer says in our words what a milter decides.
func answer(a *wire.Action) Answer {
	switch a.Code {
	case wire.ActAccept:
		return Answer{Verdict: Accept}
	case wire.ActDiscard:
		return Answer{Verdict: Discard}
	case wire.ActReject:
		return Answer{Refuse, replyReject}
	case wire.ActReplyCode:
		return Answer{Refuse, replyLine(a.SMTPCode, a.SMTPText)}
	case wire.ActTempFail:
		return Answer{Refuse, replyTempFail}
	}
	return Answer{Verdict: Continue}
}

// maxReply is how long a reply line may be without its end: RFC 5321, section
// 4.5.3.1.5.
const maxReply = 510

// replyLine makes one line of the reply of a milter, which may have several.
func replyLine(code int, text string) string {
	if code < 400 || code > 599 {
		return replyTempFail
	}
	number := strconv.Itoa(code)
	line := number
	for part := range strings.Lines(text) {
		part = strings.TrimRight(part, "\r\n")
		if rest, ok := strings.CutPrefix(part, number); ok && rest != "" && (rest[0] == ' ' || rest[0] == '-') {
			part = rest[1:]
		}
		line += " " + strings.ReplaceAll(part, "\r", " ")
	}
	return line[:min(len(line), maxReply)]
}

// Macros are the names and values that a milter is told before a command.
type Macros []string

func (s *Session) macros(code wire.Code, m Macros) error {
	if len(m) == 0 {
		return nil
	}
	clean := make([]string, len(m))
	for i, v := range m {
		clean[i] = cstring(v)
	}
	return s.wire.Macros(code, clean...)
}

// cstring returns s without what would end it early.
func cstring(s string) string { return strings.ReplaceAll(s, "\x00", "") }

// Connect tells of the client. An invalid address is one that is not known.
func (s *Session) Connect(ctx context.Context, name string, addr netip.AddrPort, m Macros) (Answer, error) {
	family, text := wire.FamilyUnknown, ""
	switch ip := addr.Addr().Unmap().WithZone(""); {
	case ip.Is4():
		family, text = wire.FamilyInet, ip.String()
	case ip.Is6():
		family, text = wire.FamilyInet6, ip.String()
	}
	return s.ask(ctx, func() (*wire.Action, error) {
		if err := s.macros(wire.CodeConn, m); err != nil {
			return nil, err
		}
		return s.wire.Conn(cstring(name), family, addr.Port(), text)
	})
}

// Helo tells of the name that the client gives itself.
func (s *Session) Helo(ctx context.Context, name string, m Macros) (Answer, error) {
	return s.ask(ctx, func() (*wire.Action, error) {
		if err := s.macros(wire.CodeHelo, m); err != nil {
			return nil, err
		}
		return s.wire.Helo(cstring(name))
	})
}

// Mail begins a message; one that has begun is given up.
func (s *Session) Mail(ctx context.Context, sender string, m Macros) (Answer, error) {
	return s.ask(ctx, func() (*wire.Action, error) {
		if s.begun {
			if err := s.wire.Abort(); err != nil {
				return nil, err
			}
		}
		s.begun, s.current = true, nil
		if err := s.macros(wire.CodeMail, m); err != nil {
			return nil, err
		}
		return s.wire.Mail(cstring(sender), nil)
	})
}

// Rcpt tells of a recipient.
func (s *Session) Rcpt(ctx context.Context, rcpt string, m Macros) (Answer, error) {
	return s.ask(ctx, func() (*wire.Action, error) {
		if err := s.macros(wire.CodeRcpt, m); err != nil {
			return nil, err
		}
		return s.wire.Rcpt(cstring(rcpt), nil)
	})
}

// goodbyeTime is for a mere courtesy.
const goodbyeTime = 5 * time.Second

// Close ends the session, and what is being asked in it.
func (s *Session) Close() {
	if !s.mu.TryLock() {
		s.conn.Close()
		return
	}
	defer s.mu.Unlock()
	if s.err == nil {
		s.conn.SetDeadline(time.Now().Add(goodbyeTime))
		s.wire.Close()
		s.err = net.ErrClosed
	}
	s.conn.Close()
}
