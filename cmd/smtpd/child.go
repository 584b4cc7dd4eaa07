package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"smtpd/runtime/crypto"
	"smtpd/runtime/imsg"
	"smtpd/runtime/parent"
	"smtpd/runtime/proc"
	"smtpd/runtime/sandbox"
	"smtpd/runtime/stat"
)

// userRole is the role of the processes that act for users, courierRole that of
// the one that writes their mailboxes, and lmtpRole of the one that speaks LMTP.
const (
	userRole    = "deliver"
	courierRole = "courier"
	lmtpRole    = "lmtp"
)

// runOrder runs what this process was started for by another, and returns its
// exit status.
func runOrder(o proc.Order, stderr io.Writer) int {
	proc.Deaf()
	err := fmt.Errorf("no such role")
	switch o.Role {
	case offlineRole:
		return runOffline(o, stderr)
	case userRole:
		err = runUser(o, stderr)
	case courierRole, lmtpRole:
		err = runForAll(o, stderr)
	case judgeRole:
		err = runJudge(os.Stdin, os.Stdout, stderr)
	default:
		for i := range roles {
			if roles[i].name == o.Role {
				err = runChild(o, &roles[i], stderr)
			}
		}
	}
	switch {
	case errors.Is(err, proc.ErrOrphan):
		return 1
	case err != nil:
		fmt.Fprintf(stderr, "error: %s: %v\n", o.Role, err)
		return 1
	}
	return 0
}

// runChild becomes what o says, and only then takes anything from anyone.
func runChild(o proc.Order, r *role, stderr io.Writer) error {
	preload(r.name)
	early, _ := newLog(stderr, slog.LevelInfo, logForm{})
	if err := sandbox.Enter(o.Role, confinement(o, r), early); err != nil {
		return err
	}
	stat.DescribeProcess(o.Role)
	child, err := proc.Join(o.Role)
	if err != nil {
		return err
	}
	p, err := newParts(child, o.Role, r.stays, stderr)
	if err != nil {
		return err
	}
	return child.Run(func(ctx context.Context) error {
		if r.stays {
			p.updates = updatesOf(ctx, child)
		}
		return r.main(ctx, p)
	})
}

// connsOf returns the connections that child has; suffix is that of the names
// of the components that have come, as those that stay know them.
func connsOf(child *proc.Child, stays bool, suffix string) func(peer string) imsg.Conn {
	return func(peer string) imsg.Conn {
		if stays && comes(peer) {
			peer += suffix
		}
		return child.Link(peer)
	}
}

// updatesOf returns what a component that stays is told, until ctx is done. An
// update that cannot be read ends the process: it starts anew with what is in
// force.
func updatesOf(ctx context.Context, child *proc.Child) <-chan *update {
	updates := make(chan *update)
	go func() {
		for {
			select {
			case files := <-child.Updates:
				s, err := readSetup(files[setupName])
				u := &update{done: child.Updated}
				if err == nil {
					u.rules, err = s.rules()
				}
				if err == nil {
					u.names = s.RuleNames
					u.metrics, err = listeners(files, metricsName)
				}
				if err != nil {
					fmt.Fprintf(os.Stderr, "error: update: %v\n", err)
					os.Exit(1)
				}
				u.conn = connsOf(child, true, s.Suffix)
				select {
				case updates <- u:
				case <-ctx.Done():
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return updates
}

// confinement says what a process may use of what its role may.
func confinement(o proc.Order, r *role) sandbox.Config {
	c := sandbox.Config{Root: o.Root, Drop: o.Enter}
	if r.home != nowhere {
		c.Paths = []string{"/"}
	}
	return c
}

// preload reads what the libraries of this program look for in the file system
// when they first need it.
func preload(name string) {
	_ = time.Local.String() // reads TZ and the file that it names
	if name == "mta" || name == "smtp" || name == "lka" {
		x509.SystemCertPool() // without one, verifying says so
	}
	if name == "queue" {
		os.Setenv("TMPDIR", "/") // below its root there is no other: runtime/queue/content_other.go
	}
}

// newParts makes of what a process was given what its component needs.
func newParts(child *proc.Child, role string, stays bool, stderr io.Writer) (*parts, error) {
	s, err := readSetup(child.Files[setupName])
	if err != nil {
		return nil, err
	}
	p := &parts{
		setup: s, level: new(slog.LevelVar), conn: connsOf(child, stays, s.Suffix), ready: child.Ready, retired: child.Retired, idle: child.Updated,
		pid: os.Getppid(), store: "/",
		remembered: func(name string, i int) (*os.File, error) {
			if f := child.Files[memoryName(name, i)]; f != nil {
				return f, nil
			}
			return nil, errors.New("no memory was given")
		},
	}
	p.level.Set(s.Level)
	p.log, child.Traces = newLog(stderr, p.level, s.Form)
	p.tell = child.TellLevel
	child.OnLevel = func(l slog.Level) {
		p.level.Set(l)
		p.log.Debug("logging more", "component", role)
	}
	if p.rules, err = s.rules(); err != nil {
		return nil, err
	}
	if p.listeners, err = listeners(child.Files, listenerName); err != nil {
		return nil, err
	}
	if p.metrics, err = listeners(child.Files, metricsName); err != nil {
		return nil, err
	}
	if p.submit, err = unixListener(child.Files, submitName); err != nil {
		return nil, err
	}
	if p.admin, err = unixListener(child.Files, adminName); err != nil {
		return nil, err
	}
	p.keys, err = givenKeys(child.Files, s)
	return p, err
}

func readSetup(f *os.File) (*setup, error) {
	if f == nil {
		return nil, errors.New("no setup")
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("setup: %w", err)
	}
	s := new(setup)
	if err := s.parse(b); err != nil {
		return nil, fmt.Errorf("setup: %w", err)
	}
	return s, nil
}

// listeners returns the sockets among files that name numbers.
func listeners(files map[string]*os.File, name func(i int) string) ([]net.Listener, error) {
	var l []net.Listener
	for i := 0; ; i++ {
		f := files[name(i)]
		if f == nil {
			break
		}
		ln, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name(i), err)
		}
		l = append(l, ln)
	}
	return l, nil
}

func unixListener(files map[string]*os.File, name string) (*net.UnixListener, error) {
	f := files[name]
	if f == nil {
		return nil, nil
	}
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	u, ok := ln.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("%s is no local socket", name)
	}
	u.SetUnlinkOnClose(false) // the next process uses it
	return u, nil
}

// givenKeys returns the private keys that are among files.
func givenKeys(files map[string]*os.File, s *setup) ([]crypto.Key, error) {
	if len(s.Certs) == 0 || files[keyName(s.Certs[0].Name)] == nil {
		return nil, nil
	}
	return keysOf(s, func(name string) (*os.File, error) {
		if f := files[name]; f != nil {
			return f, nil
		}
		return nil, errors.New("no key was given")
	})
}

// runUser acts for the user that this process is, until parent hangs up.
func runUser(o proc.Order, stderr io.Writer) error {
	if len(o.Args) != 1 {
		return errors.New("a name of the server is missing")
	}
	conn, err := proc.ParentConn()
	if err != nil {
		return err
	}
	return parent.Main(context.Background(), parent.Config{
		Log: slog.New(slog.DiscardHandler), ServerName: o.Args[0], MDA: conn,
	})
}

// runForAll acts for all users in the file system or by LMTP, as its role is,
// until parent hangs up.
func runForAll(o proc.Order, stderr io.Writer) error {
	if len(o.Args) != 1 {
		return errors.New("a name of the server is missing")
	}
	_ = time.Local.String() // reads TZ and the file that it names
	early, _ := newLog(stderr, slog.LevelInfo, logForm{})
	if err := sandbox.Enter(o.Role, sandbox.Config{Paths: []string{"/"}}, early); err != nil {
		return err
	}
	conn, err := proc.ParentConn()
	if err != nil {
		return err
	}
	return parent.Main(context.Background(), parent.Config{
		Log: slog.New(slog.DiscardHandler), ServerName: o.Args[0], MDA: conn, Many: o.Role == courierRole,
	})
}

// startLMTP has this program started to speak LMTP for all users.
func startLMTP(s *proc.Supervisor, as proc.Account, server string) func() (imsg.Conn, error) {
	return func() (imsg.Conn, error) {
		u, err := s.StartUser(lmtpRole, uint32(as.UID), uint32(as.GID), server)
		if err != nil {
			return nil, err
		}
		return u, nil
	}
}

// startCourier has this program started as the courier.
func startCourier(s *proc.Supervisor, as proc.Account, server string) func() (imsg.Conn, error) {
	if !parent.ManyUsers {
		return nil
	}
	return func() (imsg.Conn, error) {
		u, err := s.StartAnyUser(courierRole, as, server)
		if err != nil {
			return nil, err
		}
		return u, nil
	}
}

// startUser has this program started for a user.
func startUser(s *proc.Supervisor, server string) parent.Starter {
	return func(uid, gid uint32) (imsg.Conn, error) {
		u, err := s.StartUser(userRole, uid, gid, server)
		if err != nil {
			return nil, err
		}
		return u, nil
	}
}
