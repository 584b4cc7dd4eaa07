package main

import (
	"crypto/x509"
	"strings"

	"smtpd/runtime/crypto"
	"smtpd/runtime/stat"
)

var certificateExpiry = stat.Gauge("smtpd_certificate_expiry_timestamp_seconds",
	"When the certificate of a pki expires, or the first of those that go with it.", "pki", "subject")

// countCertificates says until when the certificates in force are valid. The
// parent says it for all: it is there as long as the daemon is.
func (d *daemon) countCertificates() {
	certificateExpiry.Reset()
	for i := range d.all.Certs {
		c := &d.all.Certs[i]
		chain, err := crypto.ParseChain(c.PEM)
		if err != nil {
			continue // was told when it was loaded
		}
		end := chain.Leaf.NotAfter
		for _, der := range chain.Certificate[1:] {
			if next, err := x509.ParseCertificate(der); err == nil && next.NotAfter.Before(end) {
				end = next.NotAfter
			}
		}
		name := strings.ToValidUTF8(c.Name, "\ufffd")
		certificateExpiry.WithLabelValues(name, subject(chain.Leaf)).Set(float64(end.Unix()))
	}
}

// subject returns the first name that a certificate is for.
func subject(c *x509.Certificate) string {
	if len(c.DNSNames) > 0 {
		return strings.ToValidUTF8(c.DNSNames[0], "\ufffd") // a label must be
	}
	return strings.ToValidUTF8(c.Subject.CommonName, "\ufffd")
}
