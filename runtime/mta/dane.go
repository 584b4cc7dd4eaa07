package mta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"smtpd/runtime/lka"
)

// tlsas are the TLSA records of a host (RFC 7672).
type tlsas struct {
	base   string // the name they are at: what the host is asked to be
	usable []lka.TLSA
}

func (t *tlsas) equal(u *tlsas) bool {
	return t.base == u.base && slices.EqualFunc(t.usable, u.usable, func(x, y lka.TLSA) bool {
		return x.Usage == y.Usage && x.Selector == y.Selector && x.Matching == y.Matching && bytes.Equal(x.Data, y.Data)
	})
}

// The usages of RFC 7672, section 3.1; PKIX-TA and PKIX-EE are of no use to
// mail.
const (
	daneTA = 2
	daneEE = 3
)

// findTLSA returns the TLSA records of c, nil if it has none: those of the name
// that its aliases lead to, or of its own (RFC 7672, section 2.2.2).
func (a *agent) findTLSA(ctx context.Context, r *relay, c *candidate) (*tlsas, error) {
	names := []string{c.host}
	if c.canonical != "" && c.canonical != c.host {
		names = []string{c.canonical, c.host}
	}
	for _, name := range names {
		records, secure, err := a.tables.TLSA(ctx, fmt.Sprintf("_%d._tcp.%s", a.portOf(r), name))
		switch {
		case err != nil: // someone may be hiding them: RFC 7672, section 2.1.2
			return nil, &policyError{policyDANE, resultNoDNSSEC, fmt.Errorf("TLSA records of %s are not known: %w", name, err)}
		case secure && len(records) > 0:
			return &tlsas{name, slices.DeleteFunc(records, func(t lka.TLSA) bool { return !isUsable(t) })}, nil
		}
	}
	return nil, nil
}

func isUsable(t lka.TLSA) bool {
	size := map[uint8]int{1: sha256.Size, 2: sha512.Size}[t.Matching]
	return (t.Usage == daneTA || t.Usage == daneEE) && t.Selector <= 1 && t.Matching <= 2 && len(t.Data) > 0 && (size == 0 || len(t.Data) == size)
}

// matches reports whether a record is about a certificate.
func matches(t lka.TLSA, cert *x509.Certificate) bool {
	data := cert.Raw
	if t.Selector == 1 {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch t.Matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return bytes.Equal(data, t.Data)
}

var errNoTLSA = errors.New("the certificate matches no TLSA record")

// verify returns nil if the records vouch for a chain, as the host showed it,
// under one of names.
//
// A record about the host's own certificate asks for nothing else, not even a
// name or a date (RFC 7672, section 3.1.1). One about an authority makes that
// the only one.
func (t *tlsas) verify(chain []*x509.Certificate, names []string) error {
	why := errNoTLSA
	for _, rec := range t.usable {
		if rec.Usage == daneEE {
			if matches(rec, chain[0]) {
				return nil
			}
			continue
		}
		for _, anchor := range anchors(rec, chain) {
			err := verifyBy(anchor, chain, names)
			if err == nil {
				return nil
			}
			why = err
		}
	}
	return why
}

// anchors returns the authorities that a record names: in the chain, or in
// itself.
func anchors(rec lka.TLSA, chain []*x509.Certificate) []*x509.Certificate {
	var l []*x509.Certificate
	for _, cert := range chain {
		if matches(rec, cert) {
			l = append(l, cert)
		}
	}
	if len(l) == 0 && rec.Selector == 0 && rec.Matching == 0 {
		if cert, err := x509.ParseCertificate(rec.Data); err == nil {
			l = append(l, cert)
		}
	}
	return l
}

// verifyBy verifies a chain up to anchor.
func verifyBy(anchor *x509.Certificate, chain []*x509.Certificate, names []string) error {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	o.Roots.AddCert(anchor)
	for _, cert := range chain[1:] {
		o.Intermediates.AddCert(cert)
	}
	var err error
	for _, name := range names {
		o.DNSName = name
		if _, err = chain[0].Verify(o); err == nil {
			return nil
		}
	}
	return err
}
