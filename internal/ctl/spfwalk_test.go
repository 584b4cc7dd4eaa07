package ctl

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"smtpd/internal/dnstest"
)

// spfOf returns what spf walk prints about domains, on both outputs.
func spfOf(t *testing.T, zone, network string, o options, domains string) (status int, out, said string) {
	t.Helper()
	s := dnstest.Start(t, zone)
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Addr())
	}}
	var stdout, stderr bytes.Buffer
	term := &terminal{in: strings.NewReader(domains), out: &stdout, err: &stderr}
	if err := spfDomains(term, o, network, r); err != nil {
		status = exitFailed
	}
	return status, stdout.String(), stderr.String()
}

const spfZone = `
a.example 60 TXT "something else"
a.example 60 TXT "v=spf1 ip4:192.0.2.9 +ip4:198.51.100.77/24 IP6:2001:db8::/32 -ip4:203.0.113.1 ~ip4:203.0.113.2 include:b.example exists:%{i}.x.example -all"
b.example 60 TXT "v=spf1 a mx/24//64 a:none.example include:a.example redirect=c.example"
b.example 60 A 192.0.2.1
b.example 60 AAAA 2001:db9::1
b.example 60 MX 10 mx.example
mx.example 60 A 198.51.101.5
mx.example 60 AAAA 2001:dba::5
c.example 60 TXT "v=spf1 ip4:192.0.2.9 ip4:192.0.2.3"
two.example 60 TXT "v=spf1 -all"
two.example 60 TXT "v=spf1 +all"
broken.example 60 TXT "v=spf1 ip4:192.0.2.4 ip4:nothing a/33 mx//129 ip6:192.0.2.1 include:two.example include:x\027y.example"
`

func TestSPFWalk(t *testing.T) {
	v4 := "192.0.2.1\n192.0.2.3\n192.0.2.9\n198.51.100.0/24\n198.51.101.0/24\n"
	v6 := "2001:db8::/32\n2001:db9::1\n2001:dba::/64\n"
	for _, c := range []struct{ network, want string }{{"ip", v4 + v6}, {"ip4", v4}, {"ip6", v6}} {
		if status, out, said := spfOf(t, spfZone, c.network, options{}, "A.example.\n\n"); status != exitOK || out != c.want || said != "" {
			t.Errorf("%s: status %d,\n%s, want\n%s; said %q", c.network, status, out, c.want, said)
		}
	}
	_, out, _ := spfOf(t, spfZone, "ip4", options{json: true}, "c.example\n")
	if want := `{"domain":"c.example","network":"192.0.2.3"}`; !strings.Contains(strings.ReplaceAll(out, " ", ""), want) {
		t.Errorf("%q lacks %s", out, want)
	}
}

// TestSPFWalkBroken checks that what can be read of broken records is printed,
// and that each of the rest is told.
func TestSPFWalkBroken(t *testing.T) {
	status, out, said := spfOf(t, spfZone, "ip", options{}, "broken.example\nnone.example\nc.example\n")
	if status != exitFailed || out != "192.0.2.4\n192.0.2.3\n192.0.2.9\n" {
		t.Errorf("status %d, %q", status, out)
	}
	if strings.Contains(said, "\x1b") {
		t.Errorf("a record wrote to the terminal: %q", said)
	}
	for _, want := range []string{`"x\x1by.example"`, `"ip4:nothing"`, `"a/33"`, `"mx//129"`, `"ip6:192.0.2.1"`, `"two.example": it has 2 SPF records`, `"none.example"`} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing is said of %s:\n%s", want, said)
		}
	}
}

// TestSPFWalkEndless checks that records that include ever more end.
func TestSPFWalkEndless(t *testing.T) {
	var zone strings.Builder
	for i := range 2 * maxSPFRecords {
		fmt.Fprintf(&zone, "n%d.example 60 TXT \"v=spf1 ip4:192.0.2.1 include:n%d.example\"\n", i, i+1)
	}
	status, out, said := spfOf(t, zone.String(), "ip", options{}, "n0.example\n")
	if status != exitFailed || out != "192.0.2.1\n" || !strings.Contains(said, "more than 100 records") {
		t.Errorf("status %d, %q, %q", status, out, said)
	}
}
