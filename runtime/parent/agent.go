package parent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
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

	// Filters are the programs that mfa has started, with the directories in
	// which they are looked for and the account of those that name none.
	Filters     []compile.Proc
	LibexecDirs []string
	FilterUser  string

	MFA, MDA imsg.Conn
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
	handle := a.handle
	if c.Users != nil {
		u := newUsers(c.Users)
		defer u.close()
		handle = u.handle
	}
	filters := &programs{
		log: a.log, procs: c.Filters, libexec: c.LibexecDirs, account: c.FilterUser,
		running: make(map[string]*exec.Cmd),
	}
	defer filters.stop()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(patience, cancel) })()

	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, conn := range []imsg.Conn{c.MDA, c.MFA} {
		if conn == nil {
			continue
		}
		wg.Go(func() {
			h := handle
			if conn == c.MFA {
				h = func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
					if m.Type == typeProgram {
						return filters.handle(m)
					}
					return handle(ctx, m)
				}
			}
			if err := imsg.NewPeer(conn, h).Run(work); err != nil {
				errs[i] = fmt.Errorf("parent: link to %s: %w", [...]string{"mda", "mfa"}[i], err)
			}
			// Without one of its peers parent is of no use; when all stop, mfa
			// may go first.
			if conn == c.MDA || ctx.Err() == nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// An agent acts for users.
type agent struct {
	log   *slog.Logger
	host  string // of this server, for names of files and LHLO
	uid   int    // that this process runs as
	start string // absolute path of the working directory
	limit time.Duration

	syncs dirSyncs
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
	return &agent{log: log, host: c.ServerName, uid: os.Geteuid(), start: start, limit: timeLimit}, nil
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
	return imsg.Message{Data: appendResult(nil, a.deliver(ctx, d, m.File))}, nil
}

func (a *agent) handleForward(m imsg.Message) (imsg.Message, error) {
	u, err := parseAccount(m.Data)
	if err != nil {
		return imsg.Message{}, fmt.Errorf("parent: account: %w", err)
	}
	return forwardMessage(a.openForward(u)), nil
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
	switch d.Method {
	case Maildir:
		err = a.maildir(d, msg)
	case Mbox:
		err = a.mbox(ctx, d, msg)
	case Command:
		return a.command(ctx, d, msg)
	case LMTP:
		return a.lmtp(ctx, d, msg)
	}
	if err != nil {
		return failure(err)
	}
	return delivered
}
