package mfa

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/expand"
	"smtpd/runtime/envelope"
	"smtpd/runtime/filter"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/parent"
	"smtpd/runtime/queue"
)

// A Config says by which rules the agent decides, and whom it asks.
type Config struct {
	Rules *compile.Ruleset
	Log   *slog.Logger

	// CommandUser runs the commands and owns the files that aliases name;
	// "" is _smtpd.
	CommandUser string

	// RuleNames are what the rules are called where decisions are counted;
	// without them only the outcomes are.
	RuleNames []RuleName

	SMTP, LKA, Parent imsg.Conn
	MTA               imsg.Conn // asks for what relay actions have of filters; may be nil
	Queue             imsg.Conn // carries both directions
	Control           imsg.Conn // asks why decisions were made; may be nil
}

// Main answers until ctx is done or a peer is lost.
func Main(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := newAgent(c)
	toLKA := imsg.NewPeer(c.LKA, lka.ChangeHandler(a.views.change))
	toParent := imsg.NewPeer(c.Parent, nil)
	toQueue := imsg.NewPeer(c.Queue, queue.SubmitterHandler(a))
	tables := lka.NewClient(toLKA)
	a.lookups, a.views.from, a.queue = tables, tables, queue.NewClient(toQueue)
	user := parent.NewClient(toParent)
	direct := parent.NewDirect(user)
	defer direct.Close()
	a.homes, a.starter, a.caller = direct, user, user

	var wg sync.WaitGroup
	errs := make(chan error, 4)
	run := func(name string, p *imsg.Peer) {
		wg.Go(func() {
			defer cancel() // without one of its peers the agent can decide nothing
			if err := p.Run(ctx); err != nil {
				errs <- fmt.Errorf("mfa: link to %s: %w", name, err)
			}
		})
	}
	run("lka", toLKA)
	run("parent", toParent)
	if err := a.views.sync(ctx); err != nil && ctx.Err() == nil {
		a.log.Warn("tables may be old until lka says what they hold", "err", err)
	}
	for _, p := range a.programs {
		wg.Go(func() { p.Run(ctx) })
	}
	run("queue", toQueue)
	toSMTP := imsg.NewPeer(c.SMTP, a.handle)
	toSMTP.OnLoss(a.forget)
	run("smtp", toSMTP)
	if c.MTA != nil {
		wg.Go(func() { imsg.NewPeer(c.MTA, a.handleRelay).Run(ctx) }) // without it nothing is to be decided less
	}
	if c.Control != nil {
		wg.Go(func() { imsg.NewPeer(c.Control, a.handleControl).Run(ctx) }) // likewise
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// What the agent asks of its peers; their Clients are these.
type (
	lookups interface {
		engine.Lookups
		Lookup(ctx context.Context, t compile.TableID, s engine.Service, key string) (value string, ok bool, err error)
		UserInfo(ctx context.Context, t compile.TableID, name string) (lka.UserInfo, bool, error)
		Include(ctx context.Context, path string) (text string, ok bool, err error)
		Addrs(ctx context.Context, host string) ([]netip.Addr, error)
	}
	homes interface {
		Forward(ctx context.Context, u parent.Account) (*os.File, error)
	}
	starter interface {
		Program(ctx context.Context, name string) (*os.File, error)
	}
	caller interface {
		Milter(ctx context.Context, name string, addr netip.Addr) (*os.File, error)
	}
	envelopes interface {
		Submit(ctx context.Context, msg envelope.MessageID, evs []envelope.Envelope) ([]envelope.ID, error)
		Withdraw(ctx context.Context, msg envelope.MessageID) error
	}
)

// An agent decides about recipients.
type agent struct {
	log         *slog.Logger
	rules       *compile.Ruleset
	views       views
	inline      []*engine.Static // as Rules.Tables; nil for what lka owns
	srs         *expand.SRSDecoder
	programs    map[string]*filter.Program // by name in Rules.Procs
	commandUser string
	tallies     []*tally
	names       []RuleName
	recent      recent

	lookups lookups
	homes   homes
	starter starter
	caller  caller
	queue   envelopes

	transactions transactions
	milters      milterUses
}

func newAgent(c Config) *agent {
	a := &agent{
		log: c.Log, rules: c.Rules, srs: expand.NewSRSDecoder(c.Rules.SRS),
		commandUser: cmp.Or(c.CommandUser, "_smtpd"), tallies: newTallies(c.RuleNames), names: c.RuleNames,
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.programs = a.newPrograms()
	a.views.rules = c.Rules
	a.views.current.Store(newView(c.Rules))
	for i := range c.Rules.Tables {
		var s *engine.Static
		// What comes from a file can be read anew: lka is asked for it, and
		// has told the view of what decisions look into.
		if t := &c.Rules.Tables[i]; t.Backend == "static" && t.Path == "" {
			s = engine.NewStatic(t, c.Rules.SMTP.SubAddrDelim)
		}
		a.inline = append(a.inline, s)
	}
	return a
}

// handle answers smtp.
func (a *agent) handle(ctx context.Context, m imsg.Message) (imsg.Message, error) {
	if m.File != nil {
		m.File.Close()
	}
	switch m.Type {
	case msgRcpt:
		var q Rcpt
		if err := q.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		return imsg.Message{Data: a.rcpt(ctx, &q).append(nil)}, nil
	case msgPhase:
		var q Phase
		if err := q.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		if err := a.knows(q.Filter); err != nil {
			return imsg.Message{}, err
		}
		v, err := a.phase(ctx, &q)
		if err != nil {
			return imsg.Message{}, err
		}
		return imsg.Message{Data: v.append(nil)}, nil
	case msgOpen, msgMessage:
		var q sessionRef
		if err := q.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		if err := a.knows(q.Filter); err != nil {
			return imsg.Message{}, err
		}
		if m.Type == msgMessage {
			f, err := a.message(ctx, &q)
			return imsg.Message{File: f}, err
		}
		w, err := a.open(ctx, filter.In, &q)
		return imsg.Message{Data: w.append(nil)}, err
	case msgEvents:
		return imsg.Message{}, a.handleEvents(m.Data)
	}
	return imsg.Message{}, fmt.Errorf("mfa: no requests of type %d", m.Type)
}

// handleRelay answers mta, whose sessions programs hear of and decide nothing
// about.
func (a *agent) handleRelay(ctx context.Context, m imsg.Message) (imsg.Message, error) {
	if m.File != nil {
		m.File.Close()
	}
	switch m.Type {
	case msgOpen:
		var q sessionRef
		if err := q.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		if err := a.knows(q.Filter); err != nil {
			return imsg.Message{}, err
		}
		w, err := a.open(ctx, filter.Out, &q)
		return imsg.Message{Data: w.append(nil)}, err
	case msgEvents:
		return imsg.Message{}, a.handleEvents(m.Data)
	}
	return imsg.Message{}, fmt.Errorf("mfa: no requests of type %d of mta", m.Type)
}

func (a *agent) handleEvents(b []byte) error {
	var h happened
	if err := h.parse(b); err != nil {
		return err
	}
	if err := a.knows(h.At.Filter); err != nil {
		return err
	}
	a.tell(&h.At, h.Events)
	return nil
}

// knows returns an error for a filter that is none of the rules'.
func (a *agent) knows(id compile.FilterID) error {
	if id == 0 || uint64(id) > uint64(len(a.rules.Filters)) { // an int may have 32 bits
		return fmt.Errorf("mfa: no filter %d", id)
	}
	return nil
}

// rcpt resolves one recipient of a transaction.
func (a *agent) rcpt(ctx context.Context, q *Rcpt) verdict {
	err := a.anew(ctx, q)
	var ids []envelope.ID
	if err == nil {
		ids, err = a.resolve(ctx, q, a.transactions.of(q.Session.ID, q.Message), 0)
	}
	if err != nil {
		return verdict{Reply: a.reply(ctx, q, err)}
	}
	return verdict{IDs: ids}
}

// anew takes what the message has got of recipients, if q says so.
func (a *agent) anew(ctx context.Context, q *Rcpt) error {
	if !q.Anew {
		return nil
	}
	a.transactions.drop(q.Session.ID)
	if err := a.queue.Withdraw(ctx, q.Message); err != nil {
		return expand.Refuse(expand.ReplyTemporary, "withdraw from queue: %w", err)
	}
	return nil
}

var _ queue.Submitter = (*agent)(nil)

// SubmitReport resolves the recipient of a report as if the local socket had
// sent it: rules see the null sender and the word local.
func (a *agent) SubmitReport(ctx context.Context, msg envelope.MessageID, server string, rcpt envelope.Address) error {
	q := &Rcpt{
		Message: msg,
		Session: Session{
			Kind: engine.FromSocket, Tag: a.rules.Socket.Tag,
			SMTPName: server, Helo: server, RDNS: a.rules.ServerName, Auth: true,
		},
		Rcpt: rcpt,
	}
	if _, err := a.resolve(ctx, q, new(transaction), envelope.IsBounce); err != nil {
		return errors.New(a.reply(ctx, q, err))
	}
	return nil
}

// reply returns the line for a recipient that is not accepted, and tells the
// operator why, which the client need not know.
func (a *agent) reply(ctx context.Context, q *Rcpt, err error) string {
	line := expand.ReplyTemporary
	if r := (*expand.Refusal)(nil); errors.As(err, &r) {
		line, err = r.Reply, r.Cause
	}
	level := slog.LevelDebug // a refusal is smtp's to log
	if line[0] == '4' {
		level = slog.LevelWarn
	}
	a.log.Log(ctx, level, "recipient not accepted", "msgid", q.Message.String(),
		"to", "<"+q.Rcpt.String()+">", "result", line, "err", err)
	return line
}

// resolve expands a recipient and submits what it comes to, all or nothing.
func (a *agent) resolve(ctx context.Context, q *Rcpt, t *transaction, flags envelope.Flags) ([]envelope.ID, error) {
	w := &client{agent: a, view: a.views.current.Load(), tx: a.transactionOf(q)}
	e := &expand.Expansion{World: w, Rules: a.rules, CommandUser: a.commandUser, Warn: a.log.Warn}
	if a.srs != nil && q.Sender.IsNull() {
		e.SRS = func(addr engine.Address) (engine.Address, error) { return a.srs.Decode(addr, time.Now()) }
	}
	deliveries, err := e.Run(ctx, engine.Address(q.Rcpt))
	if err != nil {
		return nil, err
	}
	copies := make([]addressed, len(deliveries))
	for i, d := range deliveries {
		action := a.rules.Action(d.Action)
		copies[i] = addressed{newEnvelope(q, action, d, flags), action}
	}
	return t.submit(ctx, a.queue, q.Message, copies)
}

func (a *agent) transactionOf(q *Rcpt) engine.Transaction {
	s := &q.Session
	return engine.Transaction{
		Kind: s.Kind, Addr: s.Addr.WithZone("").Unmap(), Tag: s.Tag, Auth: s.Auth, User: s.User, TLS: s.TLS,
		Helo: s.Helo, RDNS: s.RDNS, Sender: a.forRules(q.Sender),
	}
}

// execute says in the words of envelopes what a delivery runs.
var execute = [...]envelope.Execute{
	expand.ByAction: envelope.ByAction, expand.ByCommand: envelope.Command, expand.ByFile: envelope.File,
}

// newEnvelope returns the envelope of a delivery (runtime.md 3.5).
func newEnvelope(q *Rcpt, action *compile.Action, d expand.Delivery, flags envelope.Flags) envelope.Envelope {
	s := &q.Session
	ev := envelope.Envelope{
		Type: envelope.MDA, Flags: q.Flags | flags, Action: action.Name, Tag: s.Tag,
		SMTPName: s.SMTPName, Helo: s.Helo, RDNS: s.RDNS, Source: source(s), User: s.User,
		Sender: q.Sender, Rcpt: q.Rcpt, Dest: envelope.Address(d.Dest),
		Notify: q.Notify, Ret: q.Ret, EnvID: q.EnvID, ORcpt: q.ORcpt,
		LocalUser: d.User, SubAddress: d.Sub, Execute: execute[d.Execute], Exec: d.Exec,
	}
	if action.Method == compile.Relay {
		ev.Type = envelope.MTA
	}
	if s.Auth {
		ev.Flags |= envelope.Authenticated
	}
	if d.Internal {
		ev.Flags |= envelope.Internal
	}
	if q.Hold != "" {
		ev.Flags |= envelope.Suspended
		ev.Status, ev.Error = "4.7.1", "quarantined by a filter: "+q.Hold
	}
	return ev
}

// source writes the client as rules and logs do.
func source(s *Session) string {
	if s.Kind != engine.FromAddress {
		return "local"
	}
	addr := s.Addr.WithZone("").Unmap()
	if addr.Is6() {
		return "[" + addr.String() + "]"
	}
	return addr.String()
}
