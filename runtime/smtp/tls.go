package smtp

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"

	"smtpd/compile"
	"smtpd/runtime/cipher"
)

// NewTLS returns how listener l speaks TLS, nil if it does not. Errors name
// the listener's place in the configuration.
func NewTLS(l *compile.Listener, ciphers string, certs map[string]tls.Certificate, roots map[string]*x509.CertPool) (*tls.Config, error) {
	if l.TLS == compile.NoTLS {
		return nil, nil
	}
	fail := func(format string, args ...any) (*tls.Config, error) {
		return nil, fmt.Errorf("%s:%d: %s", l.Origin.File, l.Origin.Line, fmt.Sprintf(format, args...))
	}
	if l.Ciphers != "" {
		ciphers = l.Ciphers
	}
	suites, err := cipher.ParseSuites(ciphers)
	if err != nil {
		return fail("ciphers %q: %v", ciphers, err)
	}
	low, high, err := cipher.ParseProtocols(l.Protocols)
	if err != nil {
		return fail("protocols %q: %v", l.Protocols, err)
	}
	c := &tls.Config{MinVersion: low, MaxVersion: high, CipherSuites: suites}
	for _, name := range l.PKI {
		cert, ok := certs[name]
		if !ok {
			return fail("certificate of pki %s is not loaded", name)
		}
		c.Certificates = append(c.Certificates, cert) // the client's SNI chooses; the first is the default
	}
	if l.Verify {
		c.ClientAuth = tls.RequireAndVerifyClientCert
		if l.CA != "" {
			pool, ok := roots[l.CA]
			if !ok {
				return fail("ca %s is not loaded", l.CA)
			}
			c.ClientCAs = pool
		}
	}
	return c, nil
}

// starttls secures the channel and forgets all that was said in clear.
func (s *session) starttls(arg string) {
	switch {
	case arg != "":
		s.fail(replyNoParameters)
		return
	case s.tls != nil:
		s.fail(replySecured)
		return
	case !s.at.offersStartTLS():
		s.fail(replyNotSupported)
		return
	}
	if !s.filterSimple(phaseStartTLS) {
		return
	}
	s.reply(replyReady)
	if err := s.flush(); err != nil {
		s.lost(err)
		return
	}
	s.rollback()
	s.client, s.esmtp, s.state = "", false, connected
	s.handshake()
}

// handshake puts TLS between the session and its connection. What was
// buffered in clear is discarded: whoever sent it, it was not said under TLS
// (RFC 3207, section 4.2).
func (s *session) handshake() bool {
	s.conn.begin()
	t := tls.Server(s.conn, s.at.tlsConfig)
	if err := t.HandshakeContext(context.Background()); err != nil {
		s.countHandshake(false)
		s.log("smtp tls-accept", slog.String("error", err.Error()))
		s.reason = "tls-accept-failed"
		s.state = closing
		return false
	}
	state := t.ConnectionState()
	s.tls, s.wire = &state, t
	s.countHandshake(true)
	s.in.Reset(t)
	s.happened("link-tls", cipher.Describe(&state))
	s.log("smtp tls", slog.String("ciphers", cipher.Describe(&state)))
	if len(state.PeerCertificates) > 0 {
		s.log("smtp cert-check", slog.String("result", checkResult(&state)), slog.String("fingerprint", fingerprint(state.PeerCertificates[0])))
	}
	return true
}

func checkResult(state *tls.ConnectionState) string {
	if len(state.VerifiedChains) > 0 {
		return "verified"
	}
	return "unchecked"
}

func fingerprint(c *x509.Certificate) string { return fmt.Sprintf("SHA256:%x", sha256.Sum256(c.Raw)) }
