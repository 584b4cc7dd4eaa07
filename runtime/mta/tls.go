package mta

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"smtpd/compile"
	"smtpd/runtime/cipher"
	"smtpd/runtime/stat"
)

// A keyring holds what relay actions need for TLS, by their names.
type keyring struct {
	certs   map[string]tls.Certificate // by pki
	roots   map[string]*x509.CertPool  // by ca
	configs map[string]*tls.Config     // by action
}

// newKeyring returns the keyring of rs. An error means that an action would do
// with less than it asks for.
func newKeyring(rs *compile.Ruleset, certs map[string]tls.Certificate, roots map[string]*x509.CertPool) (*keyring, error) {
	k := &keyring{certs, roots, make(map[string]*tls.Config)}
	for i := range rs.Actions {
		a := &rs.Actions[i]
		if a.Method != compile.Relay {
			continue
		}
		cert, ok := certs[a.Relay.PKI]
		if a.Relay.PKI != "" && !ok {
			return nil, fmt.Errorf("action %s: certificate of pki %s is missing", a.Name, a.Relay.PKI)
		}
		if a.Relay.CA != "" && roots[a.Relay.CA] == nil {
			return nil, fmt.Errorf("action %s: certificates of ca %s are missing", a.Name, a.Relay.CA)
		}
		c, err := configOf(rs, a)
		if err != nil {
			return nil, fmt.Errorf("action %s: %w", a.Name, err)
		}
		if ok {
			c.Certificates = []tls.Certificate{cert}
		}
		k.configs[a.Name] = c
	}
	return k, nil
}

// resumable is how many hosts an action remembers for a shorter handshake.
const resumable = 512

// configOf returns the versions and suites that an action uses. A version of 0
// is left to what a destination needs.
func configOf(rs *compile.Ruleset, a *compile.Action) (*tls.Config, error) {
	ciphers := cmp.Or(a.Relay.Ciphers, rs.SMTP.Ciphers)
	suites, err := cipher.ParseSuites(ciphers)
	if err != nil {
		return nil, fmt.Errorf("ciphers %q: %w", ciphers, err)
	}
	low, high, err := cipher.ParseProtocols(a.Relay.Protocols)
	if err != nil {
		return nil, fmt.Errorf("protocols %q: %w", a.Relay.Protocols, err)
	}
	c := &tls.Config{CipherSuites: suites, ClientSessionCache: tls.NewLRUClientSessionCache(resumable)}
	if a.Relay.Protocols != "" {
		c.MinVersion, c.MaxVersion = low, high
	}
	return c, nil
}

// A proof is what shows that a host is who it should be.
type proof uint8

const (
	proofNone proof = iota
	proofPKIX       // a certificate of an authority for its name
	proofDANE       // a TLSA record
)

// proofNames are what logs show.
var proofNames = [...]string{"unverified", "verified", "verified"}

// config returns how TLS is done with the host of s.
func (k *keyring) config(s *session) *tls.Config {
	c := k.configs[s.r.action.Name].Clone()
	c.ServerName = s.host.host
	if s.demand.dane != nil {
		c.ServerName = s.demand.dane.base // RFC 7672, section 8.1
	}
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
		if !s.demand.required { // where clear text would do, any TLS is better
			c.MinVersion = tls.VersionTLS10
		}
	}
	c.InsecureSkipVerify = true // for there is more than one way: see prove
	c.VerifyConnection = func(state tls.ConnectionState) error { return s.prove(k.roots[s.r.action.Relay.CA], &state) }
	return c
}

// prove finds out whether the certificate of a host proves who it is. An error
// means that it does not, and must.
func (s *session) prove(roots *x509.CertPool, state *tls.ConnectionState) error {
	chain, d := state.PeerCertificates, &s.demand
	if len(chain) == 0 {
		return s.unproven(errors.New("the host has no certificate"))
	}
	if d.dane != nil {
		names := []string{d.dane.base, s.host.host}
		if s.r.dest.byMX {
			names = append(names, s.r.dest.name)
		}
		if err := d.dane.verify(chain, names); err != nil {
			return s.unproven(err)
		}
		s.proof = proofDANE
		return nil
	}
	o := x509.VerifyOptions{Roots: roots, DNSName: s.host.host, Intermediates: x509.NewCertPool()}
	for _, cert := range chain[1:] {
		o.Intermediates.AddCert(cert)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return s.unproven(err)
	}
	s.proof = proofPKIX
	return nil
}

// unproven notes why the host has not proved who it is, and returns it as an
// error if it must.
func (s *session) unproven(err error) error {
	s.doubt = &policyError{s.demand.policy, resultOf(err), err}
	if s.demand.verify || s.demand.dane != nil {
		return s.doubt
	}
	return nil
}

// resultOf returns the word of reports for a certificate that is not good.
func resultOf(err error) string {
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, new(x509.HostnameError)):
		return resultMismatch
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return resultExpired
	case errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, &invalid), errors.Is(err, errNoTLSA):
		return resultUntrusted
	}
	return resultFailure
}

var tlsSessions = stat.Counter("smtpd_mta_tls_sessions_total",
	"Outgoing sessions by the policy for TLS and how TLS went: success, clear, or the reason of a failure as RFC 8460 names it.", "policy", "result")

// countTLS counts how TLS went, for metrics and reports. The result "" is a
// success.
func (s *session) countTLS(result string, err error) {
	tlsSessions.WithLabelValues(s.demand.policy.String(), cmp.Or(result, "success")).Inc()
	if s.r.dest.byMX && s.demand.policy != policyNone {
		s.a.reports.add(s.r.dest.name, s.demand.describe(&s.host), s.failure(result, err))
	}
}

// countClear counts a session that does without TLS because it failed.
func (s *session) countClear() { tlsSessions.WithLabelValues(s.demand.policy.String(), "clear").Inc() }

// refused notes that a host is not called, because what is asked of TLS with it
// is not known or cannot be met.
func (a *agent) refused(ctx context.Context, r *relay, host *candidate, err error) {
	var p *policyError
	if !errors.As(err, &p) {
		return
	}
	a.log.InfoContext(ctx, "mta error", "host", host.host, "reason", printable(err.Error()))
	tlsSessions.WithLabelValues(p.policy.String(), p.result).Inc()
	if r.dest.byMX && p.policy == policyDANE {
		a.reports.add(r.dest.name, tlsPolicy{Type: kindTLSA, MX: []string{host.host}},
			tlsFailure{Result: p.result, MX: host.host, IP: host.addr.String(), Reason: shorten(printable(p.err.Error()), 200)})
	}
}

// failure describes a failure as reports have it.
func (s *session) failure(result string, err error) tlsFailure {
	if result == "" {
		return tlsFailure{}
	}
	f := tlsFailure{Result: result, MX: s.host.host, IP: s.host.addr.String()}
	if addr, ok := s.conn.nc.LocalAddr().(*net.TCPAddr); ok {
		f.Source = addr.AddrPort().Addr().Unmap().WithZone("").String()
	}
	if err != nil {
		f.Reason = shorten(printable(err.Error()), 200)
	}
	return f
}

// startTLS does the handshake.
func (s *session) startTLS(ctx context.Context) error {
	state, err := s.conn.handshake(s.a.keys.config(s))
	var p *policyError
	switch {
	case errors.As(err, &p):
		s.countTLS(p.result, p)
		return fmt.Errorf("TLS: %w", p)
	case err != nil:
		s.countTLS(resultFailure, err)
		if s.demand.required {
			err = &policyError{s.demand.policy, resultFailure, err}
		}
		return fmt.Errorf("TLS: %w", err)
	}
	s.tls = true
	if s.demand.policy == policyTesting && s.doubt != nil {
		s.log(ctx, "mta sts-testing", slog.String("reason", printable(s.doubt.Error())))
		s.countTLS(s.doubt.result, s.doubt)
	} else {
		s.countTLS("", nil)
	}
	s.report.reportTLS(&state)
	s.log(ctx, "mta tls", slog.String("ciphers", cipher.Describe(&state)))
	result := "unverified"
	if s.proof != proofNone {
		result = "valid"
	}
	if len(state.PeerCertificates) > 0 {
		s.log(ctx, "mta cert-check", slog.String("result", result), slog.String("policy", s.demand.policy.String()),
			slog.String("fingerprint", fingerprint(state.PeerCertificates[0])))
	}
	return nil
}

// proven reports whether mail that requires TLS may go over s: the host has
// proved that it has its name, and that name is not one which anybody could
// have put into the DNS (RFC 8689, section 4.2.1).
func (s *session) proven() bool {
	return s.proof != proofNone && (!s.r.dest.byMX || s.host.secure || s.host.listed)
}

// secured returns how s is secured, for logs.
func (s *session) secured() string {
	if !s.tls {
		return "clear"
	}
	return proofNames[s.proof]
}

// fingerprint returns the hash of a certificate as logs show it.
func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return "SHA256:" + hex.EncodeToString(sum[:])
}
