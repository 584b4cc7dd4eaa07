package ctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"smtpd/internal/web"
	"smtpd/runtime/control"
)

// webAddress is where the page is unless another address is named.
const webAddress = "127.0.0.1:8025"

// serveWeb shows the page until it is interrupted. Without write nothing can
// be changed there, whatever token comes.
func serveWeb(write bool) func(*terminal, options, []string) error {
	return func(t *terminal, _ options, names []string) error {
		address := webAddress
		if len(names) > 0 {
			address = names[0]
		}
		if err := ask(t, func(*control.Client) error { return nil }); err != nil {
			return err // before it is said that there is something to see
		}
		tokens, err := web.LoadTokens(filepath.Join(t.spool, "web.token"))
		if err != nil {
			return err
		}
		if !write {
			tokens.Change = ""
		}
		ln, err := listenWeb(address)
		if err != nil {
			return err
		}
		defer ln.Close()
		if err := t.sayWeb(ln, tokens); err != nil {
			return err
		}
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return web.Serve(ctx, ln, web.Config{
			Dial: func() (web.Daemon, error) {
				c, err := t.admin()
				if err != nil {
					return nil, err // and no Daemon that is a nil *Client
				}
				return c, nil
			},
			Tokens: tokens, Peers: ln.Addr().Network() == "unix", Cookie: "smtpctl" + port,
			Log: slog.New(slog.NewTextHandler(t.err, nil)),
		})
	}
}

// sayWeb prints the addresses to open.
func (t *terminal) sayWeb(ln net.Listener, tokens web.Tokens) error {
	base := "http://" + ln.Addr().String()
	if ln.Addr().Network() == "unix" {
		base = "http://localhost"
		fmt.Fprintf(t.out, "listening on %s, for this user\n", ln.Addr())
	} else {
		fmt.Fprintf(t.out, "to read:   %s/enter?token=%s\n", base, tokens.Read)
	}
	if tokens.Change == "" {
		return nil
	}
	_, err := fmt.Fprintf(t.out, "to change: %s/enter?token=%s\n", base, tokens.Change)
	return err
}

// listenWeb listens where nobody of another machine comes: a token travels in
// clear there. A path is that of a socket.
func listenWeb(address string) (net.Listener, error) {
	if strings.HasPrefix(address, "/") {
		return listenOwner(address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	a, err := netip.ParseAddr(host)
	if err != nil || !a.IsLoopback() {
		return nil, fmt.Errorf("%q is no address of this machine alone: use 127.0.0.1, [::1] or the path of a socket, and from elsewhere a tunnel, ssh -L 8025:127.0.0.1:8025", host)
	}
	return net.Listen("tcp", net.JoinHostPort(a.String(), port))
}

// listenOwner listens on a Unix socket for one user. What is left of a server
// that has died is replaced.
func listenOwner(path string) (net.Listener, error) {
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	if c, err := net.DialUnix("unix", nil, addr); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen on %s: another server does", path)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if st, err := os.Lstat(path); err == nil && st.Mode().Type() == fs.ModeSocket {
			os.Remove(path)
		}
	}
	before := syscall.Umask(0o177)
	ln, err := net.ListenUnix("unix", addr)
	syscall.Umask(before)
	if err != nil {
		return nil, err
	}
	return ownListener{ln}, nil
}

// An ownListener has connections of its own user, and of root, only. The mode
// of the socket says so too, but not on every system.
type ownListener struct{ *net.UnixListener }

// Accept implements net.Listener.
func (l ownListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := control.PeerUser(c)
		if err == nil && (uid == 0 || int(uid) == os.Geteuid()) {
			return c, nil
		}
		c.Close()
	}
}
