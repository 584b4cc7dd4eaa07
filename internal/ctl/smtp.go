package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
)

const smtpUsage = `usage: smtp [-Chnv] [-a authfile] [-F from] [-H helo] [-s server] [-T params] [recipient ...]
  -a file    log in as the user in its first line with the password in its second
  -C         do not verify the certificate; -T noverify says the same
  -F from    the sender
  -H helo    the name of this host
  -n         connect, and send nothing
  -s server  [proto://[user:pass@]]host[:port], smtp://localhost:25 if not given;
             proto: smtp smtp+tls smtp+notls smtps lmtp lmtp+tls lmtp+notls
  -T params  cafile=FILE ciphers=LIST protocols=LIST servername=NAME nosni noverify
  -v         show the dialogue
`

// Bounds of a session of smtp: how long an address may take to connect, and
// how much a server may say.
const (
	connectLimit = 30 * time.Second
	maxReplies   = 16 << 20
)

// A delivery is what smtp was asked to do.
type delivery struct {
	server   *server
	user     string // with password, to log in; ""
	password string
	from     string
	helo     string
	tls      tlsParams
	connect  bool // and no more
	verbose  bool
	rcpts    []string
}

// smtp sends the message on standard input to a server, as its arguments say,
// and prints what became of it for each recipient.
func smtp(t *terminal, args []string) int {
	d, err := parseSMTP(args)
	if err != nil {
		if !errors.Is(err, errHelp) {
			fmt.Fprintf(t.err, "smtp: %v\n", err)
		}
		io.WriteString(t.err, smtpUsage)
		return exitFailed
	}
	results, err := d.send(t)
	status := exitOK
	for _, rcpt := range d.rcpts {
		r := results[rcpt]
		if r == "" {
			continue
		}
		fmt.Fprintf(t.out, "%s: %s\n", rcpt, r)
		if !strings.HasPrefix(r, resultOK) {
			status = exitFailed
		}
	}
	if err != nil {
		fmt.Fprintf(t.err, "smtp: %v\n", err)
		status = exitFailed
	}
	return status
}

// errHelp asks for nothing but the usage.
var errHelp = errors.New("help")

func parseSMTP(args []string) (*delivery, error) {
	d := &delivery{}
	at, authFile, params, help := "smtp://localhost:25", "", "", false
	operands, err := getopt(args, "a:CF:H:hns:T:v", func(letter byte, arg string) {
		switch letter {
		case 'a':
			authFile = arg
		case 'C':
			d.tls.unverified = true
		case 'F':
			d.from = strings.TrimSuffix(strings.TrimPrefix(arg, "<"), ">")
		case 'H':
			d.helo = arg
		case 'h':
			help = true
		case 'n':
			d.connect = true
		case 's':
			at = arg
		case 'T':
			params = params + "," + arg
		case 'v':
			d.verbose = true
		}
	})
	switch {
	case help:
		return nil, errHelp
	case err != nil:
		return nil, err
	case len(operands) == 0 && !d.connect:
		return nil, errors.New("no recipients")
	}
	d.rcpts = uniqueOf(operands)
	if d.server, err = parseServer(at); err != nil {
		return nil, err
	}
	if err := d.tls.parse(params); err != nil {
		return nil, fmt.Errorf("-T: %w", err)
	}
	d.user, d.password = d.server.user, d.server.password
	if authFile != "" {
		if d.user, d.password, err = readCredentials(authFile); err != nil {
			return nil, fmt.Errorf("-a: %w", err)
		}
	}
	return d, d.name()
}

func uniqueOf(l []string) []string {
	var out []string
	for _, s := range l {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// name fills in who this is.
func (d *delivery) name() error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	if d.helo == "" {
		d.helo = host
	}
	if d.from == "" {
		who, err := user.Current()
		if err != nil {
			return fmt.Errorf("who calls: %w", err)
		}
		d.from = who.Username + "@" + host
	}
	return nil
}

// readCredentials reads a user and a password, a line each.
func readCredentials(path string) (user, password string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	in := bufio.NewScanner(io.LimitReader(f, 4096))
	for _, s := range []*string{&user, &password} {
		if !in.Scan() || in.Text() == "" {
			return "", "", errors.Join(fmt.Errorf("%s: a line with the user and one with the password are needed", path), in.Err())
		}
		*s = in.Text()
	}
	return user, password, nil
}

// Results begin with one of these words.
const (
	resultOK   = "Ok"
	resultTemp = "TempFail"
	resultPerm = "PermFail"
)

// send holds the session and returns what it came to for each recipient that
// it got to. The error says why it did not get to all.
func (d *delivery) send(t *terminal) (map[string]string, error) {
	conn, err := d.dial(context.Background())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var shown io.Writer
	if d.verbose {
		shown = t.out
	}
	conn, secure, err := d.secure(&boundedConn{conn, maxReplies}, shown)
	if err != nil {
		return nil, err
	}
	c := gosmtp.NewClient(conn)
	if d.server.lmtp {
		c = gosmtp.NewClientLMTP(conn)
	}
	c.DebugWriter = shown
	if err := c.Hello(d.helo); err != nil {
		return nil, err
	}
	if d.user != "" {
		if err := d.login(c, secure); err != nil {
			return nil, err
		}
	}
	if d.connect {
		return nil, c.Quit()
	}
	results, err := d.transact(c, t.in)
	if err == nil {
		c.Quit() // the server has the message, however this goes
	}
	return results, err
}

// dial connects to the first address of the server that takes connections.
func (d *delivery) dial(ctx context.Context) (net.Conn, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", d.server.host)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", d.server.port)
	if err != nil {
		return nil, err
	}
	var errs error
	dialer := net.Dialer{Timeout: connectLimit}
	for _, a := range addrs {
		conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(a.Unmap(), uint16(port)).String())
		if err == nil {
			return conn, nil
		}
		errs = errors.Join(errs, err)
	}
	return nil, errs
}

// login gives the server user and password, under TLS alone.
func (d *delivery) login(c *gosmtp.Client, secure bool) error {
	offered, mechanisms := c.Extension("AUTH")
	words := strings.Fields(strings.ToUpper(mechanisms))
	switch {
	case !secure:
		return errors.New("the server offers no TLS: the password is not sent")
	case !offered:
		return errors.New("the server offers no AUTH")
	case slices.Contains(words, sasl.Plain):
		return c.Auth(sasl.NewPlainClient("", d.user, d.password))
	case slices.Contains(words, sasl.Login):
		return c.Auth(sasl.NewLoginClient(d.user, d.password))
	}
	return fmt.Errorf("the server offers no way to log in with a password, only %s", mechanisms)
}

// transact sends the message to all recipients that the server accepts.
func (d *delivery) transact(c *gosmtp.Client, in io.Reader) (map[string]string, error) {
	if err := c.Mail(d.from, nil); err != nil {
		return d.all(err), lost(err)
	}
	results := make(map[string]string)
	var accepted []string
	for _, rcpt := range d.rcpts {
		err := c.Rcpt(rcpt, nil)
		if err := lost(err); err != nil {
			return results, err
		}
		if err != nil {
			results[rcpt] = resultOf(err)
			continue
		}
		accepted = append(accepted, rcpt)
	}
	if len(accepted) == 0 {
		return results, nil
	}
	said, err := content(c, in, d.server.lmtp)
	if err := lost(err); err != nil {
		return results, err
	}
	var each gosmtp.LMTPDataError
	for _, rcpt := range accepted {
		switch r := said[rcpt]; {
		case r != nil:
			results[rcpt] = resultOK + ": 250 " + lineOf(r.StatusText)
		case errors.As(err, &each):
			results[rcpt] = resultOf(each[rcpt])
		case err != nil:
			results[rcpt] = resultOf(err)
		default:
			results[rcpt] = resultOK + ": 250 " + lineOf(said[""].StatusText)
		}
	}
	return results, nil
}

// content sends the message. What the server says of it is under the name of
// each recipient with LMTP, else under "".
func content(c *gosmtp.Client, in io.Reader, lmtp bool) (map[string]*gosmtp.DataResponse, error) {
	w, err := c.Data()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(w, in); err != nil {
		return nil, &net.OpError{Op: "send", Err: err} // without its end the message is none
	}
	if lmtp {
		return w.CloseWithLMTPResponse()
	}
	r, err := w.CloseWithResponse()
	return map[string]*gosmtp.DataResponse{"": r}, err
}

// lost returns err unless it is a reply.
func lost(err error) error {
	if errors.As(err, new(*gosmtp.SMTPError)) {
		return nil
	}
	return err
}

// all returns what err means for every recipient.
func (d *delivery) all(err error) map[string]string {
	results := make(map[string]string)
	if lost(err) == nil {
		for _, rcpt := range d.rcpts {
			results[rcpt] = resultOf(err)
		}
	}
	return results
}

// resultOf returns what a reply that is no success means for a recipient.
func resultOf(err error) string {
	var reply *gosmtp.SMTPError
	if !errors.As(err, &reply) {
		return resultTemp + ": " + lineOf(err.Error())
	}
	word := resultPerm
	if reply.Temporary() {
		word = resultTemp
	}
	code := ""
	if e := reply.EnhancedCode; e[0] > 0 && e != gosmtp.EnhancedCodeNotSet {
		code = fmt.Sprintf("%d.%d.%d ", e[0], e[1], e[2])
	}
	return fmt.Sprintf("%s: %d %s%s", word, reply.Code, code, lineOf(reply.Message))
}

// lineOf returns a reply as one line.
func lineOf(reply string) string { return oneLine(strings.ReplaceAll(reply, "\n", " ")) }

// A boundedConn fails once more has been read than left.
type boundedConn struct {
	net.Conn
	left int
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("the server said too much")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
