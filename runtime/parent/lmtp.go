package parent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	// lmtpPort is the port of an LMTP destination that names none.
	lmtpPort = "25"

	// maxReplies bounds what a server may say in one session.
	maxReplies = 1 << 20
)

// lmtp hands msg to the LMTP server d names, for one recipient.
func (a *agent) lmtp(ctx context.Context, d Delivery, msg *message) Result {
	s, kept := a.lmtps.take(d.Target), true
	for {
		if s == nil {
			conn, err := dialLMTP(ctx, a, d.Target)
			if err != nil {
				return failure(err)
			}
			s, kept = newLMTPSession(conn), false
		}
		err := s.deliver(ctx, a.host, d, msg)
		switch {
		case err == nil:
			a.lmtps.put(d.Target, s)
			return delivered
		case kept && errors.Is(err, errStale):
			// A server may end a session that does nothing, and this is when
			// we notice. The message has not been begun.
			s.close()
			s = nil
			continue
		case isReply(err) && s.reset():
			a.lmtps.put(d.Target, s)
		default:
			s.close()
		}
		if ctx.Err() != nil {
			return failure(ctx.Err())
		}
		return lmtpResult(err)
	}
}

// isReply reports whether err is what the server says of the message, and the
// session goes on.
func isReply(err error) bool {
	var reply *smtp.SMTPError
	return errors.As(err, &reply) && reply.Code != 421
}

// errStale is wrapped by the error of a session that ended before it was given
// a message.
var errStale = errors.New("session is over")

// An lmtpSession is a connection to a server.
type lmtpSession struct {
	c       *smtp.Client
	conn    *boundedConn
	greeted bool
	sent    int         // messages
	idle    *time.Timer // ends it; nil while it is used
}

func newLMTPSession(conn net.Conn) *lmtpSession {
	bounded := &boundedConn{Conn: conn}
	return &lmtpSession{c: smtp.NewClientLMTP(bounded), conn: bounded}
}

func (s *lmtpSession) close() { s.conn.Close() }

// deliver sends msg. How a session ends once the server has taken it is of no
// interest: a connection lost then must not deliver it twice.
func (s *lmtpSession) deliver(ctx context.Context, host string, d Delivery, msg *message) error {
	s.conn.left = maxReplies
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	s.sent++
	if !s.greeted {
		if host == "" {
			host = "localhost"
		}
		if err := s.c.Hello(host); err != nil {
			return err
		}
		s.greeted = true
	}
	rcpt := d.User
	if d.RcptTo {
		rcpt = address(d.Dest)
	}
	if err := s.c.Mail(d.Sender.String(), s.options(d.Sender.String()+rcpt)); err != nil {
		if !isReply(err) {
			err = fmt.Errorf("%w: %w", errStale, err)
		}
		return err
	}
	if err := s.c.Rcpt(rcpt, nil); err != nil {
		return err
	}
	w, err := s.c.Data()
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, msg.reader()); err != nil {
		return err // the final dot is not sent: the server drops what it has
	}
	_, err = w.CloseWithLMTPResponse()
	return err
}

// options are the parameters of MAIL for addresses.
func (s *lmtpSession) options(addresses string) *smtp.MailOptions {
	ascii := strings.IndexFunc(addresses, func(r rune) bool { return r >= 0x80 }) < 0
	if offered, _ := s.c.Extension("SMTPUTF8"); ascii || !offered {
		return nil
	}
	return &smtp.MailOptions{UTF8: true}
}

// reset reports whether the session is fit for another message.
func (s *lmtpSession) reset() bool { return s.c.Reset() == nil }

// Limits of the sessions that are kept for the next message.
const (
	lmtpIdle     = 10 * time.Second // as long as the process of a user is kept
	lmtpKept     = 64               // of all servers; mda delivers as many at a time
	lmtpMessages = 1000             // over one
	lmtpGoodbye  = 5 * time.Second  // for the reply to QUIT
)

// lmtpSessions are those that are kept, by server, the last used last.
type lmtpSessions struct {
	mu     sync.Mutex
	kept   map[string][]*lmtpSession
	count  int
	closed bool
}

// take returns a session with a server, nil if none is kept.
func (p *lmtpSessions) take(dest string) *lmtpSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.kept[dest]
	if len(l) == 0 {
		return nil
	}
	s := l[len(l)-1]
	p.remove(dest, s)
	s.idle.Stop()
	return s
}

// put keeps s for the next message, or ends it.
func (p *lmtpSessions) put(dest string, s *lmtpSession) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		s.close()
		return
	}
	if p.count >= lmtpKept || s.sent >= lmtpMessages {
		go s.quit()
		return
	}
	if p.kept == nil {
		p.kept = make(map[string][]*lmtpSession)
	}
	p.kept[dest] = append(p.kept[dest], s)
	p.count++
	s.idle = time.AfterFunc(lmtpIdle, func() {
		p.mu.Lock()
		mine := p.remove(dest, s)
		p.mu.Unlock()
		if mine {
			s.quit()
		}
	})
}

// remove takes s out, and reports whether it was there.
func (p *lmtpSessions) remove(dest string, s *lmtpSession) bool {
	l := p.kept[dest]
	i := slices.Index(l, s)
	if i < 0 {
		return false
	}
	p.count--
	if p.kept[dest] = slices.Delete(l, i, i+1); len(l) == 1 {
		delete(p.kept, dest)
	}
	return true
}

// close ends the sessions that are kept, and those that would be.
func (p *lmtpSessions) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, l := range p.kept {
		for _, s := range l {
			s.idle.Stop()
			s.close()
		}
	}
	p.kept, p.count = nil, 0
}

// quit ends a session in good order.
func (s *lmtpSession) quit() {
	s.conn.left = maxReplies
	s.c.CommandTimeout = lmtpGoodbye
	s.c.Quit()
	s.close()
}

// dialLMTP connects to a socket's path or to host[:port].
func dialLMTP(ctx context.Context, a *agent, dest string) (net.Conn, error) {
	// The C library may want to load code to look up names, for which the
	// process that does this for all users has no right.
	dialer := net.Dialer{Resolver: &net.Resolver{PreferGo: true}}
	if strings.ContainsRune(dest, '/') {
		return dialer.DialContext(ctx, "unix", a.local(a.absolute(dest)))
	}
	host, port, err := net.SplitHostPort(dest)
	if err != nil {
		host, port = strings.Trim(dest, "[]"), lmtpPort
	}
	return dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
}

// lmtpResult returns what an error of the dialogue means: the server's word if
// it gave one, else a temporary failure.
func lmtpResult(err error) Result {
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) {
		return failure(fmt.Errorf("lmtp: %w", err))
	}
	r := Result{Outcome: TempFail, Status: "4.3.0"}
	if reply.Code >= 500 && reply.Code <= 599 {
		r = Result{Outcome: PermFail, Status: "5.3.0"}
	}
	text := fmt.Sprint(reply.Code)
	if e := reply.EnhancedCode; e[0] > 0 && e != smtp.EnhancedCodeNotSet {
		code := fmt.Sprintf("%d.%d.%d", e[0], e[1], e[2])
		text += " " + code
		if code[0] == r.Status[0] { // a class that contradicts the reply is a slip
			r.Status = code
		}
	}
	text += " " + strings.ReplaceAll(reply.Message, "\n", " ")
	r.Text = `Error ("` + printable(text) + `")`
	return r
}

// A boundedConn fails once more has been read than left.
type boundedConn struct {
	net.Conn
	left int
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("server said too much")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
