package imsg

import (
	"context"
	"sync"
	"time"
)

// A Link is the connection to a component that may end and be started again:
// what carries it is replaced by Attach. It is for a Peer, which goes on with
// the new connection when the old one has ended; to all others it is a
// connection that was closed.
type Link struct {
	Conn // that was closed

	mu    sync.Mutex
	fresh Conn // attached and not in use yet
	used  Conn
	final bool
	wake  chan struct{} // capacity 1: fresh or final has changed
	lost  func(error)
}

// NewLink returns a Link without a connection. lost is called when one has
// ended and another is needed; err is nil if the other side closed it.
func NewLink(lost func(err error)) *Link {
	conn, _ := Pipe()
	conn.Close()
	return &Link{Conn: conn, wake: make(chan struct{}, 1), lost: lost}
}

// Attach gives the link a connection, which it then owns, in place of the one
// that it has.
func (l *Link) Attach(c Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fresh != nil {
		l.fresh.Close()
	}
	if l.used != nil {
		l.used.Close()
	}
	l.fresh = c
	l.poke()
}

// Finish says that no other connection will be attached: the end of the one
// there is ends the conversation.
func (l *Link) Finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.final = true
	l.poke()
}

// Close ends the link.
func (l *Link) Close() error {
	l.Attach(l.Conn)
	l.Finish()
	return nil
}

func (l *Link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// next waits for a connection. It returns nil when there will be none.
func (l *Link) next(ctx context.Context) Conn {
	for {
		l.mu.Lock()
		c, final := l.fresh, l.final
		l.fresh, l.used = nil, c
		l.mu.Unlock()
		if c != nil || final || ctx.Err() != nil {
			return c
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
		}
	}
}

// Down reports whether the link has no connection, and may get one.
func (l *Link) Down() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used == nil && l.fresh == nil && !l.final
}

// needed reports whether the link has nothing to go on with.
func (l *Link) needed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = nil
	return l.fresh == nil && !l.final
}

// linkPatience is how long calls wait for a component that is being started
// again. Then they fail at once until it is there.
const linkPatience = 2 * time.Second

// follow holds the conversation over every connection of l.
func (p *Peer) follow(ctx context.Context, l *Link) {
	for {
		waiting := p.suspend()
		c := l.next(ctx)
		waiting.Stop()
		if c == nil {
			p.fail(nil)
			return
		}
		p.resume()
		err := p.converse(ctx, c)
		if ctx.Err() != nil {
			return
		}
		if l.needed() {
			l.lost(err)
		}
	}
}

// suspend lets calls wait for the next connection, for a while.
func (p *Peer) suspend() *time.Timer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = nil
	p.rounds++
	round := p.rounds
	return time.AfterFunc(linkPatience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.rounds == round {
			p.failLocked(ErrClosed, nil)
		}
	})
}

// resume lets calls use a connection.
func (p *Peer) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = nil
	p.rounds++
}
