package ctl

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseServer(t *testing.T) {
	for text, want := range map[string]server{
		"localhost":                       {"smtp", false, tlsOffered, "", "", "localhost", "25"},
		"mx.example:2525":                 {"smtp", false, tlsOffered, "", "", "mx.example", "2525"},
		"smtp://mx.example/":              {"smtp", false, tlsOffered, "", "", "mx.example", "25"},
		"SMTP+TLS://mx.example:submit":    {"smtp+tls", false, tlsDemanded, "", "", "mx.example", "submit"},
		"smtp+notls://192.0.2.1":          {"smtp+notls", false, tlsNever, "", "", "192.0.2.1", "25"},
		"smtps://me:p%40ss:@mx.example":   {"smtps", false, tlsFirst, "me", "p@ss:", "mx.example", "465"},
		"smtps://me:a@b@mx.example":       {"smtps", false, tlsFirst, "me", "a@b", "mx.example", "465"},
		"lmtp://[::1]:24":                 {"lmtp", true, tlsOffered, "", "", "::1", "24"},
		"lmtp+tls://mx.example:24":        {"lmtp+tls", true, tlsDemanded, "", "", "mx.example", "24"},
		"lmtp+notls://mx.example:24":      {"lmtp+notls", true, tlsNever, "", "", "mx.example", "24"},
		"[2001:db8::1]":                   {"smtp", false, tlsOffered, "", "", "2001:db8::1", "25"},
		"2001:db8::1":                     {"smtp", false, tlsOffered, "", "", "2001:db8::1", "25"},
		"smtp://user%3Aname:x@mx.example": {"smtp", false, tlsOffered, "user:name", "x", "mx.example", "25"},
	} {
		got, err := parseServer(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if diff := cmp.Diff(&want, got, cmp.AllowUnexported(server{})); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
	for text, want := range map[string]string{
		"":                             "no host",
		"http://mx.example":            `no protocol "http"`,
		"smtp://":                      "no host",
		"smtp://me@mx.example":         "no password",
		"smtp://:x@mx.example":         "cannot be read",
		"smtp://a%:x@mx.example":       "cannot be read",
		"smtp+notls://me:x@mx.example": "not sent without TLS",
		"lmtp://mx.example":            "lmtp needs a port",
		"mx.example/path":              "no host",
		"a:b:c":                        "no host",
		"mx example":                   "no host",
	} {
		if v, err := parseServer(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %s", text, v, err, want)
		}
	}
}

// A certified server has a certificate, which is in file.
type certified struct {
	config *tls.Config
	file   string
}

func certify(t *testing.T, name string) certified {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c := certified{
		&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		filepath.Join(t.TempDir(), "cert.pem"),
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(c.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// scriptedServer serves one session: it says the lines that begin with S:,
// wants to read the others, which begin with C:, and begins TLS at "tls". It
// returns its address, and a function that waits for the end of the session
// and returns what was amiss and the name that TLS was asked for.
func scriptedServer(t *testing.T, c certified, script string) (addr string, end func() (name string, err error)) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	done := make(chan error, 1)
	var asked string
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			defer conn.Close()
			asked, err = serveScript(conn, c, script)
		}
		done <- err
	}()
	return ln.Addr().String(), func() (string, error) {
		ln.Close()
		err := <-done
		return asked, err
	}
}

func serveScript(conn net.Conn, c certified, script string) (asked string, err error) {
	in := bufio.NewReader(conn)
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		kind, text, _ := strings.Cut(line, ": ")
		switch kind {
		case "S":
			_, err = io.WriteString(conn, strings.ReplaceAll(text, `\r\n`, "\r\n")+"\r\n")
		case "C":
			var got string
			if got, err = in.ReadString('\n'); err == nil && got != text+"\r\n" {
				err = fmt.Errorf("got %q, want %q", got, text)
			}
		case "tls":
			config := c.config.Clone()
			config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				asked = h.ServerName
				return nil, nil
			}
			secured := tls.Server(conn, config)
			err = secured.Handshake()
			conn, in = secured, bufio.NewReader(secured)
		}
		if err != nil {
			return asked, fmt.Errorf("%s: %w", line, err)
		}
	}
	return asked, nil
}

// TestSMTP holds sessions with a server.
func TestSMTP(t *testing.T) {
	cert := certify(t, "localhost")
	auth := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(auth, []byte("me\nsecret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const start = "S: 220-first\\r\\n220 hello\nC: EHLO me.example\nS: 250 mx\n"
	const offer = "S: 220 hello\nC: EHLO me.example\nS: 250-mx\\r\\n250 STARTTLS\n"
	const secured = offer + "C: STARTTLS\nS: 220 go\ntls\n"
	const message = "C: DATA\nS: 354 go\nC: Subject: s\nC: \nC: ..dot\nC: end\nC: .\n"
	for name, c := range map[string]struct {
		args   string // @ is the address of the server, which is also localhost
		script string
		status int
		out    string
		err    string // part of it
		name   string // asked for in TLS
	}{
		"in clear": {
			args: "-s @ a@x.example b@x.example a@x.example",
			script: start + "C: EHLO me.example\nS: 250 mx\nC: MAIL FROM:<f@x.example>\nS: 250 ok\nC: RCPT TO:<a@x.example>\nS: 250 ok\n" +
				"C: RCPT TO:<b@x.example>\nS: 250 ok\n" + message + "S: 250-2.0.0\\r\\n250 kept\nC: QUIT\nS: 221 bye\n",
			out: "a@x.example: Ok: 250 2.0.0 kept\nb@x.example: Ok: 250 2.0.0 kept\n",
		},
		"some refused": {
			args: "-s smtp+notls://@ a@x.example b@x.example c@x.example",
			script: "S: 220 hello\nC: EHLO me.example\nS: 250 mx\nC: MAIL FROM:<f@x.example>\nS: 250 ok\nC: RCPT TO:<a@x.example>\nS: 550 5.1.1 no \x1b[31m\n" +
				"C: RCPT TO:<b@x.example>\nS: 451 4.3.0 later\nC: RCPT TO:<c@x.example>\nS: 250 ok\n" + message + "S: 250 kept\nC: QUIT\nS: 221 bye\n",
			status: 1,
			out:    "a@x.example: PermFail: 550 5.1.1 no ?[31m\nb@x.example: TempFail: 451 4.3.0 later\nc@x.example: Ok: 250 kept\n",
		},
		"sender refused": {
			args: "-s @ a@x.example", script: start + "C: EHLO me.example\nS: 250 mx\nC: MAIL FROM:<f@x.example>\nS: 553 5.1.8 no\n",
			status: 1, out: "a@x.example: PermFail: 553 5.1.8 no\n",
		},
		"message refused": {
			args: "-s @ a@x.example",
			script: start + "C: EHLO me.example\nS: 250 mx\nC: MAIL FROM:<f@x.example>\nS: 250 ok\nC: RCPT TO:<a@x.example>\nS: 250 ok\n" +
				message + "S: 554 5.6.0 spam\n",
			status: 1, out: "a@x.example: PermFail: 554 5.6.0 spam\n",
		},
		"lost behind the dot": {
			args:   "-s @ a@x.example",
			script: start + "C: EHLO me.example\nS: 250 mx\nC: MAIL FROM:<f@x.example>\nS: 250 ok\nC: RCPT TO:<a@x.example>\nS: 250 ok\n" + message,
			status: 1, err: "EOF",
		},
		"LMTP": {
			args: "-s lmtp://@ a@x.example b@x.example c@x.example",
			script: "S: 220 hello\nC: LHLO me.example\nS: 250 mx\nC: LHLO me.example\nS: 250 mx\nC: MAIL FROM:<f@x.example>\nS: 250 ok\nC: RCPT TO:<a@x.example>\nS: 250 ok\n" +
				"C: RCPT TO:<b@x.example>\nS: 250 ok\nC: RCPT TO:<c@x.example>\nS: 550 no\n" + message + "S: 250 kept\nS: 452 4.2.2 full\nC: QUIT\nS: 221 bye\n",
			status: 1, out: "a@x.example: Ok: 250 kept\nb@x.example: TempFail: 452 4.2.2 full\nc@x.example: PermFail: 550 no\n",
		},
		"STARTTLS offered": {
			args:   "-n -T cafile=" + cert.file + " -s smtp://localhost:#",
			script: secured + "C: EHLO me.example\nS: 250 mx\nC: QUIT\nS: 221 bye\n",
			name:   "localhost",
		},
		"nosni": {
			args:   "-n -T nosni,cafile=" + cert.file + " -s smtp+tls://localhost:#",
			script: secured + "C: EHLO me.example\nS: 250 mx\nC: QUIT\nS: 221 bye\n",
		},
		"nosni, another name": {
			args: "-n -T nosni,cafile=" + cert.file + ",servername=other.example -s smtp+tls://localhost:#", script: secured,
			status: 1, err: "TLS: ",
		},
		"another name": {
			args: "-n -T servername=other.example -T cafile=" + cert.file + " -s smtp+tls://localhost:#", script: secured,
			status: 1, err: "not other.example", name: "other.example",
		},
		"unknown authority": {
			args: "-n -s localhost:#", script: secured, status: 1, err: "unknown authority", name: "localhost",
		},
		"not verified": {
			args: "-n -C -s localhost:#", script: secured + "C: EHLO me.example\nS: 250 mx\nC: QUIT\nS: 221 bye\n", name: "localhost",
		},
		"noverify": {
			args: "-n -T noverify,protocols=TLSv1.3 -s smtps://localhost:#", script: "tls\nS: 220 hi\nC: EHLO me.example\nS: 250 mx\nC: QUIT\nS: 221 bye\n", name: "localhost",
		},
		"TLS demanded, not offered": {
			args: "-n -s smtp+tls://@", script: start, status: 1, err: "the server offers no TLS",
		},
		"TLS refused": {
			args: "-n -s @", script: offer + "C: STARTTLS\nS: 454 4.7.0 not now\n", status: 1, err: "STARTTLS: SMTP error 454: 4.7.0 not now",
		},
		"said into the connection": {
			args: "-n -C -s @", script: offer + "C: STARTTLS\nS: 220 go\\r\\n250 evil\n", status: 1, err: "more than it was asked",
		},
		"logged in": {
			args: "-n -a " + auth + " -C -s localhost:#",
			script: secured + "C: EHLO me.example\nS: 250-mx\\r\\n250 AUTH LOGIN PLAIN\nC: AUTH PLAIN AG1lAHNlY3JldA==\nS: 235 welcome\n" +
				"C: QUIT\nS: 221 bye\n",
			name: "localhost",
		},
		"logged in by LOGIN": {
			args: "-n -C -s smtp+tls://me:secret@localhost:#",
			script: secured + "C: EHLO me.example\nS: 250-mx\\r\\n250 AUTH LOGIN\nC: AUTH LOGIN bWU=\nS: 334 UGFzc3dvcmQ6\nC: c2VjcmV0\nS: 235 welcome\n" +
				"C: QUIT\nS: 221 bye\n",
			name: "localhost",
		},
		"password without TLS": {
			args: "-n -a " + auth + " -s @", script: start + "C: EHLO me.example\nS: 250-mx\\r\\n250 AUTH PLAIN\n", status: 1, err: "the password is not sent",
		},
		"no greeting": {args: "-n -s @", script: "S: 421 busy\n", status: 1, err: "421: busy"},
		"HELO":        {args: "-n -s @", script: "S: 220 hello\nC: EHLO me.example\nS: 502 no\nC: EHLO me.example\nS: 502 no\nC: HELO me.example\nS: 250 mx\nC: QUIT\nS: 221 bye\n"},
	} {
		t.Run(name, func(t *testing.T) {
			addr, end := scriptedServer(t, cert, c.script)
			_, port, _ := net.SplitHostPort(addr)
			args := strings.Fields("-H me.example -F f@x.example " + strings.NewReplacer("://@", "://"+addr, "-s @", "-s "+addr, "#", port).Replace(c.args))
			var out, problems bytes.Buffer
			status := run(&terminal{in: strings.NewReader("Subject: s\n\n.dot\nend"), out: &out, err: &problems}, "smtp", args)
			if asked, err := end(); err != nil && c.err == "" || asked != c.name && c.name != "" {
				t.Errorf("server: %v, asked for %q", err, asked)
			}
			if status != c.status || out.String() != c.out || !strings.Contains(problems.String(), c.err) || c.err == "" && problems.Len() > 0 {
				t.Errorf("status %d\n%s%s", status, &out, &problems)
			}
		})
	}
}

// TestSMTPUsage checks what is refused before anything is connected.
func TestSMTPUsage(t *testing.T) {
	auth := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(auth, []byte("me\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"-h", "usage: smtp"},
		{"", "smtp: no recipients\nusage: smtp"},
		{"-Z you", "unknown option -- Z"},
		{"-s", "option requires an argument -- s"},
		{"-s gopher://x you", `no protocol "gopher"`},
		{"-T nothing you", "nothing: a value is wanted"},
		{"-T nothing=1 you", `no parameter "nothing"`},
		{"-T nosni=1 you", "nosni: a value is wanted"},
		{"-T cafile you", "cafile: a value is wanted"},
		{"-T cafile=/nonexistent you", "no such file"},
		{"-T cafile=" + auth + " you", "has no certificate"},
		{"-T protocols=TLSv9 you", "-T: "},
		{"-a /nonexistent you", "no such file"},
		{"-a " + auth + " you", "a line with the user and one with the password"},
	} {
		var problems bytes.Buffer
		if status := run(&terminal{err: &problems}, "smtp", strings.Fields(c.args)); status != exitFailed || !strings.Contains(problems.String(), c.want) {
			t.Errorf("smtp %s: status %d, %s", c.args, status, &problems)
		}
	}
}
