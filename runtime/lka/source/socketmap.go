package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"smtpd/compile/engine"
	"smtpd/compile/tableconf"
	"smtpd/runtime/lka/backend"
)

// maxReply bounds a reply of a socketmap, as Postfix does.
const maxReply = 100000

// errMap is for what no server of maps says.
var errMap = errors.New("not of the socketmap protocol")

// A socketmap is a Source whose server is asked for keys of maps. It speaks
// the protocol of Sendmail and Postfix, in which requests and replies are
// netstrings, or that of table-socketmap, in which they are lines.
type socketmap struct {
	network, address string
	name             string // of the map
	lines            bool
	pool             *pool[*mapConn]
}

type mapConn struct {
	net.Conn
	in *bufio.Reader
}

// newSocketmap returns the map that f describes or, without one, that of the
// server at a socket, which has lines as table-socketmap has.
func newSocketmap(table string, f *tableconf.File, socket string) *socketmap {
	m := &socketmap{network: "unix", address: socket, name: table, lines: true}
	connections := backend.Standard.Connections
	if f != nil {
		m.network, m.address, _ = strings.Cut(f.Value("server"), ":")
		if m.network == "inet" {
			m.network = "tcp"
		}
		if name := f.Value("map"); name != "" {
			m.name = name
		}
		m.lines = f.Value("protocol") == "line"
		connections = backend.LimitsOf(f).Connections
	}
	m.pool = newPool(connections, m.dial, func(c *mapConn) { c.Close() })
	return m
}

func (m *socketmap) dial(ctx context.Context) (*mapConn, error) {
	c, err := new(net.Dialer).DialContext(ctx, m.network, m.address)
	if err != nil {
		return nil, err
	}
	return &mapConn{c, bufio.NewReader(c)}, nil
}

// Lookup asks for a key. Every service is answered as the map has it, but auth:
// a map does not know that it was to judge a password.
func (m *socketmap) Lookup(ctx context.Context, s engine.Service, key string) (value string, ok bool, err error) {
	if s == engine.Auth {
		return "", false, backend.ErrService
	}
	if strings.ContainsAny(key, "\r\n\x00") {
		return "", false, errors.New("key holds a line end")
	}
	var reply string
	err = m.pool.use(ctx, func(c *mapConn) (keep bool, err error) {
		deadline, _ := ctx.Deadline()
		c.SetDeadline(deadline)
		reply, err = m.exchange(c, key)
		return err == nil, err
	})
	if err != nil {
		return "", false, err
	}
	value, ok, err = parseReply(reply)
	if err != nil || !ok {
		return "", false, err
	}
	return join(engine.String, [][]string{{value}})
}

func (m *socketmap) exchange(c *mapConn, key string) (string, error) {
	request := m.name + " " + key
	if m.lines {
		if _, err := io.WriteString(c, request+"\n"); err != nil {
			return "", err
		}
		return readMapLine(c.in)
	}
	if _, err := fmt.Fprintf(c, "%d:%s,", len(request), request); err != nil {
		return "", err
	}
	return readNetstring(c.in)
}

func readMapLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case len(line) > maxReply:
			return "", errTooMuch
		case err == nil:
			return strings.TrimRight(string(line), "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
	}
}

// readNetstring reads a text after its length and a colon, with a comma after
// it.
func readNetstring(r *bufio.Reader) (string, error) {
	var digits []byte
	for {
		c, err := r.ReadByte()
		switch {
		case err != nil:
			return "", err
		case c == ':' && len(digits) > 0:
			n, err := strconv.Atoi(string(digits))
			if err != nil || n > maxReply {
				return "", errTooMuch
			}
			text := make([]byte, n+1)
			if _, err := io.ReadFull(r, text); err != nil {
				return "", err
			}
			if text[n] != ',' {
				return "", errMap
			}
			return string(text[:n]), nil
		case c < '0' || c > '9' || len(digits) > 6:
			return "", errMap
		}
		digits = append(digits, c)
	}
}

// parseReply takes a reply apart: a word, and a value or a reason.
func parseReply(reply string) (value string, ok bool, err error) {
	word, rest, _ := strings.Cut(reply, " ")
	switch strings.ToUpper(word) {
	case "OK":
		return rest, true, nil
	case "NOTFOUND":
		return "", false, nil
	case "TEMP", "TIMEOUT", "PERM":
		return "", false, fmt.Errorf("the server says %.200q", reply)
	}
	return "", false, fmt.Errorf("reply %.200q: %w", reply, errMap)
}

// Check reports whether the map has a key, whatever its value.
func (m *socketmap) Check(ctx context.Context, s engine.Service, key string) (bool, error) {
	_, ok, err := m.Lookup(ctx, s, key)
	if errors.Is(err, errEmpty) {
		return true, nil
	}
	return ok, err
}

func (m *socketmap) Update(ctx context.Context) error {
	m.pool.drop()
	return m.pool.use(ctx, func(*mapConn) (bool, error) { return true, nil })
}

func (m *socketmap) Close() { m.pool.drop() }
