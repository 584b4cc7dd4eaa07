package ctl

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"smtpd/runtime/control"
)

// A submission is what sendmail was asked to send.
type submission struct {
	from       string // -f; empty: the address in From, or the user
	name       string // -F
	fromHeader bool   // -t
	aliases    bool   // -bi: newaliases is meant
	protocol   bool   // -v
	notify     []gosmtp.DSNNotify
	ret        gosmtp.DSNReturn
	envID      string
	rcpts      []string
}

const sendmailUsage = "usage: sendmail [-tv] [-F name] [-f from] [-N notify] [-R ret] [-V envid] [to ...]\n"

// sendmail reads a message and gives it to the daemon.
func sendmail(t *terminal, args []string) int {
	s, err := parseSendmail(args)
	if errors.Is(err, errNotHere) {
		fmt.Fprintf(t.err, "sendmail: %v\n", err)
		return exitSoftware
	}
	if err != nil {
		fmt.Fprintf(t.err, "sendmail: %v\n%s", err, sendmailUsage)
		return exitFailed
	}
	if s.aliases {
		return newaliases(t, nil)
	}
	m, err := readMessage(t.in)
	if err != nil {
		fmt.Fprintf(t.err, "sendmail: %v\n", err)
		return exitUnavailable
	}
	defer m.close()
	status, err := s.send(t, m)
	if status == exitTempFail && !t.stored {
		if kept := t.store(m, args); kept != nil {
			err = fmt.Errorf("%w; %w", err, kept)
		} else {
			return exitOK
		}
	}
	if err != nil {
		fmt.Fprintf(t.err, "sendmail: %v\n", err)
	}
	return status
}

// errNotHere is returned for what sendmail elsewhere can be asked.
var errNotHere = errors.New("this is not implemented")

func parseSendmail(args []string) (*submission, error) {
	s := new(submission)
	var bad error
	operands, err := getopt(args, "A:B:b:E::e:F:f:iJ::L:mN:o:p:qR:r:StV:vx", func(letter byte, arg string) {
		switch letter {
		case 'F':
			s.name = arg
		case 'f', 'r':
			s.from = strings.TrimSuffix(strings.TrimPrefix(arg, "<"), ">")
		case 't':
			s.fromHeader = true
		case 'v':
			s.protocol = true
		case 'V':
			s.envID = arg
		case 'N':
			for word := range strings.SplitSeq(arg, ",") {
				s.notify = append(s.notify, gosmtp.DSNNotify(strings.ToUpper(strings.TrimSpace(word))))
			}
		case 'R':
			if s.ret = gosmtp.DSNReturn(strings.ToUpper(arg)); s.ret == "HDRS" {
				s.ret = gosmtp.DSNReturnHeaders
			}
		case 'q':
			bad = fmt.Errorf("-q: the daemon runs the queue by itself: %w", errNotHere)
		case 'b':
			if arg == "i" {
				s.aliases = true
			}
		}
	})
	s.rcpts = operands
	return s, errors.Join(err, bad)
}

// send submits m and returns the exit status.
func (s *submission) send(t *terminal, m *message) (int, error) {
	if s.fromHeader {
		s.rcpts = append(s.rcpts, m.rcpts...)
	}
	if len(s.rcpts) == 0 {
		return exitSoftware, errors.New("no recipients")
	}
	who, err := user.Current()
	if err != nil {
		return exitSoftware, fmt.Errorf("who calls: %w", err)
	}
	if s.from == "" {
		s.from = m.from
	}
	if s.from == "" {
		s.from = who.Username
	}
	conn, err := t.session()
	switch {
	case errors.As(err, new(control.Refusal)):
		return exitUnavailable, fmt.Errorf("%w, try again later", err)
	case err != nil:
		return exitTempFail, err
	}
	defer conn.Close()
	err = s.transact(t, conn, m, who)
	switch {
	case err == nil:
		return exitOK, nil
	case passes(err):
		return exitTempFail, err
	case t.stored: // where it is it is not lost
		return exitSoftware, err
	}
	if kept := m.bury(who); kept != "" {
		err = fmt.Errorf("%w; the message was appended to %s", err, kept)
	}
	return exitSoftware, err
}

// passes reports whether what err says may be otherwise later: the daemon
// says so, or it has gone.
func passes(err error) bool {
	var reply *gosmtp.SMTPError
	if errors.As(err, &reply) {
		return reply.Temporary()
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, new(net.Error))
}

// session opens a session on the local submission socket.
func (t *terminal) session() (net.Conn, error) {
	c, err := t.dial("submit.sock")
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

// transact holds the dialogue. The first recipient that is refused ends it.
func (s *submission) transact(t *terminal, conn net.Conn, m *message, who *user.User) error {
	c := gosmtp.NewClient(conn)
	if s.protocol && !t.stored {
		c.DebugWriter = t.out
	}
	if err := c.Hello("localhost"); err != nil {
		return err
	}
	if err := c.Mail(s.from, &gosmtp.MailOptions{Return: s.ret, EnvelopeID: s.envID}); err != nil {
		return fmt.Errorf("sender %q: %w", s.from, err)
	}
	for _, rcpt := range s.rcpts {
		if err := c.Rcpt(rcpt, &gosmtp.RcptOptions{Notify: s.notify}); err != nil {
			return fmt.Errorf("recipient %q: %w", rcpt, err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if err := m.write(w, s.author(m, who)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	c.Quit()
	return nil
}

// author returns the From field to add, or "".
func (s *submission) author(m *message, who *user.User) string {
	if m.hasFrom {
		return ""
	}
	name := s.name
	if name == "" {
		name, _, _ = strings.Cut(who.Name, ",")
	}
	local, domain, found := strings.Cut(s.from, "@")
	if !found {
		domain = "x" // cut off again: the daemon has the domain
	}
	from := (&mail.Address{Name: name, Address: local + "@" + domain}).String()
	if !found {
		from = strings.Replace(from, "@x>", ">", 1)
	}
	return "From: " + from + "\n"
}

// A message is what came on standard input, in a file without a name, and
// what its header says.
type message struct {
	file    *os.File
	header  []string // fields to send, with their line ends
	body    int64    // where it begins
	long    bool     // a line is longer than SMTP allows
	coded   bool     // it says how it is encoded
	hasFrom bool
	from    string   // the address in From
	rcpts   []string // of To, Cc and Bcc
}

// maxHeader bounds the header section, which is held in memory.
const maxHeader = 1 << 20

// longLine is the length from which on a line is encoded before it is sent.
const longLine = 990

func readMessage(r io.Reader) (*message, error) {
	f, err := os.CreateTemp("", "sendmail-*")
	if err != nil {
		return nil, fmt.Errorf("keep the message: %w", err)
	}
	os.Remove(f.Name())
	m := &message{file: f}
	if _, err = io.Copy(f, r); err == nil {
		err = m.scan()
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("keep the message: %w", err)
	}
	return m, nil
}

func (m *message) close() { m.file.Close() }

// scan reads the header section and looks for long lines.
func (m *message) scan() error {
	if _, err := m.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in := bufio.NewReader(m.file)
	var field string
	for first := true; ; first = false {
		line, err := in.ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		text := strings.TrimRight(line, "\r\n")
		switch {
		case first && strings.HasPrefix(text, "From "):
			m.body += int64(len(line)) // of an mbox
			continue
		case field != "" && text != "" && (text[0] == ' ' || text[0] == '\t'):
			field += text + "\n"
			m.body += int64(len(line))
		default:
			m.take(field)
			field = ""
			if text == "" || !isField(text) {
				if text == "" {
					m.body += int64(len(line))
				}
				return m.scanBody(in, text)
			}
			field = text + "\n"
			m.body += int64(len(line))
		}
		if m.body > maxHeader {
			return errors.New("the header section is too long")
		}
		if err == io.EOF {
			m.take(field)
			return nil
		}
	}
}

// isField reports whether a line begins a field of a header.
func isField(line string) bool {
	name, _, ok := strings.Cut(line, ":")
	return ok && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}

func (m *message) scanBody(in *bufio.Reader, first string) error {
	m.long = len(first) >= longLine
	n := 0
	for !m.long {
		piece, err := in.ReadSlice('\n')
		n += len(piece)
		m.long = n >= longLine
		switch err {
		case nil:
			n = 0
		case bufio.ErrBufferFull:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
	return nil
}

// take looks at a field and keeps it, if it is to be sent.
func (m *message) take(field string) {
	name, value, ok := strings.Cut(field, ":")
	if !ok {
		return
	}
	switch strings.ToLower(name) {
	case "return-path":
		return
	case "from":
		m.hasFrom = true
		if l := addresses(value); len(l) > 0 {
			m.from = l[0]
		}
	case "to", "cc":
		m.rcpts = append(m.rcpts, addresses(value)...)
	case "bcc":
		m.rcpts = append(m.rcpts, addresses(value)...)
		return
	case "content-transfer-encoding":
		m.coded = true
	}
	m.header = append(m.header, field)
}

// localOnly stands for the domain of an address that has none while the
// address is parsed: the library wants one.
const localOnly = "@local.invalid"

// addresses returns those of a field. What cannot be read as a whole is taken
// apart at commas.
func addresses(value string) []string {
	value = strings.Join(strings.Fields(value), " ")
	var l []string
	list, err := mail.ParseAddressList(value)
	if err == nil {
		for _, a := range list {
			l = append(l, a.Address)
		}
		return l
	}
	for part := range strings.SplitSeq(value, ",") {
		part = strings.TrimSpace(part)
		if i := strings.LastIndexByte(part, '<'); i >= 0 {
			part = strings.TrimSuffix(part[i+1:], ">")
		} else if a, err := mail.ParseAddress(part + localOnly); err == nil {
			part = strings.TrimSuffix(a.Address, localOnly)
		}
		if part = strings.TrimSpace(part); part != "" && !strings.ContainsAny(part, " <>") {
			l = append(l, part)
		}
	}
	return l
}

// write sends the message, with a From field before it if there is one to
// add. Lines that SMTP does not carry are encoded.
func (m *message) write(w io.Writer, from string) error {
	fields := slices.Clone(m.header)
	if from != "" {
		fields = append(fields, from)
	}
	encode := m.long && !m.coded
	if encode {
		fields = append(fields, "MIME-Version: 1.0\n", "Content-Type: text/plain; charset=unknown-8bit\n",
			"Content-Disposition: inline\n", "Content-Transfer-Encoding: quoted-printable\n")
	}
	if _, err := io.WriteString(w, strings.Join(fields, "")+"\n"); err != nil {
		return err
	}
	if _, err := m.file.Seek(m.body, io.SeekStart); err != nil {
		return err
	}
	if encode {
		q := quotedprintable.NewWriter(w)
		_, err := io.Copy(q, m.file)
		return errors.Join(err, q.Close())
	}
	_, err := io.Copy(w, m.file)
	return err
}

// bury appends a message that was refused to the user's dead.letter and
// returns its path, or "" if it could not.
func (m *message) bury(who *user.User) string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	path := filepath.Join(home, "dead.letter")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return ""
	}
	fmt.Fprintf(f, "From %s %s\n", who.Username, time.Now().Format(time.ANSIC))
	_, err1 := m.file.Seek(0, io.SeekStart)
	_, err2 := io.Copy(f, m.file)
	_, err3 := io.WriteString(f, "\n")
	if errors.Join(err1, err2, err3, f.Close()) != nil {
		return ""
	}
	return path
}
