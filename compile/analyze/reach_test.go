package analyze

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpd/compile/engine"
)

// families are rule sets that grow, as the benchmarks of the engine have
// them; in each every rule is reached.
var families = []struct {
	name string
	rule func(b *strings.Builder, i, side int)
}{
	{"hosting", func(b *strings.Builder, i, _ int) {
		from := "from any"
		switch i % 10 {
		case 3:
			from = `from src "192.0.2.0/24"`
		case 7:
			from += " auth"
		}
		fmt.Fprintf(b, "match %s for domain \"d%07d.example\" action in\n", from, i)
	}},
	{"mixed", func(b *strings.Builder, i, _ int) {
		switch i % 3 {
		case 0:
			fmt.Fprintf(b, "match from src \"10.%d.%d.%d\" for any action in\n", i>>16, i>>8&255, i&255)
		case 1:
			fmt.Fprintf(b, "match from any mail-from \"u@s%07d.example\" for any action in\n", i)
		case 2:
			fmt.Fprintf(b, "match from any for domain \"d%07d.example\" action in\n", i)
		}
	}},
	{"grid", func(b *strings.Builder, i, side int) {
		x, y := i/side, i%side
		fmt.Fprintf(b, "match from src \"10.%d.%d.0/24\" for domain \"d%d.example\" action in\n", x>>8, x&255, y)
	}},
	{"shadowed", func(b *strings.Builder, i, _ int) {
		fmt.Fprintf(b, "match from any for domain \"d%07d.example\" action in\n", i/2)
	}},
}

func sideOf(n int) int {
	s := 1
	for s*s < n {
		s++
	}
	return s
}

// processor returns the processor time that the process has used.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReachable measures the question whether every rule decides
// anything, for 100 000 rules of each family.
func BenchmarkReachable(b *testing.B) {
	const rules = 100_000
	for _, f := range families {
		b.Run("family="+f.name, func(b *testing.B) {
			var conf strings.Builder
			for i := range rules {
				f.rule(&conf, i, sideOf(rules))
			}
			rs := load(b, conf.String())
			n, start := 0, processor(b)
			for ; b.Loop(); n++ {
				dead := 0
				for _, r := range Reachable(rs) {
					if r.State != Reached {
						dead++
					}
				}
				if want := map[bool]int{true: rules / 2}[f.name == "shadowed"]; dead != want {
					b.Fatalf("%d rules are not reached, want %d", dead, want)
				}
			}
			b.ReportMetric((processor(b)-start).Seconds()/float64(n), "cpu-s/op") // others may use the machine
		})
	}
}

// TestReachableLanguages is about patterns and expressions that no example
// tells apart: the product of their automata does.
func TestReachableLanguages(t *testing.T) {
	tests := []struct{ name, conf, want string }{
		{"the same in other words", `match from any for domain regex "^(a|b)+$" action in
match from any for domain regex "^[ab][ab]*$" action out`, "rd"},
		{"the union covers", `match from any for domain regex "^a" action in
match from any for domain regex "^[^a]" action in
match from any for domain regex "." action out`, "rrd"},
		{"disjoint", `match from any for domain regex "^a" rcpt-to regex "@b[^@]*$" action in`, "d"},
		{"the domain and the whole address", `match from any for domain regex "^a" rcpt-to regex "^[^@]*@[^a@][^@]*$" action in`, "d"},
		{"a text that no example is", `match from any helo regex { "^mx1?$" "^ns$" } for any action in
match from any helo regex "^(mx|ns)[0-9]*$" for any action out`, "rr"},
		{"expressions and exact names", `match from any for domain { "a.example", "b.example" } action in
match from any for domain regex "^[ab]\.example$" action out
match from any for domain regex "^[abc]\.example$" action out`, "rdr"},
		{"a pattern in an expression", `match from any mail-from regex "@[^.]*\.b\.example$" for any action in
match from any mail-from "@*.b.example" for any action out`, "rd"},
		{"stars", `match from any for domain "a*b*" action in
match from any for domain "a*b*c" action out
match from any for domain "a*c" action out`, "rdr"},
		{"a star stops at the first", `match from any for domain "*a.z" action in
match from any for domain "*.a.z" action out`, "rr"},
		{"sub-addresses", `match from any for rcpt-to regex "^bob(\+.*)?@" action in
match from any for rcpt-to "bob" action out`, "rd"},
		{"tags", `match tag regex "^(a|b)$" from any for any action in
match tag { "a" "b" } from any for any action out
match !tag regex "." from any for any action out`, "rdr"},
		{"upper case is no text", `match from any helo regex "." for any action in
match from any helo regex "[[:upper:]]" for any action out`, "rd"},
		{"only bytes that nobody sends", `match from any helo regex "^[ -~]" for any action in
match from any helo regex "." for any action out`, "ru"},
		{"beyond the budget", `match from any helo regex "^(a|b)*a(a|b){30}$" for any action in
match from any helo regex "^(a|b)*b(a|b){30}$" for any action out
match from any helo regex "^(a|b){31,}$" for any action out`, "rru"},
	}
	for _, tt := range tests {
		rs := load(t, tt.conf)
		e := engine.NewLinear(rs)
		got := ""
		for _, r := range Reachable(rs) {
			got += string(" rdu"[r.State])
			if r.State == Reached {
				if d := e.Decide(t.Context(), &r.Witness.Transaction, nil); d.Rule != r.Rule {
					t.Errorf("%s: witness %+v of rule %d is decided by %d", tt.name, r.Witness, r.Rule, d.Rule)
				}
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestReachableLongTables has a long list that two others cover, but for one
// name in the second case.
func TestReachableLongTables(t *testing.T) {
	const n = 25_000
	for _, left := range []bool{false, true} {
		var lists [3]strings.Builder
		for i := range n {
			fmt.Fprintf(&lists[2], "%q ", fmt.Sprintf("d%d.example", i))
			if i < n-1 || !left {
				fmt.Fprintf(&lists[i%2], "%q ", fmt.Sprintf("d%d.example", i))
			}
		}
		conf := ""
		for i := range lists {
			conf += fmt.Sprintf("table t%d { %s }\nmatch from any for domain <t%d> action %s\n", i, lists[i].String(), i, []string{"in", "in", "out"}[i])
		}
		want := Dead
		if left {
			want = Reached
		}
		list := Reachable(load(t, conf))
		if r := list[2]; r.State != want || want == Reached && r.Witness.Transaction.Rcpt.Domain != fmt.Sprintf("d%d.example", n-1) {
			t.Errorf("with a name left %v: %+v", left, r)
		}
	}
}
