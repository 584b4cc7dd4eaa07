package ctl

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestListenWeb checks that the page is where nobody of another machine comes.
func TestListenWeb(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0", "mx.example.org:0", "127.0.0.1", "127.0.0.1.example:0"} {
		if ln, err := listenWeb(address); err == nil {
			ln.Close()
			t.Errorf("listens on %s", address)
		}
	}
	for _, address := range []string{"127.0.0.1:0", "localhost:0"} {
		ln, err := listenWeb(address)
		if err != nil {
			t.Fatal(err)
		}
		if !ln.Addr().(*net.TCPAddr).IP.IsLoopback() {
			t.Errorf("%s is %v", address, ln.Addr())
		}
		ln.Close()
	}
}

// TestListenOwner checks that a socket is for its owner, takes the place of one
// that nobody listens on, and of nothing else.
func TestListenOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	ln, err := listenWeb(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := listenWeb(path); err == nil || !strings.Contains(err.Error(), "another server does") {
		t.Errorf("a second one: %v", err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first, err := ln.Accept() // that of the second server, which has hung up
	if err == nil {
		first.Close()
		first, err = ln.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	first.Close()

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ln, err := listenWeb(file); err == nil {
		ln.Close()
		t.Error("it listens on a file")
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "kept" {
		t.Errorf("the file holds %q, %v", text, err)
	}
}

// TestWebWithoutDaemon checks that nothing is promised when there is nothing to
// see.
func TestWebWithoutDaemon(t *testing.T) {
	var out, errs bytes.Buffer
	spool := t.TempDir()
	if status := run(&terminal{out: &out, err: &errs, spool: spool}, "smtpctl", []string{"web", "-w", "-l", "127.0.0.1:0"}); status != exitFailed {
		t.Errorf("status %d", status)
	}
	if out.Len() > 0 || !strings.Contains(errs.String(), "doesn't seem to be running") {
		t.Errorf("it printed %q and %q", out.String(), errs.String())
	}
	if l, err := os.ReadDir(spool); err != nil || len(l) > 0 {
		t.Errorf("it left %v, %v", l, err)
	}
}
