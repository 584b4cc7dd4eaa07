package mda

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

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

	Queue, LKA, Parent imsg.Conn
}

// Main delivers what the queue hands out until ctx is done or a peer is lost,
// and waits for the deliveries under way.
func Main(ctx context.Context, c Config) error {
	lookups := imsg.NewPeer(c.LKA, nil)
	users := imsg.NewPeer(c.Parent, nil)
	a := newAgent(c)
	a.accounts = lka.NewClient(lookups)
	a.parent = parent.NewClient(users)
	work := imsg.NewPeer(c.Queue, queue.DelivererHandler(a))
	a.queue = queue.NewClient(work)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var errs [3]error
	for i, p := range []*imsg.Peer{work, lookups, users} {
		wg.Go(func() {
			defer cancel() // without one of its peers mda is of no use
			if err := p.Run(ctx); err != nil {
				errs[i] = fmt.Errorf("mda: link to %s: %w", [...]string{"queue", "lka", "parent"}[i], err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

func newAgent(c Config) *agent {
	a := &agent{
		rules:     c.Rules,
		log:       c.Log,
		mailboxes: cmp.Or(c.Mailboxes, systemMailboxes),
		aliasUser: cmp.Or(c.AliasUser, "_smtpd"),
		actions:   make(map[string]*compile.Action),
		wrappers:  make(map[string]string),
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
