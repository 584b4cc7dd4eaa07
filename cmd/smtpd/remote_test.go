package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"

	"smtpd/internal/dnstest"
)

// zone FILE [signed] serves the zones of FILE; $DNS is the address to ask.
func zone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: zone FILE [signed]")
	}
	s, err := dnstest.Listen(ts.ReadFile(args[0]))
	ts.Check(err)
	if len(args) == 2 {
		signed(s)
	}
	ts.Defer(s.Close)
	ts.Setenv("DNS", s.Addr())
}

// remote NAME ADDR [CODE] [tls=CERT] is a mail server of another host, with the
// certificate that keypair made for CERT. It stores what it
// takes as NAME/1, NAME/2, …: a line for the sender, one for each recipient,
// and the message, with line feeds alone. With a CODE it answers MAIL (4xx) or RCPT (5xx) with it.
func remote(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: remote NAME ADDR [CODE] [tls=CERT]")
	}
	var secure *tls.Config
	if name, ok := strings.CutPrefix(args[len(args)-1], "tls="); ok {
		secure = &tls.Config{Certificates: []tls.Certificate{certificateOf(ts, name)}}
		args = args[:len(args)-1]
	}
	r := &remoteHost{dir: ts.MkAbs(args[0])}
	if len(args) == 3 {
		code, err := strconv.Atoi(args[2])
		ts.Check(err)
		r.refuse = &gosmtp.SMTPError{Code: code, EnhancedCode: gosmtp.EnhancedCode{code / 100, 7, 0}, Message: "not today"}
	}
	ts.Check(os.MkdirAll(r.dir, 0o755))
	ln, err := net.Listen("tcp", args[1])
	ts.Check(err)
	s := gosmtp.NewServer(r)
	s.Domain, s.TLSConfig = args[0]+".example", secure
	go s.Serve(ln)
	ts.Defer(func() { s.Close() })
}

type remoteHost struct {
	dir    string
	refuse *gosmtp.SMTPError

	mu sync.Mutex
	n  int
}

func (r *remoteHost) NewSession(*gosmtp.Conn) (gosmtp.Session, error) {
	return &remoteSession{host: r}, nil
}

type remoteSession struct {
	host *remoteHost
	head string
}

func (s *remoteSession) Mail(from string, _ *gosmtp.MailOptions) error {
	if no := s.host.refuse; no != nil && no.Code < 500 {
		return no
	}
	s.head = fmt.Sprintf("MAIL FROM:<%s>\n", from)
	return nil
}

func (s *remoteSession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if no := s.host.refuse; no != nil {
		return no
	}
	s.head += fmt.Sprintf("RCPT TO:<%s>\n", to)
	return nil
}

func (s *remoteSession) Data(body io.Reader) error {
	text, err := io.ReadAll(body)
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	s.host.n++
	name := filepath.Join(s.host.dir, strconv.Itoa(s.host.n))
	// Renamed when whole: the script looks for the name.
	return errors.Join(err, os.WriteFile(name+".tmp", append([]byte(s.head), text...), 0o644), os.Rename(name+".tmp", name))
}

func (s *remoteSession) Reset()        {}
func (s *remoteSession) Logout() error { return nil }
