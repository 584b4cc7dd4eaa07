package mda

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"smtpd/compile"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/parent"
	"smtpd/runtime/queue"
)

// systemMailboxes holds the mbox of each system user.
const systemMailboxes = "/var/mail"

// A Config says what mda delivers and whom it asks.
type Config struct {
	Rules *compile.Ruleset
	Log   *slog.Logger

	// Mailboxes is the directory of the files that the action mbox appends
	// to; "" is /var/mail.
	Mailboxes string

	// AliasUser is the name under which envelopes run the commands of aliases
	// and append to their files; "" is _smtpd. If the daemon is not root that
	// is the daemon's own account, whatever its name.
	AliasUser string

	// Program is the path of this program, which delivers behind wrappers:
	// see parent.RunAgent.
	Program string

	Queue, LKA, Parent imsg.Conn
}

// patience is how long a stopping mda goes on with the deliveries under way:
// one whose end the queue does not learn is made twice.
const patience = 12 * time.Second

// Main delivers what the queue hands out until ctx is done or a peer is lost.
// When told to stop it begins nothing new, and ends when the queue has heard of
// all that was under way and closes its link.
func Main(ctx context.Context, c Config) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(patience, cancel) })()
	lookups := imsg.NewPeer(c.LKA, nil)
	users := imsg.NewPeer(c.Parent, nil)
	a := newAgent(ctx, c)
	a.accounts = lka.NewClient(lookups)
	direct := parent.NewDirect(parent.NewClient(users))
	defer direct.Close()
	a.parent = direct
	tasks := imsg.NewPeer(c.Queue, queue.DelivererHandler(a))
	a.queue = queue.NewClient(tasks)

	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i, p := range []*imsg.Peer{tasks, lookups, users} {
		wg.Go(func() {
			if err := p.Run(work); err != nil {
				errs[i] = fmt.Errorf("mda: link to %s: %w", [...]string{"queue", "lka", "parent"}[i], err)
			}
			// Without one of its peers mda is of no use; when all stop, the
			// other two may go first.
			if p == tasks || ctx.Err() == nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func newAgent(stop context.Context, c Config) *agent {
	a := &agent{
		stop:      stop,
		rules:     c.Rules,
		log:       c.Log,
		mailboxes: cmp.Or(c.Mailboxes, systemMailboxes),
		aliasUser: cmp.Or(c.AliasUser, "_smtpd"),
		actions:   make(map[string]*compile.Action),
		wrappers:  make(map[string]string),
		program:   c.Program,
		turns:     newTurns(cmp.Or(c.Rules.MDA.MaxSession, 50), cmp.Or(c.Rules.MDA.MaxSessionPerUser, 7)),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	for i := range c.Rules.Actions {
		a.actions[c.Rules.Actions[i].Name] = &c.Rules.Actions[i]
	}
	for _, w := range c.Rules.Wrappers {
		a.wrappers[w.Name] = w.Command
	}
	return a
}
