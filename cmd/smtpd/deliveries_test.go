package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"golang.org/x/tools/txtar"
)

var (
	originalDeliveries = flag.Bool("original.deliveries", false, "compare with what the installed OpenSMTPD delivers, too")
	updateDeliveries   = flag.Bool("original.record", false, "record what the installed OpenSMTPD delivers")
)

const deliveriesArchive = "../../testdata/deliveries/world.txtar"

// TestDeliveries sends the same mail through this daemon as was sent through
// OpenSMTPD, with the same aliases, virtual maps, accounts and .forward files,
// and compares what lies where in the end. With -original.deliveries it sends
// it through the OpenSMTPD of this machine as well. What differs must be in
// the archive with its reason, and one that is none any more is an error too.
func TestDeliveries(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("without root no mail is delivered to others")
	}
	ar, err := txtar.ParseFile(deliveriesArchive)
	if err != nil {
		t.Fatal(err)
	}
	real := parseOutcomes(section(t, ar, "real"))
	if *originalDeliveries || *updateDeliveries {
		got := deliverAll(t, ar, startOriginal)
		if *updateDeliveries {
			record(t, ar, got)
			return
		}
		compareOutcomes(t, "OpenSMTPD", got, real, nil)
	}
	compareOutcomes(t, "here", deliverAll(t, ar, startOurs), real, parseOutcomes(section(t, ar, "ours")))
}

func section(t *testing.T, ar *txtar.Archive, name string) string {
	for _, f := range ar.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	t.Fatalf("no section %s", name)
	return ""
}

// parseOutcomes reads transactions and the lines below each; # starts a
// comment.
func parseOutcomes(text string) map[string]string {
	all := make(map[string]string)
	var key string
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "\t"):
			all[key] += line
		default:
			key = strings.TrimSpace(line)
			all[key] = ""
		}
	}
	return all
}

func compareOutcomes(t *testing.T, who string, got, real, ours map[string]string) {
	t.Helper()
	for key := range ours {
		if _, ok := real[key]; !ok {
			t.Errorf("%s is in ours alone", key)
		}
	}
	if len(got) != len(real) {
		t.Errorf("%d transactions of %d", len(got), len(real))
	}
	for key, outcome := range got {
		want, differs := ours[key]
		if !differs {
			want = real[key]
		}
		if outcome != want {
			t.Errorf("%s: %s:\n%swant:\n%s", who, key, outcome, want)
		} else if differs && outcome == real[key] {
			t.Errorf("%s: %s is no difference any more", who, key)
		}
	}
}

// record puts what the original did into the archive.
func record(t *testing.T, ar *txtar.Archive, got map[string]string) {
	var b bytes.Buffer
	for line := range strings.Lines(section(t, ar, "transactions")) {
		line = strings.TrimSpace(line)
		fmt.Fprintf(&b, "%s\n%s", line, got[line])
	}
	for i := range ar.Files {
		if ar.Files[i].Name == "real" {
			ar.Files[i].Data = b.Bytes()
		}
	}
	if err := os.WriteFile(deliveriesArchive, txtar.Format(ar), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A site is a mail host that was made for one server.
type site struct {
	t     *testing.T
	dir   string
	port  string
	users []string // the first has firstUID
	sink  *sink
	// queue prints the queue of the server.
	queue func() ([]byte, error)
}

// sender is who sends all mail.
const sender = "sender@remote.example"

// firstUID is the first user id of the site, beyond those of this machine.
const firstUID = 41000

// deliverAll makes a site, sends all transactions and returns what came of
// each.
func deliverAll(t *testing.T, ar *txtar.Archive, start func(*site)) map[string]string {
	s := newSite(t, ar)
	start(s)
	var keys []string
	replies := make(map[string]string)
	for line := range strings.Lines(section(t, ar, "transactions")) {
		key := strings.TrimSpace(line)
		keys = append(keys, key)
		replies[key] = s.transact(len(keys)-1, key)
	}
	s.settle()
	found := make([][]string, len(keys))
	s.collect(found)
	outcomes := make(map[string]string)
	for i, key := range keys {
		slices.Sort(found[i])
		outcomes[key] = replies[key]
		for _, line := range found[i] {
			outcomes[key] += "\t" + line + "\n"
		}
	}
	return outcomes
}

// newSite writes the files of an archive.
func newSite(t *testing.T, ar *txtar.Archive) *site {
	s := &site{t: t, dir: t.TempDir()}
	for dir := s.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		s.must(os.Chmod(dir, 0o755))
	}
	port, err := freePort()
	s.must(err)
	s.port = port
	s.sink = newSink(t)
	for _, dir := range []string{"home", "bin", "lists"} {
		s.must(os.Mkdir(filepath.Join(s.dir, dir), 0o755))
	}
	s.must(os.Mkdir(filepath.Join(s.dir, "out"), 0o700))
	s.must(os.Chmod(filepath.Join(s.dir, "out"), 0o777))
	s.makeUsers(strings.Fields(section(t, ar, "users")))
	for _, f := range ar.Files {
		text := s.expand(string(f.Data))
		switch name, ok := strings.CutPrefix(f.Name, "forward/"); {
		case ok:
			s.forward(name, text)
		case f.Name != "users" && f.Name != "transactions" && f.Name != "real" && f.Name != "ours":
			s.write(f.Name, text, 0o644)
		}
	}
	s.oddForwards()
	s.write("bin/record", s.expand(recordScript), 0o755)
	return s
}

// recordScript keeps the message that it is run for, and says who runs it.
const recordScript = `#!/bin/sh
f=$(mktemp $WORK/out/run.XXXXXXXX) && { echo "run $(id -u) $*"; cat; } > $f
`

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) expand(text string) string {
	return strings.NewReplacer("$WORK", s.dir, "$PORT", s.port, "$SINK", s.sink.port).Replace(text)
}

func (s *site) write(name, text string, mode fs.FileMode) {
	s.must(os.WriteFile(filepath.Join(s.dir, name), []byte(text), mode))
}

func (s *site) home(user string) string { return filepath.Join(s.dir, "home", user) }

func (s *site) uid(user string) int {
	if user == "root0" {
		return 0
	}
	return firstUID + slices.Index(s.users, user)
}

func (s *site) makeUsers(names []string) {
	s.users = names
	var table strings.Builder
	for _, u := range names {
		fmt.Fprintf(&table, "%s: %d:%d:%s\n", u, s.uid(u), s.uid(u), s.home(u))
		s.must(os.Mkdir(s.home(u), 0o755))
		s.must(os.Chown(s.home(u), s.uid(u), s.uid(u)))
	}
	// OpenSMTPD looks its own account up among these when an alias is a command.
	if u, err := user.Lookup("opensmtpd"); err == nil {
		fmt.Fprintf(&table, "%s: %s:%s:/\n", u.Username, u.Uid, u.Gid)
	}
	s.write("users", table.String(), 0o644)
}

func (s *site) forward(user, text string) {
	name := filepath.Join("home", user, ".forward")
	s.write(name, text, 0o600)
	s.must(os.Chown(filepath.Join(s.dir, name), s.uid(user), s.uid(user)))
}

// oddForwards makes the .forward files that an archive cannot hold: too large,
// of too many entries, and not safe to use.
func (s *site) oddForwards() {
	s.forward("lena", strings.Repeat("# long\n", 700)+"alice\n")
	var many []string
	for i := range 120 {
		many = append(many, fmt.Sprintf("m%d@r.example", i))
	}
	s.forward("uma", strings.Join(many, "\n")+"\n")
	s.forward("quinn", "alice\n")
	s.must(os.Chmod(filepath.Join(s.home("quinn"), ".forward"), 0o660))
	s.must(os.Symlink("../bob/.forward", filepath.Join(s.home("rita"), ".forward")))
	s.forward("sam", "alice\n")
	s.must(os.Chmod(s.home("sam"), 0o755|fs.ModeSticky))
	s.forward("tina", "alice\n")
	s.must(os.Chown(filepath.Join(s.home("tina"), ".forward"), s.uid("alice"), s.uid("alice")))
}

// transact sends message n to the recipients of a line, and returns the
// replies to them.
func (s *site) transact(n int, line string) string {
	rcpts := strings.Fields(line)
	dialer := net.Dialer{}
	if rcpts[0] == "outside" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
		rcpts = rcpts[1:]
	}
	conn, err := dialer.Dial("tcp", "127.0.0.1:"+s.port)
	s.must(err)
	defer conn.Close()
	c := textproto.NewConn(conn)
	ask := func(format string, args ...any) (int, string) {
		if format != "" {
			s.must(c.PrintfLine(format, args...))
		}
		code, text, err := c.ReadResponse(0)
		s.must(err)
		return code, text
	}
	ask("")
	ask("EHLO client.test")
	if code, text := ask("MAIL FROM:<%s>", sender); code != 250 {
		s.t.Fatalf("%s: MAIL: %d %s", line, code, text)
	}
	var replies strings.Builder
	accepted := false
	for _, rcpt := range rcpts {
		code, text := ask("RCPT TO:<%s>", rcpt)
		if code == 250 {
			text, accepted = "", true
		}
		text, _, _ = strings.Cut(enhanced.ReplaceAllString(text, ""), ": <")
		fmt.Fprintf(&replies, "\t%s\n", strings.TrimSpace(fmt.Sprint(code, " ", text)))
	}
	if accepted {
		ask("DATA")
		if code, text := ask("Subject: number %d\r\n\r\nhello\r\n.", n); code != 250 {
			s.t.Fatalf("%s: DATA: %d %s", line, code, text)
		}
	}
	ask("QUIT")
	return replies.String()
}

// enhanced is a status code of RFC 3463: the original has it in some replies.
var enhanced = regexp.MustCompile(`^[245]\.[0-9]+\.[0-9]+ `)

// settle returns when every envelope in the queue has been tried.
func (s *site) settle() {
	deadline := time.Now().Add(patience)
	for {
		list, err := s.queue()
		s.must(err)
		if !untried(list) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the queue does not come to rest:\n%s", list)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// untried reports whether a queue has an envelope that is on its way or was
// never tried.
func untried(list []byte) bool {
	for line := range strings.Lines(string(list)) {
		f := strings.Split(line, "|")
		if len(f) < 12 || f[10] == "0" || f[11] != "pending" {
			return true
		}
	}
	return false
}

var subjectLine = regexp.MustCompile(`(?m)^Subject: number ([0-9]+)\r?$`)

// collect adds a line for each message that lies somewhere to those of its
// transaction.
func (s *site) collect(found [][]string) {
	add := func(text []byte, format string, args ...any) {
		for _, m := range subjectLine.FindAllSubmatch(text, -1) {
			n, err := strconv.Atoi(string(m[1]))
			s.must(err)
			found[n] = append(found[n], fmt.Sprintf(format, args...))
		}
	}
	for _, u := range s.users {
		s.must(filepath.WalkDir(s.home(u), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") || strings.Contains(path, "/tmp/") && !strings.Contains(path, "/new/") {
				return err
			}
			text, err := os.ReadFile(path)
			rel, _ := filepath.Rel(s.home(u), path)
			if box, _, ok := strings.Cut(rel, "/new/"); ok {
				add(text, "%s %s %s", u, box, header(text, "Delivered-To"))
			} else {
				add(text, "file home/%s/%s", u, rel)
			}
			return err
		}))
	}
	boxes, err := filepath.Glob(filepath.Join(s.dir, "out", "*", "new", "*"))
	s.must(err)
	for _, path := range boxes {
		text, err := os.ReadFile(path)
		s.must(err)
		rel, _ := filepath.Rel(s.dir, filepath.Dir(filepath.Dir(path)))
		add(text, "%s %s", rel, header(text, "Delivered-To"))
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "out", "*"))
	s.must(err)
	for _, path := range files {
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue
		}
		text, err := os.ReadFile(path)
		s.must(err)
		if first, _, _ := bytes.Cut(text, []byte("\n")); bytes.HasPrefix(first, []byte("run ")) {
			f := strings.SplitN(string(first), " ", 3)
			add(text, "run %s %s", s.userOf(f[1]), f[2])
		} else {
			add(text, "file out/%s", filepath.Base(path))
		}
	}
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	for _, m := range s.sink.got {
		for _, rcpt := range m.rcpts {
			if rcpt == sender {
				add(m.text, "returned")
			} else {
				add(m.text, "relay %s", rcpt)
			}
		}
	}
}

// userOf returns the user of an id; the account of a daemon is "daemon".
func (s *site) userOf(uid string) string {
	n, err := strconv.Atoi(uid)
	s.must(err)
	switch {
	case n == 0:
		return "root0"
	case n >= firstUID && n < firstUID+len(s.users):
		return s.users[n-firstUID]
	}
	return "daemon"
}

func header(text []byte, name string) string {
	h, _ := textproto.NewReader(bufio.NewReader(bytes.NewReader(text))).ReadMIMEHeader()
	return h.Get(name)
}

// startOurs starts this daemon, with its components as processes.
func startOurs(s *site) {
	t := s.t
	spool := filepath.Join(s.dir, "spool")
	exe, err := os.Executable()
	s.must(err)
	s.run(&exec.Cmd{Path: exe, Args: []string{"smtpd", "-d", "-f", filepath.Join(s.dir, "smtpd.conf"), "--spool", spool}}, os.Interrupt)
	t.Setenv("SMTPD_SPOOL", spool)
	s.queue = func() ([]byte, error) {
		return output(&exec.Cmd{Path: exe, Args: []string{"smtpctl", "show", "queue"}})
	}
}

// startOriginal starts OpenSMTPD with a spool and sockets of its own, which
// takes a mount namespace.
func startOriginal(s *site) {
	const smtpd, enter = "/usr/sbin/smtpd", `mount -t tmpfs -o mode=711 none /var/spool/smtpd && mount -t tmpfs none /run && exec "$@"`
	if out, err := exec.Command(smtpd, "-h").CombinedOutput(); !strings.Contains(string(out), "OpenSMTPD 6.8") {
		s.t.Fatalf("%s is not OpenSMTPD 6.8: %v", smtpd, err)
	}
	cmd := exec.Command("unshare", "-m", "sh", "-c", enter, "sh", smtpd, "-d", "-f", filepath.Join(s.dir, "smtpd.conf"))
	s.run(cmd, os.Interrupt)
	s.queue = func() ([]byte, error) {
		return output(exec.Command("nsenter", "-m", "-t", strconv.Itoa(cmd.Process.Pid), "/usr/sbin/smtpctl", "show", "queue"))
	}
}

// output returns what a program prints; its errors say what it complains of.
func output(cmd *exec.Cmd) ([]byte, error) {
	out, err := cmd.Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		err = fmt.Errorf("%s: %w: %s", cmd.Args[0], err, failed.Stderr)
	}
	return out, err
}

// run starts a server that ends with the test by a signal, and returns when
// it listens.
func (s *site) run(cmd *exec.Cmd, stop os.Signal) {
	t := s.t
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	s.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(stop)
		<-ended
		if t.Failed() {
			t.Logf("log of %s:\n%s", cmd.Args[0], log.Bytes())
		}
	})
	deadline := time.Now().Add(patience)
	for {
		conn, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v", cmd.Args[0], err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v", cmd.Args[0], err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A sink is the next host of relayed mail. It takes all.
type sink struct {
	port string

	mu  sync.Mutex
	got []sunk
}

type sunk struct {
	rcpts []string
	text  []byte
}

func newSink(t *testing.T) *sink {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := new(sink)
	_, k.port, _ = net.SplitHostPort(ln.Addr().String())
	server := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) {
		return &sinkSession{sink: k}, nil
	}))
	server.Domain = "sink.test"
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; err != nil && !errors.Is(err, gosmtp.ErrServerClosed) {
			t.Error(err)
		}
	})
	return k
}

type sinkSession struct {
	sink  *sink
	rcpts []string
}

func (s *sinkSession) Reset()                                 { s.rcpts = nil }
func (s *sinkSession) Logout() error                          { return nil }
func (s *sinkSession) Mail(string, *gosmtp.MailOptions) error { return nil }
func (s *sinkSession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	s.rcpts = append(s.rcpts, to)
	return nil
}

func (s *sinkSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.sink.got = append(s.sink.got, sunk{slices.Clone(s.rcpts), text})
	return err
}
