// Command attack holds the daemon to what it must survive: it starts one that
// relays all it takes to a server of another implementation, attacks it, and
// after each attack sends a mail that must arrive.
//
//	smuggle  every line end before and after the dot × cut at every byte × DATA
//	         and BDAT: the other server sees no message that was not accepted,
//	         and no recipient that was not named
//	open     many connections in every state of a session, a third of them half
//	         closed: mail is taken while they are held, and when they are left
//	tls      many connections that send STARTTLS and then anything but TLS
//	trickle  clients that send a byte a second, until the daemon has closed them
//
// usage: attack [--trickle] [--conns N] SMTPD
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/alecthomas/kong"
	"github.com/emersion/go-smtp"

	"smtpd/internal/smtptest"
)

var cli struct {
	SMTPD   string `arg:"" help:"The daemon's program."`
	Trickle bool   `help:"Send a byte a second as well; takes some minutes."`
	Conns   int    `default:"500" help:"Connections that are held at once; 10000 need a limit of 14000 open files."`
	Slow    int    `default:"100" help:"Clients that send a byte a second, half of them in a message."`
	User    string `help:"Account of the daemon, for root."`
	PKI     string `name:"pki" help:"FILE.crt and FILE.key are the daemon's certificate and key, which must belong to root; without them TLS is not attacked."`
}

func main() {
	ctx := kong.Parse(&cli, kong.Name("attack"), kong.Description("Attacks on a daemon that relays."), kong.UsageOnError())
	ctx.FatalIfErrorf(run())
}

// A rig is the daemon and the server behind it.
type rig struct {
	addr string
	sink sink
	mail int // honest ones sent
}

// An attack is survived if the honest mail after it arrives.
type attack struct {
	name string
	run  func() error
}

func run() error {
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := new(rig)
	stop, err := r.start(dir)
	if err != nil {
		return err
	}
	defer stop()
	attacks := []attack{{"nothing", func() error { return nil }}, {"smuggle", r.smuggle}, {"open", r.open}}
	if cli.PKI != "" {
		attacks = append(attacks, attack{"tls", r.tls})
	}
	if cli.Trickle {
		attacks = append(attacks, attack{"trickle", r.trickle})
	}
	for _, a := range attacks {
		begun := time.Now()
		err := a.run()
		if err == nil {
			err = r.honest()
		}
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			return fmt.Errorf("%s: %w\n%s", a.name, err, log[max(0, len(log)-4000):])
		}
		fmt.Printf("%-8s survived, %d messages arrived, %v\n", a.name, r.sink.count(), time.Since(begun).Round(time.Millisecond))
	}
	return nil
}

// start runs the sink and the daemon.
func (r *rig) start(dir string) (stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := smtp.NewServer(&r.sink)
	s.Domain = "sink.test"
	go s.Serve(ln)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r.addr = free.Addr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(r.addr)
	const budget = 1000000 // one session makes as many mistakes as it likes
	pki, tls := "", ""
	if cli.PKI != "" {
		pki, tls = fmt.Sprintf("pki attack.test cert %q\npki attack.test key %q\n", cli.PKI+".crt", cli.PKI+".key"), " tls pki attack.test"
	}
	conf := pki + fmt.Sprintf(`listen on 127.0.0.1 port %s hostname attack.test`+tls+`
smtp limit max-mails %d max-errors %d max-commands %d
action "out" relay host smtp://%s
match from any for domain "relay.test" action "out"
`, port, budget, budget, budget, ln.Addr())
	file, spool := filepath.Join(dir, "smtpd.conf"), filepath.Join(dir, "spool")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err = errors.Join(err, os.WriteFile(file, []byte(conf), 0o644), os.Mkdir(spool, 0o755), os.Chmod(dir, 0o755)); err != nil {
		return nil, err
	}
	cmd := exec.Command(cli.SMTPD, "-d", "-f", file, "--spool", spool)
	if cli.User != "" {
		cmd.Args = append(cmd.Args, "--user", cli.User)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		s.Close()
		log.Close()
	}, r.ready()
}

// ready waits until the daemon greets.
func (r *rig) ready() error {
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var d *smtptest.Dialogue
		if d, err = r.dial(); err == nil {
			err = d.Run("S: 220\nC: QUIT\nS: 221")
			d.Conn.Close()
			return err
		}
	}
	return err
}

func (r *rig) dial() (*smtptest.Dialogue, error) {
	c, err := net.DialTimeout("tcp", r.addr, 30*time.Second)
	return &smtptest.Dialogue{Conn: c, Timeout: time.Minute}, err
}

// honest sends a mail and waits until it has arrived, behind all others.
func (r *rig) honest() error {
	d, err := r.dial()
	if err != nil {
		return err
	}
	defer d.Conn.Close()
	r.mail++
	subject := fmt.Sprintf("honest %d", r.mail)
	if err := d.Run("S: 220\nC: EHLO honest.test\nS: 250\nC: MAIL FROM:<a@from.test>\nS: 250\nC: RCPT TO:<x@relay.test>\nS: 250\nC: DATA\nS: 354\n" +
		"C: Subject: " + subject + "\nC:\nC: .\nS: 250\nC: QUIT\nS: 221"); err != nil {
		return fmt.Errorf("an honest mail: %w", err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if r.sink.has(subject) {
			return r.sink.check()
		}
	}
	return errors.New("an honest mail does not arrive")
}

var lineEnds = []string{"\r\n", "\n", "\r", "\r\r\n", "\n\r", "\n\n", "\r\n\n", "\x00\r\n", "\x85"}

// forged is what a victim would take for another message.
const forged = "mail from:<forged@evil.test>\r\nrcpt to:<victim@relay.test>\r\ndata\r\nSubject: forged\r\n\r\n.\r\n"

// smuggle has one connection for each that DATA must close, and one for all
// chunks.
func (r *rig) smuggle() error {
	for _, before := range lineEnds {
		for _, after := range lineEnds {
			if strings.HasSuffix(before, "\r\n") && before != "\r\r\n" && strings.HasPrefix(after, "\r\n") {
				continue // the true end of data: what follows are the client's own commands
			}
			text := "Subject: smuggled\r\n\r\ntext" + before + "." + after + forged
			for cut := 1; cut < len(text); cut++ {
				if err := r.byData(text[:cut], text[cut:]); err != nil {
					return fmt.Errorf("DATA, %q . %q cut at %d: %w", before, after, cut, err)
				}
			}
		}
	}
	for _, before := range lineEnds {
		for _, after := range lineEnds {
			if err := r.byChunks("Subject: chunks\r\n\r\ntext" + before + "." + after + forged); err != nil {
				return fmt.Errorf("BDAT, %q . %q: %w", before, after, err)
			}
		}
	}
	return nil
}

const envelope = "C: MAIL FROM:<a@from.test>\nS: 250\nC: RCPT TO:<x@relay.test>\nS: 250\n"

// byData sends parts one after the other. That they are refused or taken is
// for the daemon to say; the sink tells what came of it.
func (r *rig) byData(parts ...string) error {
	d, err := r.dial()
	if err != nil {
		return err
	}
	defer d.Conn.Close()
	if err := d.Run("S: 220\nC: EHLO evil.test\nS: 250\n" + envelope + "C: DATA\nS: 354"); err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := io.WriteString(d.Conn, p); err != nil {
			break // it has closed, as it may
		}
	}
	return d.Run("S~ ^(250|554) ")
}

// byChunks cuts text in two at every byte. It must be taken whole or not.
func (r *rig) byChunks(text string) error {
	d, err := r.dial()
	if err != nil {
		return err
	}
	defer d.Conn.Close()
	if err := d.Run("S: 220\nC: EHLO evil.test\nS: 250"); err != nil {
		return err
	}
	for cut := range len(text) + 1 {
		if err := d.Run(envelope); err != nil {
			return err
		}
		fmt.Fprintf(d.Conn, "BDAT %d\r\n%sBDAT %d LAST\r\n%sRSET\r\n", cut, text[:cut], len(text)-cut, text[cut:])
		if err := d.Run("S~ ^(250|554) \nS~ ^(250|503|554) \nS: 250 2.0.0 Reset"); err != nil {
			return fmt.Errorf("cut at %d: %w", cut, err)
		}
	}
	return nil
}

// open leaves connections in every state.
func (r *rig) open() error {
	const begun = "EHLO evil.test\r\nMAIL FROM:<a@from.test>\r\nRCPT TO:<x@relay.test>\r\n"
	said := []string{"", "EHLO ev", "EHLO evil.test\r\n", begun, begun + "BDAT 1000000\r\nx"}
	for i := range cli.Conns {
		d, err := r.dial()
		if err != nil {
			return err
		}
		defer d.Conn.Close()
		io.WriteString(d.Conn, said[i%len(said)])
		if i%3 == 0 {
			d.Conn.(*net.TCPConn).CloseWrite()
		}
	}
	return r.honest()
}

// tls begins handshakes that come to nothing.
func (r *rig) tls() error {
	said := []string{"", "EHLO in.clear\r\n", "\x16\x03\x01\xff\xff", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "\x80\x2e\x01\x03\x01", strings.Repeat("\x16", 70000)}
	for i := range cli.Conns {
		d, err := r.dial()
		if err != nil {
			return err
		}
		defer d.Conn.Close()
		if err := d.Run("S: 220\nC: EHLO evil.test\nS: 250\nC: STARTTLS\nS: 220"); err != nil {
			return err
		}
		d.Conn.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(d.Conn, said[i%len(said)])
	}
	return r.honest()
}

// trickle sends a byte a second, as a command and as a message, until the
// daemon has had enough.
func (r *rig) trickle() error {
	var clients sync.WaitGroup
	errs := make(chan error, cli.Slow)
	for i := range cli.Slow {
		begin := []string{"S: 220", "S: 220\nC: EHLO evil.test\nS: 250\n" + envelope + "C: DATA\nS: 354"}[i%2]
		d, err := r.dial()
		if err != nil {
			return err
		}
		if err := d.Run(begin); err != nil {
			return err
		}
		d.Conn.SetDeadline(time.Time{}) // that of the dialogue
		clients.Go(func() {
			defer d.Conn.Close()
			const most = 10 * time.Minute
			for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(time.Second) {
				if _, err := io.WriteString(d.Conn, "x"); err != nil {
					return
				}
			}
			errs <- fmt.Errorf("a client that sends a byte a second is still there after %v", most)
		})
	}
	clients.Wait()
	close(errs)
	return <-errs
}

// A sink is the server that the daemon relays to.
type sink struct {
	mu   sync.Mutex
	got  []string
	rcpt []string
}

func (s *sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{sink: s}, nil }

type session struct{ sink *sink }

func (s *session) Mail(string, *smtp.MailOptions) error { return nil }

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.sink.rcpt = append(s.sink.rcpt, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.sink.got = append(s.sink.got, string(b))
	return err
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *sink) has(subject string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.got {
		if strings.Contains(m, "\r\nSubject: "+subject+"\r\n") {
			return true
		}
	}
	return false
}

// check looks for what nobody sent: each message has the one header that the
// daemon began, and went to the one recipient that it accepted.
func (s *sink) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, to := range s.rcpt {
		if to != "x@relay.test" {
			return fmt.Errorf("smuggled: a message for %s", to)
		}
	}
	for _, m := range s.got {
		if !strings.HasPrefix(m, "Received: from ") {
			return fmt.Errorf("smuggled: %q", m)
		}
	}
	return nil
}
