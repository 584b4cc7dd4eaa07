package filter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"smtpd/runtime/stat"
)

// Times and sizes of a program.
const (
	handshakeTime = time.Minute
	answerTime    = 3 * time.Minute // below the five that clients wait
	writeTime     = time.Minute     // for what it does not read
	firstPause    = time.Second
	longestPause  = time.Minute
	maxLine       = 1 << 20 // bytes of a line from it
	maxQueued     = 1024    // pieces that wait to be read by it
)

// Errors of a program. What its sessions get for them is the caller's policy.
var (
	ErrProtocol = errors.New("not of the filter protocol")
	ErrDown     = errors.New("the filter is down and will be started again")
	ErrStranger = errors.New("the filter was started again and does not know the session")
	errHangs    = errors.New("the filter does not answer")
)

// A Config describes a program.
type Config struct {
	Name string
	Log  *slog.Logger

	// Start runs the program and returns its end of a stream socket; closing
	// it ends the program.
	Start func(ctx context.Context) (net.Conn, error)

	// ServerVersion, Admd and Timeout (of sessions, in seconds) are told to
	// the program.
	ServerVersion, Admd string
	Timeout             int

	// Subsystems are the directions of the sessions that it will hear of.
	Subsystems []Direction
}

// A Program is kept running by Run.
type Program struct {
	c Config

	mu      sync.Mutex
	present *instance     // nil while it is down
	ready   chan struct{} // closed while there is one
}

// New returns a program that does not run yet.
func New(c Config) *Program { return &Program{c: c, ready: make(chan struct{})} }

var restarts = stat.Counter("smtpd_mfa_filter_restarts_total", "Times that a filter process ended, or was ended, and was started again.", "filter")

// Run keeps the program running until ctx is done. One that ends is started
// again after a pause, which grows while it does not live long.
func (p *Program) Run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := p.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		restarts.WithLabelValues(p.c.Name).Inc()
		p.c.Log.Warn("lost processor", "filter", p.c.Name, "err", err, "restart", pause)
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
		pause = min(2*pause, longestPause)
	}
}

// serve runs one instance until it ends.
func (p *Program) serve(ctx context.Context) error {
	conn, err := p.c.Start(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	in := &instance{
		conn: conn, end: cancel, done: ctx.Done(), out: make(chan []byte, maxQueued),
		tokens: make(map[string]uint64), asked: make(map[uint64]*question), messages: make(map[uint64]*Message), known: make(map[uint64]Direction),
	}
	lines := bufio.NewReaderSize(conn, 64<<10)
	if err := in.handshake(lines, &p.c); err != nil {
		conn.Close()
		return fmt.Errorf("handshake: %w", err)
	}
	for _, phase := range in.registered.Phases {
		in.tokens[phase] = rand.Uint64()
	}
	var writing sync.WaitGroup
	writing.Go(func() { cancel(in.write()) })
	p.publish(in)
	err = in.read(lines)
	p.publish(nil)
	cancel(err)
	writing.Wait()
	in.abandon()
	return context.Cause(ctx)
}

// publish makes in the instance that is asked.
func (p *Program) publish(in *instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.present = in
	if in != nil {
		close(p.ready)
	} else {
		p.ready = make(chan struct{})
	}
}

// current returns the running instance.
func (p *Program) current() (*instance, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.present == nil {
		return nil, fmt.Errorf("filter %s: %w", p.c.Name, ErrDown)
	}
	return p.present, nil
}

// Open waits until the program runs, and makes a session known to it. Others
// are not reported to it.
func (p *Program) Open(ctx context.Context, d Direction, session uint64) (Registration, error) {
	for {
		p.mu.Lock()
		ready, in := p.ready, p.present
		p.mu.Unlock()
		if in != nil {
			in.mu.Lock()
			in.known[session] = d
			in.mu.Unlock()
			return in.registered, nil
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return Registration{}, fmt.Errorf("filter %s: %w", p.c.Name, ErrDown)
		}
	}
}

// Registration returns what the program registered for, to which the session
// is known.
func (p *Program) Registration(session uint64) (Registration, error) {
	in, err := p.current()
	if err == nil && in.knows(session) == 0 {
		err = fmt.Errorf("filter %s: %w", p.c.Name, ErrStranger)
	}
	if err != nil {
		return Registration{}, err
	}
	return in.registered, nil
}

// Close forgets a session.
func (p *Program) Close(session uint64) {
	if in, err := p.current(); err == nil {
		in.mu.Lock()
		delete(in.known, session)
		in.mu.Unlock()
	}
}

// Forget forgets all sessions of a direction: who had them has lost them.
func (p *Program) Forget(d Direction) {
	in, err := p.current()
	if err != nil {
		return
	}
	var lost []uint64
	in.mu.Lock()
	for session, of := range in.known {
		if of == d {
			lost = append(lost, session)
		}
	}
	in.mu.Unlock()
	for _, session := range lost {
		p.Report(session, []Event{{At: time.Now(), Name: "link-disconnect"}})
		p.Close(session)
	}
}

// Report tells the program of events that it registered for.
func (p *Program) Report(session uint64, events []Event) {
	in, err := p.current()
	if err != nil {
		return
	}
	d := in.knows(session)
	if d == 0 {
		return
	}
	var b []byte
	wanted := in.registered.In(d)
	for i := range events {
		if slices.Contains(wanted, events[i].Name) {
			b = appendReport(b, d, session, &events[i])
		}
	}
	if len(b) > 0 {
		in.send(b)
	}
}

// Ask asks the program about a phase for which it registered, else it says
// Proceed. A session asks one thing at a time.
func (p *Program) Ask(ctx context.Context, phase string, session uint64, param string) (Answer, error) {
	in, err := p.current()
	if err != nil {
		return Answer{}, err
	}
	if !in.registered.Filters(phase) {
		return Answer{Decision: Proceed}, nil
	}
	a, err := in.ask(ctx, phase, session, param)
	if err != nil {
		err = fmt.Errorf("filter %s: %w", p.c.Name, err)
	}
	return a, err
}

// An instance is one life of a program.
type instance struct {
	conn       net.Conn
	end        func(error) // kills it
	done       <-chan struct{}
	out        chan []byte
	registered Registration
	tokens     map[string]uint64 // by phase, for its life

	mu       sync.Mutex
	dead     bool
	known    map[uint64]Direction // sessions
	asked    map[uint64]*question // by session
	messages map[uint64]*Message  // by session
}

// A question waits for its answer.
type question struct {
	token  uint64
	answer chan Answer // closed without one when the program ends
}

func (in *instance) handshake(lines *bufio.Reader, c *Config) error {
	in.conn.SetDeadline(time.Now().Add(handshakeTime))
	defer in.conn.SetDeadline(time.Time{})
	hello := fmt.Appendf(nil, "config|smtpd-version|%s\nconfig|protocol|%s\nconfig|smtp-session-timeout|%d\n",
		c.ServerVersion, version, c.Timeout)
	for _, d := range c.Subsystems {
		hello = fmt.Appendf(hello, "config|subsystem|%v\n", d)
	}
	hello = fmt.Appendf(hello, "config|admd|%s\nconfig|ready\n", clean(c.Admd))
	if _, err := in.conn.Write(hello); err != nil {
		return err
	}
	for {
		line, err := readLine(lines)
		if err != nil {
			return err
		}
		if done, err := in.registered.register(line); done || err != nil {
			return err
		}
	}
}

// readLine returns a line without its end.
func readLine(r *bufio.Reader) (string, error) {
	var long []byte
	for {
		piece, err := r.ReadSlice('\n')
		switch {
		case err == nil && long == nil:
			return string(piece[:len(piece)-1]), nil
		case err == nil:
			return string(append(long, piece[:len(piece)-1]...)), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		case len(long)+len(piece) > maxLine:
			return "", fmt.Errorf("a line of more than %d bytes: %w", maxLine, ErrProtocol)
		}
		long = append(long, piece...)
	}
}

// read passes answers on until the program ends or talks nonsense.
func (in *instance) read(lines *bufio.Reader) error {
	for {
		line, err := readLine(lines)
		if err != nil {
			return err
		}
		r, ok, err := parseResult(line)
		if err == nil && ok {
			err = in.dispatch(&r)
		}
		if err != nil {
			return err
		}
	}
}

// dispatch gives a line to whom it is for. Nobody may wait for it any more.
func (in *instance) dispatch(r *result) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if m := in.messages[r.session]; m != nil && m.token == r.token {
		if !r.data {
			return fmt.Errorf("an answer in place of a line of the message: %w", ErrProtocol)
		}
		m.add(r.line)
		return nil
	}
	if q := in.asked[r.session]; q != nil && q.token == r.token && !r.data {
		delete(in.asked, r.session)
		q.answer <- r.answer
	}
	return nil
}

// write passes on what is queued, as much as there is at a time.
func (in *instance) write() error {
	w := bufio.NewWriterSize(in.conn, 64<<10)
	for {
		var b []byte
		select {
		case b = <-in.out:
		default:
			if err := in.flush(w); err != nil {
				return err
			}
			select {
			case b = <-in.out:
			case <-in.done:
				return nil
			}
		}
		in.conn.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
}

func (in *instance) flush(w *bufio.Writer) error {
	in.conn.SetWriteDeadline(time.Now().Add(writeTime))
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// send queues b, and waits while the program does not read.
func (in *instance) send(b []byte) error {
	select {
	case in.out <- b:
		return nil
	case <-in.done:
		return ErrDown
	}
}

// knows returns the direction of a session, 0 if it is a stranger.
func (in *instance) knows(session uint64) Direction {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.known[session]
}

func (in *instance) ask(ctx context.Context, phase string, session uint64, param string) (Answer, error) {
	q := &question{in.tokens[phase], make(chan Answer, 1)}
	in.mu.Lock()
	switch {
	case in.dead:
		in.mu.Unlock()
		return Answer{}, ErrDown
	case in.known[session] == 0:
		in.mu.Unlock()
		return Answer{}, ErrStranger
	}
	in.asked[session] = q
	in.mu.Unlock()
	defer func() {
		in.mu.Lock()
		if in.asked[session] == q {
			delete(in.asked, session)
		}
		in.mu.Unlock()
	}()
	if err := in.send(appendRequest(nil, time.Now(), phase, session, q.token, clean(param))); err != nil {
		return Answer{}, err
	}
	t := time.NewTimer(answerTime)
	defer t.Stop()
	select {
	case a, ok := <-q.answer:
		if !ok {
			return a, ErrDown
		}
		return a, nil
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	case <-t.C:
		in.end(errHangs)
		return Answer{}, errHangs
	}
}

// abandon tells all who wait that the program has ended.
func (in *instance) abandon() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.dead = true
	for _, q := range in.asked {
		close(q.answer)
	}
	for _, m := range in.messages {
		m.fail(ErrDown)
	}
	in.asked, in.messages = nil, nil
}
