package mta

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/runtime/lka"
	"smtpd/runtime/queue"
)

// TestSourceTable has tables of sources of which some are of no use: the host
// gets the message at the first attempt, from the first that is.
func TestSourceTable(t *testing.T) {
	const (
		foreign = "192.0.2.1" // not of this system, so it cannot be bound
		refused = "127.0.0.6" // the host does not answer it
		unloved = "127.0.0.7" // the host has no good word for it
		other   = "::1"       // of the other family
		stopped = "127.0.0.8" // by the administrator
		unnamed = "127.0.0.9" // not in the table of names
		good    = "127.0.0.5"
	)
	for _, c := range []struct {
		name    string
		sources []string
		calls   []string // sources that the host was called from
		text    string   // why it failed
	}{
		{"good", []string{good, foreign}, []string{good}, ""},
		{"bind error", []string{foreign, good}, []string{foreign, good}, ""},
		{"connect failure", []string{refused, good}, []string{refused, good}, ""},
		{"refused at the greeting", []string{unloved, good}, []string{unloved, good}, ""},
		{"other family", []string{other, good}, []string{good}, ""},
		{"stopped", []string{stopped, good}, []string{good}, ""},
		{"without a name", []string{unnamed, good}, []string{good}, ""},
		{"the last of many", []string{foreign, other, stopped, refused, unloved, good}, []string{foreign, refused, unloved, good}, ""},
		{"none", []string{stopped, foreign, other, refused}, []string{foreign, refused}, "Network error on destination MXs"},
		{"stopped alone", []string{stopped, other}, nil, "All routes to destination blocked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rs := testRules()
			rs.Actions[0].Relay.Src, rs.Actions[0].Relay.HeloSrc = 1, 2
			b := new(remote)
			a, w := newTestAgent(t, rs, b.start(t, "127.0.0.1:0", nil))
			w.fetch, w.lookup = c.sources, make(map[string]string)
			for _, s := range []string{foreign, refused, unloved, "[" + other + "]", stopped, good} {
				w.lookup[s] = "here.example"
			}
			order(t, a, Order{Verb: Pause, Source: stopped, Domain: "remote.example"})
			var calls []string
			dial := a.dial
			a.dial = func(ctx context.Context, d *net.Dialer, addr string) (net.Conn, error) {
				source := d.LocalAddr.(*net.TCPAddr).IP.String()
				calls = append(calls, source)
				switch source {
				case refused:
					return nil, errors.New("refused")
				case unloved:
					ours, theirs := net.Pipe()
					go theirs.Write([]byte("554 5.7.1 not from you\r\n"))
					t.Cleanup(func() { theirs.Close() })
					return ours, nil
				}
				return dial(ctx, d, addr)
			}
			r := deliver(t, a, batch("remote.example", "alice"))
			if c.text != "" {
				if r[0].Outcome != queue.TempFail || r[0].Text != c.text {
					t.Errorf("%+v, want %s", r[0], c.text)
				}
			} else {
				wantOne(t, r, queue.Delivered, "2.0.0", "250")
				if peer := b.messages()[0].peer; !strings.HasPrefix(peer, good+":") {
					t.Errorf("it came from %s", peer)
				}
			}
			if !slices.Equal(calls, c.calls) {
				t.Errorf("called from %v, want %v", calls, c.calls)
			}
		})
	}
}

// TestSourceBusy checks that mail does not wait for a source that has as many
// connections as it may while another has not.
func TestSourceBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs := testRules()
		rs.Actions[0].Relay.Src = 1
		rs.MTA.Limits.MaxConnPerSource = 1
		rs.MTA.Limits.SessionMailMax = 1
		a, w := newTestAgent(t, rs, 25)
		w.fetch = []string{"192.0.2.1", "192.0.2.1", "192.0.2.2"} // out of turn
		f := &farm{active: make(map[string]int), dials: make(map[string][]time.Time)}
		a.dial = f.dial(t, func(source, _, _ string) string { return source })
		start := time.Now()
		done := make(chan time.Duration)
		for _, domain := range []string{"a.example", "b.example"} {
			w.mx[domain] = []lka.MX{mx("mx."+domain, 10, "198.51.100.1")}
			go func() {
				wantOne(t, deliver(t, a, batch(domain, "alice")), queue.Delivered, "2.0.0", "250")
				done <- time.Since(start)
			}()
			synctest.Wait() // the first has its session
		}
		first, second := <-done, <-done
		if first != second {
			t.Errorf("the messages took %v and %v: the second waited for the first", first, second)
		}
	})
}
