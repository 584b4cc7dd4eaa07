package analyze

import (
	"encoding/json"
	"strings"
	"testing"

	"smtpd/compile/analyze/certificate"
)

// proofs are closed for different reasons.
var proofs = []string{
	"match for any action out\nmatch from any for local action in",
	"match from any auth for any action out",
	"match from src \"198.51.100.0/24\" for any action out",
	"match !from local for any reject\nmatch from any for any action out",
	"match from any for domain { \"a.example\", \"*.b.example\" } action out",
	"match from any mail-from \"@a.example\" for any reject\nmatch from any mail-from \"bob@a.example\" for any action out",
	"table vip ldap:/etc/l\nmatch from any mail-from <vip> for any reject\nmatch from any mail-from <vip> for any action out",
	"match from src \"0.0.0.0/1\" for any reject\nmatch from src \"128.0.0.0/1\" for any reject\nmatch from src \"0.0.0.0/0\" for any action out",
	"match from any tls for any reject\nmatch from any !tls for any reject\nmatch from any for any action out",
	"match from any rcpt-to \"bob\" for any reject\nmatch from any rcpt-to \"bob+x\" for any action out",
}

// TestVerify checks that certificates are good as they are written, and that
// none is once anything in it is changed or left out.
func TestVerify(t *testing.T) {
	for _, conf := range proofs {
		rs := load(t, "listen on eth0\n"+conf)
		c := Relay(rs, RelayOptions{}).Certificate
		if c == nil {
			t.Errorf("%s: not proved", conf)
			continue
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := certificate.VerifyClosed(rs, parseCertificate(t, string(text))); err != nil {
			t.Errorf("%s: %v\n%s", conf, err, text)
		}
		for _, change := range []struct{ from, to string }{
			{`"version":2`, `"version":1`},
			{`"claim":"no stranger can relay"`, `"claim":"no decision changes"`},
			{`"listener":1`, `"listener":2`},
			{`"taken":{"rule":1`, `"taken":{"rule":9`},
			{`"first":"198.51.100.0"`, `"first":"198.51.99.0"`},
			{`"last":"198.51.100.255"`, `"last":"198.51.100.254"`},
			{`"empty":"from"`, `"empty":"helo"`},
			{`"empty":"for"`, `"empty":"tls"`},
			{`"empty":"auth"`, `"empty":"tag"`},
		} {
			bad := strings.ReplaceAll(string(text), change.from, change.to)
			if bad != string(text) && certificate.VerifyClosed(rs, parseCertificate(t, bad)) == nil {
				t.Errorf("%s: taken though %s was made %s\n%s", conf, change.from, change.to, bad)
			}
		}
	}
}

// TestVerifyOpen checks that no certificate of a closed table is taken for
// one that is open.
func TestVerifyOpen(t *testing.T) {
	open := []string{
		"match from any for any action out",
		"match from any mail-from \"@a.example\" for any reject\nmatch from any for any action out",
		"match from src \"0.0.0.0/1\" for any reject\nmatch from src \"0.0.0.0/0\" for any action out",
		"match from any for domain regex \"a\" action out",
		"match from any for domain \"*.com\" action out",
		"match from any rcpt-to \"bob+x\" for any reject\nmatch from any rcpt-to \"bob\" for any action out",
		"match from any helo \"*.a.example\" for any reject\nmatch from any helo \"*\" for any action out",
	}
	for _, conf := range open {
		rs := load(t, "listen on eth0\n"+conf)
		if c := Relay(rs, RelayOptions{}).Certificate; c != nil {
			t.Errorf("%s: a certificate", conf)
		}
		for _, other := range proofs {
			if c := Relay(load(t, "listen on eth0\n"+other), RelayOptions{}).Certificate; c != nil && certificate.VerifyClosed(rs, c) == nil {
				t.Errorf("%s: taken with the certificate of %s", conf, other)
			}
		}
		for _, part := range []string{"tag", "from", "for", "helo", "auth", "tls", "mail-from", "rcpt-to"} {
			c := &certificate.Certificate{Version: certificate.Version, Claim: certificate.Closed}
			for i := range rs.Rules {
				c.Proofs = append(c.Proofs, certificate.Proof{Old: certificate.Case{Rule: i + 1}, Listener: 1, Tree: &certificate.Node{Empty: part}})
			}
			if certificate.VerifyClosed(rs, c) == nil {
				t.Errorf("%s: nothing is taken for %s", conf, part)
			}
		}
	}
}

func parseCertificate(t *testing.T, text string) *certificate.Certificate {
	t.Helper()
	c := new(certificate.Certificate)
	if err := json.Unmarshal([]byte(text), c); err != nil {
		t.Fatal(err)
	}
	return c
}
