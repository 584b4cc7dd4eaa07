package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"

	"smtpd/compile"
	"smtpd/runtime/control"
	"smtpd/runtime/crypto"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/lka/source"
	"smtpd/runtime/mda"
	"smtpd/runtime/mfa"
	"smtpd/runtime/mta"
	"smtpd/runtime/parent"
	"smtpd/runtime/proc"
	"smtpd/runtime/queue"
	"smtpd/runtime/smtp"
)

// A role is a component as this program runs it: in a process of its own, or
// beside the others in one.
type role struct {
	name  string
	front bool // takes work from outside
	stays bool // when a reload starts the others anew
	home  home
	main  func(ctx context.Context, p *parts) error
}

// A home is where a process has its root directory.
type home int

const (
	nowhere    home = iota // an empty directory
	store                  // that of the queue
	everywhere             // that of the system
)

// roles are the components, parent excepted: where there are processes it is
// the one that starts the others.
var roles = []role{
	{"crypto", false, false, nowhere, runCrypto},
	{"lka", false, false, everywhere, runLKA},
	{"queue", false, true, store, runQueue},
	{"mfa", false, false, nowhere, runMFA},
	{"mda", false, false, nowhere, runMDA},
	{"mta", false, false, nowhere, runMTA},
	{"smtp", true, false, nowhere, runSMTP},
	{"control", true, true, nowhere, runControl},
}

// comes reports whether a component is one that a reload starts anew.
func comes(name string) bool {
	return slices.ContainsFunc(roles, func(r role) bool { return r.name == name && !r.stays })
}

// links are the pairs that talk.
var links = [][2]string{
	{"smtp", "mfa"}, {"smtp", "queue"}, {"smtp", "lka"}, {"smtp", "crypto"},
	{"control", "smtp"}, {"control", "queue"}, {"control", "lka"}, {"control", "mta"}, {"control", "mfa"}, {"control", proc.Self},
	{"lka", proc.Self}, {"mfa", "lka"}, {"mfa", "queue"}, {"mfa", proc.Self},
	{"mda", "queue"}, {"mda", "lka"}, {"mda", proc.Self},
	{"mta", "queue"}, {"mta", "lka"}, {"mta", "crypto"}, {"mta", "mfa"},
}

// parts are what a component is made of.
type parts struct {
	setup *setup
	rules *compile.Ruleset
	log   *slog.Logger
	level *slog.LevelVar   // of log
	tell  func(slog.Level) // other processes of a change of it; nil: there are none
	conn  func(peer string) imsg.Conn
	ready func() // to be called when it serves

	retired <-chan struct{} // closed when another generation has taken over
	idle    func()          // to be called when no more work is taken after that
	updates <-chan *update  // of those that stay

	pid       int         // of the daemon
	store     string      // directory of the queue
	fatal     func(error) // ends this process for the queue; nil: os.Exit
	listeners []net.Listener
	metrics   []net.Listener
	submit    *net.UnixListener
	admin     *net.UnixListener
	keys      []crypto.Key

	remembered func(name string, i int) (*os.File, error) // a file of a memory
}

func (p *parts) paused(system string) bool { return slices.Contains(p.setup.Paused, system) }

// An update is what a component that stays is told of a reload: the rules that
// it keeps, and the connections to the components that have come.
type update struct {
	rules *compile.Ruleset
	conn  func(peer string) imsg.Conn
	done  func() // to be called when it is in force

	names   []mfa.RuleName
	metrics []net.Listener
}

// passOn has each update become one of a component, until ctx is done.
func passOn[T any](ctx context.Context, updates <-chan *update, as func(u *update) T) <-chan T {
	out := make(chan T)
	go func() {
		for {
			select {
			case u := <-updates:
				select {
				case out <- as(u):
				case <-ctx.Done():
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func runControl(ctx context.Context, p *parts) error {
	p.ready()
	return control.Main(ctx, control.Config{
		Log: p.log, Submission: p.submit, Admin: p.admin, Level: p.level, TellLevel: p.tell, Version: version, PID: p.pid,
		SMTP: p.conn("smtp"), Queue: p.conn("queue"), LKA: p.conn("lka"), MTA: p.conn("mta"), MFA: p.conn("mfa"), Parent: p.conn(proc.Self),
		Metrics: p.metrics, RuleNames: p.setup.RuleNames,
		Updates: passOn(ctx, p.updates, func(u *update) control.Update {
			return control.Update{SMTP: u.conn("smtp"), LKA: u.conn("lka"), MTA: u.conn("mta"), MFA: u.conn("mfa"), Metrics: u.metrics, RuleNames: u.names, Done: u.done}
		}),
	})
}

func runSMTP(ctx context.Context, p *parts) error {
	p.ready()
	return p.withKeys(ctx, func(c *certificate) bool { return c.Server }, func(certs map[string]tls.Certificate, roots map[string]*x509.CertPool) error {
		return smtp.Main(ctx, smtp.Config{
			Rules: p.rules, Log: p.log, Listeners: p.listeners, Certs: certs, Roots: roots, Paused: p.paused("smtp"), Retire: p.retired, Retired: p.idle,
			MFA: p.conn("mfa"), Queue: p.conn("queue"), LKA: p.conn("lka"), Control: p.conn("control"),
		})
	})
}

func runMTA(ctx context.Context, p *parts) error {
	reports, err := p.memory(reportsName)
	if err != nil {
		return err
	}
	p.ready()
	return p.withKeys(ctx, func(c *certificate) bool { return c.Client }, func(certs map[string]tls.Certificate, roots map[string]*x509.CertPool) error {
		return mta.Main(ctx, mta.Config{
			Rules: p.rules, Log: p.log, Certs: certs, Roots: roots, Reports: reports, Queue: p.conn("queue"), LKA: p.conn("lka"), Control: p.conn("control"), MFA: p.conn("mfa"),
		})
	})
}

// withKeys runs main with the certificates that want lets through. Their
// private keys ask crypto, for as long as main runs.
func (p *parts) withKeys(ctx context.Context, want func(c *certificate) bool,
	main func(certs map[string]tls.Certificate, roots map[string]*x509.CertPool) error) error {
	certs, err := p.setup.chains(want)
	if err != nil {
		return err
	}
	peer := imsg.NewPeer(p.conn("crypto"), nil)
	signers := crypto.NewClient(peer)
	for name, c := range certs {
		c.PrivateKey = signers.Signer(name, c.Leaf.PublicKey)
		certs[name] = c
	}
	asking, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		peer.Run(asking)
	}()
	err = main(certs, p.setup.pools())
	stop()
	<-done
	return err
}

func runCrypto(ctx context.Context, p *parts) error {
	return crypto.Main(ctx, crypto.Config{
		Keys: p.keys, Log: p.log, Ready: p.ready, SMTP: p.conn("smtp"), MTA: p.conn("mta"),
	})
}

func runLKA(ctx context.Context, p *parts) error {
	policies, err := p.memory(policiesName)
	if err != nil {
		return err
	}
	p.ready()
	return lka.Main(ctx, lka.Config{
		Rules: p.rules, Log: p.log, OpenTable: source.Open, Resolver: p.setup.Resolver, Policies: policies,
		SMTP: p.conn("smtp"), MFA: p.conn("mfa"), MDA: p.conn("mda"), MTA: p.conn("mta"), Control: p.conn("control"),
		Parent: p.conn(proc.Self),
	})
}

func runQueue(ctx context.Context, p *parts) error {
	return queue.Main(ctx, queue.Config{
		Rules: p.rules, Log: p.log, Dir: p.store, Key: p.setup.QueueKey, Fatal: p.fatal, Ready: p.ready,
		PauseMDA: p.paused("mda"), PauseMTA: p.paused("mta"),
		SMTP: p.conn("smtp"), MFA: p.conn("mfa"), MDA: p.conn("mda"), MTA: p.conn("mta"), Control: p.conn("control"),
		Updates: passOn(ctx, p.updates, func(u *update) queue.Update {
			return queue.Update{
				Rules: u.rules, SMTP: u.conn("smtp"), MFA: u.conn("mfa"), MDA: u.conn("mda"), MTA: u.conn("mta"), Done: u.done,
			}
		}),
	})
}

func runMFA(ctx context.Context, p *parts) error {
	p.ready()
	return mfa.Main(ctx, mfa.Config{
		Rules: p.rules, Log: p.log, CommandUser: p.setup.User, RuleNames: p.setup.RuleNames,
		SMTP: p.conn("smtp"), MTA: p.conn("mta"), LKA: p.conn("lka"), Parent: p.conn(proc.Self), Queue: p.conn("queue"), Control: p.conn("control"),
	})
}

func runMDA(ctx context.Context, p *parts) error {
	p.ready()
	return mda.Main(ctx, mda.Config{
		Rules: p.rules, Log: p.log, AliasUser: p.setup.User, Program: p.setup.Program,
		Queue: p.conn("queue"), LKA: p.conn("lka"), Parent: p.conn(proc.Self),
	})
}

// runParent runs the component of that name in the process that has started
// the others, or in the only one;
// c says what depends on how that is done.
func runParent(ctx context.Context, p *parts, c parent.Config) error {
	c.Log, c.ServerName = p.log, p.rules.ServerName
	c.Filters, c.Tables, c.LibexecDirs, c.FilterUser = p.rules.Procs, p.rules.Tables, p.setup.Libexec, p.setup.User
	c.Milters = milters(p.rules)
	c.Logins = asksForAccounts(p.rules) != nil
	c.MFA, c.MDA, c.LKA, c.Control = p.conn("mfa"), p.conn("mda"), p.conn("lka"), p.conn("control")
	c.Updates = passOn(ctx, p.updates, func(u *update) parent.Update {
		return parent.Update{
			Filters: u.rules.Procs, Tables: u.rules.Tables, Milters: milters(u.rules), Logins: asksForAccounts(u.rules) != nil,
			MFA: u.conn("mfa"), MDA: u.conn("mda"), LKA: u.conn("lka"), Done: u.done,
		}
	})
	return parent.Main(ctx, c)
}

// milters returns where the milters of rs listen, by the names of their filters.
func milters(rs *compile.Ruleset) map[string]compile.MilterAddr {
	l := make(map[string]compile.MilterAddr)
	for i := range rs.Filters {
		if f := &rs.Filters[i]; f.Milter != "" {
			l[f.Name] = f.Milter
		}
	}
	return l
}

// keyName is the name of the descriptor of the private key of a pki.
func keyName(pki string) string { return "key." + pki }

// listenerName is the name of the socket of a listener.
func listenerName(i int) string { return fmt.Sprintf("listener.%d", i) }

// metricsName is the name of the socket of a metrics listener.
func metricsName(i int) string { return fmt.Sprintf("metrics.%d", i) }

// The names of other descriptors that a process is given.
const (
	setupName  = "setup"
	submitName = "submit"
	adminName  = "admin"
)

// keysOf returns the keys of the certificates in s, whose files open gives.
func keysOf(s *setup, open func(name string) (*os.File, error)) ([]crypto.Key, error) {
	var keys []crypto.Key
	for i := range s.Certs {
		c := &s.Certs[i]
		chain, err := crypto.ParseChain(c.PEM)
		if err != nil {
			return nil, fmt.Errorf("pki %s: %w", c.Name, err)
		}
		f, err := open(keyName(c.Name))
		if err != nil {
			return nil, fmt.Errorf("pki %s: %w", c.Name, err)
		}
		keys = append(keys, crypto.Key{
			Name: c.Name, Public: chain.Leaf.PublicKey, File: f, Server: c.Server, Client: c.Client,
		})
	}
	return keys, nil
}
