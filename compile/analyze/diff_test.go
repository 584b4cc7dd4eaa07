package analyze

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
	"smtpd/compile/engine"
)

func TestDiff(t *testing.T) {
	const base = "match from any for domain \"a.example\" action in\nmatch for any action out\n"
	tests := []struct {
		name, before, after string
		want                Verdict
		changes             int
	}{
		{"nothing", base, base, Proved, 0},
		{"a table with a name", base, "table a { \"a.example\" }\nmatch from any for domain <a> action in\nmatch for any action out\n", Proved, 0},
		{"a rule that never decides", base, base + "match from any for domain \"a.example\" reject\n", Proved, 0},
		{"two for one", "match from any for domain { \"a.example\", \"b.example\" } action in",
			"match from any for domain \"a.example\" action in\nmatch from any for domain \"b.example\" action in", Proved, 0},
		{"an open relay", base, base + "match from any for any action out\n", Refuted, 1},
		{"a reject that disappears", "match from src \"192.0.2.9\" for any reject\n" + base, base, Refuted, 1},
		{"a table with another name", vip + "match from any mail-from <vip> for any action in", "table big ldap:/etc/ldap.conf\nmatch from any mail-from <big> for any action in", Proved, 0},
		{"a table that may be down", "match from any for any action in", vip + "match from any mail-from <vip> for any action in\nmatch from any for any action in", Refuted, 1},
		{"order that matters", base, "match for any action out\nmatch from any for domain \"a.example\" action in", Refuted, 1},
	}
	for _, tt := range tests {
		before, after := load(t, tt.before), load(t, tt.after)
		got := Diff(before, after)
		if got.Verdict != tt.want || len(got.Changes) != tt.changes {
			t.Errorf("%s: %v with %+v, want %v with %d changes", tt.name, got.Verdict, got.Changes, tt.want, tt.changes)
		}
		for _, c := range got.Changes {
			older := engine.NewLinear(before).Decide(t.Context(), &c.Witness.Transaction, &saying{before, &c})
			newer := engine.NewLinear(after).Decide(t.Context(), &c.Witness.Transaction, &saying{after, &c})
			if older.Rule != c.Old.Rule || newer.Rule != c.New.Rule {
				t.Errorf("%s: witness %+v is decided by %d and %d", tt.name, c.Witness, older.Rule, newer.Rule)
			}
		}
	}
}

// TestDiffFindsAll compares random small rule tables, and each transaction
// out of those that the rules can tell apart: where the decisions differ, the
// two rules are a pair of a reported change, unless the report says that it
// did not look at all.
func TestDiffFindsAll(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	verdicts := make(map[Verdict]int)
	for range 50 {
		conf := randomRules(random)
		changed := edit(random, conf)
		before, after := load(t, vip+strings.Join(conf, "")), load(t, vip+strings.Join(changed, ""))
		got := Diff(before, after)
		verdicts[got.Verdict]++
		reported := make(map[Pair]bool)
		for _, c := range got.Changes {
			for _, p := range c.Pairs {
				reported[p] = true
			}
			checkWitness(t, before, after, &c)
		}
		if got.Decided < got.Regions {
			if !strings.Contains(strings.Join(append(conf, changed...), ""), "regex") {
				t.Errorf("%d of %d regions decided though nothing is inexact", got.Decided, got.Regions)
			}
			continue
		}
		older, newer := engine.NewLinear(before), engine.NewLinear(after)
		for tx := range transactions {
			for _, says := range []answer{{false, nil}, {true, nil}, {false, errDown}} {
				a, b := older.Decide(t.Context(), &tx, says), newer.Decide(t.Context(), &tx, says)
				if outcomeOf(before, a) != outcomeOf(after, b) && !reported[Pair{a.Rule, b.Rule}] {
					t.Fatalf("%+v, answer %v: decided by %d and %d, which is not reported\nbefore\n%safter\n%s", tx, says, a.Rule, b.Rule, strings.Join(conf, ""), strings.Join(changed, ""))
				}
			}
		}
	}
	if verdicts[Proved] == 0 || verdicts[Refuted] == 0 {
		t.Errorf("verdicts %v try one side only", verdicts)
	}
}

// An answer is the same to every question.
type answer struct {
	found bool
	err   error
}

func (a answer) Check(context.Context, compile.TableID, engine.Service, string) (bool, error) {
	return a.found, a.err
}

func checkWitness(t *testing.T, before, after *compile.Ruleset, c *Change) {
	t.Helper()
	a, b := replayed(t, before, after, c)
	if outcomeOf(before, a) == outcomeOf(after, b) {
		t.Errorf("witness %+v of %v is decided by %d and %d, which do the same", c.Witness, c.Pairs, a.Rule, b.Rule)
	}
}

// replayed decides the witness of a change again, as the change says.
func replayed(t *testing.T, before, after *compile.Ruleset, c *Change) (a, b engine.Decision) {
	t.Helper()
	a = engine.NewLinear(before).Decide(t.Context(), &c.Witness.Transaction, &saying{before, c})
	b = engine.NewLinear(after).Decide(t.Context(), &c.Witness.Transaction, &saying{after, c})
	if c.Pairs[0] != (Pair{a.Rule, b.Rule}) || a.Outcome != c.Old.Outcome || b.Outcome != c.New.Outcome {
		t.Errorf("witness %+v of %v is decided by %d and %d", c.Witness, c.Pairs, a.Rule, b.Rule)
	}
	return a, b
}

// A saying gives the answers that a change assumes.
type saying struct {
	rules  *compile.Ruleset
	change *Change
}

func (s *saying) Check(_ context.Context, id compile.TableID, _ engine.Service, key string) (bool, error) {
	source := certificate.Identity(s.rules.Table(id))
	if source == s.change.Down {
		return false, errDown
	}
	for _, a := range s.change.Witness.Assumed {
		if a.Table == source && a.Key == key {
			return a.Found, nil
		}
	}
	return false, ErrNotAsked
}

// outcomeOf names what is done with mail.
func outcomeOf(rs *compile.Ruleset, d engine.Decision) string {
	if d.Outcome == engine.Accept {
		return rs.Action(rs.Rules[d.Rule].Action).Name
	}
	if d.Outcome == engine.TempFail {
		return "tempfail"
	}
	return "reject"
}

// vip is a table that has to be asked.
const vip = "table vip ldap:/etc/ldap.conf\n"

// The words that random rules are made of. All that these can tell apart is
// in transactions.
var ruleWords = [][]string{
	{"", "", "", " tag A", " !tag A"},
	{"", " from any", " from any", " from any", ` from src "192.0.2.0/24"`, ` from src "192.0.2.128/25"`, ` !from src { "192.0.2.0/24", "::/0" }`,
		` from src "local"`, " from socket", ` from rdns regex "^client"`, " from rdns"},
	{" for any", " for any", ` for domain "a.example"`, ` for domain { "a.example", "b.example" }`, ` for domain "*.a.example"`, ` !for domain "a.example"`,
		` for domain regex "^a"`},
	{"", "", "", " auth", " !auth", ` auth { "u", "v" }`, " auth <vip>", " !auth <vip>"},
	{"", "", "", " tls", " !tls"},
	{"", "", "", ` mail-from "@a.example"`, ` !mail-from "s@a.example"`, ` mail-from "s"`, " mail-from <vip>", " !mail-from <vip>"},
	{"", "", "", ` rcpt-to "x@a.example"`, ` !rcpt-to "x"`, ` rcpt-to "x+y"`},
	{" reject", " action in", " action out", " action out"},
}

func randomRules(r *rand.Rand) []string {
	var rules []string
	for range 1 + r.IntN(5) {
		rules = append(rules, randomRule(r))
	}
	return rules
}

func randomRule(r *rand.Rand) string {
	rule := "match"
	for _, words := range ruleWords {
		rule += words[r.IntN(len(words))]
	}
	return rule + "\n"
}

// edit inserts, removes, replaces or moves a rule or two.
func edit(r *rand.Rand, rules []string) []string {
	rules = slices.Clone(rules)
	for range 1 + r.IntN(2) {
		i, j := r.IntN(len(rules)), r.IntN(len(rules))
		switch r.IntN(4) {
		case 0:
			rules = slices.Insert(rules, i, randomRule(r))
		case 1:
			rules[i] = randomRule(r)
		case 2:
			rules[i], rules[j] = rules[j], rules[i]
		case 3:
			if len(rules) > 1 {
				rules = slices.Delete(rules, i, i+1)
			}
		}
	}
	return rules
}

// transactions are one out of each class that ruleWords can tell apart.
func transactions(yield func(engine.Transaction) bool) {
	type from struct {
		kind       engine.SourceKind
		addr, rdns string
	}
	for _, f := range []from{{engine.FromSocket, "", "client"}, {engine.FromInternal, "", ""}, {engine.FromInternal, "", "client"},
		{engine.FromAddress, "192.0.2.9", ""}, {engine.FromAddress, "192.0.2.200", "client"}, {engine.FromAddress, "192.0.2.200", "x"},
		{engine.FromAddress, "203.0.113.1", "client"}, {engine.FromAddress, "203.0.113.1", ""}, {engine.FromAddress, "127.0.0.1", "x"}, {engine.FromAddress, "2001:db8::1", "x"}} {
		addr, _ := netip.ParseAddr(f.addr)
		for n := range 2 * 2 * 4 * 4 * 8 * 3 {
			pick := func(of int) int { k := n % of; n /= of; return k }
			tx := engine.Transaction{Kind: f.kind, Addr: addr, RDNS: f.rdns, Helo: "h", TLS: pick(2) == 1, Tag: []string{"", "A"}[pick(2)]}
			tx.User = []string{"", "u", "v", "w"}[pick(4)]
			tx.Auth = tx.User != ""
			if f.kind == engine.FromSocket {
				tx.Auth, tx.User = true, ""
			}
			tx.Sender = []engine.Address{{}, {User: "s", Domain: "a.example"}, {User: "o", Domain: "a.example"}, {User: "s", Domain: "q.example"}}[pick(4)]
			tx.Rcpt.Domain = []string{"a.example", "b.example", "z.a.example", "az.example", "a.a.example", "c.example", "a.c.a.example", "A.EXAMPLE"}[pick(8)]
			tx.Rcpt.User = []string{"x", "x+y", "o"}[pick(3)]
			if !yield(tx) {
				return
			}
		}
	}
}

// TestDiffLarge holds the cost of a comparison to the size of the edit.
func TestDiffLarge(t *testing.T) {
	const many = 20_000
	var rules []string
	for i := range many {
		rules = append(rules, fmt.Sprintf("match from any for domain \"d%d.example\" action in\n", i))
	}
	before := load(t, strings.Join(rules, ""))
	for _, tt := range []struct {
		name  string
		edit  []string
		pairs int
	}{
		{"one appended", append(slices.Clone(rules), "match from any for any action out\n"), 1},
		{"one changed", append([]string{"match from any for domain \"d0.example\" action out\n"}, rules[1:]...), 1},
		{"two moved", append([]string{rules[1], rules[0]}, rules[2:]...), 0},
		{"one before all", append([]string{"match from any for any reject\n"}, rules...), many},
	} {
		start := time.Now()
		got := Diff(before, load(t, strings.Join(tt.edit, "")))
		pairs := 0
		for _, c := range got.Changes {
			pairs += len(c.Pairs)
		}
		t.Logf("%s: %v, %d changes, %d pairs, %v", tt.name, got.Verdict, len(got.Changes), pairs, time.Since(start))
		if pairs != tt.pairs || got.Decided != got.Regions || len(got.Changes) > 1 {
			t.Errorf("%s: %d changes, %d pairs, want %d; %d of %d regions decided", tt.name, len(got.Changes), pairs, tt.pairs, got.Decided, got.Regions)
		}
	}
}

// BenchmarkDiff changes one rule of many. What is read of all rules is read
// once; only what the changed one may decide is searched.
func BenchmarkDiff(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			rules := make([]string, n)
			for i := range rules {
				rules[i] = fmt.Sprintf("match from any for domain \"d%d.example\" action in\n", i)
			}
			before := load(b, strings.Join(rules, ""))
			rules[n/2] = strings.Replace(rules[n/2], "action in", "action out", 1)
			after := load(b, strings.Join(rules, ""))
			for b.Loop() {
				if d := Diff(before, after); d.Verdict != Refuted || len(d.Changes) != 1 || d.Regions > 3 {
					b.Fatalf("%v, %d changes, %d regions", d.Verdict, len(d.Changes), d.Regions)
				}
			}
		})
	}
}
