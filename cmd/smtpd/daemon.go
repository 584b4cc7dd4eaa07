package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"smtpd/compile"
	"smtpd/compile/oshost"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/runtime/control"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
	"smtpd/runtime/mda"
	"smtpd/runtime/mfa"
	"smtpd/runtime/mta"
	"smtpd/runtime/parent"
	"smtpd/runtime/proc"
	"smtpd/runtime/queue"
	"smtpd/runtime/smtp"
)

// A daemon is what is prepared before the first byte is read.
type daemon struct {
	cli     *cli
	log     *slog.Logger
	level   *slog.LevelVar // of log
	account proc.Account
	rules   *compile.Ruleset
	key     string   // of queue encryption
	libexec []string // where programs that serve tables are
	spool   string
	sockets []net.Listener
	certs   map[string]tls.Certificate
	roots   map[string]*x509.CertPool
	submit  *net.UnixListener
	admin   *net.UnixListener
}

// serve runs the daemon until a signal stops it. All that needs root comes
// first: reading keys, binding ports, making the spool.
func (c *cli) serve(defines []lang.Define, stderr io.Writer) error {
	level := new(slog.LevelVar)
	if c.Verbose > 0 {
		level.Set(slog.LevelDebug)
	}
	log, err := c.logger(stderr, level)
	if err != nil {
		return err
	}
	account, err := proc.Choose(c.User)
	if err != nil {
		return err
	}
	if c.Trial != "" {
		if err := prepareTrial(c.Trial, account); err != nil {
			return err
		}
	}
	host := oshost.New()
	rules, err := load(c.file(), defines, host, stderr)
	if err != nil {
		return err
	}
	key, err := queueKey(&rules.Queue, os.Stdin)
	if err != nil {
		return err
	}
	d := &daemon{cli: c, log: log, level: level, account: account, rules: rules, key: key, libexec: host.LibexecDirs, spool: c.spool()}
	if err := proc.Prepare(d.spool, account); err != nil {
		return err
	}
	lock, err := proc.Acquire(d.spool, account)
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := d.prepare(); err != nil {
		return err
	}
	if err := d.bindLocal(); err != nil {
		return err
	}
	return d.run()
}

func (c *cli) logger(stderr io.Writer, level slog.Leveler) (*slog.Logger, error) {
	if c.Foreground && !c.Debug {
		return newSyslog(level)
	}
	return newLog(stderr, level), nil
}

// load returns the rule table of the configuration in path, or prints what is
// wrong with it.
func load(path string, defines []lang.Define, host compile.Host, stderr io.Writer) (*compile.Ruleset, error) {
	f, parsed := lang.Parse(path, lang.Options{Defines: defines})
	rules, compiled := compile.Compile(f, host)
	all := diag.Merge(f.Set, parsed, compiled)
	if rules != nil && !grave(all) {
		all = append(all, unsupported(rules)...)
	}
	for _, d := range all {
		if d.Class <= diag.Warning {
			fmt.Fprintln(stderr, d.Error())
		}
	}
	if rules == nil || grave(all) {
		return nil, fmt.Errorf("%s cannot be used", path)
	}
	return rules, nil
}

func grave(l diag.List) bool { return l.Has(diag.Language) || l.Has(diag.Host) }

// prepare does what only root may do on most systems, and then stops being
// root.
func (d *daemon) prepare() error {
	if err := d.loadKeys(); err != nil {
		return err
	}
	for i := range d.rules.Listeners {
		ln, err := bind(&d.rules.Listeners[i])
		if err != nil {
			return err
		}
		d.sockets = append(d.sockets, ln)
	}
	if err := d.account.Become(); err != nil {
		return err
	}
	return d.enter()
}

// enter makes sure that the process has a current folder which it may search,
// now that it is not root any more. Relative paths need the one in which it
// was started; without any, the root directory serves as well.
func (d *daemon) enter() error {
	_, err := os.Stat(".")
	switch {
	case err == nil:
		return nil
	case filepath.IsAbs(d.spool):
		return os.Chdir("/")
	}
	return fmt.Errorf("user %s cannot enter the current folder, below which the spool is: start smtpd elsewhere: %w", d.account.Name, err)
}

// loadKeys reads certificates, keys and authorities.
func (d *daemon) loadKeys() error {
	d.certs = make(map[string]tls.Certificate)
	for _, p := range d.rules.PKI {
		c, err := tls.LoadX509KeyPair(p.Cert, p.Key)
		if err != nil {
			return fmt.Errorf("%s:%d: pki %s: %w", p.Origin.File, p.Origin.Line, p.Name, err)
		}
		d.certs[p.Name] = c
		if p.DHE == "auto" || p.DHE == "legacy" {
			d.log.Warn("pki dhe: only elliptic curves are offered", "pki", p.Name)
		}
	}
	d.roots = make(map[string]*x509.CertPool)
	for _, a := range d.rules.CA {
		pem, err := os.ReadFile(a.Cert)
		pool := x509.NewCertPool()
		if err == nil && !pool.AppendCertsFromPEM(pem) {
			err = fmt.Errorf("no certificate in %s", a.Cert)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: ca %s: %w", a.Origin.File, a.Origin.Line, a.Name, err)
		}
		d.roots[a.Name] = pool
	}
	for i := range d.rules.Listeners {
		if _, err := smtp.NewTLS(&d.rules.Listeners[i], d.rules.SMTP.Ciphers, d.certs, d.roots); err != nil {
			return err
		}
	}
	return nil
}

// bind listens where l says. IPv6 sockets take no IPv4: an address of each
// has a listener of its own.
func bind(l *compile.Listener) (net.Listener, error) {
	network := "tcp4"
	if l.Addr.Is6() {
		network = "tcp6"
	}
	ln, err := net.Listen(network, netip.AddrPortFrom(l.Addr, l.Port).String())
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", l.Origin.File, l.Origin.Line, err)
	}
	return ln, nil
}

// bindLocal makes the sockets of control. The lock of the spool is held: what
// is there is left from a daemon that is gone.
func (d *daemon) bindLocal() (err error) {
	if d.submit, err = listenUnix(filepath.Join(d.spool, "submit.sock"), 0o666); err != nil {
		return err
	}
	d.admin, err = listenUnix(filepath.Join(d.spool, "control.sock"), 0o600)
	return err
}

func listenUnix(path string, mode os.FileMode) (*net.UnixListener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		os.Remove(path)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return ln, os.Chmod(path, mode)
}

// run starts the components and stops them at a signal.
func (d *daemon) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	go func() {
		for {
			select {
			case <-hangup:
				d.log.Warn("SIGHUP: a changed configuration is read at the next start only")
			case <-ctx.Done():
				return
			}
		}
	}()
	d.log.Info("smtpd starting", "version", version, "user", d.account.Name, "pid", strconv.Itoa(os.Getpid()))
	for _, ln := range d.sockets {
		d.log.Info("listening", "address", ln.Addr().String())
	}
	d.log.Info("smtpd serving")
	front, rest := d.components()
	err := proc.Local(ctx, front, rest)
	d.log.Info("Exiting")
	return err
}

// components returns every component with its links: those that take work
// from outside, and the rest.
func (d *daemon) components() (front, rest []proc.Component) {
	smtpMFA, mfaSMTP := imsg.Pipe()
	smtpQueue, queueSMTP := imsg.Pipe()
	smtpLKA, lkaSMTP := imsg.Pipe()
	controlSMTP, smtpControl := imsg.Pipe()
	controlQueue, queueControl := imsg.Pipe()
	mfaLKA, lkaMFA := imsg.Pipe()
	mfaQueue, queueMFA := imsg.Pipe()
	mfaParent, parentMFA := imsg.Pipe()
	mdaQueue, queueMDA := imsg.Pipe()
	mdaLKA, lkaMDA := imsg.Pipe()
	mdaParent, parentMDA := imsg.Pipe()
	mtaQueue, queueMTA := imsg.Pipe()
	mtaLKA, lkaMTA := imsg.Pipe()

	front = []proc.Component{
		component("control", control.Main, control.Config{
			Log: d.log, Submission: d.submit, Admin: d.admin, Level: d.level, Version: version,
			SMTP: controlSMTP, Queue: controlQueue,
		}),
		component("smtp", smtp.Main, smtp.Config{
			Rules: d.rules, Log: d.log, Listeners: d.sockets, Certs: d.certs, Roots: d.roots,
			Paused: d.cli.paused("smtp"),
			MFA:    smtpMFA, Queue: smtpQueue, LKA: smtpLKA, Control: smtpControl,
		}),
	}
	rest = []proc.Component{
		component("parent", parent.Main, parent.Config{
			Log: d.log, ServerName: d.rules.ServerName, MFA: parentMFA, MDA: parentMDA,
		}),
		component("lka", lka.Main, lka.Config{
			Rules: d.rules, Log: d.log, Resolver: d.cli.Resolver, LibexecDirs: d.libexec,
			SMTP: lkaSMTP, MFA: lkaMFA, MDA: lkaMDA, MTA: lkaMTA,
		}),
		component("queue", queue.Main, queue.Config{
			Rules: d.rules, Log: d.log, Dir: filepath.Join(d.spool, "store"), Key: d.key,
			PauseMDA: d.cli.paused("mda"), PauseMTA: d.cli.paused("mta"),
			SMTP: queueSMTP, MFA: queueMFA, MDA: queueMDA, MTA: queueMTA, Control: queueControl,
		}),
		component("mfa", mfa.Main, mfa.Config{
			Rules: d.rules, Log: d.log, CommandUser: d.account.Name,
			SMTP: mfaSMTP, LKA: mfaLKA, Parent: mfaParent, Queue: mfaQueue,
		}),
		component("mda", mda.Main, mda.Config{
			Rules: d.rules, Log: d.log, AliasUser: d.account.Name,
			Queue: mdaQueue, LKA: mdaLKA, Parent: mdaParent,
		}),
		component("mta", mta.Main, mta.Config{
			Rules: d.rules, Log: d.log, Certs: d.certs, Roots: d.roots, Queue: mtaQueue, LKA: mtaLKA,
		}),
	}
	return front, rest
}

// component ties a Main to its configuration.
func component[C any](name string, main func(context.Context, C) error, c C) proc.Component {
	return proc.Component{Name: name, Main: func(ctx context.Context) error { return main(ctx, c) }}
}
