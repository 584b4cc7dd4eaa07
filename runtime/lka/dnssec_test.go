package lka

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"smtpd/internal/dnstest"
)

const secureZone = `
good.example.           MX 10 mx.good.example.
mx.good.example.        A 192.0.2.1
mx.good.example.        AAAA 2001:db8::1
_25._tcp.mx.good.example. TLSA 3 1 1 00112233
_25._tcp.mx.good.example. TLSA 2 0 1 aabb
half.example.           MX 10 mx.half.example.
mx.half.example.        A 192.0.2.2
mixed.example.          MX 10 mx.good.example.
mixed.example.          MX 20 mx.half.example.
bare.example.           A 192.0.2.3
moved.example.          MX 10 old.good.example.
old.good.example.       CNAME new.good.example.
new.good.example.       CNAME mx.good.example.
_mta-sts.good.example.  TXT "v=STSv1; " "id=1;"
_mta-sts.good.example.  TXT "other"
`

// vouching returns a server that vouches for all but the questions that
// unsigned holds, as "name TYPE".
func vouching(t *testing.T, unsigned ...string) *dnstest.Server {
	s := dnstest.Start(t, secureZone)
	s.SetHook(func(q *dns.Msg, _ bool) *dns.Msg {
		m := s.Answer(q)
		m.AuthenticatedData = true
		for _, u := range unsigned {
			if u == q.Question[0].Name+" "+dns.TypeToString[q.Question[0].Qtype] {
				m.AuthenticatedData = false
			}
		}
		return m
	})
	return s
}

// TestSecureMX holds that a host is secure only if all that led to its
// addresses is (RFC 7672, section 2.2).
func TestSecureMX(t *testing.T) {
	tests := []struct {
		domain, unsigned string
		want             string // hosts, with * if secure and > canonical name
	}{
		{"good.example", "", "mx.good.example*"},
		{"good.example", "good.example. MX", "mx.good.example"},
		{"good.example", "mx.good.example. A", "mx.good.example"},
		{"good.example", "mx.good.example. AAAA", "mx.good.example"},
		{"mixed.example", "mx.half.example. AAAA", "mx.good.example* mx.half.example"}, // that it has none
		{"bare.example", "", "bare.example*"},
		{"bare.example", "bare.example. MX", "bare.example"},
		{"moved.example", "", "old.good.example*>mx.good.example"},
		{"[192.0.2.1]", "", "[192.0.2.1]"},
		{"inhosts.example", "", "inhosts.example"},
	}
	for _, tt := range tests {
		d := newTestDirectory(t, vouching(t, tt.unsigned).Addr())
		mxs, err := d.mx(t.Context(), tt.domain)
		var got []string
		for _, mx := range mxs {
			s := mx.Host
			if mx.Secure {
				s += "*"
			}
			if mx.Canonical != "" {
				s += ">" + mx.Canonical
			}
			got = append(got, s)
		}
		if strings.Join(got, " ") != tt.want || err != nil {
			t.Errorf("%s without %q: %s, %v; want %s", tt.domain, tt.unsigned, got, err, tt.want)
		}
	}
}

// TestSecureChain has a chain of aliases that comes in two answers of which
// one is not vouched for.
func TestSecureChain(t *testing.T) {
	for _, unsigned := range []string{"", "old.good.example.", "mx.good.example."} {
		s := vouching(t)
		s.SetHook(func(q *dns.Msg, _ bool) *dns.Msg {
			m := s.Answer(q)
			if q.Question[0].Name == "old.good.example." {
				m.Answer, m.Ns = m.Answer[:min(2, len(m.Answer))], nil // the aliases alone
			}
			m.AuthenticatedData = q.Question[0].Name != unsigned
			return m
		})
		d := newTestDirectory(t, s.Addr())
		mx, err := d.host(t.Context(), "old.good.example")
		if mx.Secure != (unsigned == "") || mx.Canonical != "mx.good.example" || len(mx.Addrs) != 2 || err != nil {
			t.Errorf("without %q: %+v, %v", unsigned, mx, err)
		}
	}
}

func TestTLSA(t *testing.T) {
	const name = "_25._tcp.mx.good.example"
	tests := []struct{ name, unsigned, want string }{
		{name, "", "[{3 1 1 [0 17 34 51]} {2 0 1 [170 187]}] true"},
		{name, name + ". TLSA", "[] false"},
		{"_25._tcp.gone.example", "", "[] true"},
		{"_25._tcp.gone.example", "_25._tcp.gone.example. TLSA", "[] false"},
	}
	for _, tt := range tests {
		d := newTestDirectory(t, vouching(t, tt.unsigned).Addr())
		records, secure, err := d.tlsa(t.Context(), tt.name)
		if got := fmt.Sprint(records, secure); got != tt.want || err != nil {
			t.Errorf("%s without %q: %s, %v; want %s", tt.name, tt.unsigned, got, err, tt.want)
		}
	}
	failing := dnstest.Start(t, "")
	failing.SetHook(func(q *dns.Msg, _ bool) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure) })
	if _, _, err := newTestDirectory(t, failing.Addr()).tlsa(t.Context(), name); err == nil || err.Permanent {
		t.Errorf("after SERVFAIL: %v", err)
	}
}

func TestTXT(t *testing.T) {
	d := newTestDirectory(t, dnstest.Start(t, secureZone).Addr())
	tests := []struct{ name, want string }{
		{"_mta-sts.good.example", `["v=STSv1; id=1;" "other"] <nil>`},
		{"_MTA-STS.Good.Example.", `["v=STSv1; id=1;" "other"] <nil>`},
		{"mx.good.example", `[] <nil>`},
		{"gone.example", `[] <nil>`},
		{"a b.example", `[] Invalid domain name`},
	}
	for _, tt := range tests {
		texts, err := d.txt(t.Context(), tt.name)
		if got := fmt.Sprintf("%q %v", texts, asError(err)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestTrustedServers holds that the authentic bit of a server that is neither
// on this host nor said to be trusted counts for nothing.
func TestTrustedServers(t *testing.T) {
	tests := []struct {
		conf   string
		server string
		want   bool
	}{
		{"nameserver 127.0.0.1", "127.0.0.1:53", true},
		{"nameserver 127.0.0.53", "127.0.0.53:53", true},
		{"nameserver ::1", "[::1]:53", true},
		{"nameserver 192.0.2.53", "192.0.2.53:53", false},
		{"nameserver 192.0.2.53\noptions edns0 trust-ad", "192.0.2.53:53", true},
		{"nameserver 192.0.2.53\n# options trust-ad", "192.0.2.53:53", false},
		{"nameserver 127.0.0.1.example", "127.0.0.1.example:53", false},
		{"", "127.0.0.1:53", true},
	}
	for _, tt := range tests {
		s := parseResolvConf(tt.conf)
		if s.servers[0] != tt.server || s.trusts(tt.server) != tt.want {
			t.Errorf("%q: %v, trusted %v; want %s, %v", tt.conf, s.servers, s.trusts(tt.server), tt.server, tt.want)
		}
	}

	// The same server, first as one on loopback, then as one that is not.
	s := vouching(t)
	asks := make(chan bool, 2)
	s.SetHook(func(q *dns.Msg, _ bool) *dns.Msg {
		asks <- q.AuthenticatedData
		m := s.Answer(q)
		m.AuthenticatedData = true
		return m
	})
	for _, trusted := range []bool{true, false} {
		try := trial{s.Addr(), question{"good.example.", dns.TypeMX}, 10 * time.Second, trusted}
		m, err := try.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if asked := <-asks; m.AuthenticatedData != trusted || asked != trusted {
			t.Errorf("trusted %v: asked %v, answer %v", trusted, asked, m.AuthenticatedData)
		}
	}
}

// TestSecureOverWire asks what mta asks for DANE and MTA-STS, through the
// messages.
func TestSecureOverWire(t *testing.T) {
	r := start(t, Config{Rules: testRules(t), Resolver: vouching(t).Addr(), Hosts: "/nonexistent"})
	ctx := t.Context()
	if mx, err := r.mta.MX(ctx, "moved.example"); err != nil || len(mx) != 1 || !mx[0].Secure || mx[0].Canonical != "mx.good.example" {
		t.Errorf("%+v, %v", mx, err)
	}
	if host, err := r.mta.Host(ctx, "mx.good.example"); err != nil || !host.Secure || len(host.Addrs) != 2 || host.Host != "mx.good.example" {
		t.Errorf("%+v, %v", host, err)
	}
	if records, secure, err := r.mta.TLSA(ctx, "_25._tcp.mx.good.example"); err != nil || !secure || len(records) != 2 {
		t.Errorf("%v, %v, %v", records, secure, err)
	}
	if texts, err := r.mta.TXT(ctx, "_mta-sts.good.example"); err != nil || len(texts) != 2 || texts[0] != "v=STSv1; id=1;" {
		t.Errorf("%q, %v", texts, err)
	}
}

// TestStrayDatagrams has a server from whose address come, before its answer,
// one to a question that was never asked and what is no message at all.
func TestStrayDatagrams(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	defer served.Wait()
	defer pc.Close()
	served.Go(func() {
		buf := make([]byte, 2048)
		for asked := 0; ; asked++ {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var q dns.Msg
			if err := q.Unpack(buf[:n]); err != nil {
				t.Error(err)
				return
			}
			if asked == 0 {
				pc.WriteTo([]byte("\xff\xff\xff\xff"), from) // the next try asks again
			}
			for _, addr := range []string{"192.0.2.66", "192.0.2.1"} {
				m := new(dns.Msg).SetReply(&q)
				m.RecursionAvailable = true
				if addr == "192.0.2.66" {
					m.Id++
				}
				if q.Question[0].Qtype == dns.TypeA {
					m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(addr)}}
				}
				wire, err := m.Pack()
				if err != nil {
					t.Error(err)
					return
				}
				pc.WriteTo(wire, from)
			}
		}
	})
	d := newTestDirectory(t, pc.LocalAddr().String())
	if host, err := d.host(t.Context(), "victim.example"); err != nil || fmt.Sprint(host.Addrs) != "[192.0.2.1]" {
		t.Errorf("%v, %v", host, err)
	}
}
