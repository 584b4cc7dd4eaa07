package smtp

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"smtpd/compile"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/mfa"
	"smtpd/runtime/queue"
)

// A Config says what a server serves and whom it asks.
type Config struct {
	Rules     *compile.Ruleset
	Log       *slog.Logger
	Listeners []net.Listener             // for each of Rules.Listeners
	Certs     map[string]tls.Certificate // by name in Rules.PKI
	Roots     map[string]*x509.CertPool  // by name in Rules.CA

	MaxSessions int           // 0: what the descriptor limit allows
	Timeout     time.Duration // 0: 5 minutes (RFC 5321, section 4.5.3.2)
	Paused      bool          // take no connections; they wait in the backlog

	// Retire is closed when another server has taken the listeners over: this
	// one takes no more connections, and ends when its last session has. May
	// be nil. Retired is then called when it takes none.
	Retire  <-chan struct{}
	Retired func()

	MFA, Queue, LKA, Control imsg.Conn
}

const defaultTimeout = 5 * time.Minute

// shutdownPatience is how long a stopping server waits for sessions that are
// in the middle of something, such as a commit.
const shutdownPatience = 10 * time.Second

// Main serves until ctx is done, then tells every client to come back later
// and waits for what is under way.
func Main(ctx context.Context, c Config) error {
	s, err := newServer(&c)
	if err != nil {
		return err
	}
	// The components that sessions ask are left only when no session is.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var peers sync.WaitGroup
	defer peers.Wait()
	defer cancel()
	run := func(conn imsg.Conn, h imsg.Handler) *imsg.Peer {
		p := imsg.NewPeer(conn, h)
		peers.Go(func() {
			if err := p.Run(work); err != nil {
				c.Log.Error("smtp: lost a component", "error", err)
			}
		})
		return p
	}
	store := queue.NewClient(run(c.Queue, nil))
	s.queue = store
	s.mfa = mfa.NewClient(run(c.MFA, nil))
	s.names = lka.NewClient(run(c.LKA, nil))
	s.recall(ctx, store)
	run(c.Control, s.handler(ctx)) // only now: it tells whether this is paused
	peers.Go(func() { s.watchSpace(work, store) })
	return s.listen(ctx, &c)
}

// recall asks the queue whether an administrator has paused this server before
// it, or the whole daemon, was started again.
func (s *server) recall(ctx context.Context, q *queue.Client) {
	paused, err := q.SMTPPaused(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		s.log.Warn("smtp: nobody knows whether it was paused", "error", err)
	case paused && s.gate.set(true):
		s.log.Info("smtp paused")
	}
}

// watchSpace follows whether the queue has room for mail, until ctx is done.
func (s *server) watchSpace(ctx context.Context, q *queue.Client) {
	for ctx.Err() == nil {
		full, err := q.WaitSpace(ctx, s.full.Load())
		if err == nil {
			s.full.Store(full)
			continue
		}
		select { // the queue is being started again
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func newServer(c *Config) (*server, error) {
	if len(c.Listeners) != len(c.Rules.Listeners) {
		return nil, fmt.Errorf("smtp: %d sockets for %d listeners", len(c.Listeners), len(c.Rules.Listeners))
	}
	s := &server{
		rules:   c.Rules,
		log:     c.Log,
		timeout: cmp.Or(c.Timeout, time.Duration(c.Rules.SMTP.MaxIdle)*time.Second, defaultTimeout),
		rate:    cmp.Or(c.Rules.SMTP.MinRate, minRate),

		greetingDelay: time.Duration(c.Rules.SMTP.GreetingDelay) * time.Second,

		socket: newSocketEndpoint(c.Rules),
		users:  make(map[uint32]int),
		gate:   newGate(c.Listeners, c.Paused),
	}
	s.guesses = newGuesses(c.Rules.SMTP.MaxAuthFailuresPerSource)
	n := c.MaxSessions
	if n == 0 {
		n = sessionLimit()
		if most := c.Rules.SMTP.MaxSessions; most > 0 && most < n {
			n = most
		} else if most > n {
			s.log.Warn("smtp: the limit on open files does not allow max-sessions", "wanted", most, "allowed", n)
		}
	}
	s.slots = make(chan struct{}, n)
	s.sources = newSources(n, c.Rules.SMTP.MaxConnPerSource)
	return s, nil
}

// sessionLimit is what the descriptor limit allows: a session holds a socket
// and, while it receives, a message. A quarter is kept in reserve for messages
// under way, and some for links and listeners.
func sessionLimit() int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return 256
	}
	n := min(uint64(lim.Cur), 1<<20)
	return int(max(n-n/4, 32) - 24)
}

// listen serves every listener until ctx is done and the sessions are over.
func (s *server) listen(ctx context.Context, c *Config) error {
	endpoints := make([]*endpoint, len(c.Listeners))
	for i := range c.Listeners {
		l := &c.Rules.Listeners[i]
		t, err := NewTLS(l, c.Rules.SMTP.Ciphers, c.Certs, c.Roots)
		if err != nil {
			return err
		}
		endpoints[i] = newEndpoint(c.Rules, l, t)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	accepting, retire := context.WithCancel(ctx)
	defer retire()
	var listeners sync.WaitGroup
	for i, ln := range c.Listeners {
		listeners.Go(func() {
			if err := s.serve(ctx, accepting, ln, endpoints[i]); err != nil {
				cancel(err)
			}
		})
	}
	select {
	case <-c.Retire:
		retire()
		listeners.Wait()
		c.Retired()
		if s.outlived(ctx) {
			return nil
		}
	case <-ctx.Done():
	}
	listeners.Wait()
	s.waitSessions()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// outlived waits for the sessions of a server that has retired, and reports
// whether they ended before ctx did.
func (s *server) outlived(ctx context.Context) bool {
	s.mu.Lock()
	s.retired = true // sessions on the local socket come another way
	s.mu.Unlock()
	select {
	case <-s.over():
		return true
	case <-ctx.Done():
		return false
	}
}

// over returns a channel that is closed when no session runs any more.
func (s *server) over() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		s.sessions.Wait()
		close(done)
	}()
	return done
}

// waitSessions waits for the sessions, but not for ever.
func (s *server) waitSessions() {
	t := time.NewTimer(shutdownPatience)
	defer t.Stop()
	select {
	case <-s.over():
	case <-t.C:
		s.log.Warn("smtp: sessions are left at shutdown")
	}
}

// handler answers control.
func (s *server) handler(ctx context.Context) imsg.Handler {
	return func(_ context.Context, m imsg.Message) (imsg.Message, error) {
		if m.File != nil {
			m.File.Close()
		}
		switch m.Type {
		case typeSession:
			r, err := parseSessionRequest(m.Data)
			if err != nil {
				return imsg.Message{}, err
			}
			f, err := s.local(ctx, r.UID)
			return imsg.Message{File: f}, err
		case typePause:
			r, err := parsePauseRequest(m.Data)
			if err != nil {
				return imsg.Message{}, err
			}
			return imsg.Message{Data: imsg.AppendBool(nil, s.pause(r.On))}, nil
		case typePaused:
			return imsg.Message{Data: imsg.AppendBool(nil, s.gate.isShut())}, nil
		}
		return imsg.Message{}, fmt.Errorf("no requests of type %d here", m.Type)
	}
}

// pause stops or resumes taking connections, and reports whether that changed
// anything. Sessions that run go on.
func (s *server) pause(on bool) bool {
	changed := s.gate.set(on)
	if changed {
		s.log.Info("smtp " + map[bool]string{true: "paused", false: "resumed"}[on])
	}
	return changed
}
