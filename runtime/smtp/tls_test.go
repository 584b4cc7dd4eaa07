package smtp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpd/compile"
)

// keys are made once: an authority, two servers and a client.
var keys = sync.OnceValues(func() (map[string]tls.Certificate, *x509.CertPool) {
	serial := int64(0)
	sign := func(cn string, parent *tls.Certificate) tls.Certificate {
		serial++
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, DNSNames: []string{cn},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: parent == nil, BasicConstraintsValid: true,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		by, byKey := c, any(key)
		if parent != nil {
			by, byKey = parent.Leaf, parent.PrivateKey
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, byKey)
		if err != nil {
			panic(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	}
	ca := sign("ca.example", nil)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	m := make(map[string]tls.Certificate)
	for _, name := range []string{"mx.example", "other.example", "client.example"} {
		m[name] = sign(name, &ca)
	}
	return m, pool
})

func testKeys(*testing.T) (map[string]tls.Certificate, map[string]*x509.CertPool) {
	certs, pool := keys()
	return certs, map[string]*x509.CertPool{"ca": pool}
}

func withTLS(mode compile.TLSMode) func(*rig, *compile.Listener) {
	return func(_ *rig, l *compile.Listener) {
		l.TLS, l.PKI = mode, []string{"mx.example", "other.example"}
	}
}

func TestStartTLS(t *testing.T) {
	r := newRig(t, withTLS(compile.StartTLS), func(_ *rig, l *compile.Listener) { l.ReceivedAuth = true })
	r.run(`
S: 220
C: EHLO client.example
S: 250-mx.example
S: 250-8BITMIME
S: 250-ENHANCEDSTATUSCODES
S: 250-PIPELINING
S: 250-SIZE
S: 250-DSN
S: 250-STARTTLS
S: 250 HELP
C: STARTTLS
S: 220 2.0.0 Ready to start TLS
tls
C: MAIL FROM:<a@b>
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: EHLO client.example
S: 250-mx.example
S: 250-8BITMIME
S: 250-ENHANCEDSTATUSCODES
S: 250-PIPELINING
S: 250-SIZE
S: 250-DSN
S: 250 HELP
C: STARTTLS
S: 503 5.5.1 Invalid command: Channel already secured
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<c@d>
S: 250
C: DATA
S: 354
C: .
S: 250
C: QUIT
S: 221
closed
`)
	r.settled()
	want := regexp.MustCompile(`^Received: .*\n\tby mx\.example \(OpenSMTPD\) with ESMTPS id 00000001 \(TLSv1\.3:TLS_AES_128_GCM_SHA256:128:NO\) auth=no\n\tfor <c@d>;\n`)
	if m := r.messages()[0]; !want.MatchString(m) {
		t.Errorf("stored\n%s", m)
	}
	if !r.policy.asked[0].Session.TLS {
		t.Error("mfa was not told of TLS")
	}
}

// TestStartTLSInjection sends commands in clear behind STARTTLS. They are
// never executed (CVE-2011-0411).
func TestStartTLSInjection(t *testing.T) {
	r := newRig(t, withTLS(compile.StartTLS))
	r.run(hello + `
c: STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@example.org>\r\n
S: 220
tls
C: NOOP
S: 250 2.0.0 Ok
C: RCPT TO:<c@d>
S: 503 5.5.1
C: EHLO client.example
S: 250-mx.example Hello client.example
S: 250
`)
}

func TestRequireTLS(t *testing.T) {
	r := newRig(t, withTLS(compile.RequireTLS))
	r.run(hello + `
C: MAIL FROM:<a@b>
S: 530 5.5.1 Invalid command: Must issue a STARTTLS command first
C: STARTTLS
S: 220
tls
C: EHLO client.example
S: 250
C: MAIL FROM:<a@b>
S: 250
`)
}

func TestSMTPS(t *testing.T) {
	r := newRig(t, withTLS(compile.SMTPS))
	r.run("tls\nS: 220 mx.example ESMTP\nC: EHLO client.example\nS: 250\nC: STARTTLS\nS: 503 5.5.1 Invalid command: Channel already secured")
	r.run("C: EHLO in.clear.example\nclosed")
	r.settled()
	if !strings.Contains(r.logs.String(), "reason=tls-accept-failed") {
		t.Error(r.logs)
	}
}

func TestSNI(t *testing.T) {
	r := newRig(t, withTLS(compile.SMTPS))
	_, pool := keys()
	for asked, want := range map[string]string{"other.example": "other.example", "mx.example": "mx.example", "": "mx.example", "unknown.example": "mx.example"} {
		d := r.dial()
		d.TLS = &tls.Config{ServerName: asked, InsecureSkipVerify: true, RootCAs: pool}
		runOn(t, d, "tls\nS: 220")
		if got := d.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("SNI %q: certificate of %s, want %s", asked, got, want)
		}
	}
}

func TestVerify(t *testing.T) {
	r := newRig(t, withTLS(compile.SMTPS), func(_ *rig, l *compile.Listener) { l.Verify, l.CA = true, "ca" })
	certs, _ := keys()
	d := r.dial()
	d.TLS = &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certs["client.example"]}}
	runOn(t, d, "tls\n"+upToData+"C: .\nS: 250\nC: QUIT\nS: 221")
	if m := r.messages()[0]; !strings.Contains(m, ":128:YES)\n") {
		t.Errorf("stored\n%s", m)
	}
	bare := r.dial()
	if err := bare.Run("tls\nS: 220"); err == nil {
		t.Error("a client without a certificate was greeted")
	}
}

func TestNewTLSRefuses(t *testing.T) {
	certs, roots := testKeys(t)
	l := compile.Listener{TLS: compile.StartTLS, PKI: []string{"mx.example"}, Ciphers: "RC4", Origin: compile.Origin{File: "smtpd.conf", Line: 7}}
	_, err := NewTLS(&l, "", certs, roots)
	if want := `smtpd.conf:7: ciphers "RC4": "RC4" is not available`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestVerifyRefuses has clients that cannot show what a listener with verify
// demands, at once and after STARTTLS. None is greeted under TLS.
func TestVerifyRefuses(t *testing.T) {
	certs, _ := keys()
	stranger := certs["client.example"]
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := *stranger.Leaf
	template.SignatureAlgorithm, template.PublicKey = 0, nil
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, shown := range map[string][]tls.Certificate{
		"none":             nil,
		"signed by itself": {{Certificate: [][]byte{der}, PrivateKey: key}},
	} {
		for mode, before := range map[compile.TLSMode]string{compile.SMTPS: "", compile.RequireTLS: hello + "C: STARTTLS\nS: 220\n"} {
			r := newRig(t, withTLS(mode), func(_ *rig, l *compile.Listener) { l.Verify, l.CA = true, "ca" })
			d := r.dial()
			d.TLS = &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if shown == nil {
					return new(tls.Certificate), nil
				}
				return &shown[0], nil
			}}
			runOn(t, d, before)
			if err := d.Run("tls\nC: EHLO client.example\nS: 250"); err == nil {
				t.Errorf("%s, %v: greeted", name, mode)
			}
			r.stop()
			if !strings.Contains(r.logs.String(), "reason=tls-accept-failed") || len(r.policy.asked) > 0 {
				t.Errorf("%s, %v: log:\n%s", name, mode, r.logs)
			}
		}
	}
}

// TestRestrictedTLS checks that what a listener says of versions and ciphers is
// what a client gets.
func TestRestrictedTLS(t *testing.T) {
	for _, tt := range []struct {
		protocols, ciphers string
		client             *tls.Config
		version, cipher    uint16 // 0: the handshake fails
	}{
		{"tlsv1.2", "", &tls.Config{}, tls.VersionTLS12, 0},
		{"tlsv1.3", "", &tls.Config{}, tls.VersionTLS13, 0},
		{"tlsv1.3", "", &tls.Config{MaxVersion: tls.VersionTLS12}, 0, 0},
		{"", "", &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, 0, 0},
		{"all", "", &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, tls.VersionTLS11, 0},
		{"tlsv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", &tls.Config{}, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
		{"", "HIGH:!AESGCM", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, 0, 0},
	} {
		r := newRig(t, withTLS(compile.SMTPS), func(_ *rig, l *compile.Listener) { l.Protocols, l.Ciphers = tt.protocols, tt.ciphers })
		d := r.dial()
		tt.client.InsecureSkipVerify = true
		d.TLS = tt.client
		err := d.Run("tls\nS: 220")
		if (err == nil) != (tt.version != 0) {
			t.Errorf("protocols %q, ciphers %q: %v", tt.protocols, tt.ciphers, err)
		}
		if err != nil {
			continue
		}
		s := d.Conn.(*tls.Conn).ConnectionState()
		if s.Version != tt.version || tt.cipher != 0 && s.CipherSuite != tt.cipher {
			t.Errorf("protocols %q, ciphers %q: version %x, cipher %x", tt.protocols, tt.ciphers, s.Version, s.CipherSuite)
		}
	}
}
