package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"
)

// A client is one SMTP session.
type client struct {
	c net.Conn
	r *bufio.Reader
}

// dial connects, greets and, if asked, starts TLS.
func (t *target) dial() (*client, error) {
	c, err := net.DialTimeout("tcp", t.Addr, dialTimeout)
	if err != nil {
		return nil, err
	}
	k := &client{c, bufio.NewReaderSize(c, 16<<10)}
	if err := k.hello(t.TLS); err != nil {
		c.Close()
		return nil, err
	}
	return k, nil
}

func (k *client) hello(secure bool) error {
	if err := k.expect(220); err != nil {
		return err
	}
	if err := k.command("EHLO client.test", 250); err != nil || !secure {
		return err
	}
	if err := k.command("STARTTLS", 220); err != nil {
		return err
	}
	// The load goes to a server under test with a certificate of its own.
	k.c = tls.Client(k.c, &tls.Config{InsecureSkipVerify: true})
	k.r = bufio.NewReaderSize(k.c, 16<<10)
	return k.command("EHLO client.test", 250)
}

func (k *client) write(s string) error {
	k.c.SetDeadline(time.Now().Add(dialTimeout))
	_, err := k.c.Write([]byte(s))
	return err
}

func (k *client) command(line string, want int) error {
	if err := k.write(line + "\r\n"); err != nil {
		return err
	}
	return k.expect(want)
}

// A replyError is a reply with another code than was wanted: the server is
// alive and said no.
type replyError struct{ line string }

func (e *replyError) Error() string { return "server said " + e.line }

// expect reads one reply and compares its code.
func (k *client) expect(want int) error {
	for {
		line, err := k.r.ReadString('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 {
			return fmt.Errorf("short reply %q", line)
		}
		if line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, fmt.Sprint(want)) {
			return &replyError{strings.TrimSpace(line)}
		}
		return nil
	}
}
