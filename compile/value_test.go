package compile

import (
	"strings"
	"testing"
	"time"
)

func TestParseDelay(t *testing.T) {
	tests := map[string]time.Duration{
		"1s": time.Second, "90m": 90 * time.Minute, "4h": 4 * time.Hour, "4d": 96 * time.Hour,
		" 5m": 5 * time.Minute, "+5m": 5 * time.Minute, "007s": 7 * time.Second,
		"2147483647s": maxDelay, "24855d": 24855 * 24 * time.Hour,
		// Refused:
		"": 0, "s": 0, "5": 0, "0s": 0, "-1s": 0, "1w": 0, "1d12h": 0, "1.5h": 0, "5M": 0, "5 m": 0,
		"2147483648s": 0, "24856d": 0, "99999999999999999999s": 0, "1_0s": 0,
	}
	for in, want := range tests {
		got, ok := parseDelay(in)
		if got != want || ok != (want != 0) {
			t.Errorf("parseDelay(%q) = %v, %v, want %v", in, got, ok, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	good := map[string]int64{
		"0": 0, "": 0, "1024": 1024, "35M": 35 << 20, "1.5M": 3 << 19, "10k": 10 << 10, "1G": 1 << 30,
		"1b": 1, "2T": 2 << 40, "1P": 1 << 50, "7E": 7 << 60, "1.9": 1, " 5K": 5 << 10, "+5K": 5 << 10,
		".5K": 512, "5.": 5, "-0": 0, "-K": 0, "-0.5": 0, "-0.0001K": 0, "7.5E": 15 << 59, "10M ": 10 << 20, "9223372036854775807": 1<<63 - 1,
		"00000000000000000001": 1, "16E": 1<<63 - 1, "98E": 1<<63 - 1,
	}
	for in, want := range good {
		if got, ok := parseSize(in); !ok || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", in, got, ok, want)
		}
	}
	for _, in := range []string{"10MB", "-1", "-1K", "1.2.3M", "8E", "15.9E", "-0.5K", "000000000000000000001", "9999999999999999.9K", "9223372036854775808", "x", "10X", "10M5", "--1", "+-1", "1K1"} {
		if got, ok := parseSize(in); ok {
			t.Errorf("parseSize(%q) = %d, want a refusal", in, got)
		}
	}
}

func TestIsHostName(t *testing.T) {
	for _, name := range []string{"*", "", "mx", "mx.example.org", "mx.example.org.", "a_b-c.d", "9.9", ".", strings.Repeat("x", 63)} {
		if !isHostName(name) {
			t.Errorf("isHostName(%q) = false", name)
		}
	}
	for _, name := range []string{"*.example.org", "-mx", "a..b", "..", ".a", "a b", "é", "mx:25", strings.Repeat("x", 64)} {
		if isHostName(name) {
			t.Errorf("isHostName(%q) = true", name)
		}
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"domain", "domain", 0}, {"domian", "domain", 1}, {"aliases", "alias", 2},
		{"local", "locals", 1}, {"abc", "xyz", 3}, {"a", "abcd", 3}, {"a", "abcde", 4},
	}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b, 3); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestMemberName(t *testing.T) {
	for in, want := range map[string]string{
		"PKI": "pki", "MaxConnPerHost": "max_conn_per_host", "SMTP": "smtp", "ServerName": "server_name", "AddTTL": "add_ttl", "TTLMax": "ttl_max",
	} {
		if got := memberName(in); got != want {
			t.Errorf("memberName(%q) = %q, want %q", in, got, want)
		}
	}
}
