package parent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"smtpd/compile"
	"smtpd/runtime/imsg"
)

// timeLimit is how long one delivery may take.
const timeLimit = 300 * time.Second

// A Config says whom parent serves.
type Config struct {
	Log        *slog.Logger
	ServerName string // said to LMTP servers, and part of the names of files in a maildir

	// Users starts the processes that act for users; nil: this process does,
	// and can do so for the user it runs as alone.
	Users Starter

	// Courier starts the process that writes the mailboxes of all users and
	// opens their .forward files; nil: those of Users do.
	Courier func() (imsg.Conn, error)

	// LMTP starts the process that speaks LMTP for all users; nil: those of
	// Users do.
	LMTP func() (imsg.Conn, error)

	// Many: this process is the courier.
	Many bool

	// Filters are the programs that mfa has started, with the directories in
	// which they are looked for and the account of those that name none.
	Filters     []compile.Proc
	LibexecDirs []string
	FilterUser  string

	// Tables: lka may have the programs started that serve some of them.
	Tables []compile.Table

	// Milters are where milters listen, by the names of their filters.
	Milters map[string]compile.MilterAddr

	// Logins: lka may have the passwords of the system's accounts checked.
	Logins bool

	// Offline is the mail that sendmail stored.
	Offline Offline

	MFA, MDA imsg.Conn
	LKA      imsg.Conn // may be nil

	// Service is what control may ask for; it and Control may be nil.
	Service Service
	Control imsg.Conn

	// Updates brings what a reload changes. May be nil.
	Updates <-chan Update
}

// An Update is other filters and the components that go by other rules. Those
// before them may still ask, until they end.
type Update struct {
	Filters  []compile.Proc
	Tables   []compile.Table
	Milters  map[string]compile.MilterAddr
	Logins   bool
	MFA, MDA imsg.Conn
	LKA      imsg.Conn
	Done     func() // called when it is in force
}

// patience is how long a stopping parent goes on with the deliveries under way:
// one whose end nobody learns is made twice.
const patience = 12 * time.Second

// Main serves requests until ctx is done or a peer is lost. When told to stop
// it ends when mda has closed its link.
func Main(ctx context.Context, c Config) error {
	a, err := newAgent(c)
	if err != nil {
		return err
	}
	defer a.guests.Wait()
	defer a.lmtps.close()
	handle := a.handle
	if c.Users != nil {
		u := newUsers(c.Users)
		u.courier = &courier{role: "courier", start: c.Courier, log: a.log}
		u.lmtp = &courier{role: "lmtp", start: c.LMTP, log: a.log}
		defer u.close()
		handle = u.handle
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	e := &ends{handle: handle, config: &c, log: a.log, stopping: ctx, cancel: cancel}
	defer context.AfterFunc(ctx, e.stop)()
	e.adopt(work, Update{Filters: c.Filters, Tables: c.Tables, Milters: c.Milters, Logins: c.Logins, MFA: c.MFA, MDA: c.MDA, LKA: c.LKA})
	stored := &offline{Offline: c.Offline, log: a.log, again: make(map[string]attempt)}
	e.peers.Go(func() { stored.run(ctx) })
	if c.Control != nil {
		e.peers.Go(func() { imsg.NewPeer(c.Control, serveControl(c.Service)).Run(work) })
	}
	for {
		select {
		case u := <-c.Updates:
			e.adopt(work, u)
			u.Done()
		case <-work.Done():
			e.peers.Wait()
			return e.err
		}
	}
}

// ends are the connections to the components that ask, of all generations.
type ends struct {
	handle   imsg.Handler
	config   *Config
	log      *slog.Logger
	stopping context.Context // is done when all are to end
	cancel   context.CancelFunc
	peers    sync.WaitGroup

	mu     sync.Mutex
	latest int // generation
	open   int // connections
	err    error
}

// stop ends everything if nobody is left who asks, and else after a while.
func (e *ends) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == 0 {
		e.cancel()
	}
	time.AfterFunc(patience, e.cancel)
}

// adopt serves the components of a new generation until they end. Without
// those of the latest one parent is of no use.
func (e *ends) adopt(ctx context.Context, u Update) {
	e.mu.Lock()
	e.latest++
	generation := e.latest
	e.mu.Unlock()
	in := installation{e.config.LibexecDirs, e.config.FilterUser}
	filters, tables := newFilters(e.log, u.Filters, in), newTablePrograms(e.log, u.Tables, in)
	run := func(name string, conn imsg.Conn, h imsg.Handler, ended func()) {
		if conn == nil {
			return
		}
		e.mu.Lock()
		e.open++
		e.mu.Unlock()
		e.peers.Go(func() {
			err := imsg.NewPeer(conn, h).Run(ctx)
			ended()
			e.mu.Lock()
			defer e.mu.Unlock()
			e.open--
			if err != nil {
				e.err = errors.Join(e.err, fmt.Errorf("parent: link to %s: %w", name, err))
			}
			// When all stop, mfa may go first.
			if e.open == 0 || generation == e.latest && (name == "mda" || e.stopping.Err() == nil) {
				e.cancel()
			}
		})
	}
	run("mda", u.MDA, e.handle, func() {})
	run("mfa", u.MFA, func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
		switch m.Type {
		case typeProgram:
			return filters.handle(m)
		case typeMilter:
			return milters(u.Milters).handle(ctx, m)
		}
		return e.handle(ctx, m)
	}, filters.stop)
	var checks *logins
	if u.Logins {
		checks = newLogins(systemAccounts(), e.log)
		checks.pam = in.pam()
	}
	names := nameService{in.pam()}
	run("lka", u.LKA, func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
		switch m.Type {
		case typeProgram:
			return tables.handle(m)
		case typeAccount:
			return names.serve(ctx, m)
		}
		return checks.serve(ctx, m)
	}, tables.stop)
}

// An agent acts for users.
type agent struct {
	log   *slog.Logger
	host  string // of this server, for names of files and LHLO
	uid   int    // that this process runs as
	many  bool   // it acts for every user, in the file system
	start string // absolute path of the working directory
	limit time.Duration

	syncs dirSyncs
	lmtps lmtpSessions

	guests sync.WaitGroup // where many
}

func newAgent(c Config) (*agent, error) {
	start, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("parent: working directory: %w", err)
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &agent{log: log, host: c.ServerName, uid: os.Geteuid(), many: c.Many, start: start, limit: timeLimit}, nil
}

// handle answers the requests of mfa and mda.
func (a *agent) handle(ctx context.Context, m imsg.Message) (imsg.Message, error) {
	switch m.Type {
	case typeDeliver:
		return a.handleDeliver(ctx, m)
	case typeForward:
		if m.File != nil {
			m.File.Close()
		}
		return a.handleForward(m)
	case typeGuest:
		if a.many && m.File != nil {
			return imsg.Message{}, a.meet(ctx, m.File)
		}
	case typeCourier:
		return imsg.Message{}, nil // there is none
	}
	if m.File != nil {
		m.File.Close()
	}
	return imsg.Message{}, fmt.Errorf("parent: no requests of type %d", m.Type)
}

func (a *agent) handleDeliver(ctx context.Context, m imsg.Message) (imsg.Message, error) {
	if m.File == nil {
		return imsg.Message{}, errors.New("parent: delivery without content")
	}
	defer m.File.Close()
	d, err := parseDelivery(m.Data)
	if err != nil {
		return imsg.Message{}, fmt.Errorf("parent: delivery: %w", err)
	}
	var r Result
	if err = refuseRoot(d); err == nil {
		err = a.as(d.As, func() { r = a.deliver(ctx, d, m.File) })
	}
	if err != nil {
		r = failure(err)
	}
	return imsg.Message{Data: appendResult(nil, r)}, nil
}

func (a *agent) handleForward(m imsg.Message) (imsg.Message, error) {
	u, err := parseAccount(m.Data)
	if err != nil {
		return imsg.Message{}, fmt.Errorf("parent: account: %w", err)
	}
	if a.many && u.UID == 0 {
		return forwardMessage(nil, nil), nil // nothing is delivered to root
	}
	var f *os.File
	if failed := a.as(u, func() { f, err = a.openForward(u) }); failed != nil {
		err = fmt.Errorf("%w: %w", ErrTemporary, failed)
	}
	return forwardMessage(f, err), nil
}

// as runs f as u, which a process that is one user's is already, or must find
// out that it is not.
func (a *agent) as(u Account, f func()) error {
	if !a.many {
		f()
		return nil
	}
	if u.UID == 0 {
		return errors.New("nothing is done as user id 0")
	}
	return actAs(u.UID, u.GID, f)
}

// forwardMessage is the answer to a request for a .forward.
func forwardMessage(f *os.File, err error) imsg.Message {
	r := forwardReply{State: forwardNone}
	switch {
	case errors.Is(err, ErrTemporary):
		r = forwardReply{forwardTemp, err.Error()}
	case err != nil:
		r = forwardReply{forwardPerm, err.Error()}
	case f != nil:
		r.State = forwardFile
	}
	return imsg.Message{Data: appendForwardReply(nil, r), File: f}
}

// deliver runs d and never takes longer than the time limit.
func (a *agent) deliver(ctx context.Context, d Delivery, content *os.File) Result {
	if err := a.mayActAs(d); err != nil {
		return failure(err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.limit)
	defer cancel()
	msg, err := newMessage(d.Header, content)
	if err != nil {
		return failure(err)
	}
	switch {
	case d.runsCommand():
		return a.command(ctx, d, msg)
	case d.Method == Maildir:
		err = a.maildir(d, msg)
	case d.Method == Mbox:
		err = a.mbox(ctx, d, msg)
	case d.Method == LMTP:
		return a.lmtp(ctx, d, msg)
	}
	if err != nil {
		return failure(err)
	}
	return delivered
}
