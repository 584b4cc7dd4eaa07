package mta

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"smtpd/runtime/envelope"
	"smtpd/runtime/lka"
	"smtpd/runtime/queue"
)

// A tlsServer is a mail exchanger with a kind of certificate.
type tlsServer struct {
	*remote
	port  uint16
	leaf  *x509.Certificate // nil: no handshake succeeds
	valid bool              // by the authority, for the name, today
	named bool              // for the name, today
}

const policyHost, policyDomain = "mx.remote.example", "remote.example"

// startTLSServers starts an exchanger of each kind. Their port differs, and the
// one that all relays call is that of a.port.
func startTLSServers(t *testing.T) (map[string]*tlsServer, map[string]*x509.CertPool) {
	good, other, unknown := newCertificate(t, policyHost), newCertificate(t, "other.example"), newCertificate(t, policyHost)
	expired := newCertificateUntil(t, time.Now().Add(-time.Minute), policyHost)
	broken := certificate{tls: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("no") }}}
	servers := make(map[string]*tlsServer)
	for name, c := range map[string]*certificate{"none": {}, "broken": &broken, "good": &good, "other": &other, "unknown": &unknown, "expired": &expired} {
		s := &tlsServer{remote: new(remote), leaf: c.leaf, valid: name == "good", named: name == "good" || name == "unknown"}
		s.port = s.start(t, "127.0.0.1:0", func(srv *smtp.Server) { srv.TLSConfig = c.tls })
		servers[name] = s
	}
	roots := authorities(good, other, expired)
	roots[""] = roots["test"]
	return servers, roots
}

// startTLS starts b with a certificate.
func (b *remote) startTLS(t *testing.T, c certificate) uint16 {
	return b.start(t, "127.0.0.1:0", func(s *smtp.Server) { s.TLSConfig = c.tls })
}

func newCertificateUntil(t *testing.T, end time.Time, name string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: end.Add(-time.Hour), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate{&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, leaf}
}

// A policyCase is a row of the table: what the action says, what DNS has, what
// the domain's MTA-STS policy says, and the certificate of the host.
type policyCase struct{ action, dane, sts, server string }

// clear, secure and refused are what becomes of mail.
const clear, secure, refused = "clear", "secure", "refused"

// want says, apart from the code, which policy applies and what becomes of the
// mail. It is the table of docs/tls.md, from its top to its end.
func (c policyCase) want(s *tlsServer) (policy, outcome string) {
	anyTLS, noTLS := secure, refused
	if s.leaf == nil {
		anyTLS, noTLS = refused, clear
	}
	pass := func(ok bool) string {
		if ok {
			return secure
		}
		return refused
	}
	verified := pass(s.leaf != nil && s.valid)
	signed := c.dane != "unsigned" && c.dane != "no records" && c.action != "tls ca"
	enforced := strings.HasPrefix(c.sts, "enforce")
	switch {
	case c.action == "tls no-verify":
		return "tls-no-verify", anyTLS
	case signed && c.dane == "lookup fails":
		return "dane", refused
	case signed && c.dane == "own key":
		return "dane", pass(s.leaf != nil)
	case signed && c.dane == "other key":
		return "dane", refused
	case signed && c.dane == "authority":
		return "dane", pass(s.leaf != nil && s.named)
	case enforced && c.sts == "enforce, other host":
		return "sts", refused
	case enforced:
		return "sts", verified
	case c.action == "tls", c.action == "tls ca":
		return "tls", verified
	case signed: // unusable
		return "dane-unusable", anyTLS
	case c.sts != "none":
		policy = "sts-testing"
	default:
		policy = "opportunistic"
	}
	if s.leaf == nil {
		return policy, noTLS
	}
	return policy, secure
}

// tlsaFor returns the records that a case has for a host.
func (c policyCase) tlsaFor(s *tlsServer) []lka.TLSA {
	cert := s.leaf
	if cert == nil {
		cert = &x509.Certificate{RawSubjectPublicKeyInfo: []byte("none"), Raw: []byte("none")}
	}
	key, whole := sha256.Sum256(cert.RawSubjectPublicKeyInfo), sha256.Sum256(cert.Raw)
	switch c.dane {
	case "own key":
		return []lka.TLSA{{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)}, {Usage: 3, Selector: 1, Matching: 1, Data: key[:]}}
	case "other key":
		return []lka.TLSA{{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)}}
	case "authority":
		return []lka.TLSA{{Usage: 2, Selector: 0, Matching: 1, Data: whole[:]}}
	case "unusable":
		return []lka.TLSA{{Usage: 1, Selector: 1, Matching: 1, Data: key[:]}, {Usage: 3, Selector: 1, Matching: 9, Data: key[:]}, {Usage: 3, Selector: 1, Matching: 1, Data: key[:5]}}
	}
	return nil
}

func (c policyCase) stsAnswer() lka.STS {
	mode, mx := lka.STSEnforce, policyHost
	switch c.sts {
	case "none":
		return lka.STS{}
	case "testing", "testing, other host":
		mode = lka.STSTesting
	}
	if strings.HasSuffix(c.sts, "other host") {
		mx = "elsewhere.example"
	}
	return lka.STS{Found: true, Policy: lka.STSPolicy{Mode: mode, MX: []string{mx}, MaxAge: time.Hour}}
}

// TestPolicies tries every combination of what the action, DNSSEC, DANE and
// MTA-STS say with every kind of host.
func TestPolicies(t *testing.T) {
	servers, roots := startTLSServers(t)
	for _, action := range []string{"relay", "tls", "tls ca", "tls no-verify"} {
		for _, dane := range []string{"unsigned", "no records", "own key", "other key", "authority", "unusable", "lookup fails"} {
			for _, sts := range []string{"none", "testing", "testing, other host", "enforce", "enforce, other host"} {
				for name, server := range servers {
					c := policyCase{action, dane, sts, name}
					policy, outcome := c.run(t, server, roots)
					if p, o := c.want(server); p != policy || o != outcome {
						t.Errorf("%+v: policy %s, mail %s; want %s, %s", c, policy, outcome, p, o)
					}
				}
			}
		}
	}
}

// run sends a message and returns which policy the log names and what became of
// the mail.
func (c policyCase) run(t *testing.T, server *tlsServer, roots map[string]*x509.CertPool) (policy, outcome string) {
	rs := testRules()
	rs.MTA.Limits.SessionKeepalive = 0
	o := &rs.Actions[0].Relay
	o.TLS, o.NoVerify = c.action != "relay", c.action == "tls no-verify"
	if c.action == "tls ca" {
		o.CA = "test"
	}
	a, w := newTestAgent(t, rs, server.port, func(cfg *Config) { cfg.Roots = roots })
	host := mx(policyHost, 10, "127.0.0.1")
	host.Secure = c.dane != "unsigned"
	w.mx[policyDomain] = []lka.MX{host}
	w.secure, w.sts = true, c.stsAnswer()
	w.tlsa = map[string][]lka.TLSA{fmt.Sprintf("_%d._tcp.%s", server.port, policyHost): c.tlsaFor(server)}
	if c.dane == "lookup fails" {
		w.tlsaErr = errors.New("SERVFAIL")
	}
	before := len(server.messages())
	r := deliver(t, a, batch(policyDomain, "alice"))
	outcome = refused
	if got := server.messages(); len(got) > before {
		outcome = map[bool]string{true: secure, false: clear}[got[before].tls]
	}
	if (outcome != refused) != (r[0].Outcome == queue.Delivered) || r[0].Outcome == queue.PermFail {
		t.Errorf("result %+v", r[0])
	}
	log := w.logged()
	if _, line, ok := strings.Cut(log, `msg="mta delivery"`); ok {
		_, policy, _ = strings.Cut(line, " policy=")
		policy, _, _ = strings.Cut(policy, " ")
	}
	return policy, outcome
}

// TestPolicyReports checks what is counted of sessions, and that it survives a
// new start.
func TestPolicyReports(t *testing.T) {
	servers, roots := startTLSServers(t)
	var text []string
	for _, c := range []policyCase{
		{"relay", "own key", "none", "unknown"}, {"relay", "other key", "none", "good"}, {"relay", "lookup fails", "none", "good"},
		{"relay", "unsigned", "enforce", "expired"}, {"relay", "unsigned", "enforce", "good"}, {"relay", "unsigned", "testing", "other"},
		{"relay", "unsigned", "enforce, other host", "good"}, {"relay", "unsigned", "none", "none"}, {"relay", "unsigned", "none", "unknown"},
	} {
		rs := testRules()
		a, w := newTestAgent(t, rs, servers[c.server].port, func(cfg *Config) { cfg.Roots = roots })
		host := mx(policyHost, 10, "127.0.0.1")
		host.Secure = c.dane != "unsigned"
		w.mx[policyDomain] = []lka.MX{host}
		w.secure, w.sts = true, c.stsAnswer()
		w.tlsa = map[string][]lka.TLSA{fmt.Sprintf("_%d._tcp.%s", a.port, policyHost): c.tlsaFor(servers[c.server])}
		if c.dane == "lookup fails" {
			w.tlsaErr = errors.New("SERVFAIL")
		}
		deliver(t, a, batch(policyDomain, "alice"))
		l := a.reports.list(policyDomain)
		if len(l) != 1 || len(l[0].Policies) != 1 || l[0].Organization != "here.example" || l[0].Policies[0].Policy.Domain != policyDomain {
			t.Fatalf("%+v: reports %+v", c, l)
		}
		p := l[0].Policies[0]
		line := fmt.Sprintf("%s %d %d", p.Policy.Type, p.Counts.Success, p.Counts.Failure)
		for _, f := range p.Failures {
			line += " " + f.Result
		}
		text = append(text, line)
	}
	want := []string{
		"tlsa 1 0", "tlsa 0 1 certificate-not-trusted", "tlsa 0 1 dnssec-invalid",
		"sts 0 1 certificate-expired", "sts 1 0", "sts 0 1 certificate-host-mismatch",
		"sts 0 1 validation-failure", "no-policy-found 0 1 starttls-not-supported", "no-policy-found 1 0",
	}
	if strings.Join(text, "\n") != strings.Join(want, "\n") {
		t.Errorf("reports:\n%s\nwant:\n%s", strings.Join(text, "\n"), strings.Join(want, "\n"))
	}
}

// TestDANENames has certificates of an authority that a record names: the name
// may be the host's, or the domain's.
func TestDANENames(t *testing.T) {
	for name, ok := range map[string]bool{policyHost: true, policyDomain: true, "other.example": false} {
		c := newCertificate(t, name)
		s := &tlsServer{remote: new(remote), leaf: c.leaf, valid: ok}
		s.port = s.start(t, "127.0.0.1:0", func(srv *smtp.Server) { srv.TLSConfig = c.tls })
		_, outcome := policyCase{"relay", "authority", "none", "good"}.run(t, s, nil)
		if (outcome == secure) != ok {
			t.Errorf("certificate of %s: mail %s", name, outcome)
		}
	}
}

// TestDANECanonical checks that the records of the name an alias leads to come
// first, that the host is then asked to be that name, and that those of the
// alias count if there are none.
func TestDANECanonical(t *testing.T) {
	c := newCertificate(t, "real.example")
	sum := sha256.Sum256(c.leaf.Raw)
	good, bad := []lka.TLSA{{Usage: 2, Selector: 0, Matching: 1, Data: sum[:]}}, []lka.TLSA{{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)}}
	for name, records := range map[string][2][]lka.TLSA{"real": {good, bad}, "alias": {nil, good}} {
		b := new(remote)
		names := make(chan string, 1)
		port := b.start(t, "127.0.0.1:0", func(s *smtp.Server) {
			s.TLSConfig = &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				names <- h.ServerName
				return &c.tls.Certificates[0], nil
			}}
		})
		a, w := newTestAgent(t, testRules(), port)
		host := mx("alias.example", 10, "127.0.0.1")
		host.Secure, host.Canonical = true, "real.example"
		w.mx[policyDomain], w.secure = []lka.MX{host}, true
		w.tlsa = map[string][]lka.TLSA{fmt.Sprintf("_%d._tcp.real.example", port): records[0], fmt.Sprintf("_%d._tcp.alias.example", port): records[1]}
		r := deliver(t, a, batch(policyDomain, "alice"))
		if got := <-names; got != name+".example" {
			t.Errorf("%s: the host was asked to be %s", name, got)
		}
		if (r[0].Outcome == queue.Delivered) != (name == "real") {
			t.Errorf("%s: %+v", name, r[0])
		}
	}
}

// TestRequireTLSByMX checks that a name which anybody could have put into the
// DNS proves nothing, even if the host proves that it has it.
func TestRequireTLSByMX(t *testing.T) {
	good := newCertificate(t, policyHost)
	roots := map[string]*x509.CertPool{"": authorities(good)["test"]}
	b := new(remote)
	port := b.start(t, "127.0.0.1:0", func(s *smtp.Server) { s.EnableREQUIRETLS, s.TLSConfig = true, good.tls })
	for _, c := range []struct {
		secure bool
		sts    string
		want   queue.Outcome
	}{{false, "none", queue.PermFail}, {true, "none", queue.Delivered}, {false, "testing", queue.Delivered}, {false, "enforce", queue.Delivered}} {
		a, w := newTestAgent(t, testRules(), port, func(cfg *Config) { cfg.Roots = roots })
		host := mx(policyHost, 10, "127.0.0.1")
		host.Secure = c.secure
		w.mx[policyDomain], w.secure = []lka.MX{host}, true
		w.sts = policyCase{sts: c.sts}.stsAnswer()
		evs := batch(policyDomain, "alice")
		evs[0].Flags = envelope.RequireTLS
		if r := deliver(t, a, evs); r[0].Outcome != c.want {
			t.Errorf("%+v: %+v", c, r[0])
		}
	}
}

// TestProtocols checks that an action keeps to the versions and suites that it
// names.
func TestProtocols(t *testing.T) {
	c := newCertificate(t, policyHost)
	for _, x := range []struct {
		ciphers, protocols string
		low, high          uint16
		want               string
	}{
		{"", "", tls.VersionTLS13, tls.VersionTLS13, "TLSv1.3:"},
		{"", "TLSv1.2", tls.VersionTLS12, tls.VersionTLS13, "TLSv1.2:"},
		{"ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2", tls.VersionTLS12, tls.VersionTLS12, "TLSv1.2:ECDHE-ECDSA-AES128-GCM-SHA256:128"},
		{"", "TLSv1.3", tls.VersionTLS12, tls.VersionTLS12, ""},
		{"", "", tls.VersionTLS10, tls.VersionTLS11, ""}, // for TLS that is asked for, 1.2 is the least
	} {
		b := new(remote)
		port := b.start(t, "127.0.0.1:0", func(s *smtp.Server) {
			s.TLSConfig = c.tls.Clone()
			s.TLSConfig.MinVersion, s.TLSConfig.MaxVersion = x.low, x.high
		})
		rs := testRules()
		o := &rs.Actions[0].Relay
		o.TLS, o.CA, o.Ciphers, o.Protocols = true, "test", x.ciphers, x.protocols
		a, w := newTestAgent(t, rs, port, func(cfg *Config) { cfg.Roots = authorities(c) })
		r := deliver(t, a, batch(policyDomain, "alice"))
		if (r[0].Outcome == queue.Delivered) != (x.want != "") || !strings.Contains(w.logged(), x.want) {
			t.Errorf("%+v: %+v\n%s", x, r[0], w.logged())
		}
	}
}
