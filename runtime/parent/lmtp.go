package parent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

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
	conn, err := dialLMTP(ctx, a, d.Target)
	if err != nil {
		return failure(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	c := smtp.NewClientLMTP(&boundedConn{conn, maxReplies})
	err = speakLMTP(c, a.host, d, msg)
	if err == nil {
		// The message is the server's now. How the goodbye goes is of no
		// interest: a connection lost here must not deliver it twice.
		return delivered
	}
	if ctx.Err() != nil {
		return failure(ctx.Err())
	}
	return lmtpResult(err)
}

func speakLMTP(c *smtp.Client, host string, d Delivery, msg *message) error {
	if host == "" {
		host = "localhost"
	}
	if err := c.Hello(host); err != nil {
		return err
	}
	if err := c.Mail(d.Sender.String(), nil); err != nil {
		return err
	}
	rcpt := d.User
	if d.RcptTo {
		rcpt = address(d.Dest)
	}
	if err := c.Rcpt(rcpt, nil); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, msg.reader()); err != nil {
		return err // the final dot is not sent: the server drops what it has
	}
	if _, err := w.CloseWithLMTPResponse(); err != nil {
		return err
	}
	c.Quit()
	return nil
}

// dialLMTP connects to a socket's path or to host[:port].
func dialLMTP(ctx context.Context, a *agent, dest string) (net.Conn, error) {
	var dialer net.Dialer
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
