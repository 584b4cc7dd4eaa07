package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"

	"smtpd/compile"
	"smtpd/compile/tablefile"
	"smtpd/compile/tablefile/cdb"
	"smtpd/runtime/control"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
)

// startTables serves tables as the daemon whose spool is dir does.
func startTables(t *testing.T, dir string, tables ...compile.Table) {
	t.Helper()
	listen := func(name string) *net.UnixListener {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	log := slog.New(slog.DiscardHandler)
	c := control.Config{Log: log, Admin: listen("control.sock"), Submission: listen("submit.sock"), Level: new(slog.LevelVar)}
	l := lka.Config{Log: log, Rules: &compile.Ruleset{Tables: tables}, Resolver: "127.0.0.1:9"}
	c.LKA, l.Control = imsg.Pipe()
	for _, f := range reflect.ValueOf(&c).Elem().Fields() { // who else is asked says nothing
		if conn, ok := f.Addr().Interface().(*imsg.Conn); ok && *conn == nil {
			*conn, _ = imsg.Pipe()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { control.Main(ctx, c) })
	running.Go(func() { lka.Main(ctx, l) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

// TestExplainAsk has the daemon asked for what the configuration does not
// hold: the trace says what it answered, from where, and how long that took.
func TestExplainAsk(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	database := func(name string, entries ...tablefile.Entry) string {
		data, err := cdb.Encode(entries)
		if err != nil {
			t.Fatal(err)
		}
		return write(name, data)
	}
	aliases := database("aliases.db", tablefile.Entry{Key: "postmaster", Value: "root"}, tablefile.Entry{Key: "gone", Value: "nosuchuser-"})
	domains := database("domains.db", tablefile.Entry{Key: "here.example", Value: "<set>"})
	conf := write("smtpd.conf", []byte(`table aliases db:`+aliases+`
table domains db:`+domains+`
table other db:`+domains+`
action in maildir alias <aliases>
match from any for domain <domains> action in
match from any for domain <other> action in
`))
	startTables(t, dir,
		compile.Table{Name: "aliases", Kind: compile.Dynamic, Backend: "db", Path: aliases},
		compile.Table{Name: "domains", Kind: compile.Dynamic, Backend: "db", Path: domains},
	)
	t.Setenv("SMTPD_SPOOL", dir)
	took := regexp.MustCompile(`, [0-9.µnm]*s\)`)
	explain := func(args ...string) string {
		var out, errs bytes.Buffer
		args = append(append([]string{"explain", "--ask", "--from", "203.0.113.9"}, args...), conf)
		if status := run(args, &streams{in: strings.NewReader(`{"source":"203.0.113.9","rcpt_to":"x@here.example"}`), out: &out, err: &errs}); status != good {
			t.Fatalf("status %d: %s", status, &errs)
		}
		return took.ReplaceAllString(strings.ReplaceAll(out.String(), dir, "DIR"), ", TIME)")
	}
	tests := []struct {
		rcpt string
		want []string
	}{
		{"postmaster@here.example", []string{
			`table <domains> is asked (domain) for "here.example": found (db:DIR/domains.db, TIME)`,
			`<aliases> has "postmaster": root (db:DIR/aliases.db, TIME)`,
			`<aliases> has no "root" (db:DIR/aliases.db, TIME)`,
			`the system has "root" (getpwnam, TIME)`,
			"reply: 250 2.1.5",
		}},
		{"gone@here.example", []string{`no user "nosuchuser-"`, "reply: 550 "}},
		{"x@there.example", []string{
			`table <domains> is asked (domain) for "there.example": not found (db:DIR/domains.db, TIME)`,
			`no table is called other`,
		}},
	}
	for _, tt := range tests {
		got := explain("--rcpt-to", tt.rcpt)
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in\n%s", tt.rcpt, want, got)
			}
		}
	}
	if got := explain("--rcpt-to", "postmaster@here.example", "--format", "json"); !strings.Contains(got, `"value":"root","backend":"db:DIR/aliases.db","seconds":`) {
		t.Errorf("no backend and time in %s", got)
	}
	if got := explain("--batch"); !strings.Contains(got, `"outcome":"maildir"`) {
		t.Errorf("--batch: %s", got)
	}
	t.Setenv("SMTPD_SPOOL", filepath.Join(dir, "none"))
	var out, errs bytes.Buffer
	if status := run([]string{"explain", "--ask", "--rcpt-to", "x@here.example", conf}, &streams{in: strings.NewReader(""), out: &out, err: &errs}); status == good || !strings.Contains(errs.String(), "the daemon cannot be asked") {
		t.Errorf("without a daemon: status %d, %s", status, &errs)
	}
}
