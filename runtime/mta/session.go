package mta

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"smtpd/runtime/lka"
)

const (
	// connectTimeout bounds how long a host is called before the next one is.
	connectTimeout = 30 * time.Second

	// dialogueTimeout bounds each later read and write.
	dialogueTimeout = 300 * time.Second

	defaultPort      = 25
	defaultSMTPSPort = 465

	// maxFruitless is how many transactions in a row may deliver nothing
	// before a session ends.
	maxFruitless = 10
)

// A session is a connection to a host, past its greeting and all that comes
// before the first message.
type session struct {
	a      *agent
	r      *relay
	id     uint64
	host   candidate
	access access
	limits []limit
	conn   *conn
	stop   func() bool // of closing the connection when the context ends
	caps   caps

	demand demand // what is asked of TLS
	tls    bool
	proof  proof
	doubt  *policyError // why there is no proof

	reverse *reverse
	report  *report

	rested    bool // it has been idle
	mails     int
	refused   int // recipients in a row
	fruitless int // transactions in a row
}

// caps are what a host offered in its reply to EHLO.
type caps struct {
	startTLS, pipelining, chunking, dsn, eightBit, utf8, requireTLS bool
	authPlain, authLogin                                            bool
	size                                                            int64 // 0: no limit known
}

// errDowngrade is returned, wrapped, when TLS failed where clear text is allowed.
var errDowngrade = errors.New("opportunistic TLS failed, downgrading to plain")

// portOf returns the port that hosts of r are called at.
func (a *agent) portOf(r *relay) uint16 {
	if r.dest.mode == smtps {
		return cmp.Or(r.dest.port, uint16(defaultSMTPSPort))
	}
	return cmp.Or(r.dest.port, a.port)
}

// route returns the way that s goes.
func (s *session) route() routeKey { return routeKey{s.access.source, s.host.addr} }

// dial connects to the host.
func (s *session) dial(ctx context.Context) error {
	to := netip.AddrPortFrom(s.host.addr, s.a.portOf(s.r)).String()
	s.log(ctx, "mta connecting", slog.String("address", s.r.dest.mode.String()+"://"+to), slog.String("host", s.host.host))
	dialer := net.Dialer{Timeout: connectTimeout}
	if s.access.source.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.access.source, 0))
	}
	nc, err := s.a.dial(ctx, &dialer, to)
	if err == nil {
		s.conn = newConn(nc, s.a.timeout)
	}
	return err
}

// greet says all that comes before the first message; clear says to do without
// TLS. After an error the connection is closed.
func (s *session) greet(ctx context.Context, clear bool) error {
	nc := s.conn.nc
	s.lookUpName(ctx)
	s.log(ctx, "mta connected")
	s.report = s.a.report(s, nc)
	s.conn.report = s.report
	s.stop = context.AfterFunc(ctx, func() { nc.Close() })
	err := s.setUp(ctx, clear)
	s.stop()
	if err != nil {
		nc.Close()
		s.report.close(err)
		return err
	}
	// From here on there is something to lose.
	s.stop = context.AfterFunc(s.a.hard, func() { nc.Close() })
	return nil
}

// A reverse is the name of a host, perhaps not known yet.
type reverse struct {
	done    chan struct{} // closed when the rest is set
	name    string        // "" if there is none
	forward lka.FCrDNS
}

// lookUpName asks for the reverse name of the host, for logs and reports.
func (s *session) lookUpName(ctx context.Context) {
	r := &reverse{done: make(chan struct{}), forward: lka.Error}
	s.reverse = r
	a, route := s.a, s.route()
	a.work.Go(func() {
		defer close(r.done)
		if name, forward, err := a.tables.PTR(ctx, route.host); err == nil {
			r.name, r.forward = name, forward
			a.routes.named(route, name)
		}
	})
}

// relayText names the host in logs.
func (s *session) relayText() string {
	name := ""
	select {
	case <-s.reverse.done:
		name = s.reverse.name
	default:
	}
	return s.host.addr.String() + " (" + cmp.Or(name, s.host.host) + ")"
}

// sourceText names a local address in logs.
func sourceText(a netip.Addr) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

// replyError is a refusal of something before the first message.
func replyError(step string, r reply) error { return fmt.Errorf("%s rejected: %s", step, r.text) }

// setUp speaks with the host until it is ready for messages.
func (s *session) setUp(ctx context.Context, clear bool) error {
	m := s.r.dest.mode
	if m == smtps {
		if err := s.startTLS(ctx); err != nil {
			return err
		}
	}
	greeting, err := s.conn.recv()
	if err != nil {
		return err
	}
	if !greeting.ok() {
		return replyError("connection", greeting)
	}
	name, _, _ := strings.Cut(greeting.lines[0], " ")
	s.report.happened("link-greeting", name)
	if err := s.hello(); err != nil {
		return err
	}
	switch {
	case m == smtps || s.demand.policy == policyNone:
	case clear:
		s.countClear()
	default:
		if err := s.upgrade(ctx); err != nil {
			return err
		}
	}
	if s.access.user == "" {
		return nil
	}
	return s.authenticate()
}

// hello says EHLO, or what comes closest, and notes what the host offers.
func (s *session) hello() error {
	verb := "EHLO "
	if s.r.dest.mode == lmtp {
		verb = "LHLO "
	}
	s.caps = caps{}
	r, err := s.conn.cmd(verb, s.access.helo)
	if err != nil {
		return err
	}
	if r.ok() {
		s.caps = parseCaps(r.lines[1:])
		s.report.happened("link-identify", strings.TrimSpace(verb), s.access.helo)
		return nil
	}
	if s.demand.required || s.access.user != "" || s.r.dest.mode == lmtp {
		return replyError(strings.TrimSpace(verb), r)
	}
	r, err = s.conn.cmd("HELO ", s.access.helo)
	switch {
	case err != nil:
		return err
	case !r.ok():
		return replyError("HELO", r)
	}
	s.report.happened("link-identify", "HELO", s.access.helo)
	return nil
}

// parseCaps reads the lines of a reply to EHLO after the first.
func parseCaps(lines []string) caps {
	var c caps
	for _, line := range lines {
		word, args, _ := strings.Cut(line, " ")
		switch strings.ToUpper(word) {
		case "STARTTLS":
			c.startTLS = true
		case "PIPELINING":
			c.pipelining = true
		case "CHUNKING":
			c.chunking = true
		case "DSN":
			c.dsn = true
		case "8BITMIME":
			c.eightBit = true
		case "SMTPUTF8":
			c.utf8 = true
		case "REQUIRETLS":
			c.requireTLS = true
		case "SIZE":
			if n, err := strconv.ParseInt(strings.TrimSpace(args), 10, 64); err == nil && n > 0 {
				c.size = n
			}
		case "AUTH":
			for mech := range strings.FieldsSeq(strings.ToUpper(args)) {
				c.authPlain = c.authPlain || mech == "PLAIN"
				c.authLogin = c.authLogin || mech == "LOGIN"
			}
		}
	}
	return c
}

// upgrade turns the session to TLS by STARTTLS. All that was learnt in clear
// is forgotten (RFC 3207, section 4.2).
func (s *session) upgrade(ctx context.Context) error {
	if !s.caps.startTLS {
		return s.withoutTLS(errors.New("TLS required but not supported by remote host"))
	}
	r, err := s.conn.cmd("STARTTLS")
	switch {
	case err != nil:
		return err
	case !r.ok():
		return s.withoutTLS(replyError("STARTTLS", r))
	}
	if err := s.startTLS(ctx); err != nil {
		if s.demand.required || ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("%w: %w", errDowngrade, err)
	}
	return s.hello()
}

// withoutTLS goes on in clear if it may with a host that has no TLS, which why
// says.
func (s *session) withoutTLS(why error) error {
	s.countTLS(resultNoSTARTTLS, why)
	if s.demand.required {
		return &policyError{s.demand.policy, resultNoSTARTTLS, why}
	}
	return nil
}

// authenticate says who we are; only ever over TLS.
func (s *session) authenticate() error {
	encode := base64.StdEncoding.EncodeToString
	s.conn.secret = true
	defer func() { s.conn.secret = false }()
	var r reply
	var err error
	switch {
	case !s.tls:
		return errors.New("credentials are not sent without TLS")
	case s.caps.authPlain:
		r, err = s.conn.cmd("AUTH PLAIN ", encode([]byte("\x00"+s.access.user+"\x00"+s.access.password)))
	case s.caps.authLogin:
		r, err = s.conn.cmd("AUTH LOGIN")
		for _, answer := range []string{s.access.user, s.access.password} {
			if err == nil && r.code == 334 {
				r, err = s.conn.cmd(encode([]byte(answer)))
			}
		}
	default:
		return errors.New("remote host offers no AUTH that we know")
	}
	switch {
	case err != nil:
		return err
	case !r.ok():
		s.report.happened("link-auth", "fail", s.access.user)
		return replyError("AUTH", r)
	}
	s.report.happened("link-auth", "pass", s.access.user)
	return nil
}

// serve takes tasks until there are none, or the session must end.
func (s *session) serve() {
	// Once it is idle another relay may have it: what is left of a task is still
	// this one's.
	a, r := s.a, s.r
	var err error
	last := func() {} // ends the last task
tasks:
	for s.fit() && err == nil {
		t := r.next(s, last)
		switch last = func() {}; t {
		case nil:
			break tasks
		case moved: // another serves it now
			return
		}
		if t.ctx.Err() != nil {
			t.finish()
			continue
		}
		if s.mails > 0 {
			pause(a.hard, time.Duration(r.limits.SessionTransactionDelay)*time.Second)
		}
		if err = s.transact(a.hard, t); errors.Is(err, errStale) {
			r.putBack(t)
			break
		}
		last = func() { a.conclude(r, t) }
	}
	if s.fruitless >= maxFruitless {
		s.log(a.hard, "mta host-rejects-all-mails")
	}
	last()
	s.close(err)
}

// fit reports whether the session may take another message.
func (s *session) fit() bool {
	most := s.r.limits.SessionMailMax
	return (most <= 0 || s.mails < most) && s.fruitless < maxFruitless && !s.unwelcome() && !s.paused()
}

// paused reports whether the administrator has stopped such mail.
func (s *session) paused() bool { return s.a.pauses.has(s.access.source, s.r.dest.name) }

// unwelcome reports whether too many recipients in a row were refused.
func (s *session) unwelcome() bool {
	most := s.r.limits.MaxFailuresPerSession
	return most > 0 && s.refused >= most
}

// conclude ends t. If other hosts are to be asked first that is not for the
// session to wait for, which has other tasks to go on with.
func (a *agent) conclude(r *relay, t *task) {
	if len(t.pending()) == 0 {
		t.finish()
		return
	}
	a.work.Go(func() {
		a.elsewhere(r, t)
		t.finish()
	})
}

// elsewhere offers what the first host of t put off to the others.
func (a *agent) elsewhere(r *relay, t *task) {
	for len(t.pending()) > 0 && len(t.tried) < maxHosts {
		s, err := a.connect(a.stop, r, t.tried, false)
		if err != nil {
			return
		}
		s.close(s.transact(a.hard, t))
	}
}

// maxHosts is how many hosts are tried with one task.
const maxHosts = 10

// close says goodbye, unless err says that there is no one to say it to.
func (s *session) close(err error) {
	ctx := s.a.hard
	if err == nil && ctx.Err() == nil {
		s.conn.wake()
		s.conn.timeout = min(s.conn.timeout, 5*time.Second) // for a mere courtesy
		s.conn.cmd("QUIT")
	}
	s.stop()
	s.conn.nc.Close()
	s.report.close(err)
	s.a.book.release(s.limits, time.Now())
	sessionsOpen.Dec()
	if err != nil && !errors.Is(err, errStale) {
		s.log(ctx, "mta error", slog.String("reason", printable(err.Error())), slog.Int("messages", s.mails))
		return
	}
	s.log(ctx, "mta disconnected", slog.String("reason", "quit"), slog.Int("messages", s.mails))
}

// log writes a line about the session.
func (s *session) log(ctx context.Context, msg string, attrs ...slog.Attr) {
	s.a.log.LogAttrs(ctx, slog.LevelInfo, msg, append([]slog.Attr{sessionAttr(s.id)}, attrs...)...)
}

func sessionAttr(id uint64) slog.Attr { return slog.String("session", fmt.Sprintf("%016x", id)) }
