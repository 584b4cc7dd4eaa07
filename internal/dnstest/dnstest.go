// Package dnstest serves DNS zones from memory, for tests: mail routes,
// reverse names, and every answer that a hostile server could give. It
// answers over UDP and TCP on one port of the loopback interface.
package dnstest

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// A Server answers for the names of its zone; it knows no others, and says
// so with NXDOMAIN.
type Server struct {
	addr     string
	udp, tcp *dns.Server
	done     sync.WaitGroup

	mu    sync.Mutex
	hook  Hook
	names map[string][]dns.RR // by lower case name
	asked []string
}

// A Hook answers a question in place of the zone, unless it returns nil.
type Hook func(q *dns.Msg, tcp bool) *dns.Msg

// Drop is an answer that is not sent.
var Drop = new(dns.Msg)

// Start serves zone until the test ends. The text is that of a zone file
// with $ORIGIN ".": names are absolute whether or not they end in a dot.
func Start(tb testing.TB, zone string) *Server {
	tb.Helper()
	s, err := Listen(zone)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// Listen serves zone until Close.
func Listen(zone string) (*Server, error) {
	pc, l, err := listen()
	if err != nil {
		return nil, err
	}
	return serve(zone, pc, l)
}

// ListenOn is Listen at an address, for who can be told no port.
func ListenOn(addr, zone string) (*Server, error) {
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		pc.Close()
		return nil, err
	}
	return serve(zone, pc, l)
}

func serve(zone string, pc net.PacketConn, l net.Listener) (*Server, error) {
	s := &Server{}
	if err := s.Set(zone); err != nil {
		return nil, errors.Join(err, pc.Close(), l.Close())
	}
	s.addr = pc.LocalAddr().String()
	s.udp = &dns.Server{PacketConn: pc, Handler: s.handler(false)}
	s.tcp = &dns.Server{Listener: l, Handler: s.handler(true)}
	var started sync.WaitGroup
	for _, srv := range []*dns.Server{s.udp, s.tcp} {
		started.Add(1)
		srv.NotifyStartedFunc = started.Done
		s.done.Go(func() { srv.ActivateAndServe() })
	}
	started.Wait()
	return s, nil
}

// listen finds a port that is free for both protocols.
func listen() (net.PacketConn, net.Listener, error) {
	var err error
	for range 20 {
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			break
		}
		var pc net.PacketConn
		if pc, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			return pc, l, nil
		}
		l.Close()
	}
	return nil, nil, fmt.Errorf("listen for DNS: %w", err)
}

// Addr returns host:port.
func (s *Server) Addr() string { return s.addr }

// Close ends the service.
func (s *Server) Close() {
	s.udp.Shutdown()
	s.tcp.Shutdown()
	s.done.Wait()
}

// Set replaces the zone.
func (s *Server) Set(zone string) error {
	names := make(map[string][]dns.RR)
	p := dns.NewZoneParser(strings.NewReader(zone), ".", "zone")
	p.SetDefaultTTL(3600)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		name := strings.ToLower(rr.Header().Name)
		names[name] = append(names[name], rr)
	}
	if err := p.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = names
	return nil
}

// SetHook lets h answer from now on.
func (s *Server) SetHook(h Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = h
}

// Asked returns the questions so far, as "name TYPE", sorted.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.asked))
}

func (s *Server) handler(tcp bool) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		if len(q.Question) != 1 {
			return
		}
		s.mu.Lock()
		s.asked = append(s.asked, q.Question[0].Name+" "+dns.TypeToString[q.Question[0].Qtype])
		hook := s.hook
		s.mu.Unlock()
		m := s.reply(q, hook, tcp)
		if m == Drop {
			return
		}
		w.WriteMsg(m)
	}
}

func (s *Server) reply(q *dns.Msg, hook Hook, tcp bool) *dns.Msg {
	if hook != nil {
		if m := hook(q, tcp); m != nil {
			return m
		}
	}
	m := s.Answer(q)
	if !tcp {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		m.Truncate(size)
	}
	return m
}

// Answer returns what the zone says to q. CNAMEs are followed within it.
func (s *Server) Answer(q *dns.Msg) *dns.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	m.Compress = true
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(opt.UDPSize(), false)
	}
	name, want := q.Question[0].Name, q.Question[0].Qtype
	for range 16 {
		rrs, ok := s.names[strings.ToLower(name)]
		if !ok && !s.hasBelow(name) {
			m.Rcode = dns.RcodeNameError
		}
		next := ""
		for _, rr := range rrs {
			switch {
			case rr.Header().Rrtype == want:
				m.Answer = append(m.Answer, rr)
			case rr.Header().Rrtype == dns.TypeCNAME:
				m.Answer = append(m.Answer, rr)
				next = rr.(*dns.CNAME).Target
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, soa(name))
	}
	return m
}

// hasBelow reports whether a name exists for having others below it.
func (s *Server) hasBelow(name string) bool {
	for n := range s.names {
		if strings.HasSuffix(n, "."+strings.ToLower(name)) {
			return true
		}
	}
	return false
}

func soa(name string) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
		Ns:  "ns.invalid.", Mbox: "hostmaster.invalid.", Serial: 1, Refresh: 3600, Retry: 3600, Expire: 3600,
		Minttl: 60,
	}
}
