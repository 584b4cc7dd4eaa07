package lka

import (
	"context"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/imsg"
	"smtpd/runtime/parent"
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

// startPrograms runs an agent, and a parent that starts the programs in dirs.
func startPrograms(t *testing.T, rs *compile.Ruleset, dirs ...string) *rig {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := imsg.Pipe()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- parent.Main(ctx, parent.Config{
			Log: slog.New(slog.DiscardHandler), Tables: rs.Tables, LibexecDirs: dirs, FilterUser: me.Username, LKA: theirs,
		})
	}()
	t.Cleanup(func() { // after the agent has ended
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return start(t, Config{Rules: rs, Resolver: "127.0.0.1:9", Parent: ours})
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
	r := startPrograms(t, helperRules("good"), dir+"/none", dir)
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
	r := startPrograms(t, helperRules("hangs", "good"), dir)
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
