package control

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/mfa"
	"smtpd/runtime/mta"
	"smtpd/runtime/parent"
	"smtpd/runtime/queue"
	"smtpd/runtime/smtp"
)

// A Config says where to listen and whom to ask.
type Config struct {
	Log        *slog.Logger
	Submission *net.UnixListener // for every user
	Admin      *net.UnixListener // for root and the daemon's account
	Level      *slog.LevelVar    // of the log
	TellLevel  func(slog.Level)  // others of a change of it; nil: there are none
	Version    string
	PID        int // of the daemon; 0: this process
	SMTP, LKA  imsg.Conn
	MTA, MFA   imsg.Conn
	Queue      imsg.Conn
	Parent     imsg.Conn
	Metrics    []net.Listener // where HTTP clients read the numbers
	RuleNames  []mfa.RuleName // of the rules in force

	// Updates brings the components that a reload has started. May be nil.
	Updates <-chan Update
}

// An Update is the components that are asked from now on, and what is new of
// the configuration.
type Update struct {
	SMTP, LKA imsg.Conn
	MTA, MFA  imsg.Conn
	Metrics   []net.Listener
	RuleNames []mfa.RuleName
	Done      func() // called when it is in force
}

// MaxPerUser is how many connections one user may have at a time.
const MaxPerUser = 32

// Main serves both sockets until ctx is done.
func Main(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &agent{
		log: c.Log, level: c.Level, tell: c.TellLevel, version: c.Version, pid: cmp.Or(c.PID, os.Getpid()),
		started: time.Now(), users: make(map[uint32]int),
	}
	defer a.running.Wait()
	run := func(conn imsg.Conn, gone func()) *imsg.Peer {
		p := imsg.NewPeer(conn, nil)
		a.running.Go(func() {
			defer gone()
			p.Run(ctx)
		})
		return p
	}
	a.queue = queue.NewClient(run(c.Queue, cancel)) // without the others there is nothing to offer
	a.parent = parent.NewClient(run(c.Parent, cancel))
	a.describe()
	adopt := func(u Update) {
		f := new(front)
		gone := func() {
			if a.front.Load() == f {
				cancel()
			}
		}
		f.smtp, f.lka = smtp.NewClient(run(u.SMTP, gone)), lka.NewClient(run(u.LKA, gone))
		f.mfa = mfa.NewClient(run(u.MFA, gone))
		f.mta = mta.NewClient(run(u.MTA, gone))
		a.front.Store(f)
		a.names.Store(&u.RuleNames)
		a.exporter = a.export(ctx, u.Metrics)
	}
	adopt(Update{SMTP: c.SMTP, LKA: c.LKA, MTA: c.MTA, MFA: c.MFA, Metrics: c.Metrics, RuleNames: c.RuleNames})
	a.running.Go(func() {
		for {
			select {
			case u := <-c.Updates:
				a.exporter.close()
				adopt(u)
				u.Done()
			case <-ctx.Done():
				a.exporter.close()
				return
			}
		}
	})
	a.running.Go(func() { a.accept(ctx, c.Submission, false) })
	a.accept(ctx, c.Admin, true)
	return nil
}

// A front is the components that a reload replaces.
type front struct {
	smtp *smtp.Client
	lka  *lka.Client
	mta  *mta.Client
	mfa  *mfa.Client
}

// An agent answers local programs.
type agent struct {
	log     *slog.Logger
	level   *slog.LevelVar
	tell    func(slog.Level)
	version string
	pid     int
	front   atomic.Pointer[front]
	queue   *queue.Client
	parent  *parent.Client
	started time.Time

	running  sync.WaitGroup
	names    atomic.Pointer[[]mfa.RuleName]
	exporter *exporter

	mu    sync.Mutex
	users map[uint32]int // connections by user id
}

// accept serves the connections of ln until ctx is done.
func (a *agent) accept(ctx context.Context, ln *net.UnixListener, admin bool) {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		c, err := ln.AcceptUnix()
		if err == nil {
			wg.Go(func() { a.serve(ctx, c, admin) })
			continue
		}
		if ctx.Err() == nil {
			a.log.Warn("control: accept", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
		}
	}
}

const acceptPause = 100 * time.Millisecond

// serve answers one connection until it ends or says what is no request.
func (a *agent) serve(ctx context.Context, c *net.UnixConn, admin bool) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	uid, err := PeerUser(c)
	if err != nil {
		a.log.Warn("control: peer credentials", "error", err)
		return
	}
	if admin && uid != 0 && int(uid) != os.Geteuid() {
		refusals.WithLabelValues("user").Inc()
		a.log.Warn("control: refused", "uid", uid)
		return
	}
	conn := imsg.NewUnix(c)
	if !a.enter(uid) {
		refusals.WithLabelValues("connections").Inc()
		a.log.Warn("control: too many connections", "uid", uid)
		c.SetWriteDeadline(time.Now().Add(writeTimeout))
		conn.Send(imsg.Frame{Type: typeFailed, Data: []byte("too many connections of this user, try again later")})
		return
	}
	defer a.leave(uid)
	socket := "submission"
	if admin {
		socket = "admin"
	}
	sessions.WithLabelValues(socket).Inc()
	sessionsOpen.WithLabelValues().Inc()
	defer sessionsOpen.WithLabelValues().Dec()
	for {
		f, err := conn.Recv()
		if err != nil {
			return
		}
		r := request{Frame: f, uid: uid, admin: admin, reply: func(f ...imsg.Frame) error {
			c.SetWriteDeadline(time.Now().Add(writeTimeout))
			return conn.Send(f...)
		}}
		if err := a.answer(ctx, r); err != nil {
			a.log.Warn("control: connection closed", "uid", uid, "error", err)
			return
		}
	}
}

// writeTimeout bounds how long a client may leave an answer unread.
const writeTimeout = 10 * time.Second

func (a *agent) enter(uid uint32) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users[uid] >= MaxPerUser {
		return false
	}
	a.users[uid]++
	return true
}

func (a *agent) leave(uid uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users[uid]--; a.users[uid] == 0 {
		delete(a.users, uid)
	}
}
