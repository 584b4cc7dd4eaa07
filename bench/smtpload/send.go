package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type sendCmd struct {
	target
	Messages  int           `short:"n" default:"1000" help:"Messages in all."`
	For       time.Duration `help:"Begin no message after so long; 0: all are sent."`
	Sessions  int           `short:"s" default:"1" help:"Parallel sessions."`
	Size      int           `default:"4096" help:"Bytes of a message."`
	Pipeline  bool          `help:"Send MAIL, RCPT and DATA in one write."`
	One       bool          `help:"One message per connection."`
	Reconnect time.Duration `help:"Go on for so long after the server was lost; 0: give up at once."`
	Acked     string        `help:"File that gets the number of each acknowledged message."`
	Users     int           `help:"Spread recipients u0, u1, … over so many users."`
	Domains   int           `help:"Spread recipients over so many domains d0, d1, … below that of the recipient."`
}

// A run is a send under way.
type run struct {
	*sendCmd
	began   time.Time
	next    atomic.Int64
	body    string // after the header lines that differ
	acked   *os.File
	mu      sync.Mutex // guards what follows and acked
	lat     []time.Duration
	last    time.Time     // when a message was acknowledged
	gap     time.Duration // the longest time in which none was
	retries int
	err     error
}

// Run sends and prints one line of figures.
func (c *sendCmd) Run() error {
	r := &run{sendCmd: c, body: filler(c.Size)}
	if c.Acked != "" {
		f, err := os.Create(c.Acked)
		if err != nil {
			return err
		}
		defer f.Close()
		r.acked = f
	}
	start := time.Now()
	r.last, r.began = start, start
	var wg sync.WaitGroup
	for range c.Sessions {
		wg.Go(r.session)
	}
	wg.Wait()
	elapsed := time.Since(start)
	report(elapsed, r.lat, fmt.Sprintf(" retries=%d gap_ms=%d", r.retries, r.gap.Milliseconds()))
	return r.err
}

// filler returns text that brings a message to about size bytes.
func filler(size int) string {
	const head = 200 // what message puts before it
	var b strings.Builder
	for b.Len()+head < size {
		b.WriteString(strings.Repeat("x", 70) + "\r\n")
	}
	return b.String()
}

func (r *run) message(n int64) string {
	return fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: load\r\nX-Load-Id: %d\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <load-%d@from.test>\r\n\r\n%s.\r\n",
		r.From, r.Rcpt, n, n, r.body)
}

// session sends messages until none is left.
func (r *run) session() {
	var k *client
	defer func() {
		if k != nil {
			k.c.Close()
		}
	}()
	for {
		n := r.next.Add(1)
		if n > int64(r.Messages) || r.For > 0 && time.Since(r.began) > r.For {
			return
		}
		began := time.Now()
		deadline := began.Add(r.Reconnect)
		for {
			var err error
			if k == nil {
				k, err = r.dial()
			}
			if err == nil {
				err = r.one(k, n)
			}
			if err == nil {
				break
			}
			if k != nil {
				k.c.Close()
				k = nil
			}
			if time.Now().After(deadline) {
				r.fail(fmt.Errorf("message %d: %w", n, err))
				return
			}
			r.retry()
		}
		r.done(n, time.Since(began))
		if r.One {
			k.command("QUIT", 221)
			k.c.Close()
			k = nil
		}
	}
}

// retry counts a message that must be sent again, and waits a moment: a
// server that is down refuses a connection at once.
func (r *run) retry() {
	r.mu.Lock()
	r.retries++
	r.mu.Unlock()
	time.Sleep(20 * time.Millisecond)
}

func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
}

// done logs an acknowledged message, without delay: who kills the server at
// some point of the run watches the log grow.
func (r *run) done(n int64, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lat = append(r.lat, d)
	now := time.Now()
	r.gap, r.last = max(r.gap, now.Sub(r.last)), now
	if r.acked != nil {
		_, err := fmt.Fprintln(r.acked, n)
		r.err = errors.Join(r.err, err)
	}
}

// one sends message n.
func (r *run) one(k *client, n int64) error {
	rcpt := r.Rcpt
	if r.Users > 0 {
		_, domain, _ := strings.Cut(rcpt, "@")
		rcpt = fmt.Sprintf("u%d@%s", n%int64(r.Users), domain)
	}
	if r.Domains > 0 {
		user, domain, _ := strings.Cut(rcpt, "@")
		rcpt = fmt.Sprintf("%s@d%d.%s", user, n%int64(r.Domains), domain)
	}
	commands := []string{"MAIL FROM:<" + r.From + ">\r\n", "RCPT TO:<" + rcpt + ">\r\n", "DATA\r\n"}
	codes := []int{250, 250, 354}
	if r.Pipeline {
		if err := k.write(strings.Join(commands, "")); err != nil {
			return err
		}
	}
	for i, c := range commands {
		if !r.Pipeline {
			if err := k.write(c); err != nil {
				return err
			}
		}
		if err := k.expect(codes[i]); err != nil {
			return err
		}
	}
	if err := k.write(r.message(n)); err != nil {
		return err
	}
	return k.expect(250)
}

// report prints one line of key=value figures.
func report(elapsed time.Duration, lat []time.Duration, more string) {
	if len(lat) == 0 {
		fmt.Println("n=0" + more)
		return
	}
	slices.Sort(lat)
	p := func(q float64) int64 { return lat[min(len(lat)-1, int(q*float64(len(lat))))].Microseconds() }
	fmt.Printf("n=%d wall_s=%.3f rate=%.1f p50_us=%d p95_us=%d p99_us=%d max_us=%d%s\n",
		len(lat), elapsed.Seconds(), float64(len(lat))/elapsed.Seconds(), p(.5), p(.95), p(.99), p(1), more)
}

type rcptCmd struct {
	target
	Transactions int `short:"n" default:"1000" help:"Transactions."`
}

// Run measures the reply to RCPT in one session.
func (c *rcptCmd) Run() error {
	k, err := c.dial()
	if err != nil {
		return err
	}
	defer k.c.Close()
	var lat []time.Duration
	refused := 0
	start := time.Now()
	for range c.Transactions {
		if err := k.command("MAIL FROM:<"+c.From+">", 250); err != nil {
			return err
		}
		began := time.Now()
		var no *replyError
		switch err := k.command("RCPT TO:<"+c.Rcpt+">", 250); {
		case errors.As(err, &no):
			refused++
		case err != nil:
			return err
		}
		lat = append(lat, time.Since(began))
		if err := k.command("RSET", 250); err != nil {
			return err
		}
	}
	report(time.Since(start), lat, fmt.Sprintf(" refused=%d", refused))
	return nil
}
