package main

import (
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxTraceLine is how much of a line a trace shows: no more than a pipe takes
// in one piece, since all processes write to one.
const maxTraceLine = 4096

// traces are those for whom lines of the log are copied that have to do with
// one session, message or envelope: at any level.
type traces struct {
	active atomic.Bool
	mu     sync.Mutex
	all    map[uint32]*trace
}

// A trace is an id that is looked for, and a pipe to who asked for it.
type trace struct {
	id  string
	out *os.File
}

// Add begins a trace; it owns out.
func (t *traces) Add(n uint32, id string, out *os.File) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = make(map[uint32]*trace)
	}
	t.all[n] = &trace{id, out}
	t.active.Store(true)
}

// Remove ends a trace.
func (t *traces) Remove(n uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tr := t.all[n]; tr != nil {
		tr.out.Close()
		delete(t.all, n)
		t.active.Store(len(t.all) > 0)
	}
}

// copy shows line to those who look for an id in it. It waits for nobody: who
// does not read misses lines.
func (t *traces) copy(line []byte) {
	if !t.active.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tr := range t.all {
		if mentions(line, tr.id) {
			tr.show(line)
		}
	}
}

func (tr *trace) show(line []byte) {
	line = append(line[:min(len(line), maxTraceLine-1):min(len(line), maxTraceLine-1)], '\n')
	if raw, err := tr.out.SyscallConn(); err == nil {
		raw.Write(func(fd uintptr) bool {
			unix.Write(int(fd), line)
			return true
		})
	}
}

// mentions reports whether an id stands in line, or, of a message, that of one
// of its envelopes.
func mentions(line []byte, id string) bool {
	for i := 0; i+len(id) <= len(line); i++ {
		if string(line[i:i+len(id)]) != id || i > 0 && isHex(line[i-1]) {
			continue
		}
		n := 0
		for rest := line[i+len(id):]; n < len(rest) && isHex(rest[n]); {
			n++
		}
		if n == 0 || len(id) == 8 && n == 8 {
			return true
		}
	}
	return false
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
