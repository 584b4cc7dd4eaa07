package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type sinkCmd struct {
	Addr     string        `default:"127.0.0.1:2600" help:"Address to listen on."`
	Messages int           `short:"n" help:"End after so many; 0: when nothing came for --idle."`
	Idle     time.Duration `default:"60s" help:"End when nothing came for so long."`
	Received string        `help:"File that gets the number of each message, once for each copy."`
}

// A sink counts what it is sent.
type sink struct {
	got  atomic.Int64
	last atomic.Int64 // when, in Unix nanoseconds
	mu   sync.Mutex
	log  *bufio.Writer
}

// Run serves until enough has come or nothing comes any more.
func (c *sinkCmd) Run() error {
	l, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return err
	}
	defer l.Close()
	s := new(sink)
	s.last.Store(time.Now().UnixNano())
	if c.Received != "" {
		f, err := os.Create(c.Received)
		if err != nil {
			return err
		}
		defer f.Close()
		s.log = bufio.NewWriter(f)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.session(conn)
		}
	}()
	begun := time.Now()
	for {
		quiet := time.Since(time.Unix(0, s.last.Load()))
		if quiet > c.Idle || c.Messages > 0 && s.got.Load() >= int64(c.Messages) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	elapsed := time.Unix(0, s.last.Load()).Sub(begun)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log != nil {
		err = s.log.Flush()
	}
	fmt.Printf("got=%d wall_s=%.3f\n", s.got.Load(), elapsed.Seconds())
	return err
}

var loadID = []byte("X-Load-Id: ")

// session speaks just enough SMTP for a relay that behaves.
func (s *sink) session(c net.Conn) {
	defer c.Close()
	r, w := bufio.NewReaderSize(c, 64<<10), bufio.NewWriter(c)
	w.WriteString("220 sink.test ESMTP\r\n")
	w.Flush()
	data := false
	id := ""
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return
		}
		switch {
		case data && string(line) == ".\r\n":
			data = false
			s.count(id)
			w.WriteString("250 2.0.0 ok\r\n")
		case data:
			if n, ok := bytes.CutPrefix(line, loadID); ok && id == "" {
				id = strings.TrimSpace(string(n))
			}
			continue
		default:
			data = reply(w, line)
			id = ""
		}
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
	}
}

// reply answers a command and reports whether data follows.
func reply(w *bufio.Writer, line []byte) (data bool) {
	switch strings.ToUpper(string(line[:min(4, len(line))])) {
	case "EHLO":
		w.WriteString("250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n")
	case "DATA":
		w.WriteString("354 go\r\n")
		return true
	case "QUIT":
		w.WriteString("221 bye\r\n")
	default:
		w.WriteString("250 2.0.0 ok\r\n")
	}
	return false
}

// count notes a message before it is acknowledged: one that was noted and
// whose acknowledgement was lost will come again and is a duplicate.
func (s *sink) count(id string) {
	s.got.Add(1)
	s.last.Store(time.Now().UnixNano())
	if s.log == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.log, id)
}

type compareCmd struct {
	Acked    string `arg:"" help:"Log of send."`
	Received string `arg:"" help:"Log of sink, or of what was found in mailboxes."`
}

// Run counts lost and duplicate messages; lost ones are an error.
func (c *compareCmd) Run() error {
	acked, err := numbers(c.Acked)
	if err != nil {
		return err
	}
	received, err := numbers(c.Received)
	if err != nil {
		return err
	}
	var lost []int
	for n := range acked {
		if received[n] == 0 {
			lost = append(lost, n)
		}
	}
	copies, unacked := 0, 0
	for n, times := range received {
		copies += times - 1
		if acked[n] == 0 {
			unacked++
		}
	}
	fmt.Printf("acknowledged=%d arrived=%d lost=%d duplicates=%d unacknowledged=%d\n",
		len(acked), len(received), len(lost), copies, unacked)
	if len(lost) > 0 {
		slices.Sort(lost)
		return fmt.Errorf("acknowledged and lost: %v", lost)
	}
	return nil
}

// numbers reads a log of one number a line and counts each.
func numbers(file string) (map[int]int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	count := make(map[int]int)
	for line := range strings.Lines(string(text)) {
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no message number", file, strings.TrimSpace(line))
		}
		count[n]++
	}
	return count, nil
}
