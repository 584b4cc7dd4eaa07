package smtp

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"smtpd/compile"
	"smtpd/runtime/mfa"
)

// upToBody ends where DATA or BDAT may come.
const upToBody = hello + `
C: MAIL FROM:<a@example.org>
S: 250 2.0.0 Ok
C: RCPT TO:<b@example.com>
S: 250 2.1.5 Destination address valid: Recipient ok
`

func TestChunks(t *testing.T) {
	r := newRig(t)
	r.run(upToBody + `
c: BDAT 14\r\nSubject: one\r\n
S: 250 2.0.0 14 octets received
c: BDAT 7\r\n\r\n.\r\nMA
S: 250 2.0.0 7 octets received
C: NOOP
S: 250
C: BDAT 0
S: 250 2.0.0 0 octets received
c: BDAT 22 LAST\r\nIL FROM:<x@y>\r\n.\r\n.x\r\n
S: 250 2.0.0 00000001 Message accepted for delivery
C: MAIL FROM:<a@example.org>
S: 250
C: RCPT TO:<b@example.com>
S: 250
c: BDAT 3 LAST\r\n\r\nx
S: 250 2.0.0 00000002 Message accepted for delivery
C: MAIL FROM:<a@example.org>
S: 250
C: RCPT TO:<b@example.com>
S: 250
C: BDAT 0 LAST
S: 250 2.0.0 00000003
C: QUIT
S: 221
closed
`)
	r.settled()
	want := []string{"Subject: one\n\n.\nMAIL FROM:<x@y>\n.\n.x\n", "\nx\n", ""}
	if d := cmp.Diff(want, r.bodies()); d != "" {
		t.Error(d)
	}
}

// TestChunksPipelined sends all of two messages without waiting, in one write
// and byte by byte.
func TestChunksPipelined(t *testing.T) {
	const mail = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 12\r\nSubject: x\r\nBDAT 8 LAST\r\n\r\nQUIT\r\n"
	r := newRig(t)
	for _, write := range []func(io.Writer){
		func(w io.Writer) { io.WriteString(w, mail+mail) },
		func(w io.Writer) {
			for _, c := range []byte(mail + mail) {
				w.Write([]byte{c})
			}
		},
	} {
		d := r.dial()
		runOn(t, d, hello)
		write(d.Conn)
		const replies = "S: 250 2.0.0 Ok\nS: 250 2.1.5\nS: 250 2.0.0 12 octets\nS: 250 2.0.0 0000000"
		runOn(t, d, replies+"\n"+replies+"\nC: QUIT\nS: 221\nclosed")
	}
	for _, m := range r.bodies() {
		if m != "Subject: x\n\nQUIT\n" {
			t.Errorf("got %q", m)
		}
	}
	if n := len(r.bodies()); n != 4 {
		t.Errorf("%d messages", n)
	}
}

// TestChunksOutOfOrder checks that the bytes of a chunk are never commands, in
// whatever order it comes, and that what is begun in chunks ends in chunks.
func TestChunksOutOfOrder(t *testing.T) {
	r := newRig(t)
	r.run(`
S: 220
C: BDAT 0
S: 503 5.5.1
C: EHLO client.example
S: 250
c: BDAT 6\r\nQUIT\r\nNOOP\r\n
S: 503 5.5.1
S: 250
C: MAIL FROM:<a@b>
S: 250
c: BDAT 6 LAST\r\nQUIT\r\n
S: 503 5.5.4 Invalid command arguments: No recipient specified
C: RCPT TO:<c@d>
S: 250
c: BDAT 6\r\n\r\nxx\r\n
S: 250
C: DATA
S: 503 5.5.1
C: RCPT TO:<e@f>
S: 503 5.5.1
C: MAIL FROM:<e@f>
S: 503 5.5.1
C: STARTTLS
S: 503 5.5.1
C: RSET
S: 250
c: BDAT 6 LAST\r\nQUIT\r\n
S: 503 5.5.1
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<c@d>
S: 250
c: BDAT 2\r\n\r\n
S: 250
C: EHLO client.example
S: 250
C: BDAT 0 LAST
S: 503 5.5.1
C: BDAT many
S: 501 5.5.4
closed
`)
	r.settled()
	if len(r.queue.committed) > 0 {
		t.Errorf("accepted %q", r.bodies())
	}
}

// TestChunksRefused checks that one bad chunk loses the message, and that what
// was sent ahead of the answer neither revives it nor becomes commands.
func TestChunksRefused(t *testing.T) {
	const rest = `c: BDAT 6 LAST\r\nQUIT\r\n` + "\n"
	for name, c := range map[string]struct{ send, want string }{
		"bare LF":    {`c: BDAT 5\r\n\r\nx\ny` + "\n", "S: 554 5.6.0"},
		"bare CR":    {`c: BDAT 5\r\n\r\nx\ry` + "\n", "S: 554 5.6.0"},
		"too big":    {`c: BDAT 101\r\n` + strings.Repeat("x", 101) + "\n", "S: 554 5.3.4"},
		"malformed":  {`c: BDAT 16\r\nno header here\r\n` + "\n", "S: 550 5.7.1"},
		"CR at last": {`c: BDAT 4 LAST\r\n\r\nx\r` + "\n", "S: 554 5.6.0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxMessageSize = 100 })
			r.run(upToBody + c.send + rest + c.want + "\nS: 503 5.5.1\nC: NOOP\nS: 250\nC: QUIT\nS: 221\nclosed")
			r.settled()
			if len(r.queue.committed) > 0 {
				t.Error("accepted")
			}
		})
	}
}

// TestChunksFilter checks that filters of the phases data and commit judge
// chunks as well.
func TestChunksFilter(t *testing.T) {
	for _, at := range []string{"data", "commit"} {
		r := newRig(t, filtered(map[string]mfa.PhaseVerdict{at: {Do: compile.Reject, Text: "550 no"}}, at))
		r.run(upToBody + `
c: BDAT 2 LAST\r\n\r\n
S: 550 no
c: BDAT 6 LAST\r\nQUIT\r\n
S: 503 5.5.1
C: MAIL FROM:<a@b>
S: 250
`)
		r.settled()
		if len(r.queue.committed) > 0 {
			t.Errorf("%s: accepted", at)
		}
	}
}

// TestChunksNotAgreed checks that HELO, which offers nothing, gets nothing.
func TestChunksNotAgreed(t *testing.T) {
	r := newRig(t)
	r.run(`
S: 220
C: HELO client.example
S: 250
C: MAIL FROM:<a@b>
S: 250
C: RCPT TO:<c@d>
S: 250
C: BDAT 0 LAST
S: 503 5.5.1
`)
	r.settled()
}

// TestChunksLost leaves a session in the middle of chunks and between them.
func TestChunksLost(t *testing.T) {
	for _, end := range []string{
		`c: BDAT 10\r\n\r\nx` + "\ndrop",
		`c: BDAT 3\r\n\r\nx` + "\nS: 250\ndrop",
		`c: BDAT 3 LAST\r\n\r\n` + "\ndrop",
		`c: BDAT 3\r\n\r\nx` + "\nS: 250\nC: QUIT\nS: 221\nclosed",
	} {
		r := newRig(t)
		r.run(upToBody + end)
		r.settled()
		if len(r.queue.committed) > 0 {
			t.Errorf("%q: accepted", end)
		}
	}
}

// TestManyChunks sends more chunks than commands are allowed; only small ones
// count as such.
func TestManyChunks(t *testing.T) {
	for size, want := range map[int]string{fairChunk: "S: 250 2.0.0 00000001", fairChunk - 1: "S: 421 4.7.0 Too many errors"} {
		r := newRig(t, func(r *rig, _ *compile.Listener) { r.rules.SMTP.MaxCommands, r.rules.SMTP.MaxRcpt = 4, 1 })
		d := r.dial()
		runOn(t, d, upToBody)
		chunk := "\r\n" + strings.Repeat("x", size-2)
		for range 3 {
			runOn(t, d, fmt.Sprintf(`c: BDAT %d\r\n%s`, size, strings.ReplaceAll(chunk, "\r\n", `\r\n`))+"\nS: 250")
		}
		for range 7 { // all of them at once
			if _, err := io.WriteString(d.Conn, fmt.Sprintf("BDAT %d\r\n%s", size, chunk)); err != nil {
				break // it has closed
			}
		}
		if size == fairChunk {
			runOn(t, d, strings.Repeat("S: 250\n", 7)+"C: BDAT 0 LAST")
		}
		runOn(t, d, want)
	}
}

// TestSlowChunks sends chunks of a byte, each in time: together they are too
// slow.
func TestSlowChunks(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		d := r.dial()
		runOn(t, d, upToBody)
		began := time.Now()
		for d.Run(fmt.Sprintf(`c: BDAT 1\r\n%s`, "x")+"\nS: 250") == nil {
			time.Sleep(time.Minute)
		}
		if d := time.Since(began); d > defaultTimeout+2*time.Minute {
			t.Errorf("the message took %v", d)
		}
		r.settled()
	})
}
