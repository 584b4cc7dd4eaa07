package backend

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/compile/engine"
	"smtpd/runtime/imsg"
)

// script starts a program in shell for a table. Its body runs after the
// handshake for each request, which is in $op, $service, $id and $key.
func script(t *testing.T, body string) func(context.Context) (net.Conn, error) {
	const head = `while IFS= read -r line; do [ "$line" = "config|ready" ] && break; done
printf 'register|alias\nregister|source\nregister|ready\n'
while IFS='|' read -r word version stamp table op service id key; do
`
	return func(ctx context.Context) (net.Conn, error) {
		ours, theirs, err := imsg.Socketpair("table")
		if err != nil {
			return nil, err
		}
		defer ours.Close()
		defer theirs.Close()
		cmd := exec.Command("/bin/sh", "-c", head+body+"\ndone")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, os.Stderr
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		return net.FileConn(ours)
	}
}

// TestProgramFails has programs that die or talk nonsense: what was asked
// fails, and the next program answers.
func TestProgramFails(t *testing.T) {
	for name, body := range map[string]string{
		"dies":      `exit 1`,
		"nonsense":  `echo hello`,
		"other id":  `echo "lookup-result|ffffffff|found|v"`,
		"no value":  `echo "lookup-result|$id|found|"`,
		"other op":  `echo "check-result|$id|found"`,
		"long line": `head -c 100000 /dev/zero | tr '\0' x`,
	} {
		t.Run(name, func(t *testing.T) {
			p := NewProgram("t", script(t, body), slog.New(slog.DiscardHandler))
			defer p.Close()
			ended := make(chan error, 1)
			serve := func() {
				_, err := p.source.serve(t.Context())
				ended <- err
			}
			go serve()
			if v, ok, err := p.Lookup(t.Context(), engine.Alias, "x"); err == nil {
				t.Errorf("answered %q, %v", v, ok)
			}
			if err := <-ended; err == nil {
				t.Error("the program was taken for sound")
			}
			p.source.start = script(t, `echo "lookup-result|$id|found|v"`)
			go serve()
			if v, ok, err := p.Lookup(t.Context(), engine.Alias, "x"); v != "v" || !ok || err != nil {
				t.Errorf("%q, %v, %v", v, ok, err)
			}
		})
	}
}

// TestProgramPause has a program that never starts: it is tried after pauses
// that double up to a minute, and meanwhile requests fail without waiting.
func TestProgramPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		absent := func(context.Context) (net.Conn, error) { return nil, os.ErrNotExist }
		p := NewProgram("t", absent, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { p.Run(ctx); close(ended) }()
		time.Sleep(4*time.Minute - time.Millisecond)
		before := time.Now()
		if _, _, err := p.Lookup(ctx, engine.Alias, "x"); !errors.Is(err, ErrDown) || time.Since(before) != 0 {
			t.Errorf("%v after %v", err, time.Since(before))
		}
		cancel()
		<-ended
		p.Close()
		// At 0, 1, 3, 7, 15, 31, 63, 123 and 183 seconds.
		if n := strings.Count(log.String(), "lost processor"); n != 9 {
			t.Errorf("tried %d times:\n%s", n, log.String())
		}
	})
}

// TestProgramHangs has a program that does not answer: it is given up in time,
// and so is what waits behind it.
func TestProgramHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				defer theirs.Close()
				for lines := bufio.NewScanner(theirs); lines.Scan(); {
					if lines.Text() == "config|ready" {
						io.WriteString(theirs, "register|alias\nregister|ready\n")
					}
				}
			}()
			return ours, nil
		}
		p := NewProgram("t", start, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { p.Run(ctx); close(ended) }()
		began := time.Now()
		errs := make(chan error)
		for _, key := range []string{"a", "b", "c", "d"} {
			go func() {
				_, _, err := p.Lookup(ctx, engine.Alias, key)
				errs <- err
			}()
		}
		for range 4 {
			if err := <-errs; err == nil {
				t.Error("nobody answered, and that was an answer")
			}
		}
		if took := time.Since(began); took > programLimits.Timeout {
			t.Errorf("it took %v", took)
		}
		cancel()
		<-ended
		p.Close()
	})
}

// FuzzProgramAnswer checks that an answer is found, not found or an error,
// never two of them.
func FuzzProgramAnswer(f *testing.F) {
	f.Add("lookup", "lookup-result|00000001|found|v")
	f.Add("check", "check-result|00000001|found")
	f.Add("update", "update-result|00000001|error|no")
	f.Add("fetch", "fetch-result|00000001|not-found")
	f.Fuzz(func(t *testing.T, op, line string) {
		r := &request{op: op}
		err := r.parse(line, "00000001")
		if (err != nil || r.err != nil) && (r.found || r.value != "") {
			t.Fatalf("%q: %+v, %v", line, r, err)
		}
		if r.found && op != "check" && r.value == "" {
			t.Fatalf("%q: found nothing", line)
		}
	})
}
