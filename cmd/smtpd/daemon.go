package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"smtpd/compile"
	"smtpd/compile/oshost"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/generation"
	"smtpd/runtime/crypto"
	"smtpd/runtime/parent"
	"smtpd/runtime/proc"
	"smtpd/runtime/smtp"
)

// A daemon is what is prepared before the first byte is read.
type daemon struct {
	cli     *cli
	log     *slog.Logger
	level   *slog.LevelVar // of log
	form    logForm        // of what processes log
	traces  *traces        // of log
	rules   *compile.Ruleset
	all     *setup // what components are told, together
	spool   string
	program *proc.Program
	lock    *proc.Lock
	sockets []net.Listener // those of mail, and then those of metrics
	submit  *net.UnixListener
	admin   *net.UnixListener
	keys    []crypto.Key // where not separated

	manager   *notifier
	inherited []net.Listener // sockets of the service manager that no listener has taken yet

	keyFiles map[string]*os.File // by keyName

	startedAs    int  // user id
	separated    bool // each component is a process
	account      proc.Account
	queueAccount proc.Account // where separated
}

// serve runs the daemon until a signal stops it. All that needs root comes
// first: opening keys, binding ports, making the spool.
func (c *cli) serve(defines []lang.Define, stderr io.Writer) error {
	d := &daemon{cli: c, level: new(slog.LevelVar), spool: c.spool(), startedAs: os.Getuid(), manager: newNotifier()}
	if c.Verbose > 0 {
		d.level.Set(slog.LevelDebug)
	}
	var err error
	if err = d.openLog(stderr); err != nil {
		return err
	}
	if d.inherited, err = inherited(); err != nil {
		return err
	}
	proc.CloseInherited()
	if err := d.choose(); err != nil {
		return err
	}
	if c.Trial != "" {
		if err := prepareTrial(c.Trial, d.account); err != nil {
			return err
		}
	}
	host := oshost.Sealed{Host: oshost.New()} // keys are for crypto to read
	if d.rules, err = load(c.file(), defines, host, stderr); err != nil {
		return err
	}
	d.all = &setup{Level: d.level.Level(), Paused: c.Paused, User: d.account.Name, Resolver: c.Resolver, Libexec: host.LibexecDirs}
	d.all.RuleNames = d.ruleNames()
	if d.all.Program, err = os.Executable(); err != nil {
		return err
	}
	if d.all.QueueKey, err = queueKey(&d.rules.Queue, os.Stdin); err != nil {
		return err
	}
	if err := d.takeSpool(); err != nil {
		return err
	}
	defer d.lock.Release()
	if err := d.prepare(); err != nil {
		return err
	}
	if err := d.bindLocal(); err != nil {
		return err
	}
	return d.run()
}

// choose decides whom components run as, and says so if it is not whom they
// should run as.
func (d *daemon) choose() (err error) {
	d.separated = os.Geteuid() == 0 && !d.cli.OneProcess
	if d.account, err = proc.Choose(d.cli.User); err != nil {
		return err
	}
	if os.Geteuid() == 0 && d.cli.User == "" && d.account.Name != proc.DaemonUser {
		d.log.Warn("there is no account for the daemon, another takes its place", "account", proc.DaemonUser, "user", d.account.Name)
	}
	if !d.separated {
		return nil
	}
	if d.queueAccount, err = proc.ChooseQueue(d.cli.QueueUser, d.account); err != nil {
		return err
	}
	if d.queueAccount.UID == d.account.UID {
		d.log.Warn("the queue has no account of its own: other components can read its mail", "account", proc.QueueUser, "user", d.account.Name)
	}
	return nil
}

// takeSpool makes the spool and keeps other daemons out of it.
func (d *daemon) takeSpool() (err error) {
	owner := d.account
	if d.separated {
		owner = proc.Account{Name: "root"}
	}
	if err := proc.Prepare(d.spool, owner); err != nil {
		return err
	}
	if err := proc.Share(filepath.Join(d.spool, parent.OfflineDir), owner); err != nil {
		return err
	}
	d.lock, err = proc.Acquire(d.spool, owner)
	if err != nil || !d.separated {
		return err
	}
	if err := proc.Divide(d.spool, d.queueAccount); err != nil {
		d.lock.Release()
		return err
	}
	return nil
}

// openLog opens the log. The system's is written to by this process alone: to
// it the others send lines that say how grave they are.
func (d *daemon) openLog(stderr io.Writer) (err error) {
	d.form.JSON = d.cli.LogFormat == "json"
	if d.cli.Foreground && !d.cli.Debug {
		d.form.Tagged = true
		d.log, d.traces, err = newSyslog(d.level, d.form.JSON)
		return err
	}
	d.form.Journal = isJournal(os.Stderr, os.Getenv("JOURNAL_STREAM"))
	d.log, d.traces = newLog(stderr, d.level, d.form)
	return nil
}

// load returns the rule table of the configuration in path, or prints what is
// wrong with it.
func load(path string, defines []lang.Define, host compile.Host, stderr io.Writer) (*compile.Ruleset, error) {
	opts := lang.Options{Defines: defines}
	f, parsed := lang.Parse(path, opts)
	if old := generation.Refuse(parsed, path, opts); old != nil {
		return nil, fmt.Errorf("%w: %s", old, old.Help[0])
	}
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
// root if components do not run as processes of their own.
func (d *daemon) prepare() error {
	if err := d.loadCertificates(); err != nil {
		return err
	}
	if err := d.openSockets(nil); err != nil {
		return err
	}
	d.dropInherited()
	var err error
	if d.program, err = proc.Hold(); err != nil {
		return err
	}
	if d.separated {
		return d.checkLogins()
	}
	if d.keys, err = keysOf(d.all, d.openKey); err != nil {
		return err
	}
	if err := d.account.Become(); err != nil {
		return err
	}
	if err := d.checkLogins(); err != nil {
		return err
	}
	return d.enter()
}

// An endpoint is an address to listen on.
type endpoint struct {
	at     netip.AddrPort
	origin compile.Origin
}

// endpoints returns where d listens, in the order of its sockets.
func (d *daemon) endpoints() []endpoint {
	var all []endpoint
	for i := range d.rules.Listeners {
		l := &d.rules.Listeners[i]
		all = append(all, endpoint{netip.AddrPortFrom(l.Addr, l.Port), l.Origin})
	}
	for _, m := range d.rules.Metrics {
		all = append(all, endpoint{netip.AddrPortFrom(m.Addr, m.Port), m.Origin})
	}
	return all
}

func (d *daemon) mailSockets() []net.Listener    { return d.sockets[:len(d.rules.Listeners)] }
func (d *daemon) metricsSockets() []net.Listener { return d.sockets[len(d.rules.Listeners):] }

// openSockets makes the socket of each listener, or takes it over from the
// daemon that goes by the rules before these.
func (d *daemon) openSockets(before *daemon) (err error) {
	d.sockets = nil
	for _, e := range d.endpoints() {
		ln := before.socket(e.at)
		switch {
		case ln != nil && !d.separated: // whoever has it now will close it
			ln, err = duplicate(ln)
		case ln == nil:
			if ln = d.takeInherited(e.at); ln == nil {
				ln, err = bind(e)
			}
		}
		if err != nil {
			return err
		}
		d.sockets = append(d.sockets, ln)
	}
	return nil
}

// takeInherited returns the service manager's socket for an address, nil if it
// has made none.
func (d *daemon) takeInherited(at netip.AddrPort) net.Listener {
	for i, ln := range d.inherited {
		if a, ok := ln.Addr().(*net.TCPAddr); ok && netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), uint16(a.Port)) == at {
			d.inherited = slices.Delete(d.inherited, i, i+1)
			return ln
		}
	}
	return nil
}

// dropInherited closes the sockets for which there is no listener.
func (d *daemon) dropInherited() {
	for _, ln := range d.inherited {
		d.log.Warn("no listener is for this socket of the service manager", "address", ln.Addr().String())
		ln.Close()
	}
	d.inherited = nil
}

// socket returns the socket that listens on an address, nil if there is none.
func (d *daemon) socket(at netip.AddrPort) net.Listener {
	if d == nil {
		return nil
	}
	for i, e := range d.endpoints() {
		if e.at == at {
			return d.sockets[i]
		}
	}
	return nil
}

func duplicate(ln net.Listener) (net.Listener, error) {
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
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

// loadCertificates reads certificates and authorities, and opens private keys,
// which are for crypto to read.
func (d *daemon) loadCertificates() error {
	d.keyFiles = make(map[string]*os.File)
	server, client := usedKeys(d.rules)
	for _, p := range d.rules.PKI {
		text, err := os.ReadFile(p.Cert)
		if err != nil {
			return fmt.Errorf("%s:%d: pki %s: %w", p.Origin.File, p.Origin.Line, p.Name, err)
		}
		key, err := crypto.Open(p.Key)
		if err != nil {
			return fmt.Errorf("%s:%d: pki %s: %w", p.Origin.File, p.Origin.Line, p.Name, err)
		}
		d.keyFiles[keyName(p.Name)] = key
		d.all.Certs = append(d.all.Certs, certificate{p.Name, text, server[p.Name], client[p.Name]})
		if p.DHE == "auto" || p.DHE == "legacy" {
			d.log.Warn("pki dhe: only elliptic curves are offered", "pki", p.Name)
		}
	}
	for _, a := range d.rules.CA {
		text, err := os.ReadFile(a.Cert)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
			err = fmt.Errorf("no certificate in %s", a.Cert)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: ca %s: %w", a.Origin.File, a.Origin.Line, a.Name, err)
		}
		d.all.Roots = append(d.all.Roots, authority{a.Name, text})
	}
	return d.checkTLS()
}

// checkTLS finds now what would keep smtp from serving a listener.
func (d *daemon) checkTLS() error {
	certs, err := d.all.chains(func(*certificate) bool { return true })
	if err != nil {
		return err
	}
	roots := d.all.pools()
	for i := range d.rules.Listeners {
		if _, err := smtp.NewTLS(&d.rules.Listeners[i], d.rules.SMTP.Ciphers, certs, roots); err != nil {
			return err
		}
	}
	return nil
}

// usedKeys returns which pki are those of listeners, and which of relays.
func usedKeys(rs *compile.Ruleset) (server, client map[string]bool) {
	server, client = make(map[string]bool), make(map[string]bool)
	for i := range rs.Listeners {
		for _, name := range rs.Listeners[i].PKI {
			server[name] = true
		}
	}
	for i := range rs.Actions {
		client[rs.Actions[i].Relay.PKI] = true
	}
	return server, client
}

// openKey returns the private key that a process is given under a name: that
// which belonged to the certificate when that was read, whatever has been put
// in its place since.
func (d *daemon) openKey(name string) (*os.File, error) {
	held := d.keyFiles[name]
	if held == nil {
		return nil, fmt.Errorf("no pki for %s", name)
	}
	fd, err := unix.FcntlInt(held.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// bind listens where e says. IPv6 sockets take no IPv4: an address of each
// has a listener of its own.
func bind(e endpoint) (net.Listener, error) {
	network := "tcp4"
	if e.at.Addr().Is6() {
		network = "tcp6"
	}
	ln, err := net.Listen(network, e.at.String())
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", e.origin.File, e.origin.Line, err)
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
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	r := newReloader(d, stop)
	defer r.onHangup(ctx)()
	d.log.Info("smtpd starting", "version", version, "user", d.account.Name, "pid", strconv.Itoa(os.Getpid()))
	for _, ln := range d.sockets {
		d.log.Info("listening", "address", ln.Addr().String())
	}
	run := d.together
	if d.separated {
		run = d.separate
	}
	defer context.AfterFunc(ctx, func() { d.manager.tell("STOPPING=1") })()
	err := run(ctx, r, func() {
		d.log.Info("smtpd serving")
		d.manager.ready()
		go d.manager.watch(ctx, r.alive)
	})
	d.log.Info("Exiting")
	return err
}
