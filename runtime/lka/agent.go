package lka

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/expand"
	"smtpd/compile/tablefile"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka/backend"
	"smtpd/runtime/parent"
)

// A Config says what the agent answers from, and whom.
type Config struct {
	Rules *compile.Ruleset
	Log   *slog.Logger

	Resolver   string // host[:port] of the name server; "": those of ResolvConf
	ResolvConf string // "": /etc/resolv.conf
	Hosts      string // "": /etc/hosts

	// Policies are where MTA-STS policies are kept; nil for no longer than lka
	// runs.
	Policies [2]*os.File

	// OpenTable opens a table of a backend that is built in and outside of the
	// process; nil: there are none.
	OpenTable func(t *compile.Table) (*backend.Table, error)

	SMTP, MFA, MDA, MTA imsg.Conn
	Control             imsg.Conn // may ask for updates; may be nil
	Parent              imsg.Conn // knows the passwords of accounts, and starts programs; may be nil
}

// requestTime bounds every request, however many questions it takes.
const requestTime = 60 * time.Second

// Main answers until ctx is done or a peer is lost.
func Main(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := newAgent(ctx, c)
	defer a.directory.resolver.wait()
	defer a.close()
	defer cancel()

	var wg sync.WaitGroup
	errs := make(chan error, 6)
	serve := func(name string, conn imsg.Conn, allowed ...uint32) *imsg.Peer {
		if conn == nil {
			return nil
		}
		p := imsg.NewPeer(conn, a.handler(allowed))
		wg.Go(func() {
			defer cancel() // the daemon is of no use without one of its parts
			if err := p.Run(ctx); err != nil {
				errs <- fmt.Errorf("lka: link to %s: %w", name, err)
			}
		})
		return p
	}
	a.watcher.look(ctx) // so that nobody is told what was true when the rules were read
	a.watcher.mfa = serve("mfa", c.MFA, msgLookup, msgCheck, msgUserInfo, msgInclude, msgSnapshot, msgAddrs)
	wg.Go(func() { a.watcher.run(ctx) })
	kept := a.policies.open(c.Policies)
	wg.Go(func() { a.policies.run(ctx, kept) })
	if p := serve("parent", c.Parent); p != nil {
		a.logins.parent = parent.NewClient(p)
		a.names.parent.Store(a.logins.parent)
	}
	a.runPrograms(ctx)
	serve("smtp", c.SMTP, msgLookup, msgCheck, msgPTR, msgLogin)
	serve("mda", c.MDA, msgUserInfo)
	serve("mta", c.MTA, msgLookup, msgCheck, msgFetch, msgMX, msgAddrs, msgPTR, msgTXT, msgTLSA, msgSTS)
	serve("control", c.Control, msgUpdate, msgProbe)
	wg.Wait()
	close(errs)
	return <-errs
}

// An agent answers requests; each runs in its own goroutine and waits for no
// other.
type agent struct {
	log       *slog.Logger
	openTable func(t *compile.Table) (*backend.Table, error) // of Config
	rules     *compile.Ruleset
	tables    []table // as Rules.Tables
	directory *directory
	policies  *policies
	programs  sync.WaitGroup
	watcher   watcher
	logins    *logins
	names     nameServices   // beyond the file of accounts
	beyond    *backend.Table // asks names
}

func newAgent(ctx context.Context, c Config) *agent {
	a := &agent{log: c.Log, openTable: c.OpenTable, rules: c.Rules}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.Hosts == "" {
		c.Hosts = "/etc/hosts"
	}
	a.directory = &directory{hosts: hosts{path: c.Hosts}, resolver: newResolver(ctx, c.Resolver, c.ResolvConf)}
	a.policies = newPolicies(ctx, a.directory, a.log)
	a.beyond = backend.New("<getpwnam>", &a.names)
	for i := range c.Rules.Tables {
		a.tables = append(a.tables, a.open(&c.Rules.Tables[i]))
	}
	a.watcher = newWatcher(a.rules, a.tables, a.log)
	a.logins = newLogins(a.log)
	return a
}

// handler answers the allowed types of requests.
func (a *agent) handler(allowed []uint32) imsg.Handler {
	return func(ctx context.Context, m imsg.Message) (imsg.Message, error) {
		if m.File != nil {
			m.File.Close()
		}
		for _, typ := range allowed {
			if m.Type == typ {
				ctx, cancel := context.WithTimeout(ctx, requestTime)
				defer cancel()
				reply, err := a.handle(ctx, m)
				if err != nil {
					return imsg.Message{}, err
				}
				return imsg.Message{Data: reply.append(nil)}, nil
			}
		}
		return imsg.Message{}, fmt.Errorf("lka: requests of type %d are not for this peer", m.Type)
	}
}

func (a *agent) handle(ctx context.Context, m imsg.Message) (appender, error) {
	switch m.Type {
	case msgInclude, msgMX, msgAddrs, msgTXT, msgTLSA, msgSTS:
		var q nameQuery
		if err := q.parse(m.Data); err != nil {
			return nil, err
		}
		return a.answerName(ctx, m.Type, q.Name)
	case msgPTR:
		var q addrQuery
		if err := q.parse(m.Data); err != nil {
			return nil, err
		}
		name, forward, err := a.directory.ptr(ctx, q.Addr)
		return ptrAnswer{err, name, forward}, nil
	case msgLogin:
		var q loginQuery
		if err := q.parse(m.Data); err != nil {
			return nil, err
		}
		return a.login(ctx, q)
	case msgProbe:
		var q Question
		if err := q.parse(m.Data); err != nil {
			return nil, err
		}
		return a.probe(ctx, q)
	case msgSnapshot:
		var q snapshotQuery
		if err := q.parse(m.Data); err != nil {
			return nil, err
		}
		return a.answerSnapshot(q)
	}
	var q tableQuery
	if err := q.parse(m.Data); err != nil {
		return nil, err
	}
	if m.Type == msgUpdate {
		if q.Table == 0 {
			q.Table = a.named(q.Key)
		}
		if q.Table == 0 {
			return nil, fmt.Errorf("there is no table %s", q.Key)
		}
		return valueAnswer{Found: true}, a.update(ctx, q.Table)
	}
	return a.answerTable(ctx, m.Type, q)
}

// named returns the id of the table called name, 0 if there is none.
func (a *agent) named(name string) compile.TableID {
	for i := range a.rules.Tables {
		if a.rules.Tables[i].Name == name {
			return compile.TableID(i + 1)
		}
	}
	return 0
}

func (a *agent) answerSnapshot(q snapshotQuery) (appender, error) {
	t, name, err := a.table(q.Table)
	if err != nil {
		return nil, err
	}
	s, ok := t.(*static)
	if !ok {
		return nil, fmt.Errorf("table %s: its content is not known here", name)
	}
	return s.part(q), nil
}

// update has a table read anew, and returns when what it holds is in force
// everywhere.
func (a *agent) update(ctx context.Context, id compile.TableID) error {
	t, name, err := a.table(id)
	if err != nil {
		return err
	}
	u, ok := t.(updater)
	if !ok {
		return fmt.Errorf("table %s: there is nothing to read anew", name)
	}
	if err = u.update(ctx); err == nil {
		err = a.watcher.announce(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("table %s: %w", name, err)
	}
	return nil
}

func (a *agent) answerName(ctx context.Context, typ uint32, name string) (appender, error) {
	switch typ {
	case msgMX:
		mx, err := a.directory.mx(ctx, name)
		return mxAnswer{err, mx}, nil
	case msgAddrs:
		host, err := a.directory.host(ctx, name)
		return mxAnswer{err, []MX{host}}, nil
	case msgTXT:
		texts, err := a.directory.txt(ctx, name)
		return txtAnswer{err, texts}, nil
	case msgTLSA:
		tlsa, secure, err := a.directory.tlsa(ctx, name)
		return tlsaAnswer{err, secure, tlsa}, nil
	case msgSTS:
		return a.policies.get(ctx, strings.ToLower(name)), nil
	}
	return include(name)
}

// maxInclude bounds an included file: it travels in one message.
const maxInclude = 1 << 20

func include(path string) (valueAnswer, error) {
	data, err := readLimited(path, maxInclude)
	if errors.Is(err, fs.ErrNotExist) {
		return valueAnswer{}, nil
	}
	return valueAnswer{err == nil, string(data)}, err
}

func (a *agent) answerTable(ctx context.Context, typ uint32, q tableQuery) (appender, error) {
	t, name, err := a.table(q.Table)
	if err != nil {
		return nil, err
	}
	key := tablefile.Fold(q.Key)
	if len(key) > tablefile.MaxKey {
		return nil, fmt.Errorf("table %s: %w", name, engine.ErrKeyTooLong)
	}
	began := time.Now()
	reply, err := ask(ctx, t, typ, q.Service, key)
	count(name, began, reply, err)
	if err != nil {
		a.log.Warn("table lookup failed", "table", name, "service", int(q.Service), "err", err)
		return nil, fmt.Errorf("table %s: %w", name, err)
	}
	return reply, nil
}

// table returns the table of an id and its name; 0 is the system's accounts.
func (a *agent) table(id compile.TableID) (table, string, error) {
	switch {
	case id == 0:
		return system{a.beyond}, "<getpwnam>", nil
	case uint64(id) > uint64(len(a.tables)): // an int may have 32 bits
		return nil, "", fmt.Errorf("lka: no table %d", id)
	}
	return a.tables[id-1], a.rules.Table(id).Name, nil
}

func ask(ctx context.Context, t table, typ uint32, s engine.Service, key string) (appender, error) {
	switch typ {
	case msgCheck:
		ok, err := t.check(ctx, s, key)
		return valueAnswer{Found: ok}, err
	case msgFetch:
		value, ok, err := t.fetch(ctx, s)
		return valueAnswer{ok, value}, err
	case msgUserInfo:
		value, ok, err := t.lookup(ctx, engine.UserInfo, key)
		if err != nil || !ok {
			return userAnswer{}, err
		}
		u, err := expand.ParseAccount(key, value)
		return userAnswer{true, UserInfo(u)}, err
	}
	value, ok, err := t.lookup(ctx, s, key)
	return valueAnswer{ok, value}, err
}
