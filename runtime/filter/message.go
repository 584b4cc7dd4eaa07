package filter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// maxHeld bounds what a program has sent of one message and nobody has taken
// yet.
const maxHeld = 256 << 20

var errHeld = errors.New("the filter sends more than anyone takes")

// A Message is the lines of one message on their way through a program. Lines
// are dot-stuffed as on the wire; the last is a single dot.
type Message struct {
	in      *instance
	session uint64
	token   uint64

	mu    sync.Mutex
	lines []string
	held  int
	err   error
	some  chan struct{} // capacity 1: there is something to take
}

// Message begins to send the message of a session.
func (p *Program) Message(session uint64) (*Message, error) {
	in, err := p.current()
	if err != nil {
		return nil, err
	}
	m := &Message{in: in, session: session, token: in.tokens[DataLine], some: make(chan struct{}, 1)}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.dead:
		err = ErrDown
	case in.known[session] == 0:
		err = ErrStranger
	case !in.registered.Filters(DataLine):
		err = fmt.Errorf("no %s: %w", DataLine, ErrProtocol)
	case in.messages[session] != nil:
		err = errors.New("a message of the session is under way")
	default:
		in.messages[session] = m
		return m, nil
	}
	return nil, fmt.Errorf("filter %s: %w", p.c.Name, err)
}

// Send gives the program lines, without their ends.
func (m *Message) Send(lines ...string) error {
	var b []byte
	now := time.Now()
	for _, line := range lines {
		b = appendRequest(b, now, DataLine, m.session, m.token, line)
	}
	return m.in.send(b)
}

// Next returns the lines that the program has sent, at least one; io.EOF
// after the last, which is a dot and is returned too.
func (m *Message) Next(ctx context.Context) ([]string, error) {
	for {
		m.mu.Lock()
		lines, err := m.lines, m.err
		m.lines, m.held = nil, 0
		m.mu.Unlock()
		if len(lines) > 0 {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-m.some:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// lineCost is what a line takes besides its bytes.
const lineCost = 16

// Close ends it: what the program still sends is not for anyone.
func (m *Message) Close() {
	m.in.mu.Lock()
	defer m.in.mu.Unlock()
	if m.in.messages[m.session] == m {
		delete(m.in.messages, m.session)
	}
}

// add is called with instance.mu held.
func (m *Message) add(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.wake()
	if m.err != nil {
		return
	}
	if m.held += len(line) + lineCost; m.held > maxHeld {
		m.lines, m.err = nil, errHeld
		return
	}
	m.lines = append(m.lines, line)
	if line == "." {
		m.err = io.EOF
		// The session may begin the next one before anyone closes this.
		delete(m.in.messages, m.session)
	}
}

func (m *Message) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.wake()
	if m.err == nil {
		m.err = err
	}
}

func (m *Message) wake() {
	select {
	case m.some <- struct{}{}:
	default:
	}
}
