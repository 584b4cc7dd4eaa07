package analyze

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
	"smtpd/compile/engine"
)

// Two tables that have to be asked.
const twoTables = vip + "table big ldap:/etc/big.conf\n"

// TestDiffDown compares random rules that ask two sources, with every answer
// that these may give together, none among them. Though Diff looks at one
// source that is down at a time, it misses nothing.
func TestDiffDown(t *testing.T) {
	words := [][]string{
		{" from any", " from any", " from src <vip>", " !from src <big>", " from rdns <vip>", " !from rdns <big>", " from socket"},
		{" for any", " for any", ` for domain "a.example"`, " for domain <vip>", " !for domain <big>"},
		{"", "", "", " auth", " auth <vip>", " !auth <big>"},
		{"", "", " mail-from <vip>", " !mail-from <big>"},
		{"", "", " rcpt-to <big>", " !rcpt-to <vip>"},
		{" reject", " action in", " action out"},
	}
	random := rand.New(rand.NewPCG(5, 6))
	rule := func() string {
		text := "match"
		for _, w := range words {
			text += w[random.IntN(len(w))]
		}
		return text + "\n"
	}
	verdicts := make(map[Verdict]int)
	for range 120 {
		conf := []string{rule(), rule(), rule()}
		changed := append([]string{}, conf...)
		if i := random.IntN(len(conf)); random.IntN(3) > 0 {
			changed[i] = rule()
		} else {
			changed[0], changed[i] = changed[i], changed[0]
		}
		before, after := load(t, twoTables+strings.Join(conf, "")), load(t, twoTables+strings.Join(changed, ""))
		got := Diff(before, after)
		verdicts[got.Verdict]++
		for _, c := range got.Changes {
			checkWitness(t, before, after, &c)
		}
		if got.Decided < got.Regions {
			t.Fatalf("%d of %d regions decided though nothing is inexact\n%v\n%v", got.Decided, got.Regions, conf, changed)
		}
		if got.Verdict == Proved {
			compareAnswers(t, before, after, conf, changed)
		}
	}
	if verdicts[Proved] < 10 || verdicts[Refuted] < 10 {
		t.Errorf("verdicts %v try one side only", verdicts)
	}
}

// compareAnswers decides transactions with all that two tables may say.
func compareAnswers(t *testing.T, before, after *compile.Ruleset, conf, changed []string) {
	t.Helper()
	older, newer := engine.NewLinear(before), engine.NewLinear(after)
	answers := []answer{{false, nil}, {true, nil}, {false, errDown}}
	n := 0
	for tx := range transactions {
		if n++; n%37 != 0 { // a sample that meets each value of each field
			continue
		}
		for _, one := range answers {
			for _, two := range answers {
				a := older.Decide(t.Context(), &tx, both{before, one, two})
				b := newer.Decide(t.Context(), &tx, both{after, one, two})
				if outcomeOf(before, a) != outcomeOf(after, b) {
					t.Fatalf("%+v, answers %v and %v: decided by %d and %d though that is proved impossible\n%v\n%v", tx, one, two, a.Rule, b.Rule, conf, changed)
				}
			}
		}
	}
}

// A both answers for two tables.
type both struct {
	rules    *compile.Ruleset
	vip, big answer
}

func (b both) Check(ctx context.Context, id compile.TableID, s engine.Service, key string) (bool, error) {
	if b.rules.Table(id).Name == "vip" {
		return b.vip.Check(ctx, id, s, key)
	}
	return b.big.Check(ctx, id, s, key)
}

// TestDiffDelimiters compares tables that split sub-addresses differently.
func TestDiffDelimiters(t *testing.T) {
	const plus, minus = "smtp sub-addr-delim \"+\"\n", "smtp sub-addr-delim \"-\"\n"
	tests := []struct {
		name, before, after string
		want                Verdict
		rcpt                string // of the first witness
	}{
		{"no addresses", "match from any for any action in", "match from any for any action in", Proved, ""},
		{"domains of addresses", "match from any for any rcpt-to \"@a.example\" action in", "match from any for any rcpt-to \"@a.example\" action in", Proved, ""},
		{"users", "match from any for any rcpt-to \"bob\" action in", "match from any for any rcpt-to \"bob\" action in", Refuted, "bob-other"},
		{"users of whom all is rejected", "match from any for any rcpt-to \"bob\" reject", "match from any for any rcpt-to \"bob\" reject", Proved, ""},
		{"a sub-address", "match from any for any rcpt-to \"bob+x\" action in", "match from any for any rcpt-to \"bob+x\" action in", Refuted, "bob+x-other"},
		{"both", "match from any for any rcpt-to regex \"^bob[+-]\" reject\nmatch from any for any rcpt-to \"bob\" action in",
			"match from any for any rcpt-to regex \"^bob[+-]\" reject\nmatch from any for any rcpt-to \"bob\" action in", Unknown, ""},
		{"a source that is asked", vip + "match from any for any rcpt-to <vip> action in", vip + "match from any for any rcpt-to <vip> action in", Unknown, ""},
	}
	for _, tt := range tests {
		before, after := load(t, plus+tt.before), load(t, minus+tt.after)
		got := Diff(before, after)
		if got.Verdict != tt.want || (got.Verdict == Unknown) != (got.Unproved != "") {
			t.Errorf("%s: %v (%s) with %+v, want %v", tt.name, got.Verdict, got.Unproved, got.Changes, tt.want)
			continue
		}
		for _, c := range got.Changes {
			checkWitness(t, before, after, &c)
		}
		if tt.rcpt != "" && got.Changes[0].Witness.Transaction.Rcpt.User != tt.rcpt {
			t.Errorf("%s: witness to %v, want %s", tt.name, got.Changes[0].Witness.Transaction.Rcpt, tt.rcpt)
		}
	}
}

// refactorings decide as before, for different reasons.
var refactorings = [][2]string{
	{"match from any for domain \"a.example\" action in\nmatch from any for domain \"b.example\" action out",
		"match from any for domain \"b.example\" action out\nmatch from any for domain \"a.example\" action in"},
	{"match from any for domain { \"a.example\", \"b.example\" } action in",
		"match from any for domain \"a.example\" action in\nmatch from any for domain \"b.example\" action in"},
	{"match from any auth for any action out\nmatch from any for any action in",
		"match from any !auth for any action in\nmatch from any for any action out"},
	{"match from src \"192.0.2.0/24\" for any action in\nmatch from any for any reject",
		"match from src \"192.0.2.0/25\" for any action in\nmatch from src \"192.0.2.128/25\" for any action in"},
	{vip + "match from any mail-from <vip> for any action in\nmatch from any for any reject",
		vip + "match from any !mail-from <vip> for any reject\nmatch from any for any action in"},
	{twoTables + "match from any mail-from <vip> rcpt-to <big> for any action in",
		twoTables + "match from any mail-from <vip> rcpt-to <big> for domain \"a.example\" action in\nmatch from any mail-from <vip> rcpt-to <big> for any action in"},
	{"match from any for any action in\nmatch from any tls for any action out", "match from any for any action in"},
}

// TestVerifyEqual checks that certificates are good as they are written, that
// none is once something in it is changed, and that each is good only for
// what it was made for.
func TestVerifyEqual(t *testing.T) {
	for _, pair := range refactorings {
		before, after := load(t, pair[0]), load(t, pair[1])
		got := Diff(before, after)
		if got.Verdict != Proved {
			t.Errorf("%v (%s) with %+v\n%s\n\n%s", got.Verdict, got.Unproved, got.Changes, pair[0], pair[1])
			continue
		}
		text, err := json.Marshal(got.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		if err := certificate.VerifyEqual(before, after, parseCertificate(t, string(text))); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		for _, change := range []struct{ from, to string }{
			{`"version":2`, `"version":1`},
			{`"claim":"no decision changes"`, `"claim":"no stranger can relay"`},
			{`"common":[{"old":1,"new":1`, `"common":[{"old":1,"new":2`},
			{`"count":1`, `"count":2`},
			{`"taken":{"rule":1`, `"taken":{"rule":9`},
			{`"empty":"for"`, `"empty":"tls"`},
			{`"empty":"mail-from"`, `"empty":"helo"`},
			{`"by_new":true`, `"by_new":false`},
		} {
			bad := strings.ReplaceAll(string(text), change.from, change.to)
			if bad != string(text) && certificate.VerifyEqual(before, after, parseCertificate(t, bad)) == nil {
				t.Errorf("taken though %s was made %s\n%s", change.from, change.to, bad)
			}
		}
		for _, other := range []string{"match from any for any action out", pair[1] + "\nmatch from any for any rcpt-to \"x@c.example\" action out"} {
			rs := load(t, other)
			if Diff(before, rs).Verdict == Refuted && certificate.VerifyEqual(before, rs, got.Certificate) == nil {
				t.Errorf("taken for other rules: %s\n%s", other, text)
			}
		}
	}
}

// TestVerifyEqualRandom offers certificates for random rules that decide
// differently: those of other pairs, and those that claim more in common.
func TestVerifyEqualRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	var good []*certificate.Certificate
	different, proved := 0, 0
	for range 300 {
		conf := randomRules(random)
		changed := edit(random, conf)
		before, after := load(t, vip+strings.Join(conf, "")), load(t, vip+strings.Join(changed, ""))
		got := Diff(before, after)
		if got.Verdict == Proved {
			proved++
			good = append(good, got.Certificate)
		}
		if got.Verdict != Refuted {
			continue
		}
		different++
		all := &certificate.Certificate{Version: certificate.Version, Claim: certificate.Equal,
			Common: []certificate.Run{{Old: 1, New: 1, Count: min(len(before.Rules), len(after.Rules))}}}
		for _, c := range append(good, all, &certificate.Certificate{Version: certificate.Version, Claim: certificate.Equal}) {
			if certificate.VerifyEqual(before, after, c) == nil {
				text, _ := json.Marshal(c)
				t.Fatalf("taken though decisions differ: %+v\n%v\n%v\n%s", got.Changes, conf, changed, text)
			}
		}
	}
	if different < 20 || proved < 20 {
		t.Errorf("%d different and %d proved are one side only", different, proved)
	}
}

// TestVerifyBudget gives the checker certificates and tables that are made
// to keep it busy: it gives up.
func TestVerifyBudget(t *testing.T) {
	var names []string
	for i := range 3000 {
		names = append(names, fmt.Sprintf("\"u%d@d%d.example\"", i, i), fmt.Sprintf("\"u%d\"", i))
	}
	list := strings.Join(names, ", ")
	rs := load(t, "listen on eth0\nmatch from any for any rcpt-to { "+list+" } reject\n"+
		"match from any for any !rcpt-to { "+list+", \"z\" } reject\nmatch from any for any rcpt-to \"z\" reject\nmatch from any for any action out")
	tree := &certificate.Node{Empty: "rcpt-to"}
	for range 4000 {
		tree = &certificate.Node{Taken: &certificate.Taken{Case: certificate.Case{Rule: 1}}, Rest: map[string]*certificate.Node{"rcpt-to": tree}}
	}
	c := &certificate.Certificate{Version: certificate.Version, Claim: certificate.Closed,
		Proofs: []certificate.Proof{{Listener: 1, Old: certificate.Case{Rule: 4}, Tree: tree}}}
	if err := certificate.VerifyClosed(rs, c); err == nil || !strings.Contains(err.Error(), "too much work") {
		t.Errorf("checked with %v", err)
	}
	if _, err := certificate.Read(strings.NewReader(strings.Repeat(`{"tree":`, 100_000))); err == nil {
		t.Error("read")
	}
}
