package lka

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// script writes a table program in shell. Its body runs after the handshake
// for each request, which is in $op, $service, $id and $key.
func script(t *testing.T, dir, backend, body string) {
	t.Helper()
	text := `#!/bin/sh
echo "args $0 $*" >&2
while IFS= read -r line; do
	echo "$line" >>` + dir + `/` + backend + `.log
	[ "$line" = "config|ready" ] && break
done
printf 'register|alias\nregister|userinfo\nregister|ready\n'
while IFS='|' read -r word version stamp table op service id key; do
	echo "$word|$version|$table|$op|$service|$id|$key" >>` + dir + `/` + backend + `.log
	` + body + `
done
`
	if err := os.WriteFile(filepath.Join(dir, "table-"+backend), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func helperRules(backends ...string) *compile.Ruleset {
	rs := new(compile.Ruleset)
	for _, b := range backends {
		rs.Tables = append(rs.Tables, compile.Table{Name: "t-" + b, Kind: compile.Dynamic, Backend: b, Path: "/etc/" + b + ".conf"})
	}
	return rs
}

func TestHelper(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "good", `case $op-$service-$key in
	lookup-alias-root) echo "lookup-result|$id|found|alice, b|c" ;;
	lookup-alias-err) echo "lookup-result|$id|error|database is gone" ;;
	check-alias-root) echo "check-result|$id|found|whatever" ;;
	fetch-alias-) echo "fetch-result|$id|found|next" ;;
	update-*) echo "update-result|$service|ok" ;;
	*) echo "$op-result|$id|not-found" ;;
	esac`)
	r := start(t, Config{Rules: helperRules("good"), LibexecDirs: []string{dir + "/none", dir}, Resolver: "127.0.0.1:9"})
	ctx := t.Context()
	if v, ok, err := r.mfa.Lookup(ctx, 1, engine.Alias, "Root"); v != "alice, b|c" || !ok || err != nil {
		t.Errorf("lookup: %q, %v, %v", v, ok, err)
	}
	if ok, err := r.mfa.Check(ctx, 1, engine.Alias, "root"); !ok || err != nil {
		t.Errorf("check: %v, %v", ok, err)
	}
	if _, ok, err := r.mfa.Lookup(ctx, 1, engine.Alias, "nobody"); ok || err != nil {
		t.Errorf("absent: %v, %v", ok, err)
	}
	if v, ok, err := r.mta.Fetch(ctx, 1, engine.Alias); v != "next" || !ok || err != nil {
		t.Errorf("fetch: %q, %v, %v", v, ok, err)
	}
	if err := r.control.Update(ctx, 1); err != nil {
		t.Errorf("update: %v", err)
	}
	if _, _, err := r.mfa.Lookup(ctx, 1, engine.Alias, "err"); err == nil || !strings.Contains(err.Error(), "database is gone") {
		t.Errorf("error: %v", err)
	}
	for _, key := range []string{"a\nb", "a\rb", "a\x00b"} {
		if _, _, err := r.mfa.Lookup(ctx, 1, engine.Alias, key); err == nil {
			t.Errorf("key %q was sent", key)
		}
	}
	if _, _, err := r.mfa.Lookup(ctx, 1, engine.Domain, "x"); err == nil {
		t.Error("a service was asked for that was not registered")
	}
	// After all of this it is the same program, and it was told:
	want := `config|smtpd-version|7.8.0-portable
config|protocol|0.1
config|tablename|t-good
config|ready
table|0.1|t-good|lookup|alias|00000001|root
table|0.1|t-good|check|alias|00000002|root
table|0.1|t-good|lookup|alias|00000003|nobody
table|0.1|t-good|fetch|alias|00000004|
table|0.1|t-good|update|00000005||
table|0.1|t-good|lookup|alias|00000006|err
`
	got, err := os.ReadFile(filepath.Join(dir, "good.log"))
	if err != nil || string(got) != want {
		t.Errorf("%v\ngot:\n%swant:\n%s", err, got, want)
	}
}

// TestHelperStallsNoOther has one program hang while another answers.
func TestHelperStallsNoOther(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "hangs", `sleep 1000`)
	script(t, dir, "good", `echo "lookup-result|$id|found|v"`)
	r := start(t, Config{Rules: helperRules("hangs", "good"), LibexecDirs: []string{dir}, Resolver: "127.0.0.1:9"})
	hung := make(chan error, 1)
	go func() {
		_, _, err := r.mta.Lookup(t.Context(), 1, engine.Alias, "x")
		hung <- err
	}()
	for range 10 { // well within the time that the other has
		if v, ok, err := r.mfa.Lookup(t.Context(), 2, engine.Alias, "x"); v != "v" || !ok || err != nil {
			t.Fatalf("%q, %v, %v", v, ok, err)
		}
	}
	select {
	case err := <-hung:
		t.Errorf("the program that hangs answered: %v", err)
	default:
	}
}

// TestHelperFails has programs that die or talk nonsense: what was asked
// fails, and the next program answers.
func TestHelperFails(t *testing.T) {
	for name, body := range map[string]string{
		"dies":      `exit 1`,
		"nonsense":  `echo hello`,
		"other id":  `echo "lookup-result|ffffffff|found|v"`,
		"no value":  `echo "lookup-result|$id|found|"`,
		"other op":  `echo "check-result|$id|found"`,
		"long line": `head -c 100000 /dev/zero | tr '\0' x`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script(t, dir, "bad", body)
			h := newHelper(helperRules("bad").Table(1), []string{dir}, slog.New(slog.DiscardHandler))
			ended := make(chan error, 1)
			serve := func() {
				_, err := h.serve(t.Context())
				ended <- err
			}
			go serve()
			if v, ok, err := h.lookup(t.Context(), engine.Alias, "x"); err == nil {
				t.Errorf("answered %q, %v", v, ok)
			}
			if err := <-ended; err == nil {
				t.Error("the program was taken for sound")
			}
			script(t, dir, "bad", `echo "lookup-result|$id|found|v"`)
			go serve()
			if v, ok, err := h.lookup(t.Context(), engine.Alias, "x"); v != "v" || !ok || err != nil {
				t.Errorf("%q, %v, %v", v, ok, err)
			}
		})
	}
}

// TestHelperPause has a program that never starts: it is tried after pauses
// that double up to a minute, and meanwhile requests fail without waiting.
func TestHelperPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := newHelper(helperRules("absent").Table(1), nil, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { h.run(ctx); close(ended) }()
		time.Sleep(4*time.Minute - time.Millisecond)
		before := time.Now()
		if _, _, err := h.lookup(ctx, engine.Alias, "x"); !errors.Is(err, errHelperDown) || time.Since(before) != 0 {
			t.Errorf("%v after %v", err, time.Since(before))
		}
		cancel()
		<-ended
		// At 0, 1, 3, 7, 15, 31, 63, 123 and 183 seconds.
		if n := strings.Count(log.String(), "lost processor"); n != 9 {
			t.Errorf("tried %d times:\n%s", n, log.String())
		}
	})
}

// FuzzHelperAnswer checks that an answer is found, not found or an error,
// never two of them.
func FuzzHelperAnswer(f *testing.F) {
	f.Add("lookup", "lookup-result|00000001|found|v")
	f.Add("check", "check-result|00000001|found")
	f.Add("update", "update-result|00000001|error|no")
	f.Add("fetch", "fetch-result|00000001|not-found")
	f.Fuzz(func(t *testing.T, op, line string) {
		r := &helperRequest{op: op}
		err := r.parse(line, "00000001")
		if (err != nil || r.err != nil) && (r.found || r.value != "") {
			t.Fatalf("%q: %+v, %v", line, r, err)
		}
		if r.found && op != "check" && r.value == "" {
			t.Fatalf("%q: found nothing", line)
		}
	})
}
