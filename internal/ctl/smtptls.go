package ctl

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"smtpd/runtime/cipher"
)

// tlsParams are the words of -T.
type tlsParams struct {
	roots      *x509.CertPool // nil: the system's
	suites     []uint16
	min, max   uint16
	name       string // in the certificate
	nameless   bool   // do not tell the server which name is wanted
	unverified bool
}

// parse reads words between commas. Words that cannot be a parameter go on
// with the value before them, which may be a list itself.
func (p *tlsParams) parse(s string) error {
	var words []string
	for word := range strings.SplitSeq(s, ",") {
		key, _, _ := strings.Cut(word, "=")
		if len(words) > 0 && !slices.Contains([]string{"cafile", "ciphers", "nosni", "noverify", "protocols", "servername"}, key) {
			words[len(words)-1] += "," + word
		} else if word != "" {
			words = append(words, word)
		}
	}
	for _, word := range words {
		if err := p.set(strings.Cut(word, "=")); err != nil {
			return err
		}
	}
	return nil
}

func (p *tlsParams) set(key, value string, hasValue bool) (err error) {
	flag := key == "nosni" || key == "noverify"
	if flag == hasValue {
		return fmt.Errorf("%s: a value is wanted behind cafile=, ciphers=, protocols= and servername= alone", key)
	}
	switch key {
	case "cafile":
		var text []byte
		if text, err = os.ReadFile(value); err == nil {
			p.roots = x509.NewCertPool()
			if !p.roots.AppendCertsFromPEM(text) {
				err = fmt.Errorf("%s has no certificate", value)
			}
		}
	case "ciphers":
		p.suites, err = cipher.ParseSuites(value)
	case "nosni":
		p.nameless = true
	case "noverify":
		p.unverified = true
	case "protocols":
		p.min, p.max, err = cipher.ParseProtocols(value)
	case "servername":
		p.name = value
	default:
		err = fmt.Errorf("no parameter %q", key)
	}
	return err
}

// config returns what TLS with host is to be.
func (p *tlsParams) config(host string) *tls.Config {
	name := host
	if p.name != "" {
		name = p.name
	}
	c := &tls.Config{
		ServerName: name, RootCAs: p.roots, CipherSuites: p.suites,
		MinVersion: p.min, MaxVersion: p.max, InsecureSkipVerify: p.unverified,
	}
	if p.nameless {
		c.ServerName = ""
		c.InsecureSkipVerify = true // by the library, which wants to tell the name
		if !p.unverified {
			c.VerifyConnection = func(s tls.ConnectionState) error { return verify(s, name, p.roots) }
		}
	}
	return c
}

// verify checks the certificate of a session for name.
func verify(s tls.ConnectionState, name string, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between})
	return err
}

// secure takes a new connection as far as a session under TLS, or in clear
// where that is allowed and the server has no TLS. What it returns begins with
// a greeting again, for a client that knows nothing of this.
func (d *delivery) secure(conn net.Conn, shown io.Writer) (c net.Conn, secure bool, err error) {
	config := d.tls.config(d.server.host)
	switch d.server.security {
	case tlsFirst:
		c, err := handshake(conn, config)
		return c, true, err
	case tlsNever:
		return conn, false, nil
	}
	conn.SetDeadline(time.Now().Add(replyLimit))
	defer conn.SetDeadline(time.Time{})
	p := newPrelude(conn, shown)
	greeting, err := p.expect(220)
	if err != nil {
		return nil, false, fmt.Errorf("greeting: %w", err)
	}
	again := &greetedConn{Conn: conn, greeting: strings.NewReader("220 " + lineOf(greeting) + "\r\n")}
	offered, err := p.hello(d.helo, d.server.lmtp)
	switch {
	case errors.As(err, new(*gosmtp.SMTPError)) && d.server.security == tlsOffered:
		return again, false, nil // it may know HELO
	case err != nil:
		return nil, false, err
	case !offered && d.server.security == tlsDemanded:
		return nil, false, errors.New("the server offers no TLS")
	case !offered:
		return again, false, nil
	}
	if err := p.startTLS(); err != nil {
		return nil, false, fmt.Errorf("STARTTLS: %w", err)
	}
	again.Conn, err = handshake(conn, config)
	return again, true, err
}

// replyLimit is how long a reply is waited for before TLS (RFC 5321, section
// 4.5.3.2).
const replyLimit = 5 * time.Minute

// A prelude is what is said before TLS.
type prelude struct {
	out    io.Writer
	buffer *bufio.Reader
	in     *textproto.Reader
}

func newPrelude(conn net.Conn, shown io.Writer) *prelude {
	p := &prelude{out: conn, buffer: bufio.NewReader(conn)}
	if shown != nil {
		p.out, p.buffer = io.MultiWriter(conn, shown), bufio.NewReader(io.TeeReader(conn, shown))
	}
	p.in = textproto.NewReader(p.buffer)
	return p
}

func (p *prelude) expect(code int) (string, error) {
	_, text, err := p.in.ReadResponse(code)
	var no *textproto.Error
	if errors.As(err, &no) {
		err = &gosmtp.SMTPError{Code: no.Code, Message: lineOf(no.Msg)}
	}
	return text, err
}

func (p *prelude) say(line string, code int) (string, error) {
	if strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("a line end in %q", line)
	}
	if _, err := io.WriteString(p.out, line+"\r\n"); err != nil {
		return "", err
	}
	return p.expect(code)
}

// hello greets, and reports whether STARTTLS is among the answers.
func (p *prelude) hello(name string, lmtp bool) (offered bool, err error) {
	verb := "EHLO "
	if lmtp {
		verb = "LHLO "
	}
	extensions, err := p.say(verb+name, 250)
	for line := range strings.Lines(extensions) {
		offered = offered || strings.EqualFold(strings.TrimSpace(line), "STARTTLS")
	}
	return offered, err
}

// startTLS has the server wait for a handshake. What it says before that is
// nobody's: it could be somebody else's, said into the connection.
func (p *prelude) startTLS() error {
	if _, err := p.say("STARTTLS", 220); err != nil {
		return err
	}
	if p.buffer.Buffered() > 0 {
		return errors.New("the server said more than it was asked")
	}
	return nil
}

func handshake(conn net.Conn, config *tls.Config) (net.Conn, error) {
	c := tls.Client(conn, config)
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return c, nil
}

// A greetedConn reads as the greeting and then as the connection.
type greetedConn struct {
	net.Conn
	greeting *strings.Reader
}

func (c *greetedConn) Read(p []byte) (int, error) {
	if c.greeting.Len() > 0 {
		return c.greeting.Read(p)
	}
	return c.Conn.Read(p)
}
