package mta

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

// TestRequireTLS checks that mail which requires TLS goes only to a host that
// offers to require it too, and whose certificate is verified.
func TestRequireTLS(t *testing.T) {
	good, unknown := newCertificate(t, "relay.example"), newCertificate(t, "relay.example")
	for _, c := range []struct {
		name, scheme string
		cert         *certificate
		offered      bool
		want         queue.Outcome
	}{
		{"offered and verified", "smtp+tls", &good, true, queue.Delivered},
		{"not offered", "smtp+tls", &good, false, queue.PermFail},
		{"opportunistic, verified", "smtp", &good, true, queue.Delivered},
		{"opportunistic, unknown", "smtp", &unknown, true, queue.PermFail},
		{"in clear", "smtp+notls", nil, true, queue.PermFail},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := new(remote)
			port := b.start(t, "127.0.0.1:0", func(s *smtp.Server) {
				s.EnableREQUIRETLS = c.offered
				if c.cert != nil {
					s.TLSConfig = c.cert.tls
				}
			})
			rs := testRules()
			rs.Actions[0].Relay.Host, rs.Actions[0].Relay.CA = 1, "test"
			a, w := newTestAgent(t, rs, 1, func(c *Config) { c.Roots = authorities(good) })
			w.fetch = []string{fmt.Sprintf("%s://relay.example:%d", c.scheme, port)}
			w.addrs = map[string][]netip.Addr{"relay.example": {netip.MustParseAddr("127.0.0.1")}}
			evs := batch("remote.example", "alice")
			evs[0].Flags = envelope.RequireTLS
			r := deliver(t, a, evs)
			m := b.messages()
			if c.want == queue.Delivered {
				wantOne(t, r, c.want, "2.0.0", "250")
				if len(m) != 1 || !m[0].tls || !m[0].opts.RequireTLS {
					t.Errorf("received %+v", m)
				}
				return
			}
			wantOne(t, r, c.want, "5.7.30", "REQUIRETLS support required")
			if len(m) > 0 {
				t.Errorf("received %+v", m)
			}
		})
	}
}

// TestInternationalizedHeader checks that a message which was declared to be
// international needs a host that takes it only if its header is.
func TestInternationalizedHeader(t *testing.T) {
	for _, c := range []struct {
		text            string
		flags           envelope.Flags
		offered, passes bool
		declared        bool
	}{
		{"Subject: hällo\n\ntext\n", envelope.SMTPUTF8, true, true, true},
		{"Subject: hällo\n\ntext\n", envelope.SMTPUTF8, false, false, false},
		{"Subject: hello\n\ntäxt\n", envelope.SMTPUTF8, false, true, false},
		{"Subject: hello\n\ntäxt\n", envelope.SMTPUTF8, true, true, false},
		{"Subject: hällo\n\ntext\n", 0, false, true, false}, // as it always went
	} {
		b := new(remote)
		a, w := newTestAgent(t, testRules(), b.start(t, "127.0.0.1:0", func(s *smtp.Server) { s.EnableSMTPUTF8 = c.offered }))
		w.content = c.text
		evs := batch("remote.example", "alice")
		evs[0].Flags = c.flags
		r := deliver(t, a, evs)
		m := b.messages()
		if c.passes {
			wantOne(t, r, queue.Delivered, "2.0.0", "250")
		} else {
			wantOne(t, r, queue.PermFail, "5.6.7", "not supported by peer")
		}
		if (len(m) == 1) != c.passes || c.passes && m[0].opts.UTF8 != c.declared {
			t.Errorf("%+v: received %+v", c, m)
		}
	}
}

// TestInspectHeader finds the end of a header wherever the pieces in which it
// is read end.
func TestInspectHeader(t *testing.T) {
	for _, c := range []struct {
		header, body string
		want         bool
	}{
		{"A: b\n", "\nä\n", false}, {"A: ä\n", "\nb\n", true}, {"", "\nä\n", false}, {"A: b\nC: ä\n", "\n", true}, {"A: b\n", "", false},
	} {
		for _, pad := range []int{0, 64<<10 - 13, 64<<10 - 12, 64<<10 - 11, 64<<10 - 10, 64<<10 - 9, 64<<10 - 8, 64<<10 - 7} {
			text := c.header + c.body
			if pad > 0 {
				text = "X: " + strings.Repeat("x", pad) + "\n" + text
				if c.header == "" {
					text = "Y: " + strings.Repeat("x", pad) + "\n" + c.body
				}
			}
			name := filepath.Join(t.TempDir(), "content")
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			b, err := inspect(f)
			f.Close()
			if err != nil || b.utf8Header != c.want {
				t.Errorf("%q behind %d bytes: %+v, %v", c.header+c.body, pad, b, err)
			}
		}
	}
}
