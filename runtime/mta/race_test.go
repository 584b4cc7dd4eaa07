package mta

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/runtime/lka"
	"smtpd/runtime/queue"
)

// TestRace has hosts with two families of addresses, of which some answer at
// once, some after a while, some never, and some refuse.
func TestRace(t *testing.T) {
	const v6, v4, six, four = "2001:db8::1", "192.0.2.1", "2001:db8::6", "192.0.2.6"
	for _, c := range []struct {
		name    string
		addrs   string
		answers map[string]string // a time, or "refuse"; missing: never
		want    string            // who wins when, or why nobody does
		called  string
	}{
		{"the first answers", v6 + " " + v4, map[string]string{v6: "10ms", v4: "1ms"}, v6 + " after 10ms", v6},
		{"the first is slow", v6 + " " + v4, map[string]string{v6: "400ms", v4: "1ms"}, v4 + " after 251ms", v6 + " " + v4},
		{"the first is slow, but faster", v6 + " " + v4, map[string]string{v6: "300ms", v4: "100ms"}, v6 + " after 300ms", v6 + " " + v4},
		{"the first is dead", v6 + " " + v4, map[string]string{v4: "1ms"}, v4 + " after 251ms", v6 + " " + v4},
		{"the first refuses", v6 + " " + v4, map[string]string{v6: "refuse", v4: "1ms"}, v4 + " after 1ms", v6 + " " + v4},
		{"families take turns", v6 + " " + six + " " + v4 + " " + four, map[string]string{four: "1ms"}, four + " after 751ms", v6 + " " + v4 + " " + six + " " + four},
		{"all refuse", v6 + " " + v4, map[string]string{v6: "refuse", v4: "refuse"}, "refused", v6 + " " + v4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := newTestAgent(t, testRules(), 25)
				var called []string
				var mu sync.Mutex
				a.dial = func(ctx context.Context, _ *net.Dialer, addr string) (net.Conn, error) {
					host, _, _ := net.SplitHostPort(addr)
					mu.Lock()
					called = append(called, host)
					mu.Unlock()
					switch answer := c.answers[host]; answer {
					case "":
						<-ctx.Done()
						return nil, ctx.Err()
					case "refuse":
						return nil, errors.New("refused")
					default:
						d, _ := time.ParseDuration(answer)
						if pause(ctx, d); ctx.Err() != nil {
							return nil, ctx.Err()
						}
					}
					ours, theirs := net.Pipe()
					t.Cleanup(func() { theirs.Close() })
					return ours, nil
				}
				call := func() string {
					called = nil
					r := a.testRelay("remote.example")
					level := candidates(mx("mx.remote.example", 10, strings.Fields(c.addrs)...))
					start := time.Now()
					s, _, err := a.race(t.Context(), r, a.byHost(level, netip.Addr{})[0], access{}, demand{}, new(blocks))
					if s == nil {
						return err.Error()
					}
					a.routes.ready(s.route())
					a.abandon(call{s, nil})
					return fmt.Sprintf("%v after %v", s.host.addr, time.Since(start))
				}
				if got := call(); got != c.want || strings.Join(called, " ") != c.called {
					t.Errorf("%s, called %v; want %s, called %s", got, called, c.want, c.called)
				}
				// Whoever won is the first to be called from then on.
				if winner, _, ok := strings.Cut(c.want, " after "); ok && slices.Contains([]string{v6, v4}, winner) {
					if call(); called[0] != winner {
						t.Errorf("the next time %v were called", called)
					}
				}
			})
		})
	}
}

// TestSharedConnection checks that domains with the same exchanger share the
// connection to it, and that those do not of which one asks for more.
func TestSharedConnection(t *testing.T) {
	cert := newCertificate(t, policyHost)
	b := new(remote)
	port := b.startTLS(t, cert)
	rs := testRules()
	rs.MTA.Limits.SessionKeepalive = 100_000
	a, w := newTestAgent(t, rs, port, func(c *Config) { c.Roots = authorities(cert); c.Roots[""] = c.Roots["test"] })
	host := mx(policyHost, 10, "127.0.0.1")
	for _, d := range []string{"one.example", "two.example", "three.example"} {
		w.mx[d] = []lka.MX{host}
	}
	secure := host
	secure.Secure = true
	w.mx["signed.example"], w.mx["other.example"] = []lka.MX{secure}, []lka.MX{mx("alias.remote.example", 10, "127.0.0.1")}
	w.secure = true
	w.tlsa = map[string][]lka.TLSA{fmt.Sprintf("_%d._tcp.%s", port, policyHost): policyCase{dane: "own key"}.tlsaFor(&tlsServer{leaf: cert.leaf})}
	for _, step := range []struct {
		domain string
		conns  int
	}{
		{"one.example", 1}, {"two.example", 1}, {"three.example", 1}, {"one.example", 1},
		{"signed.example", 2}, // DANE was not asked of the first
		{"two.example", 2}, {"signed.example", 2},
		{"other.example", 3}, // another name for the same address
	} {
		wantOne(t, deliver(t, a, batch(step.domain, "alice")), queue.Delivered, "2.0.0", "250")
		if n := strings.Count(w.logged(), `msg="mta connected"`); n != step.conns {
			t.Errorf("after mail to %s: %d connections, want %d", step.domain, n, step.conns)
		}
	}
	if log := w.logged(); !strings.Contains(log, "policy=dane tls=verified") || strings.Count(log, "policy=opportunistic tls=verified") != 5 {
		t.Errorf("log:\n%s", log)
	}
}

// TestConcludedByItsRelay has a session become another relay's when its task is
// not concluded yet. What the host put off is still offered to the other hosts
// of the domain that it is for, which the other relay does not have.
func TestConcludedByItsRelay(t *testing.T) {
	backup := new(remote)
	port := backup.start(t, "127.0.0.2:0", nil)
	rs := testRules()
	rs.MTA.Limits.SessionKeepalive = 0
	a, w := newTestAgent(t, rs, port)
	w.mx["remote.example"] = twoMX()
	w.mx["other.example"] = w.mx["remote.example"][:1]
	one, other := a.testRelay("remote.example"), a.testRelay("other.example")

	var s *session
	a.dial = func(ctx context.Context, d *net.Dialer, addr string) (net.Conn, error) {
		if !strings.HasPrefix(addr, "127.0.0.1:") {
			return d.DialContext(ctx, "tcp", addr)
		}
		ours, theirs := net.Pipe()
		a.work.Go(func() {
			defer theirs.Close()
			r := bufio.NewReader(theirs)
			for _, reply := range []string{"220 x\r\n", "250 x\r\n", "250 ok\r\n", "450 4.2.1 later\r\n", "250 reset\r\n", "221 bye\r\n"} {
				if strings.HasPrefix(reply, "450") {
					s.r = other // the next words of the session are of this
				}
				io.WriteString(theirs, reply)
				next(r, false)
			}
		})
		return ours, nil
	}
	var err error
	if s, err = a.connect(t.Context(), one, nil, false); err != nil {
		t.Fatal(err)
	}
	b := batch("remote.example", "alice")
	put := newTask(t.Context(), b[0].Sender, b)
	one.waiting = []*task{put}
	s.serve()
	<-put.done
	wantOne(t, []queue.Result{put.outcomes[0].Result}, queue.Delivered, "2.0.0", "250")
}

// testRelay returns the relay for a domain, as submit would make it.
func (a *agent) testRelay(domain string) *relay {
	return &relay{
		a: a, action: &a.rules.Actions[0], limits: a.rules.MTA.Limits,
		dest: destination{name: domain, byMX: true, smarthost: smarthost{mode: opportunistic}},
	}
}

// TestManyDomainsOneHost has more domains than connections at one exchanger,
// none of which may wait for the idle time of another.
func TestManyDomainsOneHost(t *testing.T) {
	rs := testRules()
	rs.MTA.Limits.SessionKeepalive, rs.MTA.Limits.MaxConnPerRoute = 100_000, 2
	b := new(remote)
	a, w := newTestAgent(t, rs, b.start(t, "127.0.0.1:0", nil))
	a.log = slog.New(slog.DiscardHandler)
	const domains = 200
	for i := range domains {
		w.mx[fmt.Sprintf("d%d.example", i)] = w.mx["remote.example"]
	}
	start := time.Now()
	var wg sync.WaitGroup
	for i := range domains {
		wg.Go(func() {
			wantOne(t, deliver(t, a, batch(fmt.Sprintf("d%d.example", i), "alice")), queue.Delivered, "2.0.0", "250")
		})
	}
	wg.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	// How many is up to the scheduler: a session may be ended to make room right
	// before it could have been shared.
	if b.conns > domains/2 {
		t.Errorf("%d connections for %d domains", b.conns, domains)
	}
	t.Logf("%d connections, %v", b.conns, time.Since(start))
}
