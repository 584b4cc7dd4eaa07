package lka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/imsg"
)

// A recorder stands for mfa: it keeps what it is told and takes the table.
type recorder struct {
	client *Client
	mu     sync.Mutex
	broken bool
	told   []string
}

func (r *recorder) change(ctx context.Context, t compile.TableID, v Version) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return errors.New("not now")
	}
	s, err := r.client.Snapshot(ctx, t, 0)
	if err != nil {
		return err
	}
	var keys []string
	for _, e := range s.Entries {
		keys = append(keys, e.Key)
	}
	r.told = append(r.told, fmt.Sprint(t, " ", strings.Join(keys, ",")))
	return nil
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := r.told
	r.told = nil
	return told
}

// watchRules has two files.
func watchRules(dir string) *compile.Ruleset {
	rs := &compile.Ruleset{Tables: []compile.Table{
		{Name: "used", Kind: compile.List, Backend: "static", Path: filepath.Join(dir, "used")},
		{Name: "aliases", Kind: compile.Mapping, Backend: "static", Path: filepath.Join(dir, "aliases")},
	}}
	rs.SMTP.SubAddrDelim = '+'
	return rs
}

// startWatched runs an agent with a recorder for mfa. It must be called in a
// bubble.
func startWatched(t *testing.T, rs *compile.Ruleset, log *slog.Logger) *recorder {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ours, theirs := imsg.Pipe()
	r := new(recorder)
	peer := imsg.NewPeer(theirs, ChangeHandler(r.change))
	r.client = NewClient(peer)
	var wg sync.WaitGroup
	for _, run := range []func() error{
		func() error { return peer.Run(ctx) },
		func() error { return Main(ctx, Config{Rules: rs, Log: log, MFA: ours, Resolver: "127.0.0.1:9"}) },
	} {
		wg.Go(func() {
			if err := run(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return r
}

// A logText keeps what is logged until it is taken.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

// TestWatch changes files and lets time pass: content is taken over when it
// has stood still for a look, told to mfa, and kept when what follows is
// broken.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := new(logText)
		log := slog.New(slog.NewTextHandler(text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "version" {
				return slog.Attr{}
			}
			return a
		}}))
		dir := t.TempDir()
		used, aliases := filepath.Join(dir, "used"), filepath.Join(dir, "aliases")
		put := func(path, text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		put(used, "a.example\n")
		put(aliases, "root: alice\n")
		r := startWatched(t, watchRules(dir), log)
		expect := func(step string, told []string, root string, lines ...string) {
			t.Helper()
			synctest.Wait()
			if got := r.take(); !slices.Equal(got, told) {
				t.Errorf("%s: mfa was told %q, want %q", step, got, told)
			}
			if v, _, err := r.client.Lookup(t.Context(), 2, engine.Alias, "root"); v != root || err != nil {
				t.Errorf("%s: root is %q, %v; want %q", step, v, err, root)
			}
			want := ""
			if len(lines) > 0 {
				want = strings.ReplaceAll(strings.Join(lines, "\n")+"\n", "DIR", dir)
			}
			if got := text.take(); got != want {
				t.Errorf("%s: logged\n%swant\n%s", step, got, want)
			}
		}
		const reloaded = `level=INFO msg="table reloaded" table=`
		const kept = `level=WARN msg="table not reloaded, its old content stays" table=`
		expect("start", []string{"1 a.example", "2 root"}, "alice", reloaded+"used entries=1", reloaded+"aliases entries=1")
		put(used, "a.example\nb.example\n")
		put(aliases, "root: bob1\n")
		time.Sleep(lookEvery)
		expect("one look later", nil, "alice")
		put(used, "a.example\nb.example\nc.example\n") // it is still being written
		time.Sleep(lookEvery)
		expect("two looks later", []string{"2 root"}, "bob1", reloaded+"aliases entries=1")
		time.Sleep(lookEvery)
		expect("three looks later", []string{"1 a.example,b.example,c.example"}, "bob1", reloaded+"used entries=3")
		put(aliases, "root: carol\nlonely\n")
		put(used, "[a\n")
		time.Sleep(10 * lookEvery)
		expect("bad lines", nil, "bob1", kept+`used err="DIR/used:1: no ] after ["`,
			kept+`aliases err="DIR/aliases:2: no value for \"lonely\"; the first entry made this file a mapping of keys and values"`)
		os.Remove(used)
		time.Sleep(10 * lookEvery)
		expect("gone", nil, "bob1", kept+`used err="stat DIR/used: no such file or directory"`)
		put(used, "d.example\n")
		put(aliases, "root: bob1\n") // what is known already
		time.Sleep(10 * lookEvery)
		expect("back", []string{"1 d.example"}, "bob1", reloaded+"used entries=1")
	})
}

// TestWatchTellsAgain has mfa fail: it is told again until it listens.
func TestWatchTellsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for _, name := range []string{"used", "aliases"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := startWatched(t, watchRules(dir), nil)
		synctest.Wait()
		r.take()
		r.mu.Lock()
		r.broken = true
		r.mu.Unlock()
		if err := os.WriteFile(filepath.Join(dir, "used"), []byte("x.example\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * lookEvery)
		r.mu.Lock()
		r.broken = false
		r.mu.Unlock()
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if got := r.take(); !slices.Equal(got, []string{"1 x.example"}) {
			t.Errorf("mfa was told %q", got)
		}
	})
}

// TestSnapshot carries tables of all sizes over, and one that changes on the
// way.
func TestSnapshot(t *testing.T) {
	r := start(t, Config{Rules: testRules(t), Resolver: "127.0.0.1:9"})
	path := r.rules.Table(fileMap).Path
	long := strings.Repeat("x", 1000)
	for _, n := range []int{0, 1, 10_000} {
		var text bytes.Buffer
		for i := range n {
			fmt.Fprintf(&text, "%s%05d v\n", long, i)
		}
		if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.control.Update(t.Context(), fileMap); err != nil {
			t.Fatal(err)
		}
		s, err := r.mfa.Snapshot(t.Context(), fileMap, 0)
		if err != nil || len(s.Entries) != n || s.Entries == nil {
			t.Fatalf("%d entries of %d, nil %v, %v", len(s.Entries), n, s.Entries == nil, err)
		}
		for i, e := range s.Entries {
			if e.Key != fmt.Sprintf("%s%05d", long, i) || e.Value != "" {
				t.Fatalf("entry %d is %+v", i, e)
			}
		}
		again, err := r.mfa.Snapshot(t.Context(), fileMap, s.Version)
		if err != nil || again.Entries != nil || again.Version != s.Version {
			t.Errorf("the version that was there already: %d entries, %v", len(again.Entries), err)
		}
	}
	for _, id := range []compile.TableID{users, 99, 0} {
		if _, err := r.mfa.Snapshot(t.Context(), id, 0); err == nil {
			t.Errorf("table %d was handed out", id)
		}
	}
}

// TestPart checks that no part is over its size and that parts of two
// versions do not mix.
func TestPart(t *testing.T) {
	var entries []compile.Entry
	for i := range 5000 {
		entries = append(entries, compile.Entry{Key: fmt.Sprintf("%01000d", i)})
	}
	s := newStatic(&compile.Table{Entries: entries}, '+')
	v := VersionOf(entries)
	p := s.part(snapshotQuery{})
	if size := len(p.append(nil)); size > partSize+2*1023 || p.Version != v || p.Total != 5000 {
		t.Errorf("a part of %d bytes, version %v, of %d", size, p.Version, p.Total)
	}
	for _, q := range []snapshotQuery{{Version: v}, {Version: v + 1, From: 1}, {Version: v, From: 5001}, {Version: v, From: 5000}} {
		if p := s.part(q); len(p.Keys) > 0 || p.Version != v {
			t.Errorf("%+v: %d keys of %v", q, len(p.Keys), p.Version)
		}
	}
	if VersionOf([]compile.Entry{{Key: "ab", Value: "c"}}) == VersionOf([]compile.Entry{{Key: "a", Value: "bc"}}) {
		t.Error("two contents have one version")
	}
}

// BenchmarkSnapshot measures what it takes to hand a table of a million
// domains to mfa.
func BenchmarkSnapshot(b *testing.B) {
	entries := make([]compile.Entry, 1_000_000)
	for i := range entries {
		entries[i].Key = fmt.Sprintf("d%07d.example", i)
	}
	rs := &compile.Ruleset{Tables: []compile.Table{{Name: "t", Kind: compile.List, Backend: "static", Entries: entries}}}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ours, theirs := imsg.Pipe()
	peer := imsg.NewPeer(theirs, nil)
	done := make(chan error, 2)
	go func() { done <- peer.Run(ctx) }()
	go func() { done <- Main(ctx, Config{Rules: rs, MFA: ours, Resolver: "127.0.0.1:9"}) }()
	c := NewClient(peer)
	b.ReportAllocs()
	for b.Loop() {
		if s, err := c.Snapshot(ctx, 1, 0); err != nil || len(s.Entries) != len(entries) {
			b.Fatal(len(s.Entries), err)
		}
	}
	cancel()
	<-done
	<-done
}
