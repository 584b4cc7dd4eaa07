package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"

	"smtpd/internal/dnstest"
)

// signed makes a name server vouch for what it says, as one does that has
// validated it.
func signed(s *dnstest.Server) {
	s.SetHook(func(q *dns.Msg, _ bool) *dns.Msg {
		m := s.Answer(q)
		m.AuthenticatedData = true
		return m
	})
}

// certificate reads what keypair made.
func certificateOf(ts *testscript.TestScript, name string) tls.Certificate {
	cert, err := tls.X509KeyPair([]byte(ts.ReadFile(name+".crt")), []byte(ts.ReadFile(name+".key")))
	ts.Check(err)
	return cert
}

// tlsa NAME VAR: sets VAR to the TLSA record of the key that keypair made.
func tlsa(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tlsa name var")
	}
	block, _ := pem.Decode([]byte(ts.ReadFile(args[0] + ".crt")))
	cert, err := x509.ParseCertificate(block.Bytes)
	ts.Check(err)
	ts.Setenv(args[1], fmt.Sprintf("3 1 1 %x", sha256.Sum256(cert.RawSubjectPublicKeyInfo)))
}

// policyhost ADDR NAME FILE: serves FILE as the MTA-STS policy of a domain, with
// the certificate that keypair made.
func policyHost(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: policyhost addr name file")
	}
	ln, err := net.Listen("tcp", args[0])
	ts.Check(err)
	text := ts.ReadFile(args[2])
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/mta-sts.txt" || r.Host != args[1] {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, text)
	})}
	go s.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{certificateOf(ts, args[1])}}))
	ts.Defer(func() { s.Close() })
}
