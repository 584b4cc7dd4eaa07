package mta

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/mfa"
	"smtpd/runtime/queue"
)

// A Config says what mta sends and whom it asks.
type Config struct {
	Rules *compile.Ruleset
	Log   *slog.Logger

	// Certs and Roots hold the certificates and authorities that relay
	// actions name by pki and ca. They are read before the daemon gives up
	// the rights to read them. Roots[""] stands in for those of the system.
	Certs map[string]tls.Certificate
	Roots map[string]*x509.CertPool

	// Port is where mail exchangers, and smart hosts that name no port, are
	// called; 0 is 25. Tests call their own.
	Port uint16

	// Reports are where the counts of TLS sessions are kept; nil for no longer
	// than mta runs.
	Reports [2]*os.File

	Queue, LKA imsg.Conn
	MFA        imsg.Conn // nil if no filter is to hear of anything
	Control    imsg.Conn // gives the administrator's orders; may be nil
}

// patience is how long a stopping mta goes on with the messages that are being
// sent: one whose end the queue does not learn is sent twice.
const patience = 12 * time.Second

// Main sends what the queue hands out until ctx is done or a peer is lost. When
// told to stop it begins nothing new, and ends when the queue has heard of all
// that was under way and closes its link.
func Main(ctx context.Context, c Config) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(patience, cancel) })()
	a, err := newAgent(ctx, work, c)
	if err != nil {
		return fmt.Errorf("mta: %w", err)
	}
	lookups := imsg.NewPeer(c.LKA, nil)
	a.tables = lka.NewClient(lookups)
	a.restoring.Add(1)
	tasks := imsg.NewPeer(c.Queue, queue.DelivererHandler(a))
	a.queue = queue.NewClient(tasks)
	if c.MFA != nil {
		toMFA := imsg.NewPeer(c.MFA, nil)
		a.listeners = mfa.NewClient(toMFA)
		a.work.Go(func() { toMFA.Run(work) })
	}

	if c.Control != nil {
		control := imsg.NewPeer(c.Control, a.orders)
		a.work.Go(func() { control.Run(work) })
	}
	a.work.Go(func() {
		defer a.restoring.Done()
		a.restorePauses(work)
	})
	kept := a.reports.open(c.Reports, a.log)
	a.work.Go(func() { a.reports.run(work, kept, a.log) })

	var wg sync.WaitGroup
	var queueErr, lkaErr error
	wg.Go(func() {
		defer cancel()
		queueErr = tasks.Run(work)
	})
	wg.Go(func() {
		lkaErr = lookups.Run(work)
		if ctx.Err() == nil { // without it mta is of no use; when all stop it may go first
			cancel()
		}
	})
	wg.Wait()
	a.work.Wait()
	return errors.Join(linkError("queue", queueErr), linkError("lka", lkaErr))
}

func linkError(peer string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("mta: link to %s: %w", peer, err)
}

// An agent sends envelopes; it is the queue's Deliverer.
type agent struct {
	stop    context.Context // ends when nothing new is to be begun
	hard    context.Context // ends when what was begun is to be broken off
	rules   *compile.Ruleset
	log     *slog.Logger
	port    uint16
	timeout time.Duration
	actions map[string]*compile.Action
	self    map[netip.AddrPort]bool // where this daemon listens
	keys    *keyring
	queue   messages
	tables  tables

	listeners listeners // may be nil
	dial      func(ctx context.Context, d *net.Dialer, addr string) (net.Conn, error)

	work    sync.WaitGroup // sessions
	most    int            // of them
	book    *book
	routes  routes
	reports reports
	pauses  pauses

	restoring sync.WaitGroup // of pauses; nothing is sent and nobody is obeyed before

	stats hostStats

	deferred deferred

	mu     sync.Mutex
	relays map[relayID]*relay
	idle   map[any][]*seat // of all relays, by the keys of their limits, the longest idle first
}

// What the agent asks of its peers; each is a Client, or faked in a test.
type (
	messages interface {
		Open(ctx context.Context, msg envelope.MessageID) (*os.File, error)
		Hurry(ctx context.Context, l []envelope.ID) error
		PausedRoutes(ctx context.Context) (string, error)
	}
	tables interface {
		Lookup(ctx context.Context, t compile.TableID, s engine.Service, key string) (string, bool, error)
		Fetch(ctx context.Context, t compile.TableID, s engine.Service) (string, bool, error)
		MX(ctx context.Context, domain string) ([]lka.MX, error)
		Host(ctx context.Context, host string) (lka.MX, error)
		TLSA(ctx context.Context, name string) (records []lka.TLSA, secure bool, err error)
		STS(ctx context.Context, domain string) (lka.STS, error)
		PTR(ctx context.Context, addr netip.Addr) (string, lka.FCrDNS, error)
	}
)

func newAgent(stop, hard context.Context, c Config) (*agent, error) {
	keys, err := newKeyring(c.Rules, c.Certs, c.Roots)
	if err != nil {
		return nil, err
	}
	a := &agent{
		stop: stop, hard: hard, rules: c.Rules, log: c.Log, port: cmp.Or(c.Port, defaultPort), timeout: dialogueTimeout,
		actions: make(map[string]*compile.Action), self: selfAddrs(c.Rules), keys: keys,
		most: mostConns(), book: newBook(), relays: make(map[relayID]*relay), idle: make(map[any][]*seat),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.reports.name = c.Rules.ServerName
	a.dial = func(ctx context.Context, d *net.Dialer, addr string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", addr)
	}
	for i := range c.Rules.Actions {
		a.actions[c.Rules.Actions[i].Name] = &c.Rules.Actions[i]
	}
	return a, nil
}

var _ queue.Deliverer = (*agent)(nil)

// Deliver sends the message of batch to all of its recipients: in one
// transaction, unless sender rewriting gives them different senders.
func (a *agent) Deliver(ctx context.Context, batch []envelope.Envelope) ([]queue.Result, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	a.restoring.Wait()
	action, ok := a.actions[batch[0].Action]
	if !ok || action.Method != compile.Relay {
		f := &failure{status: "4.3.5", text: fmt.Sprintf("action %q is not configured to relay any more", batch[0].Action)}
		t := newTask(ctx, batch[0].Sender, batch)
		t.fail(f)
		return a.results(ctx, t), nil
	}
	envelopesHeld.Add(float64(len(batch)))
	defer envelopesHeld.Sub(float64(len(batch)))
	bySender := make(map[envelope.Address][]envelope.Envelope)
	for i := range batch {
		sender := a.rewriteSender(action, &batch[i])
		bySender[sender] = append(bySender[sender], batch[i])
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var results []queue.Result
	var errs []error
	for sender, part := range bySender {
		wg.Go(func() {
			l, err := a.send(ctx, action, newTask(ctx, sender, part))
			mu.Lock()
			defer mu.Unlock()
			results = append(results, l...)
			errs = append(errs, err)
		})
	}
	wg.Wait()
	if len(results) > 0 { // those without one were not begun
		return results, nil
	}
	return nil, errors.Join(errs...)
}

// send carries t through to its end.
func (a *agent) send(ctx context.Context, action *compile.Action, t *task) ([]queue.Result, error) {
	dest, err := a.destination(ctx, action, &t.envelopes[0])
	var f *failure
	switch {
	case errors.As(err, &f):
		t.fail(f)
	case err != nil:
		return nil, err
	default:
		a.submit(action, dest, t)
	}
	if err := a.wait(ctx, t); err != nil {
		return nil, err
	}
	return a.results(ctx, t), nil
}

// results returns what became of the envelopes of t that were tried, and logs
// it.
func (a *agent) results(ctx context.Context, t *task) []queue.Result {
	results := make([]queue.Result, 0, len(t.envelopes))
	for i := range t.envelopes {
		if t.outcomes[i].untried {
			continue
		}
		o, domain := &t.outcomes[i], strings.ToLower(t.envelopes[i].Dest.Domain)
		a.logDelivery(ctx, &t.envelopes[i], o)
		a.stats.set(domain, o.Text, time.Now())
		delivered[o.Outcome].Inc()
		switch {
		case o.Outcome == queue.Delivered:
			a.reached(domain)
		case o.unreached:
			a.deferred.add(domain, t.envelopes[i].ID, a.rules.MTA.MaxDeferred)
		}
		results = append(results, t.outcomes[i].Result)
	}
	return results
}

// wait returns when t is done. If it is not begun yet when mta is told to stop
// it never is.
func (a *agent) wait(ctx context.Context, t *task) error {
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
	case <-a.stop.Done():
		if a.withdraw(t) {
			return a.stop.Err()
		}
	}
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-a.hard.Done():
		return a.hard.Err()
	}
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
		slog.String("policy", o.policy.String()),
		slog.String("tls", cmp.Or(o.secured, "-")),
	)
}
