package smtp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/internal/smtptest"
	"smtpd/runtime/envelope"
)

const hello = `
S: 220 mx.example ESMTP OpenSMTPD
C: EHLO client.example
S: 250
`

const upToData = hello + `
C: MAIL FROM:<a@example.org>
S: 250 2.0.0 Ok
C: RCPT TO:<b@example.com>
S: 250 2.1.5 Destination address valid: Recipient ok
C: DATA
S: 354 Enter mail, end with "." on a line by itself
`

func TestEHLO(t *testing.T) {
	r := newRig(t)
	r.run(`
S: 220 mx.example ESMTP OpenSMTPD
C: EHLO client.example
S: 250-mx.example Hello client.example [127.0.0.1], pleased to meet you
S: 250-8BITMIME
S: 250-ENHANCEDSTATUSCODES
S: 250-PIPELINING
S: 250-SIZE 36700160
S: 250-DSN
S: 250-CHUNKING
S: 250-SMTPUTF8
S: 250-LIMITS MAILMAX=100 RCPTMAX=1000
S: 250 HELP
C: HELO client.example
S: 250 mx.example Hello client.example [127.0.0.1], pleased to meet you
C: EHLO [IPv6:::1]
S: 250
C: QUIT
S: 221 2.0.0 Bye
closed
`)
}

func TestNoDSN(t *testing.T) {
	r := newRig(t, func(_ *rig, l *compile.Listener) { l.NoDSN = true })
	r.run(`
S: 220
C: EHLO client.example
S: 250-mx.example Hello
S: 250-8BITMIME
S: 250-ENHANCEDSTATUSCODES
S: 250-PIPELINING
S: 250-SIZE
S: 250 HELP
C: MAIL FROM:<a@b> RET=FULL
S: 503 5.5.4 Invalid command arguments: Unsupported option RET=FULL
C: MAIL FROM:<a@b> ENVID=x
S: 503 5.5.4 Invalid command arguments: Unsupported option ENVID=x
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<a@b> NOTIFY=NEVER
S: 503 5.5.4 Unsupported option NOTIFY=NEVER
`)
}

// TestCommands holds each command, in and out of order, to the reply that
// OpenSMTPD gives.
func TestCommands(t *testing.T) {
	r := newRig(t)
	r.run(`
S: 220
C: MAIL FROM:<a@b>
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: RCPT TO:<a@b>
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: DATA
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: RSET
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: STARTTLS
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: AUTH PLAIN
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: NOOP anything
S: 250 2.0.0 Ok
C: EHLO
S: 501 5.5.1 Invalid command: EHLO requires domain name
C: HELO
S: 501 5.5.1 Invalid command: HELO requires domain name
C: EHLO a..b
S: 501 5.5.4 Invalid command arguments: Invalid domain name
C: ehlo client.example
S: 250
C: DATA now
S: 500 5.5.4 Invalid command arguments: command does not accept arguments.
C: RSET now
S: 500 5.5.4 Invalid command arguments: command does not accept arguments.
C: QUIT now
S: 500 5.5.4 Invalid command arguments: command does not accept arguments.
C: HELP me
S: 500 5.5.4 Invalid command arguments: command does not accept arguments.
C: HELP
S: 214-2.0.0 This is OpenSMTPD
S: 214 2.0.0 End of HELP info
C: WIZ
S: 500 5.5.1 Invalid command: this feature is not supported yet ;-)
C: VRFY a@b
S: 252 2.5.0
C: VRFY
S: 501 5.5.4 Invalid command arguments: No parameters given
C: EXPN a@b
S: 500 5.5.1 Invalid command: Command unrecognized
c: BDAT 5 LAST\r\nQUIT!
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: STARTTLS
S: 503 5.5.1 Invalid command: Command not supported
C: STARTTLS x
S: 501 5.5.4 Invalid command arguments: No parameters allowed
C: AUTH PLAIN
S: 503 5.5.1 Invalid command: Command not supported
C: RCPT TO:<a@b>
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: MAIL FROM: <a@b>
S: 250 2.0.0 Ok
C: MAIL FROM:<a@b>
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: STARTTLS
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: DATA
S: 503 5.5.4 Invalid command arguments: No recipient specified
C: RCPT TO:<nobody@b>
S: 550 5.1.1 Invalid recipient: <nobody@b>
C: DATA
S: 503 5.5.4 Invalid command arguments: No recipient specified
C: RCPT TO:<later@b>
S: 451 4.3.0 Temporary failure: <later@b>
C: RCPT TO:<broken@b>
S: 451 4.3.0 Temporary failure: <broken@b>
C: rcpt to:<c@d>
S: 250 2.1.5 Destination address valid: Recipient ok
C: RSET
S: 250 2.0.0 Reset state
C: RCPT TO:<c@d>
S: 503 5.5.1 Invalid command: Command not allowed at this point.
C: QUIT
S: 221 2.0.0 Bye
closed
`)
	r.settled()
}

func TestAddressesAndParameters(t *testing.T) {
	r := newRig(t, func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxMessageSize = 1000 })
	r.run(hello + `
C: MAIL FROM:a@b
S: 553 5.1.0 Sender address syntax error
C: MAIL FROM:<a@b> SIZE=1001
S: 552 5.3.4 Message too big for system
C: MAIL FROM:<a@b> SIZE=many
S: 501 5.5.4 Invalid command arguments: bad value of SIZE
C: MAIL FROM:<a@b> BODY=BINARYMIME
S: 503 5.5.4 Invalid command arguments: Unsupported option BODY=BINARYMIME
C: MAIL FROM:<a@b> SMTPUTF8=1
S: 503 5.5.4 Invalid command arguments: Unsupported option SMTPUTF8=1
C: MAIL FROM:<a@b> REQUIRETLS
S: 503 5.5.4 Invalid command arguments: Unsupported option REQUIRETLS
C: MAIL FROM:<a@b> RET=PART
S: 501 5.5.4 Invalid command arguments: bad value of RET
C: MAIL FROM:<a@b> RET=FULL RET=HDRS
S: 501 5.5.4
C: MAIL FROM:<a@b> ENVID=` + strings.Repeat("x", 101) + `
S: 503 5.5.4 Invalid command arguments: option too large, truncated: ENVID=
C: MAIL FROM:<a@b> SIZE=1000 BODY=8bitmime AUTH=<> RET=hdrs ENVID=QQ
S: 250 2.0.0 Ok
C: RCPT TO:<>
S: 501 5.1.3 Recipient address syntax error
C: RCPT TO:<a@b> NOTIFY=NEVER,SUCCESS
S: 553 5.5.4 NOTIFY option NEVER cannot be combined with other options
C: RCPT TO:<a@b> ORCPT=a@b
S: 553 5.5.4 ORCPT address syntax error
C: RCPT TO:<a@b> SIZE=1
S: 503 5.5.4 Unsupported option SIZE=1
C: RCPT TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@d
S: 250
C: RCPT TO:<postmaster>
S: 250
C: RCPT TO:<@relay.example:"quoted one"@b>
S: 250
`)
	var notify []envelope.Notify
	var orcpt, rcpt []string
	for _, q := range r.policy.asked {
		notify, orcpt, rcpt = append(notify, q.Notify), append(orcpt, q.ORcpt), append(rcpt, q.Rcpt.String())
	}
	if d := cmp.Diff([]string{"a@b", "postmaster@mx.example", `"quoted one"@b`}, rcpt); d != "" {
		t.Error(d)
	}
	// Nothing of the first recipient's parameters may reach the second.
	if notify[0] != envelope.NotifySuccess|envelope.NotifyDelay || notify[1] != 0 || orcpt[0] != "rfc822;c@d" || orcpt[1] != "" {
		t.Errorf("NOTIFY %v, ORCPT %q", notify, orcpt)
	}
	if q := r.policy.asked[0]; q.Ret != "HDRS" || q.EnvID != "QQ" || q.Session.RDNS != "client.example" ||
		q.Session.Kind != engine.FromAddress || q.Session.Addr.String() != "127.0.0.1" || q.Session.Auth || q.Session.Helo != "client.example" {
		t.Errorf("asked %+v", q)
	}
}

func TestMessage(t *testing.T) {
	r := newRig(t)
	r.run(upToData + `
C: Subject: test
C:
C: ..stuffed
C: text
C: .
S~ ^250 2\.0\.0 00000001 Message accepted for delivery$
C: MAIL FROM:<>
S: 250
C: RCPT TO:<b@example.com>
S: 250
C: RCPT TO:<c@example.com>
S: 250
C: DATA
S: 354
C: .
S: 250 2.0.0 00000002 Message accepted for delivery
C: QUIT
S: 221
closed
`)
	r.settled()
	all := r.messages()
	want := []string{
		`^Received: from client\.example \(client\.example \[127\.0\.0\.1\]\)
	by mx\.example \(OpenSMTPD\) with ESMTP id 00000001
	for <b@example\.com>;
	\w{3}, \d+ \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4} \(\S+\)
Subject: test

\.stuffed
text
$`,
		`^Received: from client\.example \(client\.example \[127\.0\.0\.1\]\)
	by mx\.example \(OpenSMTPD\) with ESMTP id 00000002;
	\w{3}, .*
$`,
	}
	for i, w := range want {
		if !regexp.MustCompile(w).MatchString(all[i]) {
			t.Errorf("message %d is\n%s", i, all[i])
		}
	}
	for _, line := range []string{
		"smtp connected", "address=127.0.0.1", "host=client.example", "smtp message", "msgid=00000001", "nrcpt=1", "proto=ESMTP",
		"evpid=0000000100000001 from=<a@example.org> to=<b@example.com>", "reason=quit",
	} {
		if !strings.Contains(r.logs.String(), line) {
			t.Errorf("no %q in the log:\n%s", line, r.logs)
		}
	}
}

func TestMaskSource(t *testing.T) {
	r := newRig(t, func(_ *rig, l *compile.Listener) { l.MaskSrc = true })
	r.run(strings.Replace(upToData, "EHLO", "HELO", 1) + `
C: .
S: 250
`)
	if m := r.messages()[0]; !strings.HasPrefix(m, "Received: \n\tby mx.example (OpenSMTPD) with SMTP id 00000001\n\tfor <") {
		t.Error(m)
	}
}

func TestRefusedContent(t *testing.T) {
	r := newRig(t, func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxMessageSize = 5000 })
	const again = `
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<c@d>
S: 250
C: DATA
S: 354
`
	// Each message is refused once, after its end, and the session goes on.
	r.run(upToData + `
C: no header here
C: .
S: 550 5.7.1 Delivery not authorized, message refused: Message is not RFC 2822 compliant
` + again + `
C:  begins with a fold: x
C: .
S: 550 5.7.1
` + again + strings.Repeat("C: Received: x\n", 100) + `
C: .
S: 500 5.4.6 Routing loop detected: Loop detected
` + again + strings.Repeat("C: Received: x\n", 99) + `
C: .
S: 250
` + again + `
C: Subject: bare
C:
c: line feed\nin it\r\n
C: .
S: 554 5.6.0 Message refused: bare CR or LF in it, lines end with CRLF
` + again + `
C: Subject: x
C:
` + strings.Repeat("C: "+strings.Repeat("x", 998)+"\n", 5) + `
C: .
S: 554 5.3.4 Message too big for system: Transaction failed, message too big
` + again + `
C: Subject: x
C:
C: fine
C: .
S: 250
C: QUIT
S: 221
`)
	r.settled()
	if n := len(r.queue.committed); n != 2 {
		t.Errorf("%d messages committed, want 2", n)
	}
}

// TestMessageSize counts as RFC 1870 does: line ends are two bytes, stuffed
// dots none.
func TestMessageSize(t *testing.T) {
	for size, want := range map[int]string{999: "250", 1000: "250", 1001: "554"} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			r := newRig(t, func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxMessageSize = 1000 })
			r.run(upToData + "C: \nC: ..\nC: " + strings.Repeat("x", size-2-3-2) + "\nC: .\nS: " + want + "\nC: NOOP\nS: 250")
		})
	}
}

func TestLineLengths(t *testing.T) {
	for n, want := range map[int]string{2046: "250 2.0.0 Ok", 2047: "250 2.0.0 Ok", 2048: "500 5.0.0 Command line too long\nclosed", 70000: "500 5.0.0 Command line too long\nclosed"} {
		t.Run(fmt.Sprintf("command of %d", n), func(t *testing.T) {
			r := newRig(t)
			r.run(hello + "C: NOOP " + strings.Repeat("x", n-5) + "\nS: " + want)
		})
	}
	for n, want := range map[int]string{65534: "250", 65535: "250", 65536: "500 5.0.0 Line too long\nclosed"} {
		t.Run(fmt.Sprintf("text of %d", n), func(t *testing.T) {
			r := newRig(t)
			r.run(upToData + "C: \nC: " + strings.Repeat("x", n) + "\nC: .\nS: " + want)
			r.settled()
		})
	}
}

func TestMaxMails(t *testing.T) {
	r := newRig(t, func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxMails = 2 })
	const mail = "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\n"
	r.run(hello + mail + mail + "C: MAIL FROM:<a@b>\nS: 452 4.5.3 Too many recipients: Too many messages sent\nC: QUIT\nS: 221")
}

func TestMaxRecipients(t *testing.T) {
	r := newRig(t, func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxRcpt = 2 })
	r.run(hello + `
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<nobody@d>
S: 550
C: RCPT TO:<1@d>
S: 250
C: RCPT TO:<2@d>
S: 250
C: RCPT TO:<3@d>
S: 451 4.5.3 Too many recipients: Too many recipients
C: DATA
S: 354
C: .
S: 250
`)
	if n := len(r.policy.asked); n != 3 {
		t.Errorf("mfa was asked %d times", n)
	}
}

func TestQueueFailures(t *testing.T) {
	t.Run("create", func(t *testing.T) {
		r := newRig(t, func(r *rig, _ *compile.Listener) { r.queue.createErr = errors.New("full") })
		r.run(hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 421 4.3.0 Temporary Error\nclosed")
	})
	t.Run("full", func(t *testing.T) {
		r := newRig(t)
		r.server.full.Store(true)
		r.run(hello + "C: MAIL FROM:<a@b>\nS: 452 4.3.1 Insufficient system storage\nC: QUIT\nS: 221")
		r.server.full.Store(false)
		r.queue.createErr = errors.New("452 4.3.1 insufficient system storage") // it has filled since MAIL
		r.run(hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 452 4.3.1\nC: QUIT\nS: 221")
		r.queue.createErr = nil
		r.run(upToData + "C: .\nS: 250\nC: QUIT\nS: 221")
		r.settled()
	})
	t.Run("write", func(t *testing.T) {
		r := newRig(t, func(r *rig, _ *compile.Listener) { r.queue.writeErr = errors.New("disk") })
		r.run(upToData + "C: .\nS: 421 4.3.0 Temporary Error\nC: NOOP\nS: 250")
		r.settled()
	})
	t.Run("full since RCPT", func(t *testing.T) {
		r := newRig(t, func(r *rig, _ *compile.Listener) {
			r.queue.writeErr = errors.New("452 4.3.1 insufficient system storage")
		})
		r.run(upToData + "C: .\nS: 452 4.3.1\nC: NOOP\nS: 250")
		r.settled()
	})
	t.Run("commit", func(t *testing.T) {
		r := newRig(t, func(r *rig, _ *compile.Listener) { r.queue.commitErr = errors.New("disk") })
		r.run(upToData + "C: .\nS: 421 4.3.0 Temporary failure\nclosed")
		r.settled()
	})
	t.Run("policy hangs up", func(t *testing.T) {
		r := newRig(t)
		r.run(hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<goodbye@d>\nS: 421 Go away: <goodbye@d>\nclosed")
		r.settled()
	})
}

// TestLostClient leaves a session at every point; nothing may stay.
func TestLostClient(t *testing.T) {
	for _, script := range []string{
		"S: 220\ndrop",
		upToData + "drop",
		upToData + "C: Subject: x\ndrop",
		upToData + "C: Subject: x\nc: .\\r\ndrop",
		upToData + "c: bare\\n\ndrop",
	} {
		r := newRig(t)
		r.run(script)
		r.settled()
		if len(r.queue.committed) > 0 {
			t.Errorf("%q: committed", script)
		}
	}
}

func TestPipelining(t *testing.T) {
	r := newRig(t)
	d := r.dial()
	runOn(t, d, hello+`
c: MAIL FROM:<a@b>\r\nRCPT TO:<nobody@d>\r\nRCPT TO:<c@d>\r\nDATA\r\n
S: 250 2.0.0
S: 550
S: 250 2.1.5
S: 354
c: Subject: 1\r\n\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n
S: 250 2.0.0 00000001
S: 250 2.0.0 Ok
S: 250 2.1.5
S: 354
c: Subject: 2\r\n\r\n.\r\nQUIT\r\n
S: 250 2.0.0 00000002
S: 221
closed
`)
	if d := cmp.Diff([]string{"Subject: 1\n\n", "Subject: 2\n\n"}, r.bodies()); d != "" {
		t.Error(d)
	}
}

// TestPipeliningOneWrite checks that the replies to a batch leave in one
// write (RFC 2920, section 3.2).
func TestPipeliningOneWrite(t *testing.T) {
	r := newRig(t)
	ours, theirs := net.Pipe() // each Read returns one Write
	defer theirs.Close()
	at := newEndpoint(r.rules, &r.rules.Listeners[0], nil)
	done := make(chan struct{})
	go func() {
		newSession(t.Context(), r.server, at, ours).run()
		close(done)
	}()
	buf := make([]byte, 4096)
	for _, step := range []struct {
		send string
		want string
	}{
		{"", "220 mx.example ESMTP OpenSMTPD\r\n"},
		{"EHLO client.example\r\n", ""},
		{"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nNOOP\r\nNOO", replyOK + "\r\n" + replyRecipient + "\r\n" + replyOK + "\r\n"},
		{"P\r\nQUIT\r\n", replyOK + "\r\n" + replyBye + "\r\n"},
	} {
		if step.send != "" {
			io.WriteString(theirs, step.send)
		}
		n, err := theirs.Read(buf)
		if got := string(buf[:n]); err != nil || step.want != "" && got != step.want {
			t.Fatalf("after %q: %q, %v", step.send, got, err)
		}
	}
	<-done
}

func TestPipeliningNotAgreed(t *testing.T) {
	r := newRig(t)
	// Before EHLO was answered, and after HELO, nobody may send ahead.
	r.run(`
S: 220
c: EHLO client.example\r\nMAIL FROM:<a@b>\r\n
S: 500 5.5.1 Invalid command: Pipelining not supported
closed
`)
	r.run(strings.Replace(upToData, "EHLO", "HELO", 1) + `
c: Subject: x\r\n\r\n.\r\nMAIL FROM:<a@b>\r\nNOOP\r\n
S: 250 2.0.0 00000001 Message accepted for delivery
S: 500 5.5.1 Invalid command: Pipelining not supported
closed
`)
	r.settled()
	if len(r.queue.committed) != 1 {
		t.Error("the message before was not kept")
	}
}

// TestTextAfterRefusedData checks that text which a client sends without
// waiting for 354 is not taken for commands.
func TestTextAfterRefusedData(t *testing.T) {
	r := newRig(t)
	r.run(hello + `
c: MAIL FROM:<a@b>\r\nRCPT TO:<nobody@d>\r\nDATA\r\nRSET\r\nMAIL FROM:<forged@b>\r\n.\r\n
S: 250
S: 550
S: 503 5.5.4
closed
`)
}

func TestBareLineEndInCommand(t *testing.T) {
	r := newRig(t)
	r.run(hello + `
c: MAIL FROM:<a@b>\n
S: 500 5.5.2 Syntax error: a command ends with CRLF
c: NOOP\rNOOP\r\n
S: 500 5.5.1 Invalid command: Command unrecognized
C: NOOP
S: 250
`)
}

// TestSmuggling sends every other line end around the dot, and a command
// behind it, cut in two at every byte. Nothing behind may be taken for a
// command, no message may be accepted, and the client is told why.
func TestSmuggling(t *testing.T) {
	r := newRig(t)
	ends := []string{"\r\n", "\n", "\r", "\r\r\n", "\n\r", "\x00\r\n"}
	for _, before := range ends {
		for _, after := range ends {
			if before == "\r\n" && after == "\r\n" || strings.Contains(before+after, "\x00") {
				continue
			}
			text := "Subject: x\r\n\r\ntext" + before + "." + after + "MAIL FROM:<forged@example.org>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nSubject: forged\r\n\r\n.\r\n"
			for cut := range len(text) {
				if cut%7 != 0 && (cut < 18 || cut > 30) {
					continue // every byte around the dot, some others
				}
				d := r.dial()
				runOn(t, d, upToData)
				io.WriteString(d.Conn, text[:cut])
				io.WriteString(d.Conn, text[cut:])
				if err := d.Run("S: 554 5.6.0"); err != nil {
					t.Fatalf("%q . %q cut at %d: %v", before, after, cut, err)
				}
				d.Conn.Close()
			}
		}
	}
	r.settled()
	if len(r.queue.committed) > 0 {
		t.Errorf("accepted %q", r.bodies())
	}
	for _, q := range r.policy.asked {
		if q.Sender.User != "a" || q.Rcpt.User != "b" {
			t.Errorf("smuggled %v to %v", q.Sender, q.Rcpt)
		}
	}
}

// TestSmugglingChunks is TestSmuggling with BDAT: the text is cut into two
// chunks at every byte. What is in a chunk is text; a bare CR or LF in it loses
// the message, and a dot between true line ends is one.
func TestSmugglingChunks(t *testing.T) {
	r := newRig(t, func(r *rig, _ *compile.Listener) {
		const many = 100000
		r.rules.SMTP.MaxErrors, r.rules.SMTP.MaxCommands, r.rules.SMTP.MaxMails = many, many, many
	})
	d := r.dial()
	runOn(t, d, hello)
	accepted := 0
	ends := []string{"\r\n", "\n", "\r", "\r\r\n", "\n\r"}
	for _, before := range ends {
		for _, after := range ends {
			text := "\r\ntext" + before + "." + after + "MAIL FROM:<forged@b>\r\nRCPT TO:<victim@b>\r\n.\r\n"
			clean := before == "\r\n" && after == "\r\n"
			for cut := range len(text) + 1 {
				io.WriteString(d.Conn, fmt.Sprintf("MAIL FROM:<a@b>\r\nRCPT TO:<b@b>\r\nBDAT %d\r\n%sBDAT %d LAST\r\n%sRSET\r\n", cut, text[:cut], len(text)-cut, text[cut:]))
				want := "S: 250\nS: 250\nS~ ^(250 2.0.0 \\d+ octets|554 5.6.0 )\nS~ ^(503 5.5.1 |554 5.6.0 )\nS: 250 2.0.0 Reset"
				if clean {
					want = "S: 250\nS: 250\nS: 250\nS~ ^250 2.0.0 [0-9a-f]{8} Message accepted\nS: 250 2.0.0 Reset"
					accepted++
				}
				if err := d.Run(want); err != nil {
					t.Fatalf("%q . %q cut at %d: %v", before, after, cut, err)
				}
			}
		}
	}
	r.settled()
	if n := len(r.queue.committed); n != accepted {
		t.Errorf("%d messages, want %d", n, accepted)
	}
	for _, m := range r.bodies() {
		if m != "\ntext\n.\nMAIL FROM:<forged@b>\nRCPT TO:<victim@b>\n.\n" {
			t.Errorf("stored %q", m)
		}
	}
	for _, q := range r.policy.asked {
		if q.Sender.User != "a" || q.Rcpt.User != "b" {
			t.Errorf("smuggled %v to %v", q.Sender, q.Rcpt)
		}
	}
}

// TestReplyLength holds replies that repeat what the client said to the length
// that it need read (RFC 5321, section 4.5.3.1.5).
func TestReplyLength(t *testing.T) {
	r := newRig(t)
	long := strings.Repeat("x", 250)
	r.run(hello + "C: MAIL FROM:<a@b> X=" + strings.Repeat("x", 2000) + `
S~ ^503 5\.5\.4 .{500}$
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<nobody@` + long[:60] + "." + long[:60] + "." + long[:60] + "." + long[:60] + `>
S~ ^550 .{10,506}$
`)
}

// TestSmugglingCloses has the dialogue of an attack by eye.
func TestSmugglingCloses(t *testing.T) {
	r := newRig(t)
	r.run(upToData + `
C: text\n.\nMAIL FROM:<forged@example.org>
S: 554
closed
`)
}

// TestTimeout has clients that say nothing, or too little.
func TestTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for _, script := range []string{
			"S: 220\nclosed",
			"S: 220\nc: EHL\nclosed",
			upToData + "closed",
			upToData + "C: Subject: x\nclosed",
		} {
			began := time.Now()
			r.run(script)
			if d := time.Since(began); d != defaultTimeout {
				t.Errorf("%q: closed after %v, want %v", script, d, defaultTimeout)
			}
		}
		r.settled()
		if n := strings.Count(r.logs.String(), "reason=timeout"); n != 4 {
			t.Errorf("%d sessions ended by timeout:\n%s", n, r.logs)
		}
	})
}

// TestSlowClient sends a byte now and then, never pausing for the timeout: it
// has one timeout for a command, and a second for every so many bytes of it.
func TestSlowClient(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		d := r.dial()
		runOn(t, d, "S: 220")
		began, sent := time.Now(), 0
		for ; ; sent++ {
			if _, err := d.Conn.Write([]byte("x")); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		least, most := defaultTimeout, defaultTimeout+time.Duration(sent/minRate+2)*time.Second
		if d := time.Since(began); d < least || d > most {
			t.Errorf("the session lived for %v, want %v to %v", d, least, most)
		}
	})
}

func TestShutdown(t *testing.T) {
	r := newRig(t, func(r *rig, _ *compile.Listener) {
		r.queue.inCommit, r.queue.leaveCommit = make(chan struct{}), make(chan struct{})
	})
	idle, busy := r.dial(), r.dial()
	runOn(t, idle, hello)
	runOn(t, busy, upToData+"C: .")
	<-r.queue.inCommit
	stopped := make(chan struct{})
	go func() {
		r.stop()
		close(stopped)
	}()
	// One that is idle is told at once; a message whose end has been read is
	// kept and acknowledged first.
	runOn(t, idle, "S: 421 4.3.2 Service shutting down\nclosed")
	close(r.queue.leaveCommit)
	runOn(t, busy, "S: 250 2.0.0 00000001\nS: 421 4.3.2\nclosed")
	<-stopped
}

func TestSessionLimit(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		first, second := r.dial(), r.dial()
		runOn(t, first, hello)
		heard := make(chan error)
		go func() { heard <- second.Run(hello) }() // it waits in the kernel
		synctest.Wait()
		select {
		case err := <-heard:
			t.Fatalf("a session beyond the limit was greeted: %v", err)
		default:
		}
		runOn(t, first, "C: QUIT\nS: 221\nclosed")
		if err := <-heard; err != nil {
			t.Error(err)
		}
	}, func(r *rig, _ *compile.Listener) { r.server.slots = make(chan struct{}, 1) })
}

func TestLocalSession(t *testing.T) {
	r := newRig(t)
	f, err := r.server.local(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	runOn(t, &smtptest.Dialogue{Conn: conn}, `
S: 220 mx.example
C: EHLO localhost
S: 250-mx.example Hello localhost [local], pleased to meet you
S: 250
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<c@d>
S: 250
C: DATA
S: 354
C: From: alice
C: To: "Bob, the one" <bob>, carol@example.org
C: Bcc: secret@example.org,
C:   hidden@example.org
C:
C: text
C: .
S: 250
C: QUIT
S: 221
closed
`)
	m := r.messages()[0]
	want := regexp.MustCompile(`^Received: from localhost \(mx\.example \[local\]\)
	by mx\.example \(OpenSMTPD\) with ESMTPA id 00000001
	for <c@d>;
	.*
From: alice@mx\.example
To: "Bob, the one" <bob@mx\.example>, carol@example\.org
Date: .*
Message-ID: <[0-9a-f]{16}@mx\.example>

text
$`)
	if !want.MatchString(m) {
		t.Errorf("stored\n%s", m)
	}
	if q := r.policy.asked[0].Session; q.Kind != engine.FromSocket || !q.Auth || q.Addr.IsValid() {
		t.Errorf("asked for %+v", q)
	}
}

// TestTransitUnchanged checks that mail which is not submitted here keeps
// every byte: a signature may cover it.
func TestTransitUnchanged(t *testing.T) {
	r := newRig(t)
	const text = "From: alice\r\nBcc: bob\r\nTo: x\r\n\r\ntext\r\n"
	r.run(upToData + "c: " + strings.ReplaceAll(strings.ReplaceAll(text, "\r", `\r`), "\n", `\n`) + "\nC: .\nS: 250")
	if got := r.bodies()[0]; got != strings.ReplaceAll(text, "\r", "") {
		t.Errorf("stored %q", got)
	}
}

func TestDeadResolver(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		began := time.Now()
		r.run("S: 220\nC: QUIT\nS: 221")
		if d := time.Since(began); d != greetingPatience {
			t.Errorf("the greeting took %v, want %v", d, greetingPatience)
		}
		time.Sleep(lookupPatience) // after which the question is given up
	}, func(r *rig, _ *compile.Listener) { r.server.names = fakeNames{hang: true} })
}

func TestHostnames(t *testing.T) {
	r := newRig(t, func(_ *rig, l *compile.Listener) { l.Hostnames = 1 })
	r.run("S: 220 reached.example ESMTP")
}

// TestLocalLimit has one user open as many sessions as there may be, and
// another come after.
func TestLocalLimit(t *testing.T) {
	r := newRig(t)
	before := counted(t, limits, string(limitLocalSessions))
	for i := range maxLocal + 1 {
		f, err := r.server.local(t.Context(), 1000)
		if (err == nil) != (i < maxLocal) {
			t.Fatalf("session %d: %v", i+1, err)
		}
		if err == nil {
			defer f.Close()
		}
	}
	if got := counted(t, limits, string(limitLocalSessions)) - before; got != 1 {
		t.Errorf("counted %v times", got)
	}
	f, err := r.server.local(t.Context(), 1001)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}
