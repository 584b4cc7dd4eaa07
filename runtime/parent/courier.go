package parent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"smtpd/runtime/imsg"
)

// courierPause is between the start of a courier and that of the next.
const courierPause = time.Second

// A courier is a process that does something for every user, or would be: where
// there is none, each user has a process. The one called the courier acts in
// the file system, and another speaks LMTP.
type courier struct {
	role  string // for logs
	start func() (imsg.Conn, error)
	log   *slog.Logger

	mu      sync.Mutex
	client  *Client // nil: it is to be started
	end     context.CancelFunc
	started time.Time
	closed  bool
	running sync.WaitGroup
}

// get returns what asks the courier, nil if there is none at the moment.
func (c *courier) get() *Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil || c.start == nil || c.closed || time.Since(c.started) < courierPause {
		return c.client
	}
	c.started = time.Now()
	conn, err := c.start()
	if err != nil {
		c.log.Warn("parent: each user has a process for what one could do for all", "role", c.role, "error", err)
		return nil
	}
	ctx, end := context.WithCancel(context.Background())
	peer := imsg.NewPeer(conn, nil)
	c.client, c.end = NewClient(peer), end
	c.running.Go(func() {
		peer.Run(ctx)
		c.mu.Lock()
		c.client = nil
		c.mu.Unlock()
		end()
		conn.Close()
	})
	return c.client
}

// introduce returns a descriptor that leads to the courier, nil if there is no
// courier.
func (c *courier) introduce(ctx context.Context) (*os.File, error) {
	client := c.get()
	if client == nil {
		return nil, nil
	}
	ours, theirs, err := imsg.Socketpair("courier")
	if err != nil {
		return nil, err
	}
	if _, err := client.peer.Call(ctx, imsg.Message{Type: typeGuest, File: theirs}); err != nil {
		ours.Close()
		return nil, fmt.Errorf("courier: %w", err)
	}
	return ours, nil
}

// close ends the courier and waits for it.
func (c *courier) close() {
	c.mu.Lock()
	c.closed = true
	if c.end != nil {
		c.end()
	}
	c.mu.Unlock()
	c.running.Wait()
}

// meet serves a guest until it hangs up or ctx is done: somebody who is let in
// by parent, and asks for no more than what users need.
func (a *agent) meet(ctx context.Context, f *os.File) error {
	conn, err := imsg.FileConn(f)
	if err != nil {
		return err
	}
	a.guests.Go(func() {
		imsg.NewPeer(conn, func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
			if m.Type == typeGuest {
				m.Type = 0
			}
			return a.handle(ctx, m)
		}).Run(ctx)
	})
	return nil
}

// A Direct asks the courier itself for what the courier does, and parent for
// the rest. Where there is no courier it asks parent.
type Direct struct {
	*Client

	mu      sync.Mutex
	courier *Client
	asked   time.Time
	ctx     context.Context
	end     context.CancelFunc
	running sync.WaitGroup
}

// NewDirect returns a Direct that is introduced by c.
func NewDirect(c *Client) *Direct {
	d := &Direct{Client: c}
	d.ctx, d.end = context.WithCancel(context.Background())
	return d
}

// Close hangs up.
func (d *Direct) Close() {
	d.mu.Lock()
	d.end()
	d.mu.Unlock()
	d.running.Wait()
}

// reach returns what asks the courier, nil if there is none at the moment.
func (d *Direct) reach(ctx context.Context) *Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.courier != nil || d.ctx.Err() != nil || time.Since(d.asked) < courierPause {
		return d.courier
	}
	d.asked = time.Now()
	m, err := d.peer.Call(ctx, imsg.Message{Type: typeCourier})
	if err != nil || m.File == nil {
		return nil
	}
	conn, err := imsg.FileConn(m.File)
	if err != nil {
		return nil
	}
	peer := imsg.NewPeer(conn, nil)
	d.courier = NewClient(peer)
	d.running.Go(func() {
		peer.Run(d.ctx)
		d.mu.Lock()
		d.courier = nil
		d.mu.Unlock()
	})
	return d.courier
}

// Deliver is Client's. A courier that is lost has failed for the time being,
// whatever of it has been done.
func (d *Direct) Deliver(ctx context.Context, v Delivery, content *os.File) (Result, error) {
	// For an mbox, parent makes the file first if it must.
	if v.Method == Maildir && v.forCourier() {
		if c := d.reach(ctx); c != nil {
			r, err := c.Deliver(ctx, v, content)
			if errors.Is(err, imsg.ErrClosed) && ctx.Err() == nil {
				return failure(fmt.Errorf("courier: %w", err)), nil
			}
			return r, err
		}
	}
	return d.Client.Deliver(ctx, v, content)
}

// Forward is Client's.
func (d *Direct) Forward(ctx context.Context, u Account) (*os.File, error) {
	if c := d.reach(ctx); c != nil {
		ctx, cancel := context.WithTimeout(ctx, forwardLimit)
		defer cancel()
		return c.Forward(ctx, u)
	}
	return d.Client.Forward(ctx, u)
}
