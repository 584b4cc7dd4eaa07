package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/filter"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/mfa"
)

// What the server asks of other components; *queue.Client, *mfa.Client and
// *lka.Client give it, and fakes in tests.
type (
	store interface {
		Create(ctx context.Context) (envelope.MessageID, io.Writer, error)
		Commit(ctx context.Context, msg envelope.MessageID) error
		Rollback(ctx context.Context, msg envelope.MessageID)
	}
	policy interface {
		Rcpt(ctx context.Context, r mfa.Rcpt) (reply string, ids []envelope.ID, err error)
		Phase(ctx context.Context, p mfa.Phase) (mfa.PhaseVerdict, error)
		Open(ctx context.Context, id compile.FilterID, session uint64) (events, phases []string, err error)
		Tell(ctx context.Context, id compile.FilterID, session uint64, events []filter.Event) error
		Message(ctx context.Context, id compile.FilterID, session uint64) (*os.File, error)
	}
	lookups interface {
		PTR(ctx context.Context, addr netip.Addr) (name string, forward lka.FCrDNS, err error)
		Lookup(ctx context.Context, t compile.TableID, s engine.Service, key string) (value string, ok bool, err error)
		Check(ctx context.Context, t compile.TableID, s engine.Service, key string) (bool, error)
		Authenticate(ctx context.Context, t compile.TableID, user, password string) (bool, error)
	}
)

// A server runs the sessions of every listener.
type server struct {
	rules         *compile.Ruleset
	log           *slog.Logger
	queue         store
	mfa           policy
	names         lookups
	timeout       time.Duration // of a session's input and output
	rate          int           // at which a client must send, in bytes a second
	greetingDelay time.Duration
	slots         chan struct{} // one for each session that may run
	sources       *sources
	guesses       *guesses
	gate          *gate
	full          atomic.Bool // the queue has no room for mail
	socket        *endpoint

	sessions sync.WaitGroup

	mu      sync.Mutex
	users   map[uint32]int // sessions on the local socket by user id
	retired bool           // no sessions are begun there
}

// serve accepts connections on ln until accepting is done. It returns nil
// then, with sessions perhaps still running, which end with ctx.
func (s *server) serve(ctx, accepting context.Context, ln net.Listener, at *endpoint) error {
	stop := context.AfterFunc(accepting, func() { ln.Close() })
	defer stop()
	for s.gate.pass(accepting) && s.acquire(accepting) {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			s.sessions.Go(func() {
				defer s.release()
				s.session(ctx, conn, at)
			})
			continue
		case accepting.Err() != nil:
			s.release()
			return nil
		case errors.Is(err, net.ErrClosed):
			s.release()
			return fmt.Errorf("accept on %v: %w", ln.Addr(), err)
		case s.gate.isShut() && errors.Is(err, os.ErrDeadlineExceeded):
			s.release()
			continue
		}
		// Out of descriptors or memory, or a client that left at once: none
		// of it lasts.
		s.release()
		s.log.Warn("smtp: accept", "address", ln.Addr().String(), "error", err)
		select {
		case <-accepting.Done():
		case <-time.After(acceptPause):
		}
	}
	return nil
}

const acceptPause = 100 * time.Millisecond

// acquire takes a slot for a session. While there is none, connections wait
// in the backlog of the kernel. It returns false when ctx is done.
func (s *server) acquire(ctx context.Context) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	limits.WithLabelValues(string(limitSessions)).Inc()
	s.log.Warn("Disabling incoming SMTP connections: Client limit reached", "limit", cap(s.slots))
	select {
	case s.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *server) release() { <-s.slots }

// session runs one session. When ctx ends its client is told 421 at the next
// command; what the client was already promised is kept, so the requests of
// the session outlive ctx.
func (s *server) session(ctx context.Context, conn net.Conn, at *endpoint) {
	n := newSession(context.WithoutCancel(ctx), s, at, conn)
	stop := context.AfterFunc(ctx, n.conn.interrupt)
	defer stop()
	n.run()
}

// maxLocal is how many sessions on the local socket one user may have: no
// user can keep the others, or the network, out.
const maxLocal = 32

// local opens a session on the local socket for user uid and returns the
// client's end.
func (s *server) local(ctx context.Context, uid uint32) (*os.File, error) {
	if !s.enter(uid) {
		limits.WithLabelValues(string(limitLocalSessions)).Inc()
		s.log.Warn("smtp: too many sessions on the local socket", "uid", uid)
		return nil, errors.New("too many sessions")
	}
	ours, theirs, err := imsg.Stream("session")
	if err != nil {
		s.leave(uid)
		return nil, err
	}
	go func() {
		defer s.leave(uid)
		s.session(ctx, ours, s.socket)
	}()
	return theirs, nil
}

// enter takes a slot for a local session of user uid if there is one. leave
// ends it.
func (s *server) enter(uid uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired || s.users[uid] >= maxLocal {
		return false
	}
	select {
	case s.slots <- struct{}{}:
		s.users[uid]++
		s.sessions.Add(1)
		return true
	default:
		return false
	}
}

func (s *server) leave(uid uint32) {
	defer s.sessions.Done()
	s.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[uid]--; s.users[uid] == 0 {
		delete(s.users, uid)
	}
}
