package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

type idleCmd struct {
	target
	Sessions int `short:"s" default:"10000" help:"Sessions that say EHLO and no more."`
	Parallel int `default:"4" help:"Sessions that are opened at the same time; more than its backlog takes makes OpenSMTPD reset them."`
}

// Run opens sessions, says so, and holds them until its input ends.
func (c *idleCmd) Run() error {
	var next atomic.Int64
	var mu sync.Mutex
	var open []*client
	var errs error
	var wg sync.WaitGroup
	for range c.Parallel {
		wg.Go(func() {
			for next.Add(1) <= int64(c.Sessions) {
				k, err := c.dial()
				mu.Lock()
				if err != nil {
					errs = errors.Join(errs, err)
				} else {
					open = append(open, k)
				}
				failed := errs != nil
				mu.Unlock()
				if failed {
					return
				}
			}
		})
	}
	wg.Wait()
	if errs != nil {
		return errs
	}
	fmt.Printf("open=%d\n", len(open))
	io.Copy(io.Discard, os.Stdin)
	for _, k := range open {
		k.c.Close()
	}
	return nil
}
