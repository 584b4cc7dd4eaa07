package dnstest

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestServer(t *testing.T) {
	s := Start(t, `
a.example      A 192.0.2.1
www.a.example  CNAME a.example
*.w.example    TXT "not a wildcard"
big.example    TXT `+strings.Repeat("x", 200)+`
big.example    TXT `+strings.Repeat("y", 250)+`
big.example    TXT `+strings.Repeat("z", 250)+`
`)
	tests := []struct {
		name, network string
		typ           uint16
		rcode         int
		records       int
		truncated     bool
	}{
		{"a.example.", "udp", dns.TypeA, dns.RcodeSuccess, 1, false},
		{"A.EXAMPLE.", "tcp", dns.TypeA, dns.RcodeSuccess, 1, false},
		{"www.a.example.", "udp", dns.TypeA, dns.RcodeSuccess, 2, false},
		{"a.example.", "udp", dns.TypeMX, dns.RcodeSuccess, 0, false},
		{"example.", "udp", dns.TypeMX, dns.RcodeSuccess, 0, false}, // has names below
		{"b.example.", "udp", dns.TypeA, dns.RcodeNameError, 0, false},
		{"x.w.example.", "udp", dns.TypeTXT, dns.RcodeNameError, 0, false},
		{"big.example.", "tcp", dns.TypeTXT, dns.RcodeSuccess, 3, false},
		{"big.example.", "udp", dns.TypeTXT, dns.RcodeSuccess, 2, true}, // the third is over 512 bytes
	}
	for _, tt := range tests {
		c := dns.Client{Net: tt.network}
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion(tt.name, tt.typ), s.Addr())
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if m.Rcode != tt.rcode || len(m.Answer) != tt.records || m.Truncated != tt.truncated {
			t.Errorf("%s %s: %s, %d records, truncated %v", tt.network, tt.name, dns.RcodeToString[m.Rcode], len(m.Answer), m.Truncated)
		}
	}
	if err := s.Set("a.example A nonsense\n"); err == nil {
		t.Error("a bad zone was taken")
	}
}
