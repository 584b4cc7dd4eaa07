package lka

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"smtpd/internal/dnstest"
)

const testZone = `
two.example.      MX 20 mx2.two.example.
two.example.      MX 10 MX1.two.example.
mx1.two.example.  A 192.0.2.1
mx1.two.example.  AAAA 2001:db8::1
mx2.two.example.  A 192.0.2.2
implicit.example. A 192.0.2.3
alias.example.    CNAME implicit.example.
null.example.     MX 0 .
loop.example.     MX 10 localhost.
mixed.example.    MX 10 localhost.
mixed.example.    MX 20 mx2.two.example.
twice.example.    MX 20 mx2.two.example.
twice.example.    MX 10 mx2.two.example.
half.example.     MX 10 gone.example.
half.example.     MX 20 mx2.two.example.
dead.example.     MX 10 gone.example.
empty.example.    TXT "nothing else"
two.example.      TLSA 3 1 1 0011
strange.example.  MX 10 mx\(1\).two.example.
zero.example.     A 0.0.0.0
ring1.example.    CNAME ring2.example.
ring2.example.    CNAME ring1.example.
mapped.example.   AAAA ::ffff:192.0.2.4
1.2.0.192.in-addr.arpa.  PTR mx1.two.example.
2.2.0.192.in-addr.arpa.  PTR mx1.two.example.
3.2.0.192.in-addr.arpa.  PTR gone.example.
3.2.0.192.in-addr.arpa.  PTR implicit.example.
4.2.0.192.in-addr.arpa.  PTR bad\032name.example.
5.2.0.192.in-addr.arpa.  CNAME 5.sub.2.0.192.in-addr.arpa.
5.sub.2.0.192.in-addr.arpa.  PTR sub.example.
sub.example. A 192.0.2.5
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR mx1.two.example.
`

// newTestDirectory returns a directory that asks servers. It waits for an
// answer for as long as a question may take: a test with a server that says
// nothing sets less.
func newTestDirectory(t testing.TB, servers ...string) *directory {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hosts")
	text := "127.0.0.1 localhost\n192.0.2.77 inhosts.example Alias # comment\nnonsense\n::1 ip6-localhost\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := newResolver(ctx, servers[0], "")
	r.servers.fix(settings{servers: servers, timeout: flightTime})
	t.Cleanup(func() { cancel(); r.wait() })
	return &directory{hosts: hosts{path: path}, resolver: r}
}

// show prints what mx returns: "host pref addr addr; …", or the error with
// its permanence.
func show(mx []MX, err *DNSError) string {
	if err != nil {
		return showError(err)
	}
	var parts []string
	for _, m := range mx {
		s := fmt.Sprintf("%s %d", m.Host, m.Pref)
		for _, a := range m.Addrs {
			s += " " + a.String()
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, "; ")
}

func showError(err *DNSError) string {
	if err.Permanent {
		return "permanent: " + err.Text
	}
	return "temporary: " + err.Text
}

func TestMX(t *testing.T) {
	d := newTestDirectory(t, dnstest.Start(t, testZone).Addr())
	tests := []struct{ domain, want string }{
		{"two.example", "MX1.two.example 10 2001:db8::1 192.0.2.1; mx2.two.example 20 192.0.2.2"},
		{"TWO.Example.", "MX1.two.example 10 2001:db8::1 192.0.2.1; mx2.two.example 20 192.0.2.2"},
		{"implicit.example", "implicit.example 0 192.0.2.3"},
		{"alias.example", "alias.example 0 192.0.2.3"},
		{"mapped.example", "mapped.example 0 192.0.2.4"},
		{"null.example", "permanent: Domain does not accept mail"},
		{"loop.example", "permanent: Domain does not accept mail"},
		{"mixed.example", "mx2.two.example 20 192.0.2.2"},
		{"twice.example", "mx2.two.example 10 192.0.2.2"},
		{"half.example", "gone.example 10; mx2.two.example 20 192.0.2.2"},
		{"dead.example", "temporary: No MX found for domain"},
		{"empty.example", "temporary: No MX found for domain"},
		{"strange.example", "temporary: No MX found for domain"},
		{"zero.example", "temporary: No MX found for domain"},
		{"nowhere.example", "permanent: Domain does not exist"},
		{"ring1.example", "temporary: Temporary failure in MX lookup"},
		{"[192.0.2.9]", "[192.0.2.9] 0 192.0.2.9"},
		{"[IPv6:2001:db8::9]", "[IPv6:2001:db8::9] 0 2001:db8::9"},
		{"[nonsense]", "permanent: Invalid domain name"},
		{"", "permanent: Invalid domain name"},
		{"a..b", "permanent: Invalid domain name"},
		{"a b.example", "permanent: Invalid domain name"},
		{strings.Repeat("a", 64) + ".example", "permanent: Invalid domain name"},
		{strings.Repeat("a.", 130) + "example", "permanent: Invalid domain name"},
		{"inhosts.example", "inhosts.example 0 192.0.2.77"},
	}
	for _, tt := range tests {
		if got := show(d.mx(t.Context(), tt.domain)); got != tt.want {
			t.Errorf("mx(%q) = %s\nwant %s", tt.domain, got, tt.want)
		}
	}
}

// TestLocalNames shows that names of this host are no one else's business.
func TestLocalNames(t *testing.T) {
	s := dnstest.Start(t, "")
	d := newTestDirectory(t, s.Addr())
	if got := show(d.mx(t.Context(), "localhost")); got != "localhost 0 127.0.0.1" {
		t.Errorf("localhost: %s", got)
	}
	for host, want := range map[string]string{
		"LOCALHOST":       "[127.0.0.1]",
		"www.localhost":   "[127.0.0.1 ::1]",
		"alias":           "[192.0.2.77]",
		"ip6-localhost":   "[::1]",
		"192.0.2.8":       "[192.0.2.8]",
		"[2001:db8::8]":   "[2001:db8::8]",
		"fe80::1%eth0":    "[fe80::1]",
		"inhosts.example": "[192.0.2.77]",
	} {
		if h, err := d.host(t.Context(), host); err != nil || fmt.Sprint(h.Addrs) != want {
			t.Errorf("host(%q) = %v, %v; want %s", host, h, err, want)
		}
	}
	if name, forward, err := d.ptr(t.Context(), netip.MustParseAddr("127.0.0.1")); name != "localhost" || forward != Pass || err != nil {
		t.Errorf("127.0.0.1: %q, %v, %v", name, forward, err)
	}
	if asked := s.Asked(); len(asked) > 0 {
		t.Errorf("a name server was asked: %v", asked)
	}
}

func TestAddrs(t *testing.T) {
	d := newTestDirectory(t, dnstest.Start(t, testZone).Addr())
	tests := []struct{ host, want string }{
		{"mx1.two.example", "[2001:db8::1 192.0.2.1]"},
		{"alias.example", "[192.0.2.3]"},
		{"nowhere.example", "temporary: Host not found"},
		{"a b", "permanent: Invalid domain name"},
	}
	for _, tt := range tests {
		host, err := d.host(t.Context(), tt.host)
		got := fmt.Sprint(host.Addrs)
		if err != nil {
			got = showError(err)
		}
		if got != tt.want {
			t.Errorf("host(%q) = %s, want %s", tt.host, got, tt.want)
		}
	}
}

func TestPTR(t *testing.T) {
	s := dnstest.Start(t, testZone)
	d := newTestDirectory(t, s.Addr())
	tests := []struct {
		addr, name string
		forward    FCrDNS
	}{
		{"192.0.2.1", "mx1.two.example", Pass},
		{"::ffff:192.0.2.1", "mx1.two.example", Pass},
		{"2001:db8::1", "mx1.two.example", Pass},
		{"192.0.2.2", "mx1.two.example", Fail},
		{"192.0.2.3", "implicit.example", Pass}, // the second of two names
		{"192.0.2.4", "", Fail},                 // no host name
		{"192.0.2.5", "sub.example", Pass},      // RFC 2317
		{"192.0.2.99", "", Fail},
	}
	for _, tt := range tests {
		name, forward, err := d.ptr(t.Context(), netip.MustParseAddr(tt.addr))
		if name != tt.name || forward != tt.forward || err != nil {
			t.Errorf("ptr(%s) = %q, %v, %v; want %q, %v", tt.addr, name, forward, err, tt.name, tt.forward)
		}
	}
}

// TestServerFailure holds that a server which does not know is no server
// that says no.
func TestServerFailure(t *testing.T) {
	for _, rcode := range []int{dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeFormatError} {
		s := dnstest.Start(t, testZone)
		s.SetHook(func(q *dns.Msg, _ bool) *dns.Msg { return new(dns.Msg).SetRcode(q, rcode) })
		d := newTestDirectory(t, s.Addr())
		if got := show(d.mx(t.Context(), "two.example")); got != "temporary: Temporary failure in MX lookup" {
			t.Errorf("%s: %s", dns.RcodeToString[rcode], got)
		}
		if name, forward, err := d.ptr(t.Context(), netip.MustParseAddr("192.0.2.1")); name != "" || forward != Error || err == nil {
			t.Errorf("%s: %q, %v, %v", dns.RcodeToString[rcode], name, forward, err)
		}
	}
}

func TestNextServer(t *testing.T) {
	silent := dnstest.Start(t, "")
	silent.SetHook(func(*dns.Msg, bool) *dns.Msg { return dnstest.Drop })
	failing := dnstest.Start(t, "")
	failing.SetHook(func(q *dns.Msg, _ bool) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure) })
	good := dnstest.Start(t, testZone)
	d := newTestDirectory(t, silent.Addr(), failing.Addr(), good.Addr())
	// Each round is a pause for the silent one, and a chance for the good one:
	// on a loaded machine it may miss some.
	d.resolver.servers.now.timeout, d.resolver.servers.now.tries = 100*time.Millisecond, 100
	if got := show(d.mx(t.Context(), "implicit.example")); got != "implicit.example 0 192.0.2.3" {
		t.Error(got)
	}
}

func TestTimeout(t *testing.T) {
	s := dnstest.Start(t, "")
	asked := make(chan bool, 16)
	s.SetHook(func(*dns.Msg, bool) *dns.Msg {
		asked <- true
		return dnstest.Drop
	})
	d := newTestDirectory(t, s.Addr())
	d.resolver.servers.now.timeout = 20 * time.Millisecond
	if got := show(d.mx(t.Context(), "two.example")); got != "temporary: Temporary failure in MX lookup" {
		t.Error(got)
	}
	<-asked // the server may see the questions later
	<-asked
	if n := len(s.Asked()); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

// TestHostile gives answers that no honest server gives.
func TestHostile(t *testing.T) {
	const lookupFailure = "temporary: Temporary failure in MX lookup"
	rr := func(s string) dns.RR {
		r, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	tests := []struct {
		name string
		hook func(q *dns.Msg, tcp bool) *dns.Msg
		want string
	}{
		{"answer to another question", func(q *dns.Msg, _ bool) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			m.Question[0].Name = "other.example."
			m.Answer = []dns.RR{rr("other.example. MX 0 evil.example.")}
			return m
		}, lookupFailure},
		{"records of another name", func(q *dns.Msg, _ bool) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			m.RecursionAvailable = true
			m.Answer = []dns.RR{rr("other.example. MX 0 evil.example."), rr("other.example. A 192.0.2.66")}
			return m
		}, "temporary: No MX found for domain"},
		{"referral", func(q *dns.Msg, _ bool) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			m.Ns = []dns.RR{rr("example. NS ns.example.")}
			return m
		}, lookupFailure},
		{"no response flag", func(q *dns.Msg, _ bool) *dns.Msg { return q.Copy() }, lookupFailure},
		{"no question", func(q *dns.Msg, _ bool) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			m.Question = nil
			return m
		}, lookupFailure},
		{"chain in one answer", func(q *dns.Msg, _ bool) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			name := q.Question[0].Name
			for i := range 100 {
				next := fmt.Sprintf("c%d.example.", i)
				m.Answer = append(m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: next})
				name = next
			}
			return m
		}, lookupFailure},
		{"chain over many answers", func(q *dns.Msg, _ bool) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			name := q.Question[0].Name
			m.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "x" + name}}
			return m
		}, lookupFailure},
		{"CNAME to itself", func(q *dns.Msg, _ bool) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			name := q.Question[0].Name
			m.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: name}}
			return m
		}, lookupFailure},
		{"truncated for ever", func(q *dns.Msg, _ bool) *dns.Msg {
			m := new(dns.Msg).SetReply(q)
			m.Truncated = true
			return m
		}, lookupFailure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := dnstest.Start(t, "")
			s.SetHook(tt.hook)
			d := newTestDirectory(t, s.Addr())
			if got := show(d.mx(t.Context(), "victim.example")); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if n := len(s.Asked()); n > 3*maxChain {
				t.Errorf("it cost %d questions", n)
			}
		})
	}
}

// TestHugeAnswer has a domain with more records than fit into a datagram, or
// than anyone needs: the answer comes by TCP, and only the best are used.
func TestHugeAnswer(t *testing.T) {
	var zone strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&zone, "huge.example. MX %d mx%d.huge.example.\nmx%d.huge.example. A 192.0.2.1\n", 3000-i, i, i)
	}
	for i := range 200 {
		fmt.Fprintf(&zone, "mx999.huge.example. A 198.51.100.%d\n", i)
	}
	s := dnstest.Start(t, zone.String())
	d := newTestDirectory(t, s.Addr())
	mx, err := d.mx(t.Context(), "huge.example")
	if err != nil || len(mx) != maxMX || mx[0].Host != "mx999.huge.example" || mx[0].Pref != 2001 {
		t.Fatalf("%d hosts: %v, %v", len(mx), mx, err)
	}
	if len(mx[0].Addrs) != maxAddrs {
		t.Errorf("%d addresses, want %d", len(mx[0].Addrs), maxAddrs)
	}
	if n := len(s.Asked()); n > 4+2*maxMX {
		t.Errorf("it cost %d questions", n)
	}
}

// TestWithoutEDNS has a server from before RFC 6891.
func TestWithoutEDNS(t *testing.T) {
	s := dnstest.Start(t, testZone)
	s.SetHook(func(q *dns.Msg, _ bool) *dns.Msg {
		if q.IsEdns0() != nil {
			return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
		}
		return nil
	})
	d := newTestDirectory(t, s.Addr())
	if got := show(d.mx(t.Context(), "implicit.example")); got != "implicit.example 0 192.0.2.3" {
		t.Error(got)
	}
}

func TestCache(t *testing.T) {
	s := dnstest.Start(t, "kept.example. 300 A 192.0.2.1\nbrief.example. 0 A 192.0.2.2\n")
	d := newTestDirectory(t, s.Addr())
	for range 3 {
		for _, name := range []string{"kept.example", "brief.example", "gone.example"} {
			d.host(t.Context(), name)
		}
	}
	counts := make(map[string]int)
	for _, q := range s.Asked() {
		counts[q]++
	}
	if counts["kept.example. A"] != 1 || counts["gone.example. A"] != 1 || counts["brief.example. A"] != 3 {
		t.Errorf("asked %v", counts)
	}
}

// counted returns what a counter has come to.
func counted(t *testing.T, c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// TestDNSCounted counts what came of questions, and those that none was asked
// for.
func TestDNSCounted(t *testing.T) {
	failing := dnstest.Start(t, "")
	failing.SetHook(func(q *dns.Msg, _ bool) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure) })
	d, broken := newTestDirectory(t, dnstest.Start(t, testZone).Addr()), newTestDirectory(t, failing.Addr())
	count := func() (n [4]float64) {
		for i, result := range []string{"found", "none", "error"} {
			n[i] = counted(t, dnsQuestions.WithLabelValues(result))
		}
		n[3] = counted(t, dnsRemembered.WithLabelValues())
		return n
	}
	before := count()
	for range 2 {
		d.host(t.Context(), "implicit.example") // one A, no AAAA
	}
	broken.txt(t.Context(), "implicit.example")
	after := count()
	for i, want := range []float64{1, 1, 1, 2} {
		if got := after[i] - before[i]; got != want {
			t.Errorf("counter %d grew by %v, want %v", i, got, want)
		}
	}
}

func TestCacheAges(t *testing.T) {
	var c cache
	now := time.Now()
	q := question{"a.example.", dns.TypeA}
	c.put(q, answer{ttl: time.Minute}, now)
	if _, ok := c.get(q, now.Add(59*time.Second)); !ok {
		t.Error("forgotten too early")
	}
	if _, ok := c.get(q, now.Add(time.Minute)); ok {
		t.Error("kept too long")
	}
	for i := range 5 * maxCached {
		c.put(question{fmt.Sprintf("n%d.", i), dns.TypeA}, answer{ttl: time.Hour}, now)
	}
	if n := len(c.young) + len(c.old); n > 2*maxCached {
		t.Errorf("%d answers are kept", n)
	}
}

// TestCoalesce asks the same at once from many places.
func TestCoalesce(t *testing.T) {
	s := dnstest.Start(t, testZone)
	release := make(chan struct{})
	var asked atomic.Int32
	s.SetHook(func(*dns.Msg, bool) *dns.Msg {
		asked.Add(1)
		<-release
		return nil
	})
	d := newTestDirectory(t, s.Addr())
	q := question{"implicit.example.", dns.TypeA}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if a, err := d.resolver.ask(t.Context(), q); err != nil || len(a.records) != 1 {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
	// One that gives up takes nothing from the others.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.resolver.ask(ctx, q); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	close(release)
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "search example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions timeout:3 attempts:4\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r := newResolver(t.Context(), "", path)
	if s := r.servers.current(now); !slices.Equal(s.servers, []string{"192.0.2.53:53", "[2001:db8::53]:53"}) || s.timeout != 3*time.Second || s.tries != 4 {
		t.Errorf("%+v", s)
	}
	// The host moves to another network.
	if err := os.WriteFile(path+".new", []byte("nameserver 198.51.100.53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		now = now.Add(resolvInterval)
		if s := r.servers.current(now); !slices.Equal(s.servers, []string{"198.51.100.53:53"}) || s.timeout != 5*time.Second {
			t.Errorf("after a change: %+v", s)
		}
		os.Remove(path) // what was known last stays
	}
	if s := newResolver(t.Context(), "", path).servers.current(now); !slices.Equal(s.servers, []string{"127.0.0.1:53"}) {
		t.Errorf("without a file: %+v", s)
	}
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:53", "192.0.2.1:5353": "192.0.2.1:5353", "2001:db8::1": "[2001:db8::1]:53", "[2001:db8::1]:5353": "[2001:db8::1]:5353",
	} {
		if got := withPort(in); got != want {
			t.Errorf("withPort(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzDigest checks that whatever a message holds, what is taken from it is
// within budget and fit for use.
func FuzzDigest(f *testing.F) {
	s, err := dnstest.Listen(testZone)
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{"two.example.", "alias.example.", "null.example.", "nowhere.example.", "ring1.example.", "strange.example."} {
		for _, typ := range []uint16{dns.TypeMX, dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeTXT, dns.TypeTLSA} {
			wire, err := s.Answer(new(dns.Msg).SetQuestion(name, typ)).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(wire)
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var m dns.Msg
		if m.Unpack(wire) != nil || len(m.Question) != 1 {
			return
		}
		q := question{strings.ToLower(m.Question[0].Name), m.Question[0].Qtype}
		if verify(&m, q) != nil {
			return
		}
		a, next, err := digest(&m, q)
		if err != nil && (next != "" || a.records != nil) {
			t.Fatalf("an error and more: %+v, %q, %v", a, next, err)
		}
		if len(a.records) > maxRecords || a.ttl < 0 || a.ttl > maxTTL || a.missing && len(a.records) > 0 {
			t.Fatalf("over budget: %+v", a)
		}
		for _, rec := range a.records {
			if !isFit(q.typ, rec) {
				t.Fatalf("unfit record %+v", rec)
			}
		}
	})
}

// isFit reports whether a record is one that a type of question can have, and
// that mail can use.
func isFit(typ uint16, rec record) bool {
	switch typ {
	case dns.TypeMX:
		return rec.name == "" || isHostName(rec.name)
	case dns.TypePTR:
		return isHostName(rec.name)
	case dns.TypeA:
		return rec.addr.Is4() && isHost(rec.addr)
	case dns.TypeAAAA:
		return rec.addr.IsValid() && isHost(rec.addr)
	case dns.TypeTXT:
		return !rec.addr.IsValid() && len(rec.name) <= dns.MaxMsgSize
	case dns.TypeTLSA:
		return rec.name == "" && len(rec.tlsa.Data) <= dns.MaxMsgSize
	}
	return false
}
