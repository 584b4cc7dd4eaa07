package mta

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"smtpd/compile"
)

// A keyring holds the certificates and authorities that relay actions name.
type keyring struct {
	certs map[string]tls.Certificate
	roots map[string]*x509.CertPool
}

// check returns an error if an action of rs names what the keyring does not
// hold: without it the action would do with less than it asks for.
func (k *keyring) check(rs *compile.Ruleset) error {
	for i := range rs.Actions {
		a := &rs.Actions[i]
		if _, ok := k.certs[a.Relay.PKI]; a.Relay.PKI != "" && !ok {
			return fmt.Errorf("action %s: certificate of pki %s is missing", a.Name, a.Relay.PKI)
		}
		if a.Relay.CA != "" && k.roots[a.Relay.CA] == nil {
			return fmt.Errorf("action %s: certificates of ca %s are missing", a.Name, a.Relay.CA)
		}
	}
	return nil
}

// config returns how TLS is done with host for r, and whether the certificate
// is verified. Where clear text would do, any TLS is better than none.
func (k *keyring) config(r *relay, host string) (config *tls.Config, verified bool) {
	verified = r.dest.mode.secure() && !r.action.Relay.NoVerify
	config = &tls.Config{
		ServerName:         host,
		RootCAs:            k.roots[r.action.Relay.CA],
		InsecureSkipVerify: !verified,
		MinVersion:         tls.VersionTLS12,
	}
	if r.dest.mode == opportunistic {
		config.MinVersion = tls.VersionTLS10
	}
	if cert, ok := k.certs[r.action.Relay.PKI]; ok {
		config.Certificates = []tls.Certificate{cert}
	}
	return config, verified
}

// fingerprint returns the hash of a certificate as logs show it.
func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return "SHA256:" + hex.EncodeToString(sum[:])
}
