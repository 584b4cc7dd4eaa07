package mta

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

// BenchmarkRelay measures messages of 4 KB to one host that takes everything
// at once and offers what a usual server does. senders is how many messages
// the queue hands out at a time.
func BenchmarkRelay(b *testing.B) {
	for _, senders := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			a, w := newTestAgent(b, testRules(), startSink(b))
			a.log = slog.New(slog.DiscardHandler)
			w.content = "Subject: x\n\n" + strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\n", 64)
			b.SetBytes(int64(len(w.content)))
			work := make(chan []envelope.Envelope)
			var wg sync.WaitGroup
			for range senders {
				wg.Go(func() {
					for batch := range work {
						if r, err := a.Deliver(b.Context(), batch); err != nil || r[0].Outcome != queue.Delivered {
							b.Errorf("Deliver = %+v, %v", r, err)
						}
					}
				})
			}
			for b.Loop() {
				work <- batch("remote.example", "alice")
			}
			close(work)
			wg.Wait()
		})
	}
}

// startSink serves any number of sessions and returns its port.
func startSink(t testing.TB) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go sinkSession(c)
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String()).Port()
}

func sinkSession(c net.Conn) {
	defer c.Close()
	io.WriteString(c, "220 sink\r\n")
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	message := false
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch {
		case message && string(line) != ".\r\n":
			continue
		case !message && bytes.HasPrefix(line, []byte("EHLO")):
			w.WriteString("250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
		case !message && bytes.HasPrefix(line, []byte("DATA")):
			w.WriteString("354 go\r\n")
			message = true
		default:
			w.WriteString("250 ok\r\n")
			message = false
		}
		if r.Buffered() == 0 {
			w.Flush()
		}
	}
}
