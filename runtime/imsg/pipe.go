package imsg

import (
	"io"
	"os"
	"sync"
)

// Pipe returns the two ends of a connection inside one process. Frames are
// encoded and decoded as on a socket, so that a test in one process exercises
// every codec. A descriptor changes hands; it is not duplicated.
func Pipe() (Conn, Conn) {
	a, b := newLane(), newLane()
	return &pipeConn{in: a, out: b}, &pipeConn{in: b, out: a}
}

// A lane is one direction of a pipe. It is not bounded: what waits in it is
// bounded by the requests under way.
type lane struct {
	mu     sync.Mutex
	some   sync.Cond
	queue  []parcel
	closed bool
}

type parcel struct {
	raw  []byte
	file *os.File
}

func newLane() *lane {
	l := new(lane)
	l.some.L = &l.mu
	return l
}

type pipeConn struct{ in, out *lane }

func (p *pipeConn) Send(frames ...Frame) error {
	parcels := make([]parcel, 0, len(frames))
	for _, f := range frames {
		raw, err := appendFrame(make([]byte, 0, HeaderSize+len(f.Data)), f)
		if err != nil {
			return err
		}
		parcels = append(parcels, parcel{raw, f.File})
	}
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	if p.out.closed {
		for _, q := range parcels {
			if q.file != nil {
				q.file.Close()
			}
		}
		return io.ErrClosedPipe
	}
	p.out.queue = append(p.out.queue, parcels...)
	p.out.some.Signal()
	return nil
}

func (p *pipeConn) Recv() (Frame, error) {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	for len(p.in.queue) == 0 {
		if p.in.closed {
			return Frame{}, io.EOF
		}
		p.in.some.Wait()
	}
	q := p.in.queue[0]
	p.in.queue[0] = parcel{}
	p.in.queue = p.in.queue[1:]
	f, n, _, err := parseHeader(q.raw)
	if err != nil {
		return Frame{}, err
	}
	f.Data = q.raw[HeaderSize : HeaderSize+n]
	f.File = q.file
	return f, nil
}

func (p *pipeConn) Close() error {
	for _, l := range []*lane{p.in, p.out} {
		l.mu.Lock()
		l.closed = true
		l.some.Broadcast()
		l.mu.Unlock()
	}
	return nil
}
