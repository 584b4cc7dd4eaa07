package smtp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/compile"
	"smtpd/internal/smtptest"
)

// A fakeListener hands out what is sent on conns, and knows deadlines.
type fakeListener struct {
	conns chan net.Conn

	mu      sync.Mutex
	expired chan struct{} // closed while the deadline is in the past
}

func newFakeListener() *fakeListener {
	return &fakeListener{conns: make(chan net.Conn), expired: make(chan struct{})}
}

func (l *fakeListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	expired := l.expired
	l.mu.Unlock()
	select {
	case <-expired:
		return nil, os.ErrDeadlineExceeded
	default:
	}
	select {
	case c, ok := <-l.conns:
		if !ok {
			return nil, net.ErrClosed
		}
		return c, nil
	case <-expired:
		return nil, os.ErrDeadlineExceeded
	}
}

func (l *fakeListener) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.IsZero() {
		l.expired = make(chan struct{})
	} else {
		close(l.expired)
	}
	return nil
}

func (l *fakeListener) Close() error   { close(l.conns); return nil }
func (l *fakeListener) Addr() net.Addr { return &net.TCPAddr{} }

// A tcpPipe is one end of a net.Pipe with the addresses of a TCP connection.
type tcpPipe struct{ net.Conn }

func (tcpPipe) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.7:4096"))
}

func (tcpPipe) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:25"))
}

// TestPause checks that a connection waits while the server is paused, at the
// start or later, and is served when it goes on.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newFakeListener()
		s, err := newServer(&Config{
			Rules:     &compile.Ruleset{Listeners: make([]compile.Listener, 1)},
			Log:       slog.New(slog.DiscardHandler),
			Listeners: []net.Listener{ln}, MaxSessions: 8, Paused: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.names = fakeNames{}
		ctx, cancel := context.WithCancel(t.Context())
		var served sync.WaitGroup
		served.Go(func() {
			if err := s.serve(ctx, ctx, ln, &endpoint{hostname: "mx.example"}); err != nil {
				t.Error(err)
			}
		})
		for range 2 {
			client, conn := net.Pipe()
			taken := false
			served.Go(func() {
				ln.conns <- tcpPipe{conn}
				taken = true
			})
			synctest.Wait()
			if taken {
				t.Fatal("a paused server took a connection")
			}
			if !s.pause(false) || s.pause(false) {
				t.Error("resume does not say whether it changed anything")
			}
			d := smtptest.Dialogue{Conn: client}
			if err := d.Run("S: 220\nC: QUIT\nS: 221"); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if !s.pause(true) || !s.gate.isShut() {
				t.Error("pause does not say that it changed something")
			}
		}
		cancel()
		served.Wait()
		s.sessions.Wait()
	})
}

// TestRetire checks that a server which has retired takes no connection, goes
// on with the session that it has, and then ends.
func TestRetire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, retire, retired := newFakeListener(), make(chan struct{}), make(chan struct{})
		c := &Config{
			Rules:     &compile.Ruleset{ServerName: "mx.example", Listeners: []compile.Listener{{Hostname: "mx.example"}}},
			Log:       slog.New(slog.DiscardHandler),
			Listeners: []net.Listener{ln}, MaxSessions: 8, Retire: retire, Retired: func() { close(retired) },
		}
		s, err := newServer(c)
		if err != nil {
			t.Fatal(err)
		}
		s.names = fakeNames{}
		ended := make(chan error, 1)
		go func() { ended <- s.listen(t.Context(), c) }()
		client, conn := net.Pipe()
		ln.conns <- tcpPipe{conn}
		d := smtptest.Dialogue{Conn: client}
		if err := d.Run("S: 220\nC: EHLO client.example\nS: 250"); err != nil {
			t.Fatal(err)
		}
		close(retire)
		<-retired
		if _, open := <-ln.conns; open {
			t.Error("the listener is in use")
		}
		if _, err := s.local(t.Context(), 1000); err == nil {
			t.Error("a session on the local socket was begun")
		}
		if err := d.Run("C: NOOP\nS: 250\nC: QUIT\nS: 221"); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
