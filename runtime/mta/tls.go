package mta

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"

	"smtpd/compile"
)

// A keyring holds the authorities and certificates that relay actions name.
type keyring struct {
	authorities  map[string]*x509.CertPool
	certificates map[string]tls.Certificate
}

// newKeyring reads the files of the authorities and certificates that relay
// actions of rs use.
func newKeyring(rs *compile.Ruleset) (*keyring, error) {
	k := &keyring{make(map[string]*x509.CertPool), make(map[string]tls.Certificate)}
	for i := range rs.Actions {
		o := &rs.Actions[i].Relay
		if err := k.addAuthority(rs, o.CA); err != nil {
			return nil, fmt.Errorf("action %s: %w", rs.Actions[i].Name, err)
		}
		if err := k.addCertificate(rs, o.PKI); err != nil {
			return nil, fmt.Errorf("action %s: %w", rs.Actions[i].Name, err)
		}
	}
	return k, nil
}

func (k *keyring) addAuthority(rs *compile.Ruleset, name string) error {
	for _, ca := range rs.CA {
		if name == "" || ca.Name != name || k.authorities[name] != nil {
			continue
		}
		pem, err := os.ReadFile(ca.Cert)
		if err != nil {
			return fmt.Errorf("ca %s: %w", name, err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return fmt.Errorf("ca %s: no certificate in %s", name, ca.Cert)
		}
		k.authorities[name] = pool
	}
	if name != "" && k.authorities[name] == nil {
		return fmt.Errorf("no ca %s", name)
	}
	return nil
}

func (k *keyring) addCertificate(rs *compile.Ruleset, name string) error {
	for _, p := range rs.PKI {
		if name == "" || p.Name != name {
			continue
		}
		cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			return fmt.Errorf("pki %s: %w", name, err)
		}
		k.certificates[name] = cert
	}
	if _, ok := k.certificates[name]; name != "" && !ok {
		return fmt.Errorf("no pki %s", name)
	}
	return nil
}

// config returns how TLS is done with host for r, and whether the certificate
// is verified. Where clear text would do, any TLS is better than none.
func (k *keyring) config(r *relay, host string) (config *tls.Config, verified bool) {
	verified = r.dest.mode.secure() && !r.action.Relay.NoVerify
	config = &tls.Config{
		ServerName:         host,
		RootCAs:            k.authorities[r.action.Relay.CA],
		InsecureSkipVerify: !verified,
		MinVersion:         tls.VersionTLS12,
	}
	if r.dest.mode == opportunistic {
		config.MinVersion = tls.VersionTLS10
	}
	if cert, ok := k.certificates[r.action.Relay.PKI]; ok {
		config.Certificates = []tls.Certificate{cert}
	}
	return config, verified
}

// fingerprint returns the hash of a certificate as logs show it.
func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return "SHA256:" + hex.EncodeToString(sum[:])
}
