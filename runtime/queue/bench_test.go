package queue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// benchDir returns a directory on a disk: temporary ones are often in memory.
func benchDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(os.Getenv("BENCH_DIR"), "queue")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var commitWriters = []int{1, 8, 32, 50}

// BenchmarkCommit measures what a 250 waits for: a message of 4 KB with one
// envelope, durable, from writers that wait at the same time.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range commitWriters {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := openTest(b, StoreConfig{Dir: benchDir(b)})
			content := bytes.Repeat([]byte("0123456789abcde\n"), 256)
			commit := func(n int64) {
				msg := envelope.MessageID(n)
				err := s.Commit(&Message{ID: msg, Content: content, Envelopes: []envelope.Envelope{testEnvelope(msg, 1, "a.example")}})
				if err != nil {
					b.Error(err)
				}
			}
			measure(b, writers, commit)
		})
	}
}

// A bareLog is a file to which records are appended, and synced for all that
// wait at the same moment: the least that a durable answer needs.
type bareLog struct {
	file *os.File

	syncing sync.Mutex // held by who writes
	mu      sync.Mutex
	next    *flight // takes records until it is written
}

// A flight is what goes to the disk together.
type flight struct {
	records []byte
	once    sync.Once
	err     error
}

func (l *bareLog) append(record []byte) error {
	l.mu.Lock()
	f := l.next
	f.records = append(f.records, record...)
	l.mu.Unlock()
	f.once.Do(func() { f.err = l.write(f) })
	return f.err
}

// write waits for the flight before, so that f fills meanwhile.
func (l *bareLog) write(f *flight) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	l.next = new(flight)
	l.mu.Unlock()
	if _, err := l.file.Write(f.records); err != nil {
		return err
	}
	return l.file.Sync()
}

// BenchmarkLimit measures what the disk allows BenchmarkCommit: as many bytes
// in one shared log, and nothing else.
func BenchmarkLimit(b *testing.B) {
	for _, writers := range commitWriters {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			file, err := os.Create(filepath.Join(benchDir(b), "log"))
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			l := bareLog{file: file, next: new(flight)}
			record := make([]byte, 4096+256) // a message, its envelope and keys
			measure(b, writers, func(int64) {
				if err := l.append(record); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

// BenchmarkPass measures a mail's whole way through the store: committed,
// opened, and removed.
func BenchmarkPass(b *testing.B) {
	for _, writers := range []int{1, 8, 50} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := openTest(b, StoreConfig{Dir: benchDir(b)})
			content := bytes.Repeat([]byte("0123456789abcde\n"), 256)
			measure(b, writers, func(n int64) {
				msg := envelope.MessageID(n)
				ev := testEnvelope(msg, 1, "a.example")
				err := s.Commit(&Message{ID: msg, Content: content, Envelopes: []envelope.Envelope{ev}})
				if err != nil {
					b.Error(err)
				}
				f, err := s.Open(msg)
				if err != nil {
					b.Fatal(err)
				}
				f.Close()
				if err := s.Apply(&Changes{Remove: []envelope.ID{ev.ID}}); err != nil {
					b.Error(err)
				}
			})
		})
	}
}

func measure(b *testing.B, writers int, f func(n int64)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	start := cpu()
	b.ResetTimer()
	for range writers {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				f(n)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
	b.ReportMetric((cpu()-start).Seconds()*1000/float64(b.N), "cpu-s/1000")
}

// TestMillion fills a queue with as many envelopes as BENCH_ENVELOPES says
// and reports what a restart takes.
func TestMillion(t *testing.T) {
	var total int
	if fmt.Sscan(os.Getenv("BENCH_ENVELOPES"), &total); total == 0 {
		t.Skip("set BENCH_ENVELOPES to a number, and BENCH_DIR to a disk, to measure a large queue")
	}
	dir, err := os.MkdirTemp(os.Getenv("BENCH_DIR"), "queue")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s := openTest(t, StoreConfig{Dir: dir})
	fill(t, s, total, epoch)
	s.Close()

	start := time.Now()
	s = openTest(t, StoreConfig{Dir: dir})
	opened := time.Since(start)
	for range s.Walk(Range{}) {
		break
	}
	first := time.Since(start)
	n := 0
	for range s.List(0) {
		n++
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	status, _ := os.ReadFile("/proc/self/status")
	t.Logf("%d envelopes: open %v, first due %v, list of all %v, heap %d MB", n, opened, first, time.Since(start)-first, m.HeapInuse>>20)
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "VmHWM") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// TestFill fills the store that BENCH_FILL names with BENCH_ENVELOPES envelopes
// that wait for their next try, a message each: bench/queue.py starts a daemon
// on it.
func TestFill(t *testing.T) {
	dir := os.Getenv("BENCH_FILL")
	var total int
	if fmt.Sscan(os.Getenv("BENCH_ENVELOPES"), &total); dir == "" || total == 0 {
		t.Skip("set BENCH_FILL to a directory and BENCH_ENVELOPES to a number, to make a large queue")
	}
	a := newAgent(&Config{Rules: testRules()})
	s, err := OpenStore(StoreConfig{Dir: dir, Grouping: a.destination})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, total, time.Now())
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func fill(t *testing.T, s Store, total int, now time.Time) {
	content := bytes.Repeat([]byte("0123456789abcde\n"), 64)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(total); n = next.Add(1) {
				msg := envelope.MessageID(n)
				ev := testEnvelope(msg, 1, fmt.Sprintf("d%d.example", n%5000))
				ev.Created, ev.Expires = now, now.Add(4*day)
				ev.NextTry = now.Add(time.Hour + time.Duration(n)*time.Millisecond)
				if err := s.Commit(&Message{ID: msg, Content: content, Envelopes: []envelope.Envelope{ev}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// A benchQueue is the component at work, with an agent that does nothing.
type benchQueue struct {
	smtp, mfa *Client
	drain     func() // waits for as many deliveries as there are rounds
}

func startQueue(b *testing.B) *benchQueue {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	c := Config{Rules: testRules(), Dir: benchDir(b)}
	counts := make(chan int, b.N)
	q := &benchQueue{smtp: connectTo(ctx, &c.SMTP, nil), mfa: connectTo(ctx, &c.MFA, nil)}
	connectTo(ctx, &c.MTA, DelivererHandler(countingDeliverer(counts)))
	done := make(chan error, 1)
	go func() { done <- Main(ctx, c) }()
	q.drain = func() {
		for range b.N {
			<-counts
		}
	}
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return q
}

// BenchmarkQueue measures a mail's whole way through the component and its
// frames, from Create until an agent that does nothing has delivered it:
// what sessions that send one mail after the other see, and what is left to
// do when the last is accepted.
func BenchmarkQueue(b *testing.B) {
	for _, sessions := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			q := startQueue(b)
			ctx, smtp, mfa := b.Context(), q.smtp, q.mfa
			content := strings.Repeat("0123456789abcde\n", 256)
			measure(b, sessions, func(n int64) {
				msg, f, err := smtp.Create(ctx)
				if err != nil {
					b.Fatal(err)
				}
				io.WriteString(f, content)
				if _, err := mfa.Submit(ctx, msg, []envelope.Envelope{to(fmt.Sprintf("u@d%d.example", n%100))}); err != nil {
					b.Error(err)
				}
				if err := smtp.Commit(ctx, msg); err != nil {
					b.Error(err)
				}
			})
			q.drain()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "accepted/s")
		})
	}
}

// BenchmarkContent measures how a content gets to the queue between processes:
// in the frame that asks for the commit, or by a file in memory whose
// descriptor is asked for, and which is read before the commit because who
// wrote it can still change it.
func BenchmarkContent(b *testing.B) {
	for _, size := range []int{4 << 10, 16 << 10, 64 << 10} {
		content := make([]byte, size)
		b.Run(fmt.Sprintf("frames/size=%d", size), func(b *testing.B) {
			p := contentPeer(b, func(m imsg.Message) (imsg.Message, error) {
				_ = bytes.Clone(m.Data)
				return imsg.Message{}, nil
			})
			measure(b, 1, func(int64) { call(b, p, imsg.Message{Data: content}) })
		})
		b.Run(fmt.Sprintf("descriptor/size=%d", size), func(b *testing.B) {
			var open *os.File
			p := contentPeer(b, func(m imsg.Message) (imsg.Message, error) {
				if f := open; f != nil {
					defer f.Close()
					open = nil
					_, err := f.ReadAt(make([]byte, size), 0)
					return imsg.Message{}, err
				}
				var err error
				if open, err = newContent(); err != nil {
					return imsg.Message{}, err
				}
				second, err := duplicate(open.Fd(), open.Name())
				return imsg.Message{File: second}, err
			})
			measure(b, 1, func(int64) {
				f := call(b, p, imsg.Message{}).File
				if _, err := f.Write(content); err != nil {
					b.Error(err)
				}
				f.Close()
				call(b, p, imsg.Message{})
			})
		})
	}
}

// contentPeer returns a peer whose other end, behind a socket, answers with h.
func contentPeer(b *testing.B, h func(imsg.Message) (imsg.Message, error)) *imsg.Peer {
	b.Helper()
	one, two, err := imsg.Socketpair("content")
	if err != nil {
		b.Fatal(err)
	}
	var ends [2]imsg.Conn
	for i, f := range []*os.File{one, two} {
		if ends[i], err = imsg.FileConn(f); err != nil {
			b.Fatal(err)
		}
	}
	go imsg.NewPeer(ends[1], func(_ context.Context, m imsg.Message) (imsg.Message, error) { return h(m) }).Run(b.Context())
	p := imsg.NewPeer(ends[0], nil)
	go p.Run(b.Context())
	return p
}

func call(b *testing.B, p *imsg.Peer, m imsg.Message) imsg.Message {
	b.Helper()
	m.Type = 1
	m, err := p.Call(b.Context(), m)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// BenchmarkUpload measures large messages, of which each session brings one
// after the other.
func BenchmarkUpload(b *testing.B) {
	for _, size := range []int{1 << 20, 30 << 20} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			q := startQueue(b)
			ctx, smtp, mfa := b.Context(), q.smtp, q.mfa
			piece := make([]byte, 32<<10)
			measure(b, 4, func(n int64) {
				msg, f, err := smtp.Create(ctx)
				for range size / len(piece) {
					if err == nil {
						_, err = f.Write(piece)
					}
				}
				if err == nil {
					_, err = mfa.Submit(ctx, msg, []envelope.Envelope{to("u@one.example")})
				}
				if err == nil {
					err = smtp.Commit(ctx, msg)
				}
				if err != nil {
					b.Error(err)
				}
			})
			q.drain()
			b.ReportMetric(float64(b.N)*float64(size>>20)/b.Elapsed().Seconds(), "MB/s")
		})
	}
}
