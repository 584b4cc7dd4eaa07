package lka

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"smtpd/runtime/stat"
)

// Budgets of one question. No answer, however it was made, costs more.
const (
	maxChain    = 8  // CNAMEs on the way to a name
	maxRecords  = 64 // kept of an answer
	maxFlights  = 256
	maxTTL      = 24 * time.Hour
	maxNegative = time.Hour
	flightTime  = 30 * time.Second // for all servers and tries together
	udpSize     = 1232             // what passes every path unfragmented
)

// A question is what a name server is asked. The name is in lower case and
// ends in a dot.
type question struct {
	name string
	typ  uint16
}

// A record is the part of a resource record that mail needs.
type record struct {
	name string // MX, PTR: without trailing dot, "" is the root; TXT: the text
	pref uint16
	addr netip.Addr // A, AAAA
	tlsa TLSA
}

// An answer is what the name servers say of a question. Without records the
// name exists and has none of the type, unless missing.
type answer struct {
	records   []record
	missing   bool   // NXDOMAIN
	secure    bool   // a server that is trusted says that DNSSEC vouches for it
	canonical string // where CNAMEs led, without trailing dot; "" without any
	ttl       time.Duration
}

// Errors of a question: none of them says anything about the name.
var (
	errChain   = errors.New("too long a chain of CNAME records")
	errForeign = errors.New("answer to another question")
	errLame    = errors.New("server does not answer for others")
)

// A resolver asks name servers. It is safe for concurrent use; equal
// questions at the same time are asked once.
type resolver struct {
	servers servers

	ctx     context.Context // of the questions under way
	flights sync.WaitGroup
	slots   chan struct{}

	mu    sync.Mutex
	under map[question]*flight
	cache cache
}

// A flight is a question under way.
type flight struct {
	done   chan struct{}
	answer answer
	err    error
}

// newResolver returns a resolver whose questions end with ctx. It asks
// server, or those of the file resolvConf if server is empty.
func newResolver(ctx context.Context, server, resolvConf string) *resolver {
	r := &resolver{ctx: ctx, slots: make(chan struct{}, maxFlights), under: make(map[question]*flight)}
	if server != "" {
		r.servers.fix(settings{servers: []string{withPort(server)}})
	} else {
		r.servers.path = resolvConf
	}
	return r
}

// wait returns when no question is under way. The context must have ended.
func (r *resolver) wait() { r.flights.Wait() }

// ask returns the answer to a question from the cache or from a server. An
// error means that no server could say.
func (r *resolver) ask(ctx context.Context, q question) (answer, error) {
	r.mu.Lock()
	if a, ok := r.cache.get(q, time.Now()); ok {
		r.mu.Unlock()
		dnsRemembered.WithLabelValues().Inc()
		return a, nil
	}
	f := r.under[q]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		r.under[q] = f
		// The question outlives whoever asks it first: others may wait too.
		r.flights.Go(func() { r.fly(q, f) })
	}
	r.mu.Unlock()
	select {
	case <-f.done:
		return f.answer, f.err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

func (r *resolver) fly(q question, f *flight) {
	ctx, cancel := context.WithTimeout(r.ctx, flightTime)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		began := time.Now()
		f.answer, f.err = r.chase(ctx, q)
		<-r.slots
		countDNS(began, f)
	case <-ctx.Done():
		f.err = ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.under, q)
	if f.err == nil {
		r.cache.put(q, f.answer, time.Now())
	}
	close(f.done)
}

// What is counted of questions to name servers.
var (
	dnsQuestions  = stat.Counter("smtpd_dns_questions_total", "Questions that name servers were asked.", "result")
	dnsRemembered = stat.Counter("smtpd_dns_cache_hits_total", "Questions that were answered from what was remembered.")
	dnsSeconds    = stat.Histogram("smtpd_dns_seconds", "Time that answers of name servers took.")
)

func countDNS(began time.Time, f *flight) {
	result := "found"
	switch {
	case f.err != nil:
		result = "error"
	case len(f.answer.records) == 0:
		result = "none"
	}
	dnsQuestions.WithLabelValues(result).Inc()
	dnsSeconds.WithLabelValues().Observe(time.Since(began).Seconds())
}

// chase asks on when an answer ends in a CNAME to a name it has nothing of.
func (r *resolver) chase(ctx context.Context, q question) (answer, error) {
	whole := answer{ttl: maxTTL, secure: true} // what holds of every step
	for range maxChain {
		m, err := r.exchange(ctx, q)
		if err != nil {
			return answer{}, err
		}
		a, next, err := digest(m, q)
		if err != nil {
			return answer{}, err
		}
		whole.ttl = min(whole.ttl, a.ttl)
		whole.secure = whole.secure && a.secure
		whole.canonical = cmp.Or(a.canonical, whole.canonical)
		if next == "" {
			whole.records, whole.missing = a.records, a.missing
			return whole, nil
		}
		q.name = next
	}
	return answer{}, errChain
}

// exchange tries every server in turn, and all of them again, until one
// gives an answer that is about the name.
func (r *resolver) exchange(ctx context.Context, q question) (*dns.Msg, error) {
	var last error
	s := r.servers.current(time.Now())
	for range s.tries {
		for _, server := range s.servers {
			if ctx.Err() != nil {
				return nil, cmp.Or(last, ctx.Err())
			}
			t := trial{server, q, s.timeout, s.trusts(server)}
			m, err := t.run(ctx)
			if err == nil {
				return m, nil
			}
			last = fmt.Errorf("%s %s at %s: %w", q.name, dns.TypeToString[q.typ], server, err)
		}
	}
	return nil, last
}

// A trial is a question to one server.
type trial struct {
	server string
	question
	timeout time.Duration
	trusted bool // the server may say what is authentic
}

// run asks by UDP, without EDNS if that is what the server chokes on, and by
// TCP if the answer does not fit.
func (t *trial) run(ctx context.Context) (*dns.Msg, error) {
	m, err := t.send(ctx, "udp", true)
	if err == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented || m.Rcode == dns.RcodeBadVers) {
		m, err = t.send(ctx, "udp", false)
	}
	if m != nil && m.Truncated {
		m, err = t.send(ctx, "tcp", true)
	}
	if err != nil {
		return nil, err
	}
	// Anyone on the way from a server that is not trusted could have set it.
	m.AuthenticatedData = m.AuthenticatedData && t.trusted
	return m, verify(m, t.question)
}

func (t *trial) send(ctx context.Context, network string, edns bool) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(t.name, t.typ)
	// RFC 6840, section 5.7: with this in a question the answer says whether
	// it is authentic, and need not hold the signatures.
	m.AuthenticatedData = t.trusted
	if edns {
		m.SetEdns0(udpSize, false)
	}
	c := dns.Client{Net: network, Timeout: t.timeout}
	conn, err := c.DialContext(ctx, t.server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The client looks at ctx only for its deadline: without this the end of
	// the daemon would wait for the slowest server.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	reply, _, err := c.ExchangeWithConnContext(ctx, m, conn)
	return reply, err
}

// verify returns an error unless m answers q with something to rely on.
func verify(m *dns.Msg, q question) error {
	if !m.Response || len(m.Question) != 1 || !strings.EqualFold(m.Question[0].Name, q.name) ||
		m.Question[0].Qtype != q.typ || m.Question[0].Qclass != dns.ClassINET {
		return errForeign
	}
	switch m.Rcode {
	case dns.RcodeNameError:
		return nil
	case dns.RcodeSuccess:
		// A referral is no answer; taken for "no MX" it would misroute mail.
		if len(m.Answer) == 0 && !m.Authoritative && !m.RecursionAvailable {
			return errLame
		}
		return nil
	}
	return errors.New(dns.RcodeToString[m.Rcode])
}

// digest returns what an answer says to q, or the name to ask next.
func digest(m *dns.Msg, q question) (a answer, next string, err error) {
	a.ttl, a.secure = maxTTL, m.AuthenticatedData
	name := q.name
	for hops := 0; ; hops++ {
		a.records, a.ttl = records(m, name, q.typ, a.ttl)
		if len(a.records) > 0 {
			return a, "", nil
		}
		target, ttl, ok := alias(m, name)
		if !ok {
			break
		}
		if hops == maxChain {
			return answer{}, "", errChain
		}
		name, a.ttl = target, min(a.ttl, ttl)
		a.canonical = strings.TrimSuffix(name, ".")
	}
	a.missing = m.Rcode == dns.RcodeNameError
	if name != q.name && !a.missing && !isNegative(m) {
		return a, name, nil
	}
	a.ttl = min(a.ttl, negativeTTL(m))
	return a, "", nil
}

// records returns the records of name, best first.
func records(m *dns.Msg, name string, typ uint16, ttl time.Duration) ([]record, time.Duration) {
	var found []record
	for _, rr := range m.Answer {
		h := rr.Header()
		if h.Rrtype != typ || h.Class != dns.ClassINET || !strings.EqualFold(h.Name, name) {
			continue
		}
		rec, ok := newRecord(rr)
		if !ok {
			continue
		}
		ttl = min(ttl, time.Duration(h.Ttl)*time.Second)
		found = append(found, rec)
	}
	slices.SortStableFunc(found, func(a, b record) int { return cmp.Compare(a.pref, b.pref) })
	found = found[:min(len(found), maxRecords)]
	return slices.Clip(found), ttl
}

// newRecord takes a resource record apart. What no mail could use is left
// out, so that nothing later has to look: names that are no host names,
// addresses that are no hosts.
func newRecord(rr dns.RR) (record, bool) {
	switch rr := rr.(type) {
	case *dns.MX:
		host := strings.TrimSuffix(rr.Mx, ".")
		return record{name: host, pref: rr.Preference}, host == "" || isHostName(host)
	case *dns.PTR:
		host := strings.TrimSuffix(rr.Ptr, ".")
		return record{name: host}, isHostName(host)
	case *dns.A:
		addr, ok := netip.AddrFromSlice(rr.A.To4())
		return record{addr: addr}, ok && isHost(addr)
	case *dns.AAAA:
		addr, ok := netip.AddrFromSlice(rr.AAAA.To16())
		addr = addr.Unmap()
		return record{addr: addr}, ok && isHost(addr)
	case *dns.TXT:
		return record{name: strings.Join(rr.Txt, "")}, true
	case *dns.TLSA:
		data, err := hex.DecodeString(rr.Certificate)
		return record{tlsa: TLSA{rr.Usage, rr.Selector, rr.MatchingType, data}}, err == nil
	}
	return record{}, false
}

func isHost(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// alias returns the target of name's CNAME.
func alias(m *dns.Msg, name string) (target string, ttl time.Duration, ok bool) {
	for _, rr := range m.Answer {
		if c, ok := rr.(*dns.CNAME); ok && c.Hdr.Class == dns.ClassINET && strings.EqualFold(c.Hdr.Name, name) {
			return strings.ToLower(c.Target), time.Duration(c.Hdr.Ttl) * time.Second, true
		}
	}
	return "", 0, false
}

// isNegative reports whether m says that there is nothing, which is what a
// SOA in its authority section means (RFC 2308, section 2.2).
func isNegative(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}

// negativeTTL returns how long it may be believed that there is nothing
// (RFC 2308, section 5); not at all without a SOA.
func negativeTTL(m *dns.Msg) time.Duration {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second, maxNegative)
		}
	}
	return 0
}

// A cache keeps answers until they are too old. It holds two generations:
// when the young one is full it becomes the old one, whose answers are
// forgotten unless they are asked for again.
type cache struct {
	young, old map[question]cached
}

type cached struct {
	answer
	until time.Time
}

const maxCached = 8192 // answers of a generation

func (c *cache) get(q question, now time.Time) (answer, bool) {
	e, ok := c.young[q]
	if !ok {
		if e, ok = c.old[q]; ok {
			c.set(q, e)
		}
	}
	return e.answer, ok && now.Before(e.until)
}

func (c *cache) put(q question, a answer, now time.Time) {
	if a.ttl > 0 {
		c.set(q, cached{a, now.Add(a.ttl)})
	}
}

func (c *cache) set(q question, e cached) {
	if c.young == nil || len(c.young) >= maxCached {
		c.old, c.young = c.young, make(map[question]cached)
	}
	c.young[q] = e
}
