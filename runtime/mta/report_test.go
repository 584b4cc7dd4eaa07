package mta

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"smtpd/compile"
	"smtpd/runtime/filter"
	"smtpd/runtime/lka"
	"smtpd/runtime/queue"
)

// An ear hears what filters of relay actions are told.
type ear struct {
	wants []string
	err   error         // of opening
	hold  chan struct{} // if not nil, nothing is taken until it is closed

	mu    sync.Mutex
	heard []string
	gone  chan struct{} // closed when a session has ended
}

func newEar(wants ...string) *ear { return &ear{wants: wants, gone: make(chan struct{})} }

func (e *ear) Open(context.Context, compile.FilterID, uint64) (events, phases []string, err error) {
	return e.wants, nil, e.err
}

func (e *ear) Tell(ctx context.Context, _ compile.FilterID, _ uint64, events []filter.Event) error {
	if e.hold != nil {
		select {
		case <-e.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range events {
		e.heard = append(e.heard, v.Name+"|"+v.Text)
		if v.Name == "link-disconnect" {
			close(e.gone)
		}
	}
	return nil
}

var allEvents = []string{
	"link-connect", "link-greeting", "link-identify", "link-tls", "link-auth", "link-disconnect", "tx-reset", "tx-begin", "tx-mail",
	"tx-rcpt", "tx-envelope", "tx-data", "tx-commit", "tx-rollback", "protocol-client", "protocol-server", "timeout",
}

// reportRules has a filter process at the relay action.
func reportRules() *compile.Ruleset {
	rs := testRules()
	rs.MTA.Limits.SessionMailMax = 1 // so that QUIT follows at once
	rs.Filters = []compile.Filter{{Name: "ear", Proc: "ear"}}
	rs.Actions[0].Relay.Filter = 1
	return rs
}

// ports stands for the numbers of ports.
var ports = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

func (e *ear) all() []string {
	<-e.gone
	e.mu.Lock()
	defer e.mu.Unlock()
	l := slices.Clone(e.heard)
	for i := range l {
		l[i] = ports.ReplaceAllString(l[i], "ADDR")
	}
	return l
}

func TestReport(t *testing.T) {
	e := newEar(allEvents...)
	p := &peer{script: slices.Insert(slices.Clone(goodScript), 4, "550-5.1.1 no\r\n550 5.1.1 such user\r\n"), limit: -1}
	a, _ := newTestAgent(t, reportRules(), p.start(t))
	a.listeners = e
	r := deliver(t, a, batch("remote.example", "alice", "carol"))
	if r[0].Outcome != queue.Delivered || r[1].Outcome != queue.PermFail {
		t.Errorf("results %+v", r)
	}
	want := `link-connect|<unknown>|fail|ADDR|ADDR
protocol-server|220 remote ESMTP
link-greeting|remote
protocol-client|EHLO here.example
protocol-server|250-remote
protocol-server|250 SIZE 1000
link-identify|EHLO|here.example
protocol-client|MAIL FROM:<bob@example.net> SIZE=30
protocol-server|250 2.1.0 ok
tx-begin|12345678
tx-mail|12345678|ok|bob@example.net
protocol-client|RCPT TO:<alice@remote.example>
protocol-server|250 2.1.5 ok
tx-envelope|12345678|1234567800000001
tx-rcpt|12345678|ok|alice@remote.example
protocol-client|RCPT TO:<carol@remote.example>
protocol-server|550-5.1.1 no
protocol-server|550 5.1.1 such user
tx-envelope|12345678|1234567800000002
tx-rcpt|12345678|permfail|carol@remote.example
protocol-client|DATA
protocol-server|354 go
tx-data|12345678|ok
protocol-client|.
protocol-server|250 2.0.0 queued
tx-commit|12345678|30
tx-reset|12345678
protocol-client|QUIT
protocol-server|221 bye
link-disconnect|`
	if got := strings.Join(e.all(), "\n"); got != want {
		t.Errorf("heard:\n%s\nwant:\n%s", got, want)
	}
}

// TestReportWanted tells nobody what nobody has asked for, and a rollback where
// nothing was sent.
func TestReportWanted(t *testing.T) {
	e := newEar("tx-rollback", "tx-commit")
	p := &peer{script: append(slices.Clone(goodScript[:3]), "450 later\r\n", "250 reset\r\n", "221 bye\r\n"), limit: -1}
	a, _ := newTestAgent(t, reportRules(), p.start(t))
	a.listeners = e
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.TempFail, "4.0.0", "later")
	if got := e.all(); !slices.Contains(got, "tx-rollback|12345678") || slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "protocol") }) {
		t.Errorf("heard %q", got)
	}
}

// TestReportSecret checks that no password is told.
func TestReportSecret(t *testing.T) {
	for _, parts := range [][]string{{"AUTH PLAIN ", "c2VjcmV0"}, {"c2VjcmV0"}, {"AUTH LOGIN"}} {
		c := &conn{secret: true}
		if got := c.shown(parts); strings.Contains(got, "c2VjcmV0") || !strings.Contains(got, "AUTH") && got != "********" {
			t.Errorf("%q is shown as %q", parts, got)
		}
	}
}

// TestReportDown relays although no filter can be told.
func TestReportDown(t *testing.T) {
	e := newEar()
	e.err = errors.New("down")
	a, w := newTestAgent(t, reportRules(), (&peer{script: goodScript, limit: -1}).start(t))
	a.listeners = e
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.Delivered, "2.0.0", "queued")
	a.work.Wait()
	if !strings.Contains(w.logged(), `msg="mta filter-report-lost"`) {
		t.Errorf("logged %s", w.logged())
	}
}

// TestReportSlow checks that a program which takes nothing holds up no session,
// that what waits for it is bounded, and that it hears in the end that the
// session is over.
func TestReportSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEar("protocol-client")
		e.hold = make(chan struct{})
		host := &reverse{done: make(chan struct{}), forward: lka.Pass}
		close(host.done)
		r := &report{a: &agent{listeners: e}, wake: make(chan struct{}, 1)}
		ended := make(chan error, 1)
		go func() { ended <- r.run(t.Context(), host, filter.Event{Name: "link-connect"}) }()
		synctest.Wait()
		for i := range 10 * maxNews {
			r.happened("protocol-client", fmt.Sprintf("%01000d", i))
		}
		r.mu.Lock()
		n, size := len(r.news), r.size
		r.mu.Unlock()
		if n == 0 || n > maxNews || n*1000 > maxNewsSize {
			t.Errorf("%d events wait, of %d bytes", n, size)
		}
		close(e.hold)
		if err := <-ended; !errors.Is(err, errBehind) {
			t.Errorf("ended with %v", err)
		}
		got := e.all()
		if len(got) != n+2 || got[0] != "link-connect|<unknown>|pass|" || got[n+1] != "link-disconnect|" {
			t.Errorf("heard %d events, the last %.40q", len(got), got[len(got)-1])
		}
	})
}

// TestReportEnded ends with the agent, whatever a program does.
func TestReportEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEar()
		e.hold = make(chan struct{})
		host := &reverse{done: make(chan struct{})}
		close(host.done)
		r := &report{a: &agent{listeners: e}, wake: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.run(ctx, host, filter.Event{}) }()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}
