package parent

import (
	"bufio"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"smtpd/runtime/envelope"
)

// An lmtpBackend keeps the last message and answers what it is told to.
type lmtpBackend struct {
	rcptErr, dataErr error
	from, to, text   string
	sessions         int
}

func (b *lmtpBackend) NewSession(*smtp.Conn) (smtp.Session, error) {
	b.sessions++
	return b, nil
}

func (b *lmtpBackend) Reset()        {}
func (b *lmtpBackend) Logout() error { return nil }

func (b *lmtpBackend) Mail(from string, _ *smtp.MailOptions) error {
	b.from = from
	return nil
}

func (b *lmtpBackend) Rcpt(to string, _ *smtp.RcptOptions) error {
	b.to = to
	return b.rcptErr
}

func (b *lmtpBackend) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	b.text = string(text)
	return errors.Join(err, b.dataErr)
}

func (b *lmtpBackend) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	text, err := io.ReadAll(r)
	b.text = string(text)
	status.SetStatus(b.to, b.dataErr)
	return err
}

func serveLMTP(t *testing.T, network, addr string, b *lmtpBackend) string {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	s := smtp.NewServer(b)
	s.LMTP = true
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String()
}

func TestLMTP(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			a, home := newTestAgent(t)
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(home, "lmtp")
			}
			b := new(lmtpBackend)
			d := testDelivery(home, LMTP, serveLMTP(t, network, addr, b))
			d.RcptTo = true
			wantDelivered(t, deliver(t, a, d, testMessage))
			if b.from != "bob@example.net" || b.to != "alice@mail.example.org" {
				t.Errorf("from %q to %q", b.from, b.to)
			}
			if want := strings.ReplaceAll(d.Header+testMessage, "\n", "\r\n"); b.text != want {
				t.Errorf("text %q, want %q", b.text, want)
			}
			d.Sender = envelope.Address{}
			wantDelivered(t, deliver(t, a, d, testMessage))
			if b.from != "" || b.to != "alice@mail.example.org" {
				t.Errorf("from %q to %q", b.from, b.to)
			}
		})
	}
}

func TestLMTPRefusals(t *testing.T) {
	reply := func(code int, e smtp.EnhancedCode, text string) error {
		return &smtp.SMTPError{Code: code, EnhancedCode: e, Message: text}
	}
	for _, c := range []struct {
		name       string
		rcpt, data error
		want       Result
	}{
		{"recipient unknown", reply(550, smtp.EnhancedCode{5, 1, 1}, "no alice"), nil, Result{PermFail, "5.1.1", `Error ("550 5.1.1 no alice")`}},
		{"recipient later", reply(450, smtp.EnhancedCode{4, 2, 1}, "busy"), nil, Result{TempFail, "4.2.1", `Error ("450 4.2.1 busy")`}},
		{"over quota", nil, reply(452, smtp.EnhancedCode{4, 2, 2}, "full"), Result{TempFail, "4.2.2", `Error ("452 4.2.2 <alice@mail.example.org> full")`}},
		{"refused", nil, reply(554, smtp.EnhancedCode{5, 7, 1}, "spam"), Result{PermFail, "5.7.1", `Error ("554 5.7.1 <alice@mail.example.org> spam")`}},
		{"class contradicts", nil, reply(554, smtp.EnhancedCode{4, 7, 1}, "spam"), Result{PermFail, "5.3.0", `Error ("554 4.7.1 <alice@mail.example.org> spam")`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, home := newTestAgent(t)
			b := &lmtpBackend{rcptErr: c.rcpt, dataErr: c.data}
			d := testDelivery(home, LMTP, serveLMTP(t, "tcp", "127.0.0.1:0", b))
			d.RcptTo = true
			if got := deliver(t, a, d, testMessage); got != c.want {
				t.Errorf("result = %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestLMTPScript speaks to servers that break off or babble at every step.
func TestLMTPScript(t *testing.T) {
	const ok = "220 x\r\n|250 x\r\n|250 ok\r\n|250 ok\r\n|354 go\r\n|250 ok\r\n"
	steps := strings.Split(ok, "|")
	for i := range steps {
		for _, bad := range []string{"", "nonsense\r\n", "2\r\n", "\x00\xff\r\n", strings.Repeat("2", 1<<20), strings.Repeat("250-x\r\n", 1<<18), "999 x\r\n", "450 later\r\n"} {
			a, home := newTestAgent(t)
			a.limit = 10 * time.Second
			replies := append(append([]string(nil), steps[:i]...), bad)
			addr, _ := scriptLMTP(t, replies)
			d := testDelivery(home, LMTP, addr)
			if r := deliver(t, a, d, testMessage); r.Outcome != TempFail {
				t.Errorf("step %d answered with %.20q: %+v, want a temporary failure", i, bad, r)
			}
		}
	}
	t.Run("lost after the last reply", func(t *testing.T) {
		a, home := newTestAgent(t)
		addr, said := scriptLMTP(t, steps)
		wantDelivered(t, deliver(t, a, testDelivery(home, LMTP, addr), testMessage))
		want := "LHLO mx.example.org\r\nMAIL FROM:<bob@example.net>\r\nRCPT TO:<alice>\r\nDATA\r\n"
		if got := <-said; !strings.HasPrefix(got, want) {
			t.Errorf("said:\n%s\nwant:\n%s", got, want)
		}
	})
}

// TestLMTPCut loses the connection after each byte that the server says. The
// message is delivered once the code of the last reply is there, and is to be
// tried again before: half a refusal is none.
func TestLMTPCut(t *testing.T) {
	for _, last := range []string{"250 2.0.0 stored\r\n", "550 5.2.0 no\r\n"} {
		steps := []string{"220 x\r\n", "250-x\r\n250 SIZE\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n", last}
		all := strings.Join(steps, "")
		for n := range len(all) + 1 {
			var said []string
			for left := n; left > 0; {
				step := steps[len(said)]
				step = step[:min(len(step), left)]
				said, left = append(said, step), left-len(step)
			}
			a, home := newTestAgent(t)
			addr, _ := scriptLMTP(t, said)
			r := deliver(t, a, testDelivery(home, LMTP, addr), testMessage)
			want := TempFail
			switch code := n >= len(all)-len(last)+len("250 "); {
			case code && last[0] == '2':
				want = Delivered
			case code && last[0] == '5':
				want = PermFail
			}
			if r.Outcome != want {
				t.Errorf("cut after %q: %+v, want %v", all[:n], r, want)
			}
		}
	}
}

// scriptLMTP serves one connection: the first reply at once, each further one
// after a command, or after the end of the message. Then it closes, and hands
// out what it was told.
func scriptLMTP(t *testing.T, replies []string) (addr string, said <-chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	heard := make(chan string, 1)
	go func() {
		var all strings.Builder
		defer func() { heard <- all.String() }()
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 64<<10)
		for i, reply := range replies {
			end, before := "\r\n", all.Len()
			if i > 0 && strings.HasPrefix(replies[i-1], "354") {
				end = "\r\n.\r\n"
			}
			for i > 0 && !strings.HasSuffix(all.String()[before:], end) {
				n, err := conn.Read(buf)
				all.Write(buf[:n])
				if err != nil {
					return
				}
			}
			io.WriteString(conn, reply)
		}
	}()
	return ln.Addr().String(), heard
}

func TestLMTPUnreachable(t *testing.T) {
	a, home := newTestAgent(t)
	for _, dest := range []string{filepath.Join(home, "none"), "127.0.0.1:1", "[::1]:1", "no host", ""} {
		if r := deliver(t, a, testDelivery(home, LMTP, dest), testMessage); r.Outcome != TempFail {
			t.Errorf("%q: %+v, want a temporary failure", dest, r)
		}
	}
}

// TestLMTPSessionIsKept checks that messages follow each other over one
// session, also when one of them is refused.
func TestLMTPSessionIsKept(t *testing.T) {
	a, home := newTestAgent(t)
	b := new(lmtpBackend)
	d := testDelivery(home, LMTP, serveLMTP(t, "unix", filepath.Join(home, "lmtp"), b))
	d.RcptTo = true
	for i := range 9 {
		b.rcptErr, b.dataErr = nil, nil
		switch i {
		case 3:
			b.rcptErr = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no"}
		case 6:
			b.dataErr = &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "full"}
		}
		want := map[int]Outcome{3: PermFail, 6: TempFail}[i]
		if want == 0 {
			want = Delivered
		}
		if r := deliver(t, a, d, testMessage); r.Outcome != want {
			t.Fatalf("message %d: %+v", i, r)
		}
	}
	if b.sessions != 1 {
		t.Errorf("%d sessions, want 1", b.sessions)
	}
	a.lmtps.close()
	wantDelivered(t, deliver(t, a, d, testMessage))
	if b.sessions != 2 || a.lmtps.count != 0 {
		t.Errorf("%d sessions, %d kept after the end", b.sessions, a.lmtps.count)
	}
}

// TestLMTPStale checks that a session which the server has ended meanwhile
// costs no message, and makes none twice.
func TestLMTPStale(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := make(chan string, 10)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("220 x\r\n"))
			in := bufio.NewReader(conn)
			for text := false; ; {
				line, err := in.ReadString('\n')
				if err != nil || line == ".\r\n" {
					break
				}
				if !text {
					reply := "250 ok\r\n"
					if text = line == "DATA\r\n"; text {
						reply = "354 go\r\n"
					}
					io.WriteString(conn, reply)
				}
			}
			io.WriteString(conn, "250 kept\r\n")
			conn.Close()
			served <- "message"
		}
	}()
	a, home := newTestAgent(t)
	d := testDelivery(home, LMTP, ln.Addr().String())
	for range 5 {
		wantDelivered(t, deliver(t, a, d, testMessage))
		<-served
	}
	if len(served) != 0 {
		t.Errorf("%d messages more than were delivered", len(served))
	}
}

// TestLMTPIdle checks how many sessions are kept, and for how long.
func TestLMTPIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p lmtpSessions
		said := make(chan string, 100)
		start := time.Now()
		session := func() *lmtpSession {
			ours, theirs := net.Pipe()
			go func() {
				defer theirs.Close()
				theirs.Write([]byte("220 x\r\n"))
				for in := bufio.NewReader(theirs); ; {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					if line == "QUIT\r\n" {
						said <- time.Since(start).String()
					}
					theirs.Write([]byte("250 x\r\n"))
				}
			}()
			s := newLMTPSession(ours)
			s.conn.left = maxReplies
			if err := s.c.Hello("mx"); err != nil {
				t.Fatal(err)
			}
			return s
		}
		for range lmtpKept + 2 {
			p.put("a", session())
		}
		if p.count != lmtpKept {
			t.Errorf("%d are kept, want %d", p.count, lmtpKept)
		}
		synctest.Wait()
		if len(said) != 2 {
			t.Errorf("%d sessions too many were ended, want 2", len(said))
		}
		time.Sleep(lmtpIdle / 2)
		s := p.take("a")
		if s == nil || p.take("b") != nil {
			t.Error("the wrong sessions are kept")
		}
		time.Sleep(lmtpIdle)
		synctest.Wait()
		if len(said) != 2+lmtpKept-1 || p.count != 0 || len(p.kept) != 0 {
			t.Errorf("%d sessions were ended, %d are kept", len(said), p.count)
		}
		s.sent = lmtpMessages
		p.put("a", s)
		synctest.Wait()
		if len(said) != 2+lmtpKept {
			t.Error("a session is kept for any number of messages")
		}
	})
}
