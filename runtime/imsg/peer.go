package imsg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// The upper bits of Frame.Type are the conversation's own.
const (
	flagReply  = 0x80000000 // answers a request of the other side
	flagFailed = 0x40000000 // with flagReply: Data is the text of an error
	flagMore   = 0x20000000 // Data goes on in the next frame of the same type and id
	typeMask   = 0x0fffffff
)

// A Message is a whole request or reply, however many frames it took.
type Message struct {
	Type uint32
	Data []byte
	File *os.File // the receiver closes it
}

// A RemoteError is an error that the other side answered with.
type RemoteError string

func (e RemoteError) Error() string { return string(e) }

// ErrClosed is returned, wrapped, by Call when the connection ended before
// the answer came. Callers treat it as a temporary failure.
var ErrClosed = errors.New("connection to component lost")

// ErrLost is the ErrClosed of a call that was under way: the other side may
// have done what it asked for, or died of it.
var ErrLost = fmt.Errorf("%w with the request", ErrClosed)

// A Handler answers requests. It is called in a goroutine of its own for
// each, and ctx ends when the connection does. What it returns is sent back;
// an error travels as its text and arrives as a RemoteError. It owns m.File.
type Handler func(ctx context.Context, m Message) (Message, error)

// A Peer is one end of a conversation. Both ends may call and both may be
// called; answers may come in any order. It is safe for concurrent use.
type Peer struct {
	conn    Conn
	handler Handler
	lost    func()

	mu      sync.Mutex
	next    uint32
	waiting map[uint32]chan result
	err     error // while there is no connection, nor one to be waited for
	rounds  int   // goes up with each connection of a Link, and with its end

	out     []Frame
	to      Conn // nil while there is none
	writing bool // somebody empties out
}

type result struct {
	m   Message
	err error
}

// NewPeer returns the end of a conversation over c. A nil handler refuses
// every request. Nothing moves before Run is called.
func NewPeer(c Conn, h Handler) *Peer {
	if h == nil {
		h = func(_ context.Context, m Message) (Message, error) {
			closeFile(m.File)
			return Message{}, fmt.Errorf("no requests of type %d here", m.Type)
		}
	}
	return &Peer{conn: c, handler: h, waiting: make(map[uint32]chan result)}
}

// OnLoss has f called each time that a connection has ended and the handlers
// of its requests have returned: the other side has forgotten what it began.
func (p *Peer) OnLoss(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = f
}

// Run reads and writes until ctx is done or the connection ends, and waits
// for the handlers that it started. It returns nil if ctx ended it or the
// other end closed in good order. Over a Link it goes on with the connection
// that comes next, and returns nil.
func (p *Peer) Run(ctx context.Context) error {
	if l, ok := p.conn.(*Link); ok {
		p.follow(ctx, l)
		return nil
	}
	return p.converse(ctx, p.conn)
}

// converse reads and writes over conn until ctx is done or it ends.
func (p *Peer) converse(ctx context.Context, conn Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	p.mu.Lock()
	p.to = conn
	p.write()
	err := p.read(ctx, conn, &wg)
	if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		err = nil
	}
	p.fail(err)
	cancel()
	stop()
	conn.Close()
	wg.Wait()
	p.mu.Lock()
	lost := p.lost
	p.mu.Unlock()
	if lost != nil {
		lost()
	}
	return err
}

// fail ends all calls, those under way and those to come.
func (p *Peer) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failLocked(ErrLost, err)
}

// failLocked ends the calls that wait with why.
func (p *Peer) failLocked(why, err error) {
	p.err = ErrClosed
	if err != nil {
		p.err = fmt.Errorf("%w: %w", ErrClosed, err)
		why = fmt.Errorf("%w: %w", why, err)
	}
	for id, c := range p.waiting {
		c <- result{err: why}
		delete(p.waiting, id)
	}
	for _, f := range p.out {
		closeFile(f.File)
	}
	p.out, p.to = nil, nil
}

// write sends what has gathered, unless somebody does; while that one is in the
// system call the next batch gathers. A goroutine that does nothing else would
// have to be woken for each frame of a quiet conversation. The caller has
// locked p.mu, and write unlocks it.
func (p *Peer) write() {
	defer p.mu.Unlock()
	if p.writing {
		return
	}
	p.writing = true
	for len(p.out) > 0 && p.to != nil {
		batch, conn := p.out, p.to
		p.out = nil
		p.mu.Unlock()
		if conn.Send(batch...) != nil {
			conn.Close() // read notices and ends the rest
		}
		p.mu.Lock()
	}
	p.writing = false
}

func (p *Peer) read(ctx context.Context, conn Conn, wg *sync.WaitGroup) error {
	partial := make(map[uint64][]byte)
	held := 0 // bytes in partial
	for {
		f, err := conn.Recv()
		if err != nil {
			return err
		}
		key := uint64(f.Type&^flagMore)<<32 | uint64(f.ID)
		data := f.Data
		if head, ok := partial[key]; ok {
			held -= len(head)
			data = append(head, data...)
		}
		if len(data) > MaxMessage || held > maxPartial {
			closeFile(f.File)
			return fmt.Errorf("message of more than %d bytes: %w", MaxMessage, ErrFrame)
		}
		if f.Type&flagMore != 0 {
			closeFile(f.File)
			partial[key] = data
			held += len(data)
			continue
		}
		delete(partial, key)
		m := Message{Type: f.Type & typeMask, Data: data, File: f.File}
		if f.Type&flagReply != 0 {
			p.answer(f, m)
			continue
		}
		wg.Go(func() { p.serve(ctx, f.ID, m) })
	}
}

func (p *Peer) answer(f Frame, m Message) {
	p.mu.Lock()
	c, ok := p.waiting[f.ID]
	delete(p.waiting, f.ID)
	p.mu.Unlock()
	switch {
	case !ok: // the caller has given up
		closeFile(m.File)
	case f.Type&flagFailed != 0:
		c <- result{err: RemoteError(m.Data)}
	default:
		c <- result{m: m}
	}
}

func (p *Peer) serve(ctx context.Context, id uint32, m Message) {
	reply, err := p.handler(ctx, m)
	if id == 0 { // a notice wants no answer
		closeFile(reply.File)
		return
	}
	if err == nil && len(reply.Data) > MaxMessage {
		err = errTooLarge
	}
	if err != nil {
		closeFile(reply.File)
		p.send(Message{Type: m.Type, Data: []byte(err.Error())}, flagReply|flagFailed, id)
		return
	}
	p.send(Message{Type: m.Type, Data: reply.Data, File: reply.File}, flagReply, id)
}

// Call sends a request and returns its answer. If ctx ends first the answer
// is dropped when it comes. Call takes ownership of m.File.
func (p *Peer) Call(ctx context.Context, m Message) (Message, error) {
	if len(m.Data) > MaxMessage {
		closeFile(m.File)
		return Message{}, errTooLarge
	}
	c := make(chan result, 1)
	p.mu.Lock()
	if p.err != nil {
		err := p.err
		p.mu.Unlock()
		closeFile(m.File)
		return Message{}, err
	}
	var id uint32
	for id == 0 || p.waiting[id] != nil {
		p.next++
		id = p.next
	}
	p.waiting[id] = c
	p.mu.Unlock()
	p.send(m, 0, id)
	select {
	case r := <-c:
		return r.m, r.err
	case <-ctx.Done():
		p.mu.Lock()
		delete(p.waiting, id)
		p.mu.Unlock()
		// The answer may have come at the same moment.
		select {
		case r := <-c:
			closeFile(r.m.File)
		default:
		}
		return Message{}, ctx.Err()
	}
}

// errTooLarge answers a message that the other side would take for an attack.
var errTooLarge = fmt.Errorf("message of more than %d bytes", MaxMessage)

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// Notify sends a message that wants no answer. It takes ownership of m.File.
func (p *Peer) Notify(m Message) { p.send(m, 0, 0) }

// pid is what frames are marked with; it is no secret and never changes.
var pid = uint32(os.Getpid())

// send queues the frames of m for the writer.
func (p *Peer) send(m Message, flags, id uint32) {
	p.mu.Lock()
	if p.err != nil {
		p.mu.Unlock()
		closeFile(m.File)
		return
	}
	typ := m.Type&typeMask | flags
	for len(m.Data) > MaxData {
		p.out = append(p.out, Frame{Type: typ | flagMore, ID: id, PID: pid, Data: m.Data[:MaxData]})
		m.Data = m.Data[MaxData:]
	}
	p.out = append(p.out, Frame{Type: typ, ID: id, PID: pid, Data: m.Data, File: m.File})
	p.write()
}
