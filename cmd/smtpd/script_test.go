package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/tools/txtar"

	"smtpd/internal/ctl"
	"smtpd/internal/smtptest"
	"smtpd/runtime/control"
	"smtpd/runtime/proc"
)

func TestMain(m *testing.M) {
	programs := map[string]func(){"smtpd": main}
	for _, name := range []string{"smtpctl", "sendmail", "mailq", "smtp", "makemap", "newaliases"} {
		programs[name] = func() { os.Exit(ctl.Main(name, os.Args[1:])) }
	}
	testscript.Main(m, programs)
}

// TestScript runs the whole daemon. Besides testscript's own commands there
// are those below; $USER, $UID and $GID are the account the daemon runs as,
// $PORT is a free port of 127.0.0.1, and $PORT2 and $PORT3 are others.
// As root every script runs twice: with the components as processes of their
// own, and all in one, which is the only way without root.
func TestScript(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Run("processes", func(t *testing.T) { runScripts(t, scripts, nil) })
	}
	t.Run("one", func(t *testing.T) { runScripts(t, scripts, []string{"--one-process"}) })
}

// TestScriptsRunToTheEnd checks that no script has the command stop, which
// ends it with success: finish is what stops a daemon.
func TestScriptsRunToTheEnd(t *testing.T) {
	early := regexp.MustCompile(`(?m)^(\[[^]]*\] )*stop\b.*`)
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "script", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range files {
		ar, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if line := early.Find(ar.Comment); line != nil {
			t.Errorf("%s: %q ends the script: to stop a daemon, use finish", name, line)
		}
	}
}

// scripts is where the scripts are.
var scripts = filepath.Join("..", "..", "testdata", "script")

// runScripts runs every script of a folder, with more arguments for each daemon.
func runScripts(t *testing.T, dir string, args []string) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			a, err := proc.Choose("")
			if err != nil {
				return err
			}
			for _, name := range []string{"PORT", "PORT2", "PORT3"} {
				port, err := freePort()
				if err != nil {
					return err
				}
				env.Setenv(name, port)
			}
			// Programs run as the daemon's account and must get there; so must
			// wrappers to the programs of testscript.
			bin, _, _ := strings.Cut(env.Getenv("PATH"), string(filepath.ListSeparator))
			for _, dir := range []string{filepath.Dir(env.WorkDir), filepath.Dir(bin)} {
				if err := os.Chmod(dir, 0o711); err != nil {
					return err
				}
			}
			env.Setenv("USER", a.Name)
			env.Setenv("UID", strconv.Itoa(a.UID))
			env.Setenv("GID", strconv.Itoa(a.GID))
			d := &daemons{args: args, running: make(map[string]*started)}
			env.Values[daemonsKey{}] = d
			env.Defer(d.killAll)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":      start,
			"signal":     signalDaemon,
			"shadow":     shadow,
			"killchild":  killComponent,
			"interrupt":  interrupt,
			"keyonly":    keyOnly,
			"confined":   confined,
			"finish":     finish,
			"waitlog":    waitLog,
			"waitfile":   waitFile,
			"expand":     expand,
			"fetch":      fetch,
			"owndir":     ownDir,
			"dialogue":   dialogue,
			"send":       send,
			"keypair":    keyPair,
			"zone":       zone,
			"tlsa":       tlsa,
			"policyhost": policyHost,
			"remote":     remote,
			"lmtp":       lmtpServer,
			"relays":     relays,
			"queueid":    queueID,
			"hold":       hold,
			"milter":     milter,
			"rspamd":     rspamd,
			"nameserver": nameServer,
			"inherit":    inherit,
			"served":     served,
			"sqlite":     sqlite,
			"resume":     resume,
			"limitfiles": limitFiles,
			"asuser":     asUser,
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "processes":
				return args == nil, nil
			case "shadow":
				return exec.Command("unshare", "-m", "sh", "-c", bindShadow, "/dev/null", "true").Run() == nil, nil
			}
			return false, fmt.Errorf("unknown condition %s", cond)
		},
	})
}

// patience bounds every wait of a script for what must come. It is for those
// who wait for a failure, not for a slow machine.
const patience = 3 * time.Minute

// lastPort is the port handed out last. It begins anywhere, because other
// tests may look for ports at the same time.
var lastPort atomic.Int32

func init() { lastPort.Store(10_000 + rand.Int32N(20_000)) }

// freePort returns a port that nobody listens on. It is below those that the
// kernel gives to connections: one of them could take it before the daemon.
func freePort() (string, error) {
	for range 1000 {
		port := strconv.Itoa(int(lastPort.Add(1)))
		ln, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			return port, ln.Close()
		}
	}
	return "", errors.New("no port is free")
}

type daemonsKey struct{}

// daemons are those that a script has started, by name.
type daemons struct {
	shadow  string   // a file that takes the place of the system's; "": none does
	asUser  bool     // they are started without root's rights
	args    []string // besides those of the script
	running map[string]*started
	handed  *os.File           // to each that is started
	held    *smtptest.Dialogue // of hold
}

// A started daemon writes its log to NAME.log.
type started struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when err is set
	err    error
	log    *lockedBuffer
}

// A lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (d *daemons) killAll() {
	for _, s := range d.running {
		s.cmd.Process.Kill()
		<-s.exited
	}
}

func daemonNamed(ts *testscript.TestScript, name string) *started {
	s := ts.Value(daemonsKey{}).(*daemons).running[name]
	if s == nil {
		ts.Fatalf("no daemon called %s", name)
	}
	return s
}

// wait waits until ok holds.
func wait(ts *testscript.TestScript, what string, ok func() bool) {
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(10 * time.Millisecond); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			ts.Fatalf("waited in vain for %s", what)
		}
	}
}

// start NAME ARG...: runs smtpd with the arguments and waits until it serves.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: start name arg...")
	}
	s := &started{exited: make(chan struct{}), log: new(lockedBuffer)}
	var path string
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(dir, "smtpd"); path == "" {
			if _, err := os.Stat(p); err == nil {
				path = p
			}
		}
	}
	all := ts.Value(daemonsKey{}).(*daemons)
	s.cmd = exec.Command(path, append(args[1:], all.args...)...)
	if all.shadow != "" {
		s.cmd = exec.Command("unshare", append([]string{"-m", "sh", "-c", bindShadow, all.shadow}, s.cmd.Args...)...)
	}
	if all.handed != nil {
		s.cmd = exec.Command("sh", append([]string{"-c", activate}, s.cmd.Args...)...)
		s.cmd.ExtraFiles = []*os.File{all.handed}
	}
	if all.asUser {
		a, err := proc.Choose("")
		ts.Check(err)
		ts.Check(os.Chmod(filepath.Dir(filepath.Dir(path)), 0o711)) // the programs are in there
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)}}
	}
	s.cmd.Dir = ts.MkAbs(".")
	s.cmd.Stderr = s.log
	if roots := ts.Getenv("SSL_CERT_FILE"); roots != "" {
		s.cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+roots)
	}
	if err := s.cmd.Start(); err != nil {
		ts.Fatalf("start: %v", err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	ts.Value(daemonsKey{}).(*daemons).running[args[0]] = s
	wait(ts, "the start of smtpd", func() bool {
		select {
		case <-s.exited:
			ts.Fatalf("smtpd ended: %v\n%s", s.err, s.log)
		default:
		}
		return strings.Contains(s.log.String(), "smtpd serving")
	})
}

// asUser: daemons that are started are an ordinary user's, and so is all that
// the script has made.
func asUser(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: asuser")
	}
	if os.Geteuid() != 0 {
		return
	}
	a, err := proc.Choose("")
	ts.Check(err)
	ts.Check(filepath.WalkDir(ts.MkAbs("."), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, a.UID, a.GID))
	}))
	ts.Value(daemonsKey{}).(*daemons).asUser = true
}

// activate runs a program that is handed a socket as systemd does it.
const activate = `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`

// inherit ADDR: daemons that are started are handed a socket that listens there.
func inherit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: inherit addr")
	}
	ln, err := net.Listen("tcp", args[0])
	ts.Check(err)
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	ts.Check(err)
	all := ts.Value(daemonsKey{}).(*daemons)
	if all.handed != nil {
		all.handed.Close()
	}
	ts.Defer(func() { f.Close() })
	all.handed = f
}

// bindShadow runs a program for which a file is the shadow file of the system.
const bindShadow = `mount --bind "$0" /etc/shadow && exec "$@"`

// shadow FILE: daemons that are started find FILE as /etc/shadow.
func shadow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: shadow file")
	}
	path := ts.MkAbs(args[0])
	ts.Check(os.Chmod(path, 0o600))
	ts.Value(daemonsKey{}).(*daemons).shadow = path
}

// signal NAME SIGNAL: HUP, KILL.
func signalDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal name HUP|KILL")
	}
	s := daemonNamed(ts, args[0])
	sig, ok := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}[args[1]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[1])
	}
	ts.Check(s.cmd.Process.Signal(sig))
	if sig == syscall.SIGKILL {
		<-s.exited
	}
}

// finish NAME: SIGTERM; the exit status must be 0. The command stop is
// testscript's own, which ends the script.
func finish(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: finish name")
	}
	s := daemonNamed(ts, args[0])
	ts.Check(s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.exited:
	case <-time.After(patience):
		ts.Fatalf("smtpd does not stop:\n%s", s.log)
	}
	if s.err != nil {
		ts.Fatalf("smtpd: %v\n%s", s.err, s.log)
	}
}

// waitlog NAME REGEXP: waits for a line of the log. ! waitlog looks once.
func waitLog(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: waitlog name regexp")
	}
	s := daemonNamed(ts, args[0])
	re := regexp.MustCompile("(?m)" + args[1])
	if neg {
		if line := re.FindString(s.log.String()); line != "" {
			ts.Fatalf("the log has %q", line)
		}
		return
	}
	defer func() { ts.Logf("%s", s.log) }()
	wait(ts, args[1], func() bool { return re.MatchString(s.log.String()) })
}

// waitfile GLOB COUNT [NAME]: waits until so many files match, and no more,
// and copies the first of them to NAME.
func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: waitfile glob count [name]")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	var found []string
	wait(ts, args[0], func() bool {
		found, _ = filepath.Glob(ts.MkAbs(args[0]))
		return len(found) >= n
	})
	if len(found) > n {
		ts.Fatalf("%d files %s, want %d", len(found), args[0], n)
	}
	if len(args) > 2 {
		b, err := os.ReadFile(found[0])
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), b, 0o644))
	}
}

// hold ADDR: connects, reads the greeting, and keeps the session for resume.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold addr")
	}
	conn, err := net.Dial("tcp", args[0])
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	d := &smtptest.Dialogue{Conn: conn}
	ts.Check(d.Run("S: 220"))
	ts.Value(daemonsKey{}).(*daemons).held = d
}

// resume FILE: goes on with the session of hold.
func resume(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: resume file")
	}
	if err := ts.Value(daemonsKey{}).(*daemons).held.Run(strings.TrimSuffix(ts.ReadFile(args[0]), "\n")); err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
}

// queueid REGEXP ENVELOPE MESSAGE: asks mailq for a line that matches, and
// sets variables to the ids of its envelope and message.
func queueID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: queueid regexp envelope message")
	}
	wanted := regexp.MustCompile(args[0])
	ts.Check(ts.Exec("mailq"))
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if id, _, ok := strings.Cut(line, "|"); ok && len(id) == 16 && wanted.MatchString(line) {
			ts.Setenv(args[1], id)
			ts.Setenv(args[2], id[:8])
			return
		}
	}
	ts.Fatalf("no envelope matches %s", args[0])
}

// expand FILE...: replaces $NAME in files by the environment's values.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o644))
	}
}

// owndir DIR...: makes directories that the daemon may write to.
func ownDir(ts *testscript.TestScript, neg bool, args []string) {
	a, err := proc.Choose("")
	ts.Check(err)
	for _, dir := range args {
		ts.Check(proc.Prepare(ts.MkAbs(dir), a))
	}
}

// dialogue ADDR FILE: holds the dialogue in FILE with the server at ADDR, or
// with the submission socket if ADDR is its path. The form of the file is
// that of package smtptest. ! dialogue: nobody must listen there.
func dialogue(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: dialogue address file")
	}
	conn, err := dialServer(ts, args[0])
	if neg && err != nil {
		return
	}
	ts.Check(err)
	defer conn.Close()
	if neg {
		ts.Fatalf("%s is listened on", args[0])
	}
	d := &smtptest.Dialogue{Conn: conn, Timeout: patience}
	if err := d.Run(ts.ReadFile(args[1])); err != nil {
		for _, s := range ts.Value(daemonsKey{}).(*daemons).running {
			ts.Logf("%s", s.log)
		}
		ts.Fatalf("%s: %v", args[1], err)
	}
}

func dialServer(ts *testscript.TestScript, addr string) (net.Conn, error) {
	if !strings.HasSuffix(addr, ".sock") {
		return net.Dial("tcp", addr)
	}
	c, err := control.Dial(ts.MkAbs(addr))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	f, err := c.Session()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileConn(f)
}

// keypair NAME: makes NAME.crt and NAME.key for the host of that name.
func keyPair(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keypair name")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: args,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(cryptorand.Reader, template, template, &key.PublicKey, key)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for name, b := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: cert}, ".key": {Type: "PRIVATE KEY", Bytes: der}} {
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+name), pem.EncodeToMemory(b), 0o600))
	}
}

// served ADDR FILE: the server at ADDR speaks TLS from the start with the
// certificate in FILE.
func served(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: served addr file")
	}
	conn, err := tls.Dial("tcp", args[0], &tls.Config{InsecureSkipVerify: true})
	ts.Check(err)
	defer conn.Close()
	got := conn.ConnectionState().PeerCertificates[0].Raw
	if want, _ := pem.Decode([]byte(ts.ReadFile(args[1]))); !bytes.Equal(got, want.Bytes) {
		ts.Fatalf("%s serves another certificate", args[0])
	}
}

// fetch URL FILE: gets a document by HTTP. ! fetch: nobody must serve it.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: fetch url file")
	}
	resp, err := http.Get(args[0])
	if err == nil {
		defer resp.Body.Close()
	}
	if neg && (err != nil || resp.StatusCode != http.StatusOK) {
		return
	}
	ts.Check(err)
	if neg || resp.StatusCode != http.StatusOK {
		ts.Fatalf("%s: %s", args[0], resp.Status)
	}
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), text, 0o644))
}

// send ADDR FROM TO FILE: sends a message with go-smtp's client, another
// reading of the same standards. ! send must be refused.
func send(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: send address from to file")
	}
	err := sendMail(args[0], args[1], args[2], ts.ReadFile(args[3]))
	if (err != nil) != neg {
		ts.Fatalf("send: %v", err)
	}
	if err != nil {
		ts.Logf("%v", err)
	}
}

func sendMail(addr, from, to, text string) error {
	c, err := gosmtp.Dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SendMail(from, []string{to}, strings.NewReader(text)); err != nil {
		return err
	}
	return c.Quit()
}

func TestFlags(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "smtpd.conf")
	if err := os.WriteFile(conf, []byte("match from any for domain $d reject\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"-h", 1, version + "\nusage: smtpd"},
		{"-x", 1, "smtpd: unknown flag -x"},
		{"operand", 1, "smtpd: unexpected argument operand"},
		{"-D d -n --host /nonexistent", 1, "warn: -D d: no = in it, ignored\nsmtpd: open /nonexistent"},
		{"-B queue=ram -h", 1, version},
	} {
		var stderr bytes.Buffer
		if got := run(strings.Fields(c.args), &stderr); got != c.status || !strings.HasPrefix(stderr.String(), c.want) {
			t.Errorf("smtpd %s: status %d, %q", c.args, got, stderr.String())
		}
	}
	var c cli
	if err := parseArgs(&c, strings.Fields("-nvvf a -f "+conf+" -Dd=a=example.org -D= -P mta -P smtp -T all")); err != nil {
		t.Fatal(err)
	}
	if !c.Check || c.Verbose != 2 || c.file() != conf || !c.paused("mta") || !c.paused("smtp") || c.paused("mda") {
		t.Errorf("%+v", c)
	}
	if d := c.defines(io.Discard); fmt.Sprint(d) != "[{d=a example.org} { }]" {
		t.Error(d)
	}
}

// TestTrial checks that the configuration of a trial is one.
func TestTrial(t *testing.T) {
	a, err := proc.Choose("")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "run")
	for range 2 { // the second time the file is there
		if err := prepareTrial(dir, a); err != nil {
			t.Fatal(err)
		}
	}
	c := cli{Trial: dir}
	host, err := c.host()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	rules, err := load(c.file(), nil, host, &stderr)
	if err != nil || len(rules.Listeners) != 1 {
		t.Errorf("%v\n%s", err, &stderr)
	}
}
