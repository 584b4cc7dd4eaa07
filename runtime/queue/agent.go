package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"smtpd/compile"
	"smtpd/runtime/dsn"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// A Config says where the queue is and with whom it speaks. A connection may
// be nil: that component is not there.
type Config struct {
	Rules *compile.Ruleset
	Log   *slog.Logger

	Dir   string // the spool; created if need be
	Key   string // of queue encryption, where Rules leaves it to be asked for
	Store Store  // instead of the one in Dir

	// Fatal is called when the log of the store cannot be written, and must
	// end the process; nil does that.
	Fatal func(err error)

	Ready func() // called when the store is open; may be nil

	PauseMDA, PauseMTA bool // hand out nothing of that kind until it is resumed

	SMTP, MFA, MDA, MTA, Control imsg.Conn

	// Updates brings what a reload changes. May be nil.
	Updates <-chan Update
}

// An Update is other rules, and the components that go by them. Those before
// them finish what they have. How the store writes is as it was at the start.
type Update struct {
	Rules               *compile.Ruleset
	SMTP, MFA, MDA, MTA imsg.Conn
	Done                func() // called when it is in force
}

// bounceSessions bounds the reports that are submitted at the same time.
const bounceSessions = 2

// lifeOfReports is the queue lifetime where the configuration gives none.
const lifeOfReports = 4 * 24 * time.Hour

// An agent is the queue at work.
type agent struct {
	current   atomic.Pointer[terms]
	log       *slog.Logger
	store     Store
	reception reception
	scheduler scheduler
	pauses    pauses
	space     *spaceWatch
}

// terms are what the rules say of mail that waits, and who deals with it. They
// never change; an Update puts others in their place.
type terms struct {
	rules       *compile.Ruleset
	life        map[string]time.Duration // of envelopes, by action: of each that there is
	judge       judge
	maxInflight int // envelopes handed out at once
	window      int // envelopes in memory
	carriers    map[envelope.Type]Deliverer
	submitter   Submitter
}

func (a *agent) newTerms(rs *compile.Ruleset) *terms {
	inflight := cmp.Or(rs.Scheduler.MaxInflight, 5000)
	t := &terms{
		rules: rs, life: make(map[string]time.Duration), maxInflight: inflight, window: 2 * inflight,
		judge: judge{rs.Bounce, cmp.Or(rs.Queue.TTL, lifeOfReports), rs.ServerName, a.log, a.freeID},
	}
	for i := range rs.Actions {
		act := &rs.Actions[i]
		t.life[act.Name] = cmp.Or(act.TTL, rs.Queue.TTL, lifeOfReports)
	}
	return t
}

// patience is how long a stopping queue waits for what agents are doing: a
// delivery that they cannot report any more is made twice.
const patience = 10 * time.Second

// Main serves until ctx is done. It then hands out nothing more, waits a
// while for the deliveries under way, and returns nil.
func Main(ctx context.Context, c Config) (err error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	declare()
	a := newAgent(&c)
	if a.store, err = openFor(&c, a.destination); err != nil {
		// The others wait for their links to end.
		for _, conn := range []imsg.Conn{c.SMTP, c.Control, c.MFA, c.MDA, c.MTA} {
			if conn != nil {
				conn.Close()
			}
		}
		return err
	}
	defer func() { err = errors.Join(err, a.store.Close()) }()
	a.reception.store, a.scheduler.store = a.store, a.store
	a.pauses.load(a.store, c.Log)
	was := a.pauses.get()
	a.scheduler.paused[envelope.MDA] = c.PauseMDA || was.mda
	a.scheduler.paused[envelope.MTA] = c.PauseMTA || was.mta
	if a.space.store, _ = a.store.(spacer); a.space.store != nil {
		a.space.look()
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(patience, cancel) })
	var peers sync.WaitGroup
	defer peers.Wait()
	defer cancel()
	defer stop()
	run := func(name string, conn imsg.Conn, h imsg.Handler, gone func()) *imsg.Peer {
		p := imsg.NewPeer(orAbsent(conn), h)
		p.OnLoss(gone)
		peers.Go(func() {
			err := p.Run(work)
			if err != nil && ctx.Err() == nil {
				c.Log.Error("queue: lost a component", "component", name, "error", err)
			}
		})
		return p
	}
	nothing := func() {}
	adopt := func(u Update) {
		from := new(client)
		run("smtp", u.SMTP, from.handler(a), func() { a.reception.abandon(from) })
		t := a.newTerms(u.Rules)
		t.submitter = remoteSubmitter{run("mfa", u.MFA, a.mfaHandler(t), nothing)}
		t.carriers = map[envelope.Type]Deliverer{
			envelope.MDA: remoteDeliverer{run("mda", u.MDA, a.serveAgents, nothing)},
			envelope.MTA: remoteDeliverer{run("mta", u.MTA, a.serveAgents, nothing)},
		}
		a.current.Store(t)
	}
	if a.space.store != nil {
		peers.Go(func() { a.space.run(work) })
	}
	peers.Go(countPresent(a.store, c.Log))
	adopt(Update{Rules: c.Rules, SMTP: c.SMTP, MFA: c.MFA, MDA: c.MDA, MTA: c.MTA})
	run("control", c.Control, a.serveControl, nothing)
	if c.Ready != nil {
		c.Ready()
	}
	peers.Go(func() {
		for {
			select {
			case u := <-c.Updates:
				adopt(u)
				a.scheduler.reconsider()
				u.Done()
			case <-work.Done():
				return
			}
		}
	})
	a.scheduler.loop(ctx, work)
	return nil
}

func openFor(c *Config, g Grouping) (Store, error) {
	if c.Store != nil {
		return c.Store, nil
	}
	q := &c.Rules.Queue
	key := c.Key
	if key == "" && q.Key != "stdin" && q.Key != "-" {
		key = q.Key
	}
	return OpenStore(StoreConfig{
		Dir: c.Dir, Grouping: g, Log: c.Log, Fatal: c.Fatal,
		Compress: q.Compression, Encrypt: q.Encryption, Key: key,
	})
}

// orAbsent returns conn, or one whose other end is closed.
func orAbsent(conn imsg.Conn) imsg.Conn {
	if conn == nil {
		conn, _ = imsg.Pipe()
		conn.Close()
	}
	return conn
}

func newAgent(c *Config) *agent {
	a := &agent{log: c.Log, space: newSpaceWatch(c.Log)}
	a.current.Store(a.newTerms(c.Rules))
	a.reception = reception{
		space: a.space.check, room: a.space.now,
		announce: a.scheduler.announce, retract: a.scheduler.retract,
		open: make(map[envelope.MessageID]*incoming),
	}
	a.scheduler = scheduler{
		terms:   a.current.Load,
		inject:  a.inject,
		log:     c.Log,
		group:   a.destination,
		limit:   a.limit,
		wake:    make(chan struct{}, 1),
		known:   make(map[envelope.ID]phase),
		orders:  make(map[envelope.ID]order),
		dests:   make(map[Destination]*destination),
		missing: make(map[string]bool),
	}
	return a
}

// destination groups envelopes: by user for mda; for mta by domain, or by
// the action alone if it names the host to relay to, which is then the
// destination of all its mail.
func (a *agent) destination(ev *envelope.Envelope) Destination {
	switch ev.Type {
	case envelope.MDA:
		return Destination{ev.Type, ev.Action, ev.LocalUser}
	case envelope.MTA:
		d := Destination{ev.Type, ev.Action, strings.ToLower(ev.Dest.Domain)}
		if act := a.action(ev.Action); act != nil && act.Relay.Host != 0 {
			d.Name = ""
		}
		return d
	}
	return Destination{Type: ev.Type}
}

func (a *agent) action(name string) *compile.Action {
	rules := a.current.Load().rules
	for i := range rules.Actions {
		if rules.Actions[i].Name == name {
			return &rules.Actions[i]
		}
	}
	return nil
}

// limit is how many batches a destination has in flight: the high-water mark
// of its agent, beyond which OpenSMTPD's agents have envelopes held.
func (a *agent) limit(d Destination) int {
	rules := a.current.Load().rules
	switch d.Type {
	case envelope.MDA:
		return cmp.Or(rules.MDA.TaskHiwat, 50)
	case envelope.MTA:
		for i := range rules.MTA.Domains {
			if l := &rules.MTA.Domains[i]; strings.EqualFold(l.Domain, d.Name) {
				return cmp.Or(l.Limits.TaskHiwat, 50)
			}
		}
		return cmp.Or(rules.MTA.Limits.TaskHiwat, 50)
	}
	return bounceSessions
}

// freeID returns an id for another envelope of msg.
func (a *agent) freeID(msg envelope.MessageID) (envelope.ID, error) {
	for range 100 {
		id := envelope.ID(msg)<<32 | envelope.ID(rand.Uint32())
		if uint32(id) == 0 {
			continue
		}
		if _, err := a.store.Load(id); errors.Is(err, ErrNotFound) {
			return id, nil
		}
	}
	return 0, fmt.Errorf("message %v: no free envelope id", msg)
}

// A client is an smtp: there are two while one takes over from the other.
type client struct{ _ byte } // each has an address of its own

func (from *client) handler(a *agent) imsg.Handler {
	return func(ctx context.Context, m imsg.Message) (imsg.Message, error) { return a.serveSMTP(ctx, from, m) }
}

// serveSMTP answers smtp.
func (a *agent) serveSMTP(ctx context.Context, from *client, m imsg.Message) (imsg.Message, error) {
	closeFile(m.File)
	switch m.Type {
	case msgCreate:
		return a.create(from)
	case msgCommit:
		var q commitRequest
		if err := q.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		return a.commit(from, &q)
	case msgContent:
		var p contentPiece
		if err := p.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		return imsg.Message{}, a.reception.write(p.Message, p.Text)
	case msgRollback:
		var ref messageRef
		if err := ref.parse(m.Data); err != nil {
			return imsg.Message{}, err
		}
		a.reception.rollback(envelope.MessageID(ref))
		return imsg.Message{}, nil
	case msgWaitSpace:
		r := imsg.NewReader(m.Data)
		known := r.Bool()
		if err := r.Close(); err != nil {
			return imsg.Message{}, err
		}
		full, err := a.space.wait(ctx, known)
		return imsg.Message{Data: imsg.AppendBool(nil, full)}, err
	case msgSMTPPaused:
		return imsg.Message{Data: imsg.AppendBool(nil, a.pauses.get().smtp)}, nil
	}
	return imsg.Message{}, errUnknown(m.Type)
}

func (a *agent) commit(from *client, q *commitRequest) (imsg.Message, error) {
	evs, err := a.reception.commit(q.Message, q.Content, nil)
	if err != nil {
		a.log.Error("queue: message is not accepted", "msgid", q.Message, "error", err)
		return imsg.Message{}, err
	}
	a.scheduler.add(evs)
	if !q.Next {
		return imsg.Message{}, nil
	}
	next, err := a.create(from)
	if err != nil {
		return imsg.Message{}, nil // whoever needs one will ask, and be told
	}
	return next, nil
}

func (a *agent) create(from *client) (imsg.Message, error) {
	in, err := a.reception.create(from)
	if err != nil {
		a.log.Error("queue: message is not accepted", "error", err)
		return imsg.Message{}, err
	}
	return imsg.Message{Data: messageRef(in.id).append(nil)}, nil
}

// mfaHandler answers an mfa, which decides by its own terms: those that were
// in force when it came.
func (a *agent) mfaHandler(t *terms) imsg.Handler {
	return func(_ context.Context, m imsg.Message) (imsg.Message, error) {
		closeFile(m.File)
		switch m.Type {
		case msgSubmit:
			var s submission
			if err := s.parse(m.Data); err != nil {
				return imsg.Message{}, err
			}
			l, err := a.reception.submit(s.Message, s.Envelopes, t.life)
			return imsg.Message{Data: ids(l).append(nil)}, err
		case msgWithdraw:
			var ref messageRef
			if err := ref.parse(m.Data); err != nil {
				return imsg.Message{}, err
			}
			return imsg.Message{}, a.reception.withdraw(envelope.MessageID(ref))
		}
		return imsg.Message{}, errUnknown(m.Type)
	}
}

// serveAgents answers mda and mta.
func (a *agent) serveAgents(_ context.Context, m imsg.Message) (imsg.Message, error) {
	closeFile(m.File)
	var ref messageRef
	switch m.Type {
	case msgOpen:
	case msgHurry:
		return imsg.Message{}, a.hurry(m.Data)
	case msgKept:
		text, err := a.pauses.keptRoutes()
		return imsg.Message{Data: imsg.AppendString(nil, text)}, err
	default:
		return imsg.Message{}, errUnknown(m.Type)
	}
	if err := ref.parse(m.Data); err != nil {
		return imsg.Message{}, err
	}
	f, err := a.store.Open(envelope.MessageID(ref))
	if err != nil {
		a.log.Error("queue: message cannot be read", "msgid", envelope.MessageID(ref), "error", err)
	}
	return imsg.Message{File: f}, err
}

// hurry schedules envelopes that mta has found a way for.
func (a *agent) hurry(data []byte) error {
	var l ids
	if err := l.parse(data); err != nil {
		return err
	}
	_, err := a.scheduler.manage(order{verb: Schedule}, slices.Values(l))
	return err
}

// inject submits a report about group as a new message from the null sender.
// It takes the place of group in the step that makes it durable.
func (a *agent) inject(ctx context.Context, group []envelope.Envelope) error {
	in, err := a.reception.create(nil)
	if err != nil {
		return err
	}
	defer a.reception.rollback(in.id) // of no effect after a commit
	in.flags = envelope.IsBounce | group[0].Flags&envelope.SMTPUTF8
	now := a.current.Load()
	server := cmp.Or(group[0].SMTPName, now.rules.ServerName)
	if err := now.submitter.SubmitReport(ctx, in.id, server, group[0].Sender); err != nil {
		return err
	}
	rest, err := a.writeReport(in, server, group)
	if err != nil {
		return err
	}
	reported := make([]envelope.ID, len(group))
	for i := range group {
		reported[i] = group[i].ID
	}
	evs, err := a.reception.commit(in.id, rest, reported)
	if err != nil {
		return err
	}
	a.scheduler.add(evs)
	return nil
}

// writeReport writes the content of a report, and returns what goes with its
// commit.
func (a *agent) writeReport(in *incoming, server string, group []envelope.Envelope) (rest []byte, err error) {
	content := contentBuffer{next: func(piece []byte) error { return a.reception.write(in.id, piece) }}
	r := dsn.New(server, group)
	r.Date, r.ID = in.created, fmt.Sprintf("%016x", rand.Uint64())
	original, err := a.store.Open(group[0].ID.Message())
	if err != nil {
		// The news counts more than the copy.
		a.log.Error("queue: report goes without the message", "msgid", group[0].ID.Message(), "error", err)
		err = r.Write(&content, nil)
		return content.rest, err
	}
	defer original.Close()
	err = r.Write(&content, original)
	return content.rest, err
}
