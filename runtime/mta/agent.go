package mta

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/queue"
)

// A Config says what mta sends and whom it asks.
type Config struct {
	Rules *compile.Ruleset
	Log   *slog.Logger

	// Certs and Roots hold the certificates and authorities that relay
	// actions name by pki and ca. They are read before the daemon gives up
	// the rights to read them.
	Certs map[string]tls.Certificate
	Roots map[string]*x509.CertPool

	// Port is where mail exchangers, and smart hosts that name no port, are
	// called; 0 is 25. Tests call their own.
	Port uint16

	Queue, LKA imsg.Conn
}

// Main sends what the queue hands out until ctx is done or a peer is lost, and
// waits for its sessions.
func Main(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a, err := newAgent(ctx, c)
	if err != nil {
		return fmt.Errorf("mta: %w", err)
	}
	lookups := imsg.NewPeer(c.LKA, nil)
	a.tables = lka.NewClient(lookups)
	work := imsg.NewPeer(c.Queue, queue.DelivererHandler(a))
	a.queue = queue.NewClient(work)

	var wg sync.WaitGroup
	var errs [2]error
	for i, p := range []*imsg.Peer{work, lookups} {
		wg.Go(func() {
			defer cancel() // without one of its peers mta is of no use
			if err := p.Run(ctx); err != nil {
				errs[i] = fmt.Errorf("mta: link to %s: %w", [...]string{"queue", "lka"}[i], err)
			}
		})
	}
	wg.Wait()
	a.work.Wait()
	return errors.Join(errs[:]...)
}

// An agent sends envelopes; it is the queue's Deliverer.
type agent struct {
	ctx     context.Context // of all sessions
	rules   *compile.Ruleset
	log     *slog.Logger
	port    uint16
	timeout time.Duration
	actions map[string]*compile.Action
	self    map[netip.AddrPort]bool // where this daemon listens
	keys    *keyring
	queue   messages
	tables  tables

	work   sync.WaitGroup // sessions
	book   *book
	routes routes

	mu     sync.Mutex
	relays map[relayID]*relay
}

// What the agent asks of its peers; each is a Client, or faked in a test.
type (
	messages interface {
		Open(ctx context.Context, msg envelope.MessageID) (*os.File, error)
	}
	tables interface {
		Lookup(ctx context.Context, t compile.TableID, s engine.Service, key string) (string, bool, error)
		Fetch(ctx context.Context, t compile.TableID, s engine.Service) (string, bool, error)
		MX(ctx context.Context, domain string) ([]lka.MX, error)
		Addrs(ctx context.Context, host string) ([]netip.Addr, error)
		PTR(ctx context.Context, addr netip.Addr) (string, lka.FCrDNS, error)
	}
)

func newAgent(ctx context.Context, c Config) (*agent, error) {
	keys := &keyring{c.Certs, c.Roots}
	if err := keys.check(c.Rules); err != nil {
		return nil, err
	}
	a := &agent{
		ctx: ctx, rules: c.Rules, log: c.Log, port: cmp.Or(c.Port, defaultPort), timeout: dialogueTimeout,
		actions: make(map[string]*compile.Action), self: selfAddrs(c.Rules), keys: keys,
		book: newBook(), relays: make(map[relayID]*relay),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	for i := range c.Rules.Actions {
		a.actions[c.Rules.Actions[i].Name] = &c.Rules.Actions[i]
	}
	return a, nil
}

var _ queue.Deliverer = (*agent)(nil)

// Deliver sends the message of batch to all of its recipients.
func (a *agent) Deliver(ctx context.Context, batch []envelope.Envelope) ([]queue.Result, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	t := newTask(ctx, batch)
	if err := a.begin(ctx, t); err != nil {
		var f *failure
		if !errors.As(err, &f) {
			return nil, err
		}
		t.fail(f)
	}
	select {
	case <-t.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.ctx.Done():
		return nil, a.ctx.Err()
	}
	results := make([]queue.Result, len(batch))
	for i := range batch {
		a.logDelivery(ctx, &batch[i], &t.outcomes[i])
		results[i] = t.outcomes[i].Result
	}
	return results, nil
}

// begin finds out where t goes and hands it to the relay there.
func (a *agent) begin(ctx context.Context, t *task) error {
	first := &t.envelopes[0]
	action, ok := a.actions[first.Action]
	if !ok || action.Method != compile.Relay {
		return &failure{status: "4.3.5", text: fmt.Sprintf("action %q is not configured to relay any more", first.Action)}
	}
	dest, err := a.destination(ctx, action, first)
	if err != nil {
		return err
	}
	t.sender = a.rewriteSender(action, first)
	a.submit(action, dest, t)
	return nil
}

// logDelivery writes the line per attempt that operators search for.
func (a *agent) logDelivery(ctx context.Context, ev *envelope.Envelope, o *outcome) {
	rcpt := "-"
	if ev.Rcpt != ev.Dest {
		rcpt = ev.Rcpt.String()
	}
	result := o.Outcome
	if result == queue.Loop {
		result = queue.PermFail
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "mta delivery",
		sessionAttr(o.session),
		slog.String("evpid", ev.ID.String()),
		slog.String("from", "<"+ev.Sender.String()+">"),
		slog.String("to", "<"+ev.Dest.String()+">"),
		slog.String("rcpt", "<"+rcpt+">"),
		slog.String("source", cmp.Or(o.source, "-")),
		slog.String("relay", cmp.Or(o.relay, ev.Dest.Domain)),
		slog.String("delay", envelope.FormatDelay(time.Since(ev.Created))),
		slog.String("result", result.String()),
		slog.String("stat", o.Text),
	)
}
