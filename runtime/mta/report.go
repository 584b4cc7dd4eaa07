package mta

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"smtpd/compile"
	"smtpd/runtime/filter"
	"smtpd/runtime/mfa"
	"smtpd/runtime/queue"
	"smtpd/runtime/stat"
)

// listeners passes on what filter processes of relay actions want to hear;
// *mfa.Client is one.
type listeners interface {
	Open(ctx context.Context, id compile.FilterID, session uint64) (events, phases []string, err error)
	Tell(ctx context.Context, id compile.FilterID, session uint64, events []filter.Event) error
}

// What may wait to be told of one session. Mail never waits for a program
// that only listens: one that is further behind loses sight of the session.
const (
	maxNews     = 1000
	maxNewsSize = 256 << 10 // bytes of text
	newsCost    = 64        // what an event takes besides its text
)

var reportsLost = stat.Counter("smtpd_mta_filter_sessions_lost_total",
	"Outgoing sessions that filters were told no more of, because they did not keep up or were down.")

// A report is what the filter processes of a relay action are told of one
// session, in order. The nil report tells nobody, at no cost.
type report struct {
	a       *agent
	filter  compile.FilterID
	session uint64
	wake    chan struct{} // capacity 1: news or closed has changed

	mu     sync.Mutex
	news   []filter.Event
	size   int  // of news
	lost   bool // nothing is noted any more
	closed bool // nothing comes any more
}

// report returns the report of session s, which has just connected; nil if
// nobody wants to hear of it.
func (a *agent) report(s *session, nc net.Conn) *report {
	id := s.r.action.Relay.Filter
	if a.listeners == nil || !mfa.Programs(a.rules, id) {
		return nil
	}
	r := &report{a: a, filter: id, session: s.id, wake: make(chan struct{}, 1)}
	connected := filter.Event{At: time.Now(), Name: "link-connect", Text: endText(nc.LocalAddr()) + "|" + endText(nc.RemoteAddr())}
	a.work.Go(func() {
		if err := r.run(a.hard, s.reverse, connected); err != nil && a.hard.Err() == nil {
			reportsLost.WithLabelValues().Inc()
			s.log(a.hard, "mta filter-report-lost", slog.String("reason", printable(err.Error())))
		}
	})
	return r
}

func endText(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok {
		return netip.AddrPortFrom(t.AddrPort().Addr().Unmap().WithZone(""), uint16(t.Port)).String()
	}
	return a.String()
}

// happened notes an event. It does not wait.
func (r *report) happened(event string, fields ...string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := filter.Event{At: time.Now(), Name: event, Text: strings.Join(fields, "|")}
	r.size += len(e.Text) + newsCost
	if r.lost = r.lost || len(r.news) >= maxNews || r.size > maxNewsSize; !r.lost {
		r.news = append(r.news, e)
	}
	r.poke()
}

// close says that the session has ended.
func (r *report) close(err error) {
	if r == nil {
		return
	}
	if errors.Is(err, errTimeout) {
		r.happened("timeout")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.poke()
}

func (r *report) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be told next, and whether nothing follows.
func (r *report) take() (news []filter.Event, lost, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news = r.news
	r.news, r.size = nil, 0
	return news, r.lost, r.closed
}

var errBehind = errors.New("a filter process does not keep up with the session")

// run tells what happens until the session has ended. It begins with who the
// host is, which may take the DNS a while to say.
func (r *report) run(ctx context.Context, host *reverse, connected filter.Event) error {
	select {
	case <-host.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	events, _, err := r.a.listeners.Open(ctx, r.filter, r.session)
	if err != nil {
		r.giveUp()
		return err
	}
	wanted := make(map[string]bool, len(events))
	for _, e := range events {
		wanted[e] = true
	}
	connected.Text = cmp.Or(host.name, "<unknown>") + "|" + host.forward.String() + "|" + connected.Text
	news := []filter.Event{connected}
	for {
		fresh, lost, closed := r.take()
		for _, e := range fresh {
			if wanted[e.Name] {
				news = append(news, e)
			}
		}
		if closed || lost {
			// Whatever it missed, a program learns that it can forget the session.
			news = append(news, filter.Event{At: time.Now(), Name: "link-disconnect"})
		}
		if len(news) > 0 {
			if err := r.a.listeners.Tell(ctx, r.filter, r.session, news); err != nil {
				r.giveUp()
				return err
			}
		}
		news = nil
		switch {
		case lost:
			return errBehind
		case closed:
			return nil
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// giveUp frees what waits, and lets nothing more gather.
func (r *report) giveUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost, r.news = true, nil
}

// result returns the word of the filter protocol for a reply.
func (r reply) result() string {
	switch {
	case r.ok() || r.code == 354:
		return "ok"
	case r.permanent():
		return "permfail"
	}
	return "tempfail"
}

// reportReply tells of the lines of a reply as they came.
func (r *report) reportReply(p reply) {
	if r == nil {
		return
	}
	for i, line := range p.lines {
		mark := " "
		if i < len(p.lines)-1 {
			mark = "-"
		}
		r.happened("protocol-server", strings.TrimRight(fmt.Sprintf("%03d%s%s", p.code, mark, line), " "))
	}
}

// reportTLS tells how the session is secured.
func (r *report) reportTLS(state *tls.ConnectionState) {
	name := tls.CipherSuiteName(state.CipherSuite)
	bits := "128"
	if strings.Contains(name, "AES_256") || strings.Contains(name, "CHACHA20") {
		bits = "256"
	}
	version := strings.TrimSuffix(strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1), ".0")
	r.happened("link-tls", version+":"+name+":"+bits)
}

// msgid names the message in reports.
func (x *transaction) msgid() string { return x.t.envelopes[0].ID.Message().String() }

// reportStep tells of the reply to a command of the transaction.
func (x *transaction) reportStep(s step, r reply) {
	if x.report == nil {
		return
	}
	switch id := x.msgid(); {
	case s.verb == verbMail:
		x.report.happened("tx-begin", id)
		x.report.happened("tx-mail", id, r.result(), x.t.sender.String())
	case !x.mail.ok(): // what follows is refused with it
	case s.verb == verbRcpt:
		ev := &x.t.envelopes[s.rcpt]
		x.report.happened("tx-envelope", id, ev.ID.String())
		x.report.happened("tx-rcpt", id, r.result(), ev.Dest.String())
	case s.verb == verbData:
		x.report.happened("tx-data", id, r.result())
	}
}

// reportEnd tells what became of the transaction. The host may not have heard
// of it.
func (x *transaction) reportEnd(size int64) {
	if x.report == nil || x.mail.code == 0 {
		return
	}
	if x.sent && x.data.code == 0 { // in a chunk
		x.report.happened("tx-data", x.msgid(), "ok")
	}
	delivered := func(i int) bool { return x.t.outcomes[i].Outcome == queue.Delivered }
	if slices.ContainsFunc(x.accepted, delivered) {
		x.report.happened("tx-commit", x.msgid(), strconv.FormatInt(size, 10))
	} else {
		x.report.happened("tx-rollback", x.msgid())
	}
	x.report.happened("tx-reset", x.msgid())
}
