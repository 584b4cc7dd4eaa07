package parent

import (
	"context"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/runtime/imsg"
)

// TestMilter calls what the configuration names, and nothing else: of a host by
// name the address may be said, of any other host it may not, and a port never.
func TestMilter(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	path := filepath.Join(t.TempDir(), "m")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	greet := func(ln net.Listener, text string) {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, text)
			c.Close()
		}
	}
	go greet(tcp, "tcp")
	go greet(unix, "unix")

	_, port, _ := net.SplitHostPort(tcp.Addr().String())
	l := milters{
		"literal": compile.MilterAddr("inet:127.0.0.1:" + port), "name": compile.MilterAddr("inet:somewhere.example:" + port),
		"path": compile.MilterAddr("unix:" + path), "gone": compile.MilterAddr("unix:" + path + "x"),
	}
	ours, theirs := imsg.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := imsg.NewPeer(theirs, l.handle)
	go served.Run(ctx)
	peer := imsg.NewPeer(ours, nil)
	go peer.Run(ctx)
	c := NewClient(peer)
	for _, x := range []struct {
		name string
		addr netip.Addr
		want string // what is heard, or part of the error
	}{
		{"literal", netip.Addr{}, "tcp"},
		{"literal", netip.MustParseAddr("192.0.2.1"), "tcp"},
		{"name", netip.MustParseAddr("127.0.0.1"), "tcp"},
		{"path", netip.Addr{}, "unix"},
		{"name", netip.Addr{}, "no address of somewhere.example is known"},
		{"gone", netip.Addr{}, "dial unix"},
		{"other", netip.MustParseAddr("127.0.0.1"), "not configured"},
	} {
		f, err := c.Milter(ctx, x.name, x.addr)
		if err != nil {
			if !strings.Contains(err.Error(), x.want) {
				t.Errorf("%s: %v", x.name, err)
			}
			continue
		}
		conn, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		conn.Close()
		if string(got) != x.want || err != nil {
			t.Errorf("%s: heard %q, %v", x.name, got, err)
		}
	}
}
