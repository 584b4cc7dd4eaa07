package mfa

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
	"smtpd/runtime/lka"
)

// domainsTable is the file of fileRules.
const domainsTable = 10

// fileRules has one rule and one filter that look into the same file: mail
// for its domains is relayed, and HELO with one of them is rejected.
func fileRules(t *testing.T, path string) *compile.Ruleset {
	t.Helper()
	rs := testRules()
	rs.Tables = append(rs.Tables, compile.Table{Name: "domains", Kind: compile.List, Backend: "static", Path: path})
	file := compile.Criterion{Sign: compile.Is, Table: compile.TableID(len(rs.Tables))}
	rs.Rules = []compile.Rule{{
		From:   compile.From{Kind: compile.FromAny, Criterion: compile.Criterion{Sign: compile.Is, Table: rs.AnyHost}},
		For:    compile.For{Kind: compile.ForDomain, Criterion: file},
		Action: 4,
	}}
	rs.Filters = []compile.Filter{{Name: "f", Phase: "helo", Do: compile.Reject, Text: "550 no",
		Test: compile.FilterTest{Field: compile.FieldHelo, Criterion: file}}}
	return rs
}

// A pair is mfa and lka at work, and what talks to them.
type pair struct {
	mfa   *Client
	admin *lka.Client
}

func startPair(t *testing.T, rs *compile.Ruleset) pair {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var conns [10]imsg.Conn
	for i := 0; i < len(conns); i += 2 {
		conns[i], conns[i+1] = imsg.Pipe()
	}
	var wg sync.WaitGroup
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	peer := func(c imsg.Conn, h imsg.Handler) *imsg.Peer {
		p := imsg.NewPeer(c, h)
		run(func() error { return p.Run(ctx) })
		return p
	}
	run(func() error {
		return lka.Main(ctx, lka.Config{Rules: rs, MFA: conns[1], Control: conns[9], Resolver: "127.0.0.1:9"})
	})
	run(func() error {
		return Main(ctx, Config{Rules: rs, LKA: conns[0], Queue: conns[2], Parent: conns[4], SMTP: conns[6]})
	})
	peer(conns[3], func(_ context.Context, m imsg.Message) (imsg.Message, error) {
		r := imsg.NewReader(m.Data)
		msg, n := r.Uint32(), r.Uint32()
		b := imsg.AppendUint32(nil, n)
		for i := range n {
			b = imsg.AppendUint64(b, uint64(msg)<<32|uint64(i))
		}
		return imsg.Message{Data: b}, nil
	})
	peer(conns[5], nil)
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return pair{NewClient(peer(conns[7], nil)), lka.NewClient(peer(conns[8], nil))}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFileDecides changes a file that a rule and a filter look into. What it
// holds when the daemon starts and after each update is what the next
// recipient and the next session are decided by; a file with a bad line
// changes nothing.
func TestFileDecides(t *testing.T) {
	path := filepath.Join(t.TempDir(), "domains")
	write(t, path, "one.example\n") // the rules were read when it was empty
	p := startPair(t, fileRules(t, path))
	domains := []string{"one.example", "two.example", "x.three.example"}
	check := func(step, want string) {
		t.Helper()
		var got []string
		for i, d := range domains {
			reply, _, err := p.mfa.Rcpt(t.Context(), *testRcpt(envelope.MessageID(i), "bob@"+d))
			if err != nil {
				t.Fatal(err)
			}
			v, err := p.mfa.Phase(t.Context(), Phase{Filter: 1, Name: "helo", Session: Session{Kind: engine.FromSocket, Helo: d}})
			if err != nil {
				t.Fatal(err)
			}
			if accepted := reply == ""; accepted != (v.Do == compile.Reject) {
				t.Errorf("%s: %s: the rule says %q, the filter %v", step, d, reply, v.Do)
			}
			if reply == "" {
				got = append(got, d)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: accepted %q, want %q", step, s, want)
		}
	}
	check("start", "one.example")
	write(t, path, "two.example\n*.three.example\n")
	if err := p.admin.Update(t.Context(), domainsTable); err != nil {
		t.Fatal(err)
	}
	check("after the update", "two.example x.three.example")
	write(t, path, "one.example\n[bad\n")
	if err := p.admin.Update(t.Context(), domainsTable); err == nil || !strings.Contains(err.Error(), path+":2: ") {
		t.Errorf("a bad line: %v", err)
	}
	check("after a bad line", "two.example x.three.example")
	write(t, path, "# none\n@list\n")
	if err := p.admin.Update(t.Context(), domainsTable); err != nil {
		t.Fatal(err)
	}
	check("an empty file", "")
}

// versions hands out two contents in turn.
type versions struct{ next int }

func (v *versions) Snapshot(context.Context, compile.TableID, lka.Version) (lka.Snapshot, error) {
	v.next++
	keys := [][]compile.Entry{{{Key: "a1.example"}, {Key: "a2.example"}}, {{Key: "b1.example"}, {Key: "b2.example"}}}
	return lka.Snapshot{Version: lka.Version(v.next), Entries: keys[v.next%2]}, nil
}

// TestViewIsOneVersion decides while a table changes: whoever decides sees
// all of one version and nothing of another.
func TestViewIsOneVersion(t *testing.T) {
	rs := fileRules(t, "/none")
	vs := &views{rules: rs, from: new(versions)}
	vs.current.Store(newView(rs))
	if err := vs.change(t.Context(), domainsTable, 1); err != nil {
		t.Fatal(err)
	}
	const changes, deciders = 200, 4
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range deciders {
		wg.Go(func() {
			for more := true; more; {
				select {
				case <-done:
					more = false
				default:
				}
				v := vs.current.Load()
				seen := ""
				for _, d := range []string{"a1.example", "b1.example", "a2.example", "b2.example"} {
					tx := engine.Transaction{Kind: engine.FromSocket, Auth: true, Rcpt: engine.Address{User: "bob", Domain: d}}
					if v.engine.Decide(t.Context(), &tx, nil).Outcome == engine.Accept {
						seen += d[:1]
					}
				}
				if seen != "aa" && seen != "bb" {
					t.Errorf("one view saw %q", seen)
					return
				}
			}
		})
	}
	for i := range changes {
		if err := vs.change(t.Context(), domainsTable, lka.Version(i+2)); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

// TestViewStays has lka fail: what was in force stays.
func TestViewStays(t *testing.T) {
	rs := fileRules(t, "/none")
	vs := &views{rules: rs, from: failing{}}
	before := newView(rs)
	vs.current.Store(before)
	if err := vs.change(t.Context(), domainsTable, 1); !errors.Is(err, errLost) || vs.current.Load() != before {
		t.Errorf("%v, another view %v", err, vs.current.Load() != before)
	}
	if err := vs.change(t.Context(), domainsTable-1, 1); err != nil {
		t.Errorf("a table that nobody looks into: %v", err)
	}
}

var errLost = errors.New("lost")

type failing struct{}

func (failing) Snapshot(context.Context, compile.TableID, lka.Version) (lka.Snapshot, error) {
	return lka.Snapshot{}, errLost
}
