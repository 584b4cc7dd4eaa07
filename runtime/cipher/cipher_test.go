package cipher

import (
	"crypto/tls"
	"testing"
)

func TestParseSuites(t *testing.T) {
	for in, want := range map[string]int{
		"":                 0, // the library's
		"HIGH:!aNULL:!MD5": 14,
		"DEFAULT":          10,
		"SECURE":           6,
		"HIGH:!kRSA:!SHA1": 6,
		"ECDHE+AESGCM":     4,
		"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256": 2,
		"TLS_AES_256_GCM_SHA384:ECDHE-RSA-AES256-GCM-SHA384":        1,
		"HIGH:-AES:@STRENGTH": 2,
	} {
		got, err := ParseSuites(in)
		if err != nil || len(got) != want {
			t.Errorf("ParseSuites(%q) = %d suites, %v, want %d", in, len(got), err, want)
		}
	}
	for _, in := range []string{"RC4", "nonsense", "HIGH:!HIGH", "DHE-RSA-AES256-GCM-SHA384", "HIGH:!nonsense", "!aNULL", "TLS_NONE", ":"} {
		if got, err := ParseSuites(in); err == nil {
			t.Errorf("ParseSuites(%q) = %v, want an error", in, got)
		}
	}
}

func TestParseProtocols(t *testing.T) {
	for in, want := range map[string][2]uint16{
		"":                      {tls.VersionTLS12, tls.VersionTLS13},
		"secure":                {tls.VersionTLS12, tls.VersionTLS13},
		"TLSv1.3":               {tls.VersionTLS13, tls.VersionTLS13},
		"all":                   {tls.VersionTLS10, tls.VersionTLS13},
		"all,!tlsv1.0,!tlsv1.1": {tls.VersionTLS12, tls.VersionTLS13},
		"!tlsv1.3":              {tls.VersionTLS10, tls.VersionTLS12},
		"tlsv1.2,tlsv1.3":       {tls.VersionTLS12, tls.VersionTLS13},
	} {
		low, high, err := ParseProtocols(in)
		if err != nil || low != want[0] || high != want[1] {
			t.Errorf("ParseProtocols(%q) = %x, %x, %v", in, low, high, err)
		}
	}
	for _, in := range []string{"sslv3", "tlsv1.0,tlsv1.3", "all,!all", ","} {
		if _, _, err := ParseProtocols(in); err == nil {
			t.Errorf("ParseProtocols(%q) accepts it", in)
		}
	}
}
