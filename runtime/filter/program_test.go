package filter

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A fake is the other end of a program's connection.
type fake struct {
	t     *testing.T
	conn  net.Conn
	lines *bufio.Reader
}

// said returns the next n lines of the daemon, without time stamps.
func (f *fake) said(n int) []string {
	f.t.Helper()
	var l []string
	for range n {
		line, err := f.lines.ReadString('\n')
		if err != nil {
			f.t.Fatalf("after %q: %v", l, err)
		}
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "|", 4)
		if len(parts) == 4 && parts[1] == version {
			parts = append(parts[:2:2], parts[3])
		}
		l = append(l, strings.Join(parts, "|"))
	}
	return l
}

func (f *fake) say(lines ...string) {
	f.t.Helper()
	if _, err := io.WriteString(f.conn, strings.Join(lines, "\n")+"\n"); err != nil {
		f.t.Fatal(err)
	}
}

// A rig is a program whose processes are fakes.
type rig struct {
	*Program
	starts chan *fake
	stop   func()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{starts: make(chan *fake)}
	r.Program = New(Config{
		Name: "test", Log: slog.New(slog.DiscardHandler), ServerVersion: "7.8", Admd: "mx.example", Timeout: 300, Subsystems: []Direction{In, Out},
		Start: func(ctx context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			select {
			case r.starts <- &fake{t, theirs, bufio.NewReader(theirs)}:
				return ours, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	r.stop = func() { cancel(); wg.Wait() }
	return r
}

// begin takes the next process through the handshake.
func (r *rig) begin(t *testing.T, register ...string) *fake {
	t.Helper()
	f := <-r.starts
	want := []string{
		"config|smtpd-version|7.8", "config|protocol|0.7", "config|smtp-session-timeout|300",
		"config|subsystem|smtp-in", "config|subsystem|smtp-out", "config|admd|mx.example", "config|ready",
	}
	if got := f.said(7); !slices.Equal(got, want) {
		t.Errorf("handshake %q", got)
	}
	f.say(append(register, "register|ready")...)
	return f
}

// tokenOf returns the token of a request line.
func tokenOf(line string) string { return strings.Split(line, "|")[5] }

func TestReportAndAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		f := r.begin(t, "register|report|smtp-in|link-connect", "register|report|smtp-out|*", "register|filter|smtp-in|mail-from")
		reg, err := r.Open(t.Context(), In, 0xab)
		if err != nil || !slices.Equal(reg.In(In), []string{"link-connect"}) || !slices.Contains(reg.In(Out), "tx-mail") || !reg.Filters("mail-from") || reg.Filters("helo") {
			t.Fatalf("registered %+v, %v", reg, err)
		}
		r.Report(0xab, []Event{
			{time.Unix(1, 0), "link-connect", "host|pass|192.0.2.7:1|192.0.2.1:25\nx"},
			{time.Unix(2, 0), "tx-mail", "not wanted"},
		})
		r.Report(0xcd, []Event{{time.Unix(1, 0), "link-connect", "a stranger"}})
		answers := make(chan Answer)
		for _, c := range []struct {
			says string
			want Answer
		}{
			{"proceed", Answer{Decision: Proceed}},
			{"junk", Answer{Decision: Junk}},
			{"reject|550 no | bars", Answer{Reject, "550 no | bars"}},
			{"rewrite|<x@y>", Answer{Rewrite, "<x@y>"}},
		} {
			go func() {
				a, err := r.Ask(t.Context(), "mail-from", 0xab, "a|b@c.example\r\nd")
				if err != nil {
					t.Error(err)
				}
				answers <- a
			}()
			n := 1
			if c.says == "proceed" {
				n = 2
			}
			got := f.said(n)
			if n == 2 && got[0] != "report|0.7|smtp-in|link-connect|00000000000000ab|host|pass|192.0.2.7:1|192.0.2.1:25?x" {
				t.Errorf("report %q", got[0])
			}
			ask := got[n-1]
			if !strings.HasPrefix(ask, "filter|0.7|smtp-in|mail-from|00000000000000ab|") || !strings.HasSuffix(ask, "|a|b@c.example??d") {
				t.Errorf("request %q", ask)
			}
			f.say("report|1.000000|smtp-in|00000000000000ab|whatever", "filter-result|00000000000000ff|"+tokenOf(ask)+"|junk",
				"filter-result|00000000000000ab|"+tokenOf(ask)+"|"+c.says)
			if a := <-answers; a != c.want {
				t.Errorf("%s: %+v", c.says, a)
			}
		}
		// A phase that it did not register for is not asked.
		if a, err := r.Ask(t.Context(), "helo", 0xab, "x"); a.Decision != Proceed || err != nil {
			t.Errorf("not registered: %+v, %v", a, err)
		}
		if _, err := r.Ask(t.Context(), "mail-from", 0xcd, ""); !errors.Is(err, ErrStranger) {
			t.Errorf("a session that was not opened: %v", err)
		}
	})
}

// TestRubbish checks that nonsense ends the process and what it owes, and that
// the next one knows nothing of the session.
func TestRubbish(t *testing.T) {
	for _, rubbish := range []string{
		"hello", "filter-result|xx|yy|proceed", "filter-result|00000000000000ab|TOKEN|maybe", "filter-result|00000000000000ab|TOKEN|reject",
		"filter-result|00000000000000ab|TOKEN|proceed|more", "filter-result", "register|ready", "filter-result|00000000000000ab",
		strings.Repeat("x", maxLine+70000), "",
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			defer r.stop()
			f := r.begin(t, "register|filter|smtp-in|helo")
			if _, err := r.Open(t.Context(), In, 0xab); err != nil {
				t.Fatal(err)
			}
			failed := make(chan error)
			go func() {
				_, err := r.Ask(t.Context(), "helo", 0xab, "x")
				failed <- err
			}()
			ask := f.said(1)[0]
			go func() { // the reader may end before the line does
				io.WriteString(f.conn, strings.ReplaceAll(rubbish, "TOKEN", tokenOf(ask))+"\n")
				io.Copy(io.Discard, f.conn)
			}()
			if err := <-failed; !errors.Is(err, ErrDown) {
				t.Errorf("%.40q: %v", rubbish, err)
			}
			next := r.begin(t, "register|filter|smtp-in|helo")
			synctest.Wait()
			if _, err := r.Ask(t.Context(), "helo", 0xab, "x"); !errors.Is(err, ErrStranger) {
				t.Errorf("asked the new process: %v", err)
			}
			next.conn.Close()
		})
	}
}

func TestHandshakeFails(t *testing.T) {
	for _, line := range []string{
		"register|report|smtp-in|link-nothing", "register|filter|smtp-out|helo", "register|filter|smtp-in|*", "filter-result|a|b|proceed", "hello", "",
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			defer r.stop()
			f := <-r.starts
			f.said(6)
			go io.WriteString(f.conn, line+"\nregister|ready\n")
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := r.Open(ctx, In, 1); !errors.Is(err, ErrDown) {
				t.Errorf("%q: %v", line, err)
			}
			r.begin(t) // a second later
			if _, err := r.Open(t.Context(), In, 1); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHangs checks that a process that does not answer, or does not read, is
// replaced.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		f := r.begin(t, "register|filter|smtp-in|helo")
		r.Open(t.Context(), In, 1)
		go f.lines.ReadString('\n')
		began := time.Now()
		if _, err := r.Ask(t.Context(), "helo", 1, "x"); !errors.Is(err, errHangs) || time.Since(began) != answerTime {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		r.begin(t, "register|report|smtp-in|*")
		r.Open(t.Context(), In, 2)
		began = time.Now()
		for range 2 * maxQueued {
			r.Report(2, []Event{{Name: "link-tls"}})
		}
		if d := time.Since(began); d != writeTime {
			t.Errorf("reports wait %v for a process that does not read", d)
		}
		r.begin(t)
	})
}

// TestMessage passes a message through, and one that is cut off.
func TestMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		f := r.begin(t, "register|filter|smtp-in|data-line")
		r.Open(t.Context(), In, 1)
		m, err := r.Message(1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Message(1); err == nil {
			t.Error("two messages of one session at once")
		}
		go m.Send("a|b", "..", "")
		got := f.said(3)
		head := "filter|0.7|smtp-in|data-line|0000000000000001|" + tokenOf(got[0]) + "|"
		if want := []string{head + "a|b", head + "..", head}; !slices.Equal(got, want) {
			t.Errorf("sent %q", got)
		}
		answer := "filter-dataline|0000000000000001|" + tokenOf(got[0]) + "|"
		f.say(answer+"x|y", answer+".", answer+"behind the end")
		synctest.Wait()
		lines, err := m.Next(t.Context())
		if !slices.Equal(lines, []string{"x|y", "."}) || err != nil {
			t.Errorf("came back %q, %v", lines, err)
		}
		if _, err := m.Next(t.Context()); err != io.EOF {
			t.Errorf("behind the dot: %v", err)
		}
		old := m
		if m, err = r.Message(1); err != nil {
			t.Fatal(err)
		}
		old.Close()
		f.say(answer + "half")
		f.conn.Close()
		synctest.Wait()
		if lines, err := m.Next(t.Context()); !slices.Equal(lines, []string{"half"}) || err != nil {
			t.Errorf("came back %q, %v", lines, err)
		}
		if _, err := m.Next(t.Context()); !errors.Is(err, ErrDown) {
			t.Errorf("the process died: %v", err)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		r.begin(t, "register|report|smtp-in|*")
		for session := range uint64(100) {
			r.Open(t.Context(), In, session)
			r.Close(session)
		}
		if n := len(r.present.known); n > 0 {
			t.Errorf("%d sessions are remembered", n)
		}
	})
}

// FuzzParseResult checks that whatever a program writes is refused, ignored,
// or taken for what it is.
func FuzzParseResult(f *testing.F) {
	f.Add("filter-result|00000000000000ab|00000000000000cd|reject|550 no")
	f.Add("filter-dataline|00000000000000ab|00000000000000cd|.")
	f.Add("report|1.0|smtp-in|00000000000000ab|x")
	f.Fuzz(func(t *testing.T, line string) {
		r, ok, err := parseResult(line)
		if err != nil || !ok {
			return
		}
		if r.data && !strings.HasSuffix(line, "|"+r.line) {
			t.Fatalf("%q holds the line %q", line, r.line)
		}
		if !r.data && (r.answer.Decision < Proceed || r.answer.Decision > Report || !strings.Contains(line, "|"+r.answer.Decision.String())) {
			t.Fatalf("%q means %+v", line, r.answer)
		}
	})
}
