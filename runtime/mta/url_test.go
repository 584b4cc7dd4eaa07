package mta

import (
	"strings"
	"testing"
)

func TestParseSmarthost(t *testing.T) {
	for url, want := range map[string]smarthost{
		"mx.example.org":                  {opportunistic, "", "mx.example.org", 0},
		"smtp://mx.example.org":           {opportunistic, "", "mx.example.org", 0},
		"SMTP://mx.example.org:2525":      {opportunistic, "", "mx.example.org", 2525},
		"smtp+tls://label@mx.example.org": {startTLS, "label", "mx.example.org", 0},
		"smtp+notls://mx":                 {plain, "", "mx", 0},
		"smtps://l@[192.0.2.1]:465":       {smtps, "l", "192.0.2.1", 465},
		"lmtp://localhost:24":             {lmtp, "", "localhost", 24},
		"smtp://[IPv6:2001:db8::1]":       {opportunistic, "", "2001:db8::1", 0},
		"[2001:db8::1]:26":                {opportunistic, "", "2001:db8::1", 26},
		"@mx.example.org":                 {opportunistic, "", "mx.example.org", 0},
		"smtps://@mx.example.org":         {smtps, "", "mx.example.org", 0},
		"mx.example.org/anything":         {opportunistic, "", "mx.example.org", 0},
		"mx.example.org:25/anything":      {opportunistic, "", "mx.example.org", 25},
		"host_with_underscore.example":    {opportunistic, "", "host_with_underscore.example", 0},
	} {
		if got, err := parseSmarthost(url); err != nil || got != want {
			t.Errorf("parseSmarthost(%q) = %+v, %v, want %+v", url, got, err, want)
		}
	}
	for _, url := range []string{
		"", "smtp://", "http://mx", "smtp://label@mx", "smtp+notls://label@mx", "lmtp://label@mx:24", "lmtp://mx",
		"mx:0", "mx:65536", "mx:x", "mx:", "mx.", ".mx", "a..b", "-mx", "[mx]", "[1.2.3.4", "[]", "smtps://l@",
		"[fe80::1%eth0]", strings.Repeat("x", 64), strings.Repeat("x.", 150) + "x", "l@m@h",
	} {
		if got, err := parseSmarthost(url); err == nil {
			t.Errorf("parseSmarthost(%q) = %+v, want an error", url, got)
		}
	}
}
