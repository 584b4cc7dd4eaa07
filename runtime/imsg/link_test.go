package imsg

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A component is what is at the other end of a link, and may be started
// again.
type component struct {
	conn Conn
	got  chan Message // requests
	hold chan struct{}
}

// startComponent attaches a new instance to l. It answers with its name when
// hold is closed.
func startComponent(t *testing.T, l *Link, name string) *component {
	ours, theirs := Pipe()
	c := &component{theirs, make(chan Message, 8), make(chan struct{})}
	p := NewPeer(theirs, func(ctx context.Context, m Message) (Message, error) {
		c.got <- m
		<-c.hold
		return Message{Data: []byte(name)}, nil
	})
	go p.Run(t.Context())
	l.Attach(ours)
	return c
}

func (c *component) die() {
	c.conn.Close()
	close(c.hold)
}

// linked runs a peer over a new link until the test is over.
func linked(t *testing.T, h Handler) (*Peer, *Link, chan error) {
	l := NewLink(func(error) {})
	p := NewPeer(l, h)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(t.Context()) }()
	return p, l, ended
}

type answer struct {
	text string
	err  error
}

func ask(t *testing.T, p *Peer) chan answer {
	c := make(chan answer, 1)
	go func() {
		m, err := p.Call(t.Context(), Message{Type: 1})
		c <- answer{string(m.Data), err}
	}()
	return c
}

// TestLinkRestart checks what becomes of calls when the component that is to
// answer them dies: one under way fails, one that comes while it is gone
// waits for the next instance, and gets that one's answer.
func TestLinkRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l, _ := linked(t, nil)
		early := ask(t, p)
		first := startComponent(t, l, "first")
		<-first.got
		first.die()
		if a := <-early; !errors.Is(a.err, ErrLost) || !errors.Is(a.err, ErrClosed) {
			t.Errorf("call under way: %v", a)
		}
		synctest.Wait()
		between := ask(t, p)
		second := startComponent(t, l, "second")
		close(second.hold)
		if a := <-between; a.text != "second" || a.err != nil {
			t.Errorf("call while it was gone: %v", a)
		}
		if a := <-ask(t, p); a.text != "second" || a.err != nil {
			t.Errorf("call after that: %v", a)
		}
		l.Close()
	})
}

// TestLinkPatience checks that calls do not wait for ever, and that those
// which come later do not wait at all, until the component is back.
func TestLinkPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, l, _ := linked(t, nil)
		began := time.Now()
		if a := <-ask(t, p); !errors.Is(a.err, ErrClosed) || errors.Is(a.err, ErrLost) || time.Since(began) != linkPatience {
			t.Errorf("%v after %v", a, time.Since(began))
		}
		began = time.Now()
		if a := <-ask(t, p); !errors.Is(a.err, ErrClosed) || time.Since(began) != 0 {
			t.Errorf("%v after %v", a, time.Since(began))
		}
		c := startComponent(t, l, "here")
		close(c.hold)
		synctest.Wait()
		if a := <-ask(t, p); a.text != "here" {
			t.Errorf("when it is back: %v", a)
		}
		l.Close()
	})
}

// TestLinkHandlers checks that a handler's context ends with the connection
// of its request, and that its answer does not go to the next instance, which
// may wait for one to a request of the same number.
func TestLinkHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := make(chan struct{})
		p, l, _ := linked(t, func(ctx context.Context, m Message) (Message, error) {
			if string(m.Data) == "old" {
				close(begun)
				<-ctx.Done()
			}
			return m, nil
		})
		lost := 0
		p.OnLoss(func() { lost++ })
		ours, theirs := Pipe()
		l.Attach(ours)
		theirs.Send(Frame{Type: 1, ID: 1, Data: []byte("old")})
		<-begun
		ours, again := Pipe()
		l.Attach(ours)
		again.Send(Frame{Type: 1, ID: 1, Data: []byte("new")})
		f, err := again.Recv()
		if err != nil || string(f.Data) != "new" {
			t.Errorf("the new instance got %q, %v", f.Data, err)
		}
		if lost != 1 {
			t.Errorf("%d losses were told", lost)
		}
		l.Close()
	})
}

// TestLinkFinish checks that the conversation ends with its last connection.
func TestLinkFinish(t *testing.T) {
	for _, connected := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p, l, ended := linked(t, nil)
			if connected {
				c := startComponent(t, l, "last")
				close(c.hold)
				l.Finish()
				synctest.Wait()
				if a := <-ask(t, p); a.text != "last" {
					t.Errorf("before it ends: %v", a)
				}
				c.conn.Close()
			} else {
				synctest.Wait()
				l.Finish()
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if a := <-ask(t, p); !errors.Is(a.err, ErrClosed) {
				t.Errorf("after the end: %v", a)
			}
		})
	}
}
