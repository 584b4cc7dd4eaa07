package parent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"smtpd/runtime/imsg"
)

// courierPause is between the start of a courier and that of the next.
const courierPause = time.Second

// A courier is the process that acts in the file system for every user, or
// would be: where there is none, each user has a process.
type courier struct {
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
		c.log.Warn("parent: maildirs are written by a process for each user", "error", err)
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
