package backend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"smtpd/compile/engine"
)

// Times and sizes of a program.
const (
	answerTime   = 10 * time.Second // for the handshake, and for each answer
	maxLine      = 64 << 10         // bytes of an answer
	firstPause   = time.Second
	longestPause = time.Minute
	version      = "7.8.0-portable" // what programs of protocol 0.1 were written against
)

// Errors of a program.
var (
	ErrDown     = errors.New("the program is down and will be started again")
	errProtocol = errors.New("not of the table protocol")
)

// programLimits are those of a table that a program serves. It is asked one
// thing at a time, for that is what such programs were written for. Its
// answers are not remembered: it may have reasons to say something else the
// next time, and nobody could tell it for how long they hold.
var programLimits = Limits{Timeout: 3 * answerTime, Connections: 1}

// A Program is a table that a program serves by the text protocol, version
// 0.1 (runtime.md 10.1). One that dies, hangs or talks nonsense fails what it
// was asked, and is started anew after a pause that grows.
type Program struct {
	*Table
	source *program
}

// NewProgram returns the table called name. Start runs its program and returns
// our end of a stream socket, which is its input and output; closing that ends
// it.
func NewProgram(name string, start func(ctx context.Context) (net.Conn, error), log *slog.Logger) *Program {
	p := &program{name: name, start: start, log: log, requests: make(chan *request)}
	return &Program{NewLimited(name, p, programLimits), p}
}

// Run keeps the program running until ctx ends.
func (p *Program) Run(ctx context.Context) { p.source.run(ctx) }

// A program is the Source of a Program.
type program struct {
	name  string
	start func(ctx context.Context) (net.Conn, error)
	log   *slog.Logger

	requests chan *request
	next     uint32 // id of the last request
}

// A request waits for one answer line.
type request struct {
	ctx     context.Context
	op      string // "check", "lookup", "fetch", "update"
	service engine.Service
	key     string
	done    chan struct{}

	value string
	found bool
	err   error
}

func (p *program) Close() {}

func (p *program) Check(ctx context.Context, s engine.Service, key string) (bool, error) {
	_, ok, err := p.ask(ctx, "check", s, key)
	return ok, err
}

func (p *program) Lookup(ctx context.Context, s engine.Service, key string) (string, bool, error) {
	return p.ask(ctx, "lookup", s, key)
}

// Fetch has the program go round.
func (p *program) Fetch(ctx context.Context, s engine.Service) (string, bool, error) {
	return p.ask(ctx, "fetch", s, "")
}

func (p *program) Update(ctx context.Context) error {
	_, _, err := p.ask(ctx, "update", 0, "")
	return err
}

// ask hands a request to run. A key with a line end would be a second
// request to the program.
func (p *program) ask(ctx context.Context, op string, s engine.Service, key string) (string, bool, error) {
	if strings.ContainsAny(key, "\r\n\x00") {
		return "", false, errors.New("key holds a line end")
	}
	r := &request{ctx: ctx, op: op, service: s, key: key, done: make(chan struct{})}
	select {
	case p.requests <- r:
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
	select {
	case <-r.done:
		return r.value, r.found, r.err
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
}

func (p *program) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		answered, err := p.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		if answered {
			pause = firstPause
		}
		p.log.Warn("lost processor", "table", p.name, "err", err, "restart", pause)
		p.refuse(ctx, pause)
		pause = min(2*pause, longestPause)
	}
}

// refuse fails what is asked during a pause.
func (p *program) refuse(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case r := <-p.requests:
			r.err = ErrDown
			close(r.done)
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// serve starts the program and passes requests to it until it fails. It
// reports whether the program answered any.
func (p *program) serve(ctx context.Context) (answered bool, err error) {
	conn, err := p.start(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	lines := bufio.NewReaderSize(conn, maxLine)
	services, err := p.handshake(conn, lines)
	if err != nil {
		return false, err
	}
	for {
		select {
		case <-ctx.Done():
			return answered, ctx.Err()
		case r := <-p.requests:
			err := p.exchange(conn, lines, services, r)
			close(r.done)
			if err != nil {
				return answered, err
			}
			answered = true
		}
	}
}

// handshake tells the program its table and learns what it serves.
func (p *program) handshake(conn net.Conn, lines *bufio.Reader) (engine.Service, error) {
	conn.SetDeadline(time.Now().Add(answerTime))
	_, err := fmt.Fprintf(conn, "config|smtpd-version|%s\nconfig|protocol|0.1\nconfig|tablename|%s\nconfig|ready\n", version, p.name)
	if err != nil {
		return 0, err
	}
	var services engine.Service
	for {
		line, err := readLine(lines)
		if err != nil {
			return 0, fmt.Errorf("handshake: %w", err)
		}
		word, ok := strings.CutPrefix(line, "register|")
		if ok && word == "ready" && services != 0 {
			return services, nil
		}
		service, known := engine.ParseService(word)
		if !ok || !known {
			return 0, fmt.Errorf("handshake: %.200q: %w", line, errProtocol)
		}
		services |= service
	}
}

// exchange sends a request and completes it with the answer. An error is
// what ends the program; one that it reports itself is the request's alone.
func (p *program) exchange(conn net.Conn, lines *bufio.Reader, services engine.Service, r *request) error {
	switch {
	case r.ctx.Err() != nil: // nobody waits for it any more
		r.err = r.ctx.Err()
		return nil
	case r.op != "update" && services&r.service == 0:
		r.err = ErrService
		return nil
	}
	p.next++
	id := fmt.Sprintf("%08x", p.next)
	conn.SetDeadline(time.Now().Add(answerTime))
	_, err := io.WriteString(conn, requestLine(time.Now(), p.name, id, r))
	if err == nil {
		var line string
		if line, err = readLine(lines); err == nil {
			err = r.parse(line, id)
		}
	}
	if err != nil {
		r.value, r.found = "", false
		r.err = fmt.Errorf("%s: %w", r.op, err)
	}
	return err
}

func requestLine(now time.Time, table, id string, r *request) string {
	head := fmt.Sprintf("table|0.1|%d.%06d|%s|%s|", now.Unix(), now.Nanosecond()/1000, table, r.op)
	switch r.op {
	case "update":
		return head + id + "\n"
	case "fetch":
		return head + r.service.String() + "|" + id + "\n"
	}
	return head + r.service.String() + "|" + id + "|" + r.key + "\n"
}

// parse completes r with an answer, OP-result|ID|…. What found says after a
// check is of no matter.
func (r *request) parse(line, id string) error {
	bad := fmt.Errorf("answer %.200q: %w", line, errProtocol)
	rest, ok := strings.CutPrefix(line, r.op+"-result|"+id+"|")
	if !ok {
		return bad
	}
	word, value, valued := strings.Cut(rest, "|")
	switch {
	case word == "error":
		r.err = fmt.Errorf("%s: the program says %.200q", r.op, value)
	case r.op == "update" && rest == "ok":
	case r.op == "update":
		return bad
	case rest == "not-found":
	case word == "found" && r.op == "check":
		r.found = true
	case word == "found" && valued && value != "":
		r.found, r.value = true, value
	default:
		return bad
	}
	return nil
}

// readLine returns a line without its end. It is never longer than the
// buffer.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("line of more than %d bytes: %w", maxLine, errProtocol)
	case err != nil:
		return "", err
	}
	return string(line[:len(line)-1]), nil
}
