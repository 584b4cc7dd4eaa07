package mta

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"smtpd/runtime/queue"
)

// A peer plays the same script to every connection: a greeting, then a reply
// to each command, and to the end of each message. It closes when the script
// ends, or when it has said as many bytes as it may.
type peer struct {
	script []string
	limit  int // bytes to say; negative: all
	deaf   int // hears no more than as many bytes; 0: all

	mu     sync.Mutex
	heard  []string // what each connection that has ended was told
	spoken string
	ended  sync.Cond
}

func (p *peer) start(t *testing.T) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.ended.L = &p.mu
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.play(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return netip.MustParseAddrPort(ln.Addr().String()).Port()
}

func (p *peer) play(c net.Conn) {
	var told strings.Builder
	defer func() {
		if p.deaf > 0 { // what is left unread would take back what was said
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
		}
		c.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.heard = append(p.heard, told.String())
		p.ended.Broadcast()
	}()
	r := bufio.NewReader(io.TeeReader(c, &told))
	if p.deaf > 0 {
		r.Reset(io.TeeReader(io.LimitReader(c, int64(p.deaf)), &told))
	}
	left := p.limit
	for i, reply := range p.script {
		if i > 0 && !next(r, strings.HasPrefix(p.script[i-1], "354")) {
			return
		}
		if left >= 0 && len(reply) > left {
			io.WriteString(c, reply[:left])
			return
		}
		io.WriteString(c, reply)
		p.mu.Lock()
		p.spoken += reply
		p.mu.Unlock()
		if left >= 0 {
			left -= len(reply)
		}
	}
}

// next reads a command, with its chunk, or a message.
func next(r *bufio.Reader, message bool) bool {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if size, ok := strings.CutPrefix(line, "BDAT "); ok && !message {
			n, _ := strconv.Atoi(strings.TrimSuffix(size, " LAST\r\n"))
			_, err := r.Discard(n)
			return err == nil
		}
		if !message || line == ".\r\n" {
			return true
		}
	}
}

// all returns what every connection was told, once n have ended.
func (p *peer) all(n int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.heard) < n {
		p.ended.Wait()
	}
	return slices.Clone(p.heard)
}

// said returns what all connections together heard from p.
func (p *peer) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spoken
}

var goodScript = []string{
	"220 remote ESMTP\r\n", "250-remote\r\n250 SIZE 1000\r\n", "250 2.1.0 ok\r\n", "250 2.1.5 ok\r\n", "354 go\r\n", "250 2.0.0 queued\r\n", "221 bye\r\n",
}

const goodDialogue = "EHLO here.example\r\nMAIL FROM:<bob@example.net> SIZE=30\r\nRCPT TO:<alice@remote.example>\r\nDATA\r\n" +
	"Subject: hello\r\n\r\n..dot\r\ntext\r\n.\r\n"

func TestDialogue(t *testing.T) {
	p := &peer{script: goodScript, limit: -1}
	rs := testRules()
	rs.MTA.Limits.SessionMailMax = 1 // so that QUIT follows at once
	a, _ := newTestAgent(t, rs, p.start(t))
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.Delivered, "2.0.0", "250 2.0.0 queued")
	if got, want := p.all(1)[0], goodDialogue+"QUIT\r\n"; got != want {
		t.Errorf("said:\n%q\nwant:\n%q", got, want)
	}
}

func TestDialogueHELO(t *testing.T) {
	script := append([]string{goodScript[0], "502 what?\r\n", "250 remote\r\n"}, goodScript[2:]...)
	a, _ := newTestAgent(t, testRules(), (&peer{script: script, limit: -1}).start(t))
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.Delivered, "2.0.0", "queued")
}

// TestDialogueChunk checks what a host is told that takes chunks: the message
// as it is, and its length.
func TestDialogueChunk(t *testing.T) {
	script := slices.Clone(goodScript)
	script[1] = "250-remote\r\n250-SIZE 1000\r\n250 CHUNKING\r\n"
	p := &peer{script: slices.Delete(script, 4, 5), limit: -1}
	rs := testRules()
	rs.MTA.Limits.SessionMailMax = 1
	a, _ := newTestAgent(t, rs, p.start(t))
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.Delivered, "2.0.0", "250 2.0.0 queued")
	want := "EHLO here.example\r\nMAIL FROM:<bob@example.net> SIZE=30\r\nRCPT TO:<alice@remote.example>\r\n" +
		"BDAT 30 LAST\r\nSubject: hello\r\n\r\n.dot\r\ntext\r\nQUIT\r\n"
	if got := p.all(1)[0]; got != want {
		t.Errorf("said:\n%q\nwant:\n%q", got, want)
	}
}

// A cutScript is a dialogue about a message to a, b and c that is cut.
type cutScript struct {
	scheme string
	script []string

	// known says, of each recipient, behind which reply its fate is known and
	// what it is: a permanent failure of b, a delivery of the others.
	known [3]string
}

var cutScripts = map[string]cutScript{
	"one by one": {"smtp", []string{
		"220 remote ESMTP\r\n", "250-remote\r\n250 SIZE 1000\r\n", "250 2.1.0 ok\r\n",
		"250 2.1.5 a\r\n", "550-5.1.1 no\r\n550 5.1.1 b\r\n", "250 2.1.5 c\r\n", "354 go\r\n", "250 2.0.0 queued\r\n",
	}, [3]string{"queued", "b", "queued"}},
	"at once": {"smtp", []string{
		"220 remote ESMTP\r\n", "250-remote\r\n250 PIPELINING\r\n", "250 2.1.0 ok\r\n",
		"250 2.1.5 a\r\n", "550-5.1.1 no\r\n550 5.1.1 b\r\n", "250 2.1.5 c\r\n", "354 go\r\n", "250 2.0.0 queued\r\n",
	}, [3]string{"queued", "b", "queued"}},
	"chunk": {"smtp", []string{
		"220 remote ESMTP\r\n", "250-remote\r\n250-PIPELINING\r\n250 CHUNKING\r\n", "250 2.1.0 ok\r\n",
		"250 2.1.5 a\r\n", "550-5.1.1 no\r\n550 5.1.1 b\r\n", "250 2.1.5 c\r\n", "250 2.0.0 queued\r\n",
	}, [3]string{"queued", "b", "queued"}},
	"lmtp": {"lmtp", []string{
		"220 remote LMTP\r\n", "250-remote\r\n250 PIPELINING\r\n", "250 2.1.0 ok\r\n",
		"250 2.1.5 a\r\n", "550-5.1.1 no\r\n550 5.1.1 b\r\n", "250 2.1.5 c\r\n", "354 go\r\n",
		"250 2.0.0 a has it\r\n250 2.0.0 c has it\r\n",
	}, [3]string{"a has it", "b", "c has it"}},
	"lmtp chunk": {"lmtp", []string{
		"220 remote LMTP\r\n", "250-remote\r\n250 CHUNKING\r\n", "250 2.1.0 ok\r\n",
		"250 2.1.5 a\r\n", "550-5.1.1 no\r\n550 5.1.1 b\r\n", "250 2.1.5 c\r\n",
		"250 2.0.0 a has it\r\n250 2.0.0 c has it\r\n",
	}, [3]string{"a has it", "b", "c has it"}},
}

// deliverTo gives a message to a, b and c to p, and returns what becomes of it
// and of the bytes that p was told.
func (c *cutScript) deliverTo(t *testing.T, p *peer) ([]queue.Result, string) {
	rs := testRules()
	rs.Actions[0].Relay.Host = 1
	rs.MTA.Limits.SessionMailMax = 1
	a, w := newTestAgent(t, rs, 1)
	w.fetch = []string{fmt.Sprintf("%s://[127.0.0.1]:%d", c.scheme, p.start(t))}
	r := deliver(t, a, batch("remote.example", "a", "b", "c"))
	told := p.all(1)
	if len(told) != 1 {
		t.Errorf("%d connections", len(told))
	}
	return r, told[0]
}

// check compares what became of the recipients with what the host had said.
func (c *cutScript) check(t *testing.T, r []queue.Result, said string) {
	t.Helper()
	for i, known := range c.known {
		want, class := queue.TempFail, "4."
		if strings.Contains(said, known+"\r\n") {
			want, class = queue.Delivered, "2."
			if i == 1 {
				want, class = queue.PermFail, "5."
			}
		}
		if r[i].Outcome != want || !strings.HasPrefix(r[i].Status, class) {
			t.Errorf("the host said %q: recipient %d is %+v, want %v", said, i, r[i], want)
		}
	}
}

// TestCut loses the connection after each byte that the host says. What it has
// said of a recipient to the end is its fate, any other is to be tried again:
// nothing is lost, and nothing is delivered because of half a reply.
func TestCut(t *testing.T) {
	for name, c := range cutScripts {
		t.Run(name, func(t *testing.T) {
			all := strings.Join(c.script, "")
			_, whole := c.deliverTo(t, &peer{script: append(slices.Clone(c.script), "221 bye\r\n"), limit: -1})
			for n := range len(all) + 1 {
				r, told := c.deliverTo(t, &peer{script: c.script, limit: n})
				c.check(t, r, all[:n])
				if !strings.HasPrefix(whole, told) {
					t.Errorf("cut after %d bytes: said %q", n, told)
				}
			}
		})
	}
}

// TestCutHearing loses the connection after each byte that the host hears.
func TestCutHearing(t *testing.T) {
	for name, c := range cutScripts {
		t.Run(name, func(t *testing.T) {
			_, whole := c.deliverTo(t, &peer{script: append(slices.Clone(c.script), "221 bye\r\n"), limit: -1})
			for n := 1; n < len(whole)-len("QUIT\r\n"); n++ {
				p := &peer{script: c.script, limit: -1, deaf: n}
				r, told := c.deliverTo(t, p)
				c.check(t, r, p.said())
				if whole[:n] != told {
					t.Errorf("cut after %d bytes: said %q", n, told)
				}
			}
		})
	}
}

// A cutConn reads so many bytes and no more.
type cutConn struct {
	net.Conn
	left int
	cut  bool
}

func (c *cutConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		c.cut = true
		c.Close()
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// TestCutTLS loses a connection that must be secure all along it. Whatever is
// lost, nothing goes out in clear, nobody is called a second time at once, and
// only what the host has is delivered.
func TestCutTLS(t *testing.T) {
	cert := newCertificate(t, "relay.example")
	deliverCut := func(n int) (r queue.Result, c *cutConn, got []received) {
		b := new(remote)
		port := b.start(t, "127.0.0.1:0", func(s *smtp.Server) { s.TLSConfig = cert.tls })
		rs := testRules()
		rs.Actions[0].Relay.Host, rs.Actions[0].Relay.CA = 1, "test"
		rs.MTA.Limits.SessionMailMax = 1
		a, w := newTestAgent(t, rs, 1, func(c *Config) { c.Roots = authorities(cert) })
		w.fetch = []string{fmt.Sprintf("smtp+tls://relay.example:%d", port)}
		w.addrs = map[string][]netip.Addr{"relay.example": {netip.MustParseAddr("127.0.0.1")}}
		dial := a.dial
		a.dial = func(ctx context.Context, d *net.Dialer, addr string) (net.Conn, error) {
			if c != nil {
				t.Errorf("cut after %d bytes: called again", n)
			}
			nc, err := dial(ctx, d, addr)
			c = &cutConn{Conn: nc, left: n}
			return c, err
		}
		r = deliver(t, a, batch("remote.example", "alice"))[0]
		a.work.Wait() // the session has ended
		return r, c, b.messages()
	}
	const plenty = 1 << 20
	r, whole, _ := deliverCut(plenty)
	wantOne(t, []queue.Result{r}, queue.Delivered, "2.0.0", "queued")
	all := plenty - whole.left
	for n := 0; n < all+100; n += 1 + n/100 { // the shorter the reply, the denser
		r, c, got := deliverCut(n)
		switch {
		case r.Outcome != queue.Delivered && (r.Outcome != queue.TempFail || !c.cut):
			t.Errorf("cut after %d of %d bytes: %+v", n, all, r)
		case r.Outcome == queue.Delivered && len(got) != 1:
			t.Errorf("cut after %d of %d bytes: delivered, but the host has %d messages", n, all, len(got))
		case len(got) > 0 && !got[0].tls:
			t.Errorf("cut after %d of %d bytes: sent in clear", n, all)
		}
	}
}

// TestHostileReplies answers with garbage at each step.
func TestHostileReplies(t *testing.T) {
	for _, bad := range []string{
		"\r\n", "nonsense\r\n", "25", "999 x\r\n", "000 x\r\n", "250-a\r\n550 b\r\n", "\x00\x00\x00\r\n", "\xff\xfe 250\r\n", "450 a\rb\x00c\r\n",
		strings.Repeat("2", 1<<20), strings.Repeat("250-x\r\n", 1<<17), "250 " + strings.Repeat("x", 1<<20) + "\r\n",
		"421 closing\r\n", "450 later\r\n", "350 what\r\n",
	} {
		for i := range 6 {
			script := append([]string(nil), goodScript[:i]...)
			script = append(script, bad, "250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "250 ok\r\n")
			p := &peer{script: script, limit: -1}
			a, w := newTestAgent(t, testRules(), p.start(t))
			a.timeout = 300 * time.Millisecond // for the line that does not end
			r := deliver(t, a, batch("remote.example", "alice"))
			// A refused EHLO is followed by HELO, which the rest of the script accepts.
			if fellBack := i == 1 && strings.HasPrefix(bad, "4") || i == 1 && strings.HasPrefix(bad, "350"); fellBack {
				continue
			}
			if r[0].Outcome != queue.TempFail {
				t.Errorf("step %d answered with %.20q: %+v, want a temporary failure", i, bad, r[0])
			}
			if r[0].Text != printable(r[0].Text) || len(r[0].Text) > maxReplyText+50 {
				t.Errorf("step %d answered with %.20q: text %q", i, bad, r[0].Text)
			}
			if log := strings.ReplaceAll(w.logged(), "\n", ""); log != printable(log) {
				t.Errorf("step %d answered with %.20q: log %q", i, bad, w.logged())
			}
		}
	}
}

func TestUnsolicitedReply(t *testing.T) {
	script := append([]string(nil), goodScript...)
	script[2] += "250 2.1.5 and the recipient, too\r\n"
	a, _ := newTestAgent(t, testRules(), (&peer{script: script, limit: -1}).start(t))
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.TempFail, "4.4.2", "Remote host sent too much data")
}

// TestStartTLSInjection puts a reply behind that to STARTTLS, in clear: were
// it believed after the handshake, anyone on the way could say it.
func TestStartTLSInjection(t *testing.T) {
	cert := newCertificate(t, "mx.remote.example")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	said := make(chan string, 1)
	go func() {
		defer close(said)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "220 x\r\n")
		r := bufio.NewReader(c)
		next(r, false)
		io.WriteString(c, "250-x\r\n250 STARTTLS\r\n")
		next(r, false)
		io.WriteString(c, "220 go\r\n250-injected\r\n250 AUTH PLAIN\r\n")
		line, _ := bufio.NewReader(tls.Server(c, cert.tls)).ReadString('\n')
		said <- line
	}()
	a, _ := newTestAgent(t, testRules(), netip.MustParseAddrPort(ln.Addr().String()).Port())
	r := deliver(t, a, batch("remote.example", "alice"))
	if r[0].Outcome != queue.TempFail {
		t.Errorf("result = %+v", r[0])
	}
	// Nothing was said in clear that a second EHLO would not follow.
	if line := <-said; line != "" && line != "EHLO here.example\r\n" {
		t.Errorf("said %q after the handshake", line)
	}
}

// TestPipelining checks that a host that offers it gets a whole envelope at
// once, and that refusals find their recipients.
func TestPipelining(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	chunks := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "220 x\r\n")
		r := bufio.NewReader(c)
		next(r, false)
		io.WriteString(c, "250-x\r\n250 PIPELINING\r\n")
		var chunk strings.Builder
		for !strings.HasSuffix(chunk.String(), "DATA\r\n") { // nothing is answered before all is there
			line, err := r.ReadString('\n')
			if err != nil {
				break
			}
			chunk.WriteString(line)
		}
		chunks <- chunk.String()
		io.WriteString(c, "250 ok\r\n250 ok\r\n550 5.1.1 no\r\n450 4.2.1 later\r\n354 go\r\n")
		next(r, true)
		io.WriteString(c, "250 2.0.0 queued\r\n")
		next(r, false)
	}()
	a, _ := newTestAgent(t, testRules(), netip.MustParseAddrPort(ln.Addr().String()).Port())
	r := deliver(t, a, batch("remote.example", "a", "b", "c"))
	wantOne(t, r[0:], queue.Delivered, "2.0.0", "queued")
	wantOne(t, r[1:], queue.PermFail, "5.1.1", "no")
	wantOne(t, r[2:], queue.TempFail, "4.2.1", "later")
	want := "MAIL FROM:<bob@example.net>\r\nRCPT TO:<a@remote.example>\r\nRCPT TO:<b@remote.example>\r\nRCPT TO:<c@remote.example>\r\nDATA\r\n"
	if got := <-chunks; got != want {
		t.Errorf("first chunk:\n%swant:\n%s", got, want)
	}
}

// TestPipelinedRefusal checks that a message for nobody is not sent, even to a
// host that asks for it.
func TestPipelinedRefusal(t *testing.T) {
	for name, replies := range map[string]string{
		"sender":                               "550 5.7.1 not you\r\n503 no\r\n503 no\r\n",
		"recipient":                            "250 ok\r\n550 5.7.1 not her\r\n503 no\r\n",
		"sender, but the message is wanted":    "550 5.7.1 not you\r\n503 no\r\n354 go\r\n",
		"recipient, but the message is wanted": "250 ok\r\n550 5.7.1 not her\r\n354 go\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := &peer{script: []string{"220 x\r\n", "250-x\r\n250 PIPELINING\r\n", replies, "", "", "250 reset\r\n"}, limit: -1}
			rs := testRules()
			rs.MTA.Limits.SessionKeepalive = 0 // so that the end comes at once
			a, _ := newTestAgent(t, rs, p.start(t))
			wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.PermFail, "5.7.1", "not ")
			if told := p.all(1)[0]; strings.Contains(told, "Subject") {
				t.Errorf("the message was sent:\n%s", told)
			}
		})
	}
}

// TestStaleSession checks that a session that was closed while it was idle is
// replaced without anyone noticing.
func TestStaleSession(t *testing.T) {
	for name, last := range map[string]string{"closed": "", "closed with a word": "421 4.4.2 idle too long\r\n"} {
		t.Run(name, func(t *testing.T) {
			script := append([]string(nil), goodScript[:6]...)
			script[5] += last
			p := &peer{script: script, limit: -1}
			a, _ := newTestAgent(t, testRules(), p.start(t))
			for i := range 3 {
				wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.Delivered, "2.0.0", "queued")
				p.all(i + 1) // the host has closed
			}
			for _, told := range p.all(3) {
				if !strings.HasPrefix(told, goodDialogue) {
					t.Errorf("said %q", told)
				}
			}
		})
	}
}

// TestLostAfterDot checks that a message is not offered to another host when
// nobody knows whether the first has taken it.
func TestLostAfterDot(t *testing.T) {
	p := &peer{script: goodScript[:5], limit: -1}
	port := p.start(t)
	second := new(remote)
	second.start(t, fmt.Sprintf("127.0.0.2:%d", port), nil)
	a, w := newTestAgent(t, testRules(), port)
	w.mx["remote.example"] = twoMX()
	wantOne(t, deliver(t, a, batch("remote.example", "alice")), queue.TempFail, "4.4.2", "Connection closed unexpectedly")
	if second.conns > 0 {
		t.Error("the message was offered to the backup at once")
	}
}

func TestLMTP(t *testing.T) {
	rs := testRules()
	rs.Actions[0].Relay.Host = 1
	p := &peer{script: []string{
		"220 x\r\n", "250 x\r\n", "250 ok\r\n", "250 a\r\n", "550 5.1.1 b\r\n", "250 c\r\n", "354 go\r\n",
		"250 2.0.0 a stored\r\n452 4.2.2 c is full\r\n", "221 bye\r\n",
	}, limit: -1}
	port := p.start(t)
	a, w := newTestAgent(t, rs, 1)
	w.fetch = []string{fmt.Sprintf("lmtp://[127.0.0.1]:%d", port)}
	r := deliver(t, a, batch("remote.example", "a", "b", "c"))
	wantOne(t, r[0:], queue.Delivered, "2.0.0", "a stored")
	wantOne(t, r[1:], queue.PermFail, "5.1.1", "b")
	wantOne(t, r[2:], queue.TempFail, "4.2.2", "c is full")

	t.Run("lost between the replies", func(t *testing.T) {
		p := &peer{script: []string{"220 x\r\n", "250 x\r\n", "250 ok\r\n", "250 a\r\n", "250 b\r\n", "354 go\r\n", "250 2.0.0 a stored\r\n"}, limit: -1}
		a, w := newTestAgent(t, rs, 1)
		w.fetch = []string{fmt.Sprintf("lmtp://[127.0.0.1]:%d", p.start(t))}
		r := deliver(t, a, batch("remote.example", "a", "b"))
		wantOne(t, r[0:], queue.Delivered, "2.0.0", "a stored")
		wantOne(t, r[1:], queue.TempFail, "4.4.2", "Connection closed unexpectedly")
		if told := p.all(1); len(told) != 1 || !strings.HasPrefix(told[0], "LHLO here.example\r\n") {
			t.Errorf("said %q", told)
		}
	})
	t.Run("no fallback", func(t *testing.T) {
		p := &peer{script: []string{"220 x\r\n", "500 what?\r\n", "250 ok\r\n"}, limit: -1}
		a, w := newTestAgent(t, rs, 1)
		w.fetch = []string{fmt.Sprintf("lmtp://[127.0.0.1]:%d", p.start(t))}
		wantOne(t, deliver(t, a, batch("remote.example", "a")), queue.TempFail, "4.4.1", "Network error")
	})
}
