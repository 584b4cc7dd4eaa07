package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// TestNotifier checks what a service manager is told, and that the daemon's
// children are not taken for it.
func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "2000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	n := newNotifier()
	if os.Getenv("NOTIFY_SOCKET")+os.Getenv("WATCHDOG_USEC") != "" {
		t.Error("programs that are started would see the variables")
	}
	heard := func() string {
		b := make([]byte, 1000)
		k, err := manager.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:k])
	}
	n.ready()
	if got := heard(); got != "READY=1\nSTATUS=serving" {
		t.Errorf("%q", got)
	}
	n.reloading()
	if got := heard(); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[0-9]+$`).MatchString(got) {
		t.Errorf("%q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	lives := make(chan bool, 2)
	lives <- false
	lives <- true
	go func() {
		defer close(done)
		n.watch(ctx, func(context.Context) bool { return <-lives })
	}()
	if got := heard(); got != "WATCHDOG=1" {
		t.Errorf("%q", got)
	}
	if len(lives) != 0 {
		t.Error("a sign of life of one that is not alive")
	}
	close(lives)
	cancel()
	<-done
	new(notifier).tell("READY=1") // nobody listens
}

// TestNotifierElsewhere checks that the watchdog of another process is not
// ours.
func TestNotifierElsewhere(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(time.Hour.Microseconds(), 10))
	if n := newNotifier(); n.every != 0 || n.conn != nil {
		t.Errorf("%+v", n)
	}
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "3")
	if l, err := inherited(); len(l) != 0 || err != nil {
		t.Errorf("sockets of another process: %v, %v", l, err)
	}
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("LISTEN_FDS", "many")
	if _, err := inherited(); err == nil {
		t.Error("no number of sockets is taken for one")
	}
}
