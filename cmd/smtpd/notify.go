package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// A notifier tells the service manager how the daemon does, by the protocol of
// sd_notify(3). Without a manager that listens it tells nobody. It is made at
// the start: the socket may not be reachable later.
type notifier struct {
	conn  *net.UnixConn
	every time.Duration // between signs of life; 0: none are wanted
}

// newNotifier takes from the environment what is meant for this process alone.
func newNotifier() *notifier {
	n := new(notifier)
	path := taken("NOTIFY_SOCKET")
	period, err := strconv.ParseInt(taken("WATCHDOG_USEC"), 10, 64)
	pid := taken("WATCHDOG_PID")
	if path == "" {
		return n
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:] // an abstract address of Linux
	}
	n.conn, _ = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil && period > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.every = time.Duration(period) * time.Microsecond / 2
	}
	return n
}

// taken returns a variable of the environment, which nobody sees after that.
func taken(name string) string {
	value := os.Getenv(name)
	os.Unsetenv(name)
	return value
}

// tell sends lines of NAME=VALUE.
func (n *notifier) tell(lines ...string) {
	if n.conn != nil {
		n.conn.Write([]byte(strings.Join(lines, "\n"))) // a manager that is gone misses nothing
	}
}

func (n *notifier) ready() { n.tell("READY=1", "STATUS=serving") }

// reloading says that a reload begins; ready is told at its end.
func (n *notifier) reloading() {
	if now, ok := monotonic(); ok {
		n.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Microseconds()))
	}
}

// watch gives signs of life until ctx ends, as long as alive says so.
func (n *notifier) watch(ctx context.Context, alive func(ctx context.Context) bool) {
	if n.every == 0 {
		return
	}
	for tick := time.NewTicker(n.every); ; {
		select {
		case <-tick.C:
			if alive(ctx) {
				n.tell("WATCHDOG=1")
			}
		case <-ctx.Done():
			return
		}
	}
}

// firstInherited is the first descriptor that a service manager hands over.
const firstInherited = 3

// inherited returns the listening sockets that the service manager has made for
// this process: LISTEN_FDS of systemd. Each stands for the listener of its
// address.
func inherited() ([]net.Listener, error) {
	pid, count := taken("LISTEN_PID"), taken("LISTEN_FDS")
	taken("LISTEN_FDNAMES")
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > 1024 {
		return nil, fmt.Errorf("LISTEN_FDS=%q is no number of sockets", count)
	}
	var all []net.Listener
	for fd := firstInherited; fd < firstInherited+n; fd++ {
		f := os.NewFile(uintptr(fd), "socket "+strconv.Itoa(fd))
		ln, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("socket %d of the service manager: %w", fd, err)
		}
		if _, ok := ln.(*net.TCPListener); !ok {
			return nil, fmt.Errorf("socket %d of the service manager: %v is no TCP listener", fd, ln.Addr())
		}
		all = append(all, ln)
	}
	return all, nil
}
