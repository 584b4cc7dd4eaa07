// Package smtptest holds dialogues with mail servers, written the way RFCs
// write them, so that anyone can check one by eye:
//
//	S: 220
//	C: EHLO client.example
//	S: 250-mx.example.org Hello
//	S: 250
//	C: QUIT
//	S: 221 2.0.0
//	closed
//
// Tests of runtime/smtp and the scripts of cmd/smtpd run them. Nothing here
// knows the server.
package smtptest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Dialogue is the client's side of a connection and how to run it.
type Dialogue struct {
	Conn    net.Conn
	TLS     *tls.Config   // for the line "tls"; nil accepts any certificate
	Timeout time.Duration // for each reply; 0 is 10 s
	Reply   string        // the last line that the server sent

	in    *bufio.Reader
	lines []string // of the last reply
}

// ErrNotOffered says that a server does not offer what a dialogue is about.
var ErrNotOffered = errors.New("not offered")

// Run runs a script, line by line:
//
//	C: text       send text and CRLF
//	c: text       send text alone
//	S: text       read a reply; its last line begins with text
//	S: NNN-text   read one line of a reply of several lines
//	S~ regexp     read a reply; its last line matches
//	offers WORD   the last reply, to EHLO, offers an extension; if not the
//	              error is ErrNotOffered
//	tls           shake hands
//	drop          close the connection
//	quit          send QUIT; the server says 221 next, or has closed
//	closed        the server has closed the connection
//	# text        a remark
//
// In what is sent, \r, \n, \t, \\ and \xHH stand for bytes. The error names
// the line of the script.
func (d *Dialogue) Run(script string) error {
	if d.in == nil {
		d.in = bufio.NewReader(d.Conn)
	}
	for i, line := range strings.Split(script, "\n") {
		if err := d.step(strings.TrimSuffix(line, "\r")); err != nil {
			return fmt.Errorf("line %d, %q: %w", i+1, line, err)
		}
	}
	return nil
}

func (d *Dialogue) step(line string) error {
	timeout := d.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	d.Conn.SetDeadline(time.Now().Add(timeout))
	word, text, _ := strings.Cut(strings.TrimLeft(line, " \t"), " ")
	switch word {
	case "":
		return nil
	case "C:":
		return d.send(text + `\r\n`)
	case "c:":
		return d.send(text)
	case "S:":
		return d.expect(text)
	case "S~":
		return d.match(text)
	case "offers":
		return d.offers(text)
	case "tls":
		return d.handshake()
	case "drop":
		return d.Conn.Close()
	case "quit":
		return d.quit()
	case "closed":
		return d.closed()
	}
	if strings.HasPrefix(word, "#") {
		return nil
	}
	return errors.New("no such step")
}

func (d *Dialogue) send(text string) error {
	b, err := Unescape(text)
	if err == nil {
		_, err = io.WriteString(d.Conn, b)
	}
	return err
}

// Unescape returns text with \r, \n, \t, \\ and \xHH replaced.
func Unescape(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			continue
		}
		i++
		switch rest := text[i:]; {
		case strings.HasPrefix(rest, "r"):
			b.WriteByte('\r')
		case strings.HasPrefix(rest, "n"):
			b.WriteByte('\n')
		case strings.HasPrefix(rest, "t"):
			b.WriteByte('\t')
		case strings.HasPrefix(rest, `\`):
			b.WriteByte('\\')
		case strings.HasPrefix(rest, "x") && len(rest) >= 3:
			n, err := strconv.ParseUint(rest[1:3], 16, 8)
			if err != nil {
				return "", err
			}
			b.WriteByte(byte(n))
			i += 2
		default:
			return "", fmt.Errorf("bad escape in %q", text)
		}
	}
	return b.String(), nil
}

// readLine reads one line of a reply, which must end in CRLF.
func (d *Dialogue) readLine() (string, error) {
	line, err := d.in.ReadString('\n')
	if err != nil {
		return line, fmt.Errorf("after %q: %w", line, err)
	}
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok || len(line) < 3 {
		return line, fmt.Errorf("no line of a reply: %q", line)
	}
	d.Reply = line
	return line, nil
}

// readReply reads a reply to its last line.
func (d *Dialogue) readReply() (string, error) {
	d.lines = d.lines[:0]
	for {
		line, err := d.readLine()
		d.lines = append(d.lines, line)
		if err != nil || len(line) == 3 || line[3] != '-' {
			return line, err
		}
	}
}

func (d *Dialogue) expect(text string) error {
	read := d.readReply
	if len(text) > 3 && text[3] == '-' {
		read = d.readLine
	}
	got, err := read()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(got, text) {
		return fmt.Errorf("server said %q", got)
	}
	return nil
}

func (d *Dialogue) match(pattern string) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	got, err := d.readReply()
	if err == nil && !re.MatchString(got) {
		err = fmt.Errorf("server said %q", got)
	}
	return err
}

func (d *Dialogue) handshake() error {
	config := d.TLS
	if config == nil {
		config = &tls.Config{InsecureSkipVerify: true}
	}
	if d.in.Buffered() > 0 {
		return errors.New("the server sent more before TLS")
	}
	t := tls.Client(d.Conn, config)
	if err := t.Handshake(); err != nil {
		return err
	}
	d.Conn = t
	d.in.Reset(t)
	return nil
}

// quit ends a session that the server may have ended itself.
func (d *Dialogue) quit() error {
	io.WriteString(d.Conn, "QUIT\r\n")
	if line, err := d.readLine(); err == nil && !strings.HasPrefix(line, "221") {
		return fmt.Errorf("server said %q", line)
	}
	return nil
}

func (d *Dialogue) closed() error {
	line, err := d.in.ReadString('\n')
	switch {
	case line != "":
		return fmt.Errorf("server said %q", line)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrClosedPipe):
		return nil
	}
	return err
}

// offers looks for an extension in the reply to EHLO.
func (d *Dialogue) offers(word string) error {
	for _, line := range d.lines[min(1, len(d.lines)):] {
		if name, _, _ := strings.Cut(line[min(4, len(line)):], " "); strings.EqualFold(name, word) {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", word, ErrNotOffered)
}
