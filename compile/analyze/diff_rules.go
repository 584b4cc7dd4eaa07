package analyze

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A meaning tells rules, actions and tables of two configurations apart by
// what they say. Equal texts have equal numbers.
type meaning struct {
	numbers map[string]int
}

func (m *meaning) number(text string) int {
	n, ok := m.numbers[text]
	if !ok {
		n = len(m.numbers)
		m.numbers[text] = n
	}
	return n
}

// meanings are the numbers of what a rule table holds.
type meanings struct {
	tables  []int // by TableID
	actions []int // by ActionID
	rules   []int
}

// of numbers what a rule table holds. The tables are inlined by their
// content and actions by their definition, so that names do not matter.
func (m *meaning) of(rs *compile.Ruleset) meanings {
	all := meanings{tables: []int{m.number("no table")}, actions: []int{m.number("reject")}}
	for i := range rs.Tables {
		all.tables = append(all.tables, m.number(content(&rs.Tables[i])))
	}
	for i := range rs.Actions {
		all.actions = append(all.actions, m.number(definition(rs, rs.Actions[i], all.tables)))
	}
	var b []byte
	for i := range rs.Rules {
		r := &rs.Rules[i]
		b = append(append(b[:0], "rule"...), byte(r.From.Kind), byte(r.For.Kind))
		for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
			c := criterion(r, p)
			b = strconv.AppendBool(append(b, byte(c.Sign)), c.Regex)
			b = append(strconv.AppendInt(b, int64(all.tables[c.Table]), 10), ' ')
		}
		b = strconv.AppendInt(b, int64(all.actions[r.Action]), 10)
		all.rules = append(all.rules, m.number(string(b)))
	}
	return all
}

// definition says all that an action means, but for its name.
func definition(rs *compile.Ruleset, a compile.Action, tables []int) string {
	var b strings.Builder
	b.WriteString("action")
	for _, t := range []*compile.TableID{&a.Alias, &a.Virtual, &a.Userbase, &a.Relay.HeloSrc, &a.Relay.Src, &a.Relay.Host, &a.Relay.Domain, &a.Relay.Auth} {
		fmt.Fprint(&b, " ", tables[*t])
		*t = 0
	}
	if a.Relay.Filter != 0 {
		b.WriteString(" " + rs.Filter(a.Relay.Filter).Name)
		a.Relay.Filter = 0
	}
	a.Name, a.Origin = "", compile.Origin{}
	fmt.Fprintf(&b, " %+v", a)
	return b.String()
}

// content says what a table holds, or what is to be asked for it.
func content(t *compile.Table) string {
	if t.Kind == compile.Dynamic {
		return "table " + identity(t)
	}
	b := []byte("table")
	for _, e := range t.Entries {
		b = strconv.AppendQuote(strconv.AppendQuote(append(b, ' '), e.Key), e.Value)
	}
	return string(b)
}

// identity says which source a dynamic table asks.
func identity(t *compile.Table) string {
	if t.Path == "" {
		return t.Backend
	}
	return t.Backend + ":" + t.Path
}

// bySource returns a copy of a rule table in which each dynamic table goes by
// the source that it asks. What is assumed of tables is kept by their names,
// and a source says the same whatever either configuration calls it.
func bySource(rs *compile.Ruleset) *compile.Ruleset {
	c := *rs
	c.Tables = slices.Clone(rs.Tables)
	for i := range c.Tables {
		if t := &c.Tables[i]; t.Kind == compile.Dynamic {
			t.Name = identity(t)
		}
	}
	return &c
}

// uncommon is the place that an index has in the other list if it has none.
const uncommon = -1

// common returns a longest common subsequence of two lists of numbers: for
// each index of either its place in the other list, or uncommon. Only the
// first of equal numbers takes part; so each occurs once in either list, and
// a longest common subsequence is a longest ascending run of places.
func common(a, b []int) (inB, inA []int) {
	places := make(map[int]int, len(b))
	for j := len(b) - 1; j >= 0; j-- {
		places[b[j]] = j
	}
	inB, inA = slices.Repeat([]int{uncommon}, len(a)), slices.Repeat([]int{uncommon}, len(b))
	var ends []int // ends[n]: where in a the run of n+1 ends that ends earliest in b
	place, before := make([]int, len(a)), make([]int, len(a))
	for i, number := range a {
		j, ok := places[number]
		if !ok {
			continue
		}
		delete(places, number)
		place[i] = j
		n := sort.Search(len(ends), func(n int) bool { return place[ends[n]] > j })
		before[i] = -1
		if n > 0 {
			before[i] = ends[n-1]
		}
		if n == len(ends) {
			ends = append(ends, i)
		}
		ends[n] = i
	}
	if len(ends) > 0 {
		for i := ends[len(ends)-1]; i >= 0; i = before[i] {
			inB[i], inA[place[i]] = place[i], i
		}
	}
	return inB, inA
}

// repeated says which numbers occur earlier in a list already.
func repeated(list []int) []bool {
	seen := make(map[int]bool, len(list))
	again := make([]bool, len(list))
	for i, n := range list {
		again[i], seen[n] = seen[n], true
	}
	return again
}

// apart reports whether it is plain that no transaction is matched by both
// rules: they want different exact names. It may be false where none is.
func apart(names map[string]bool, rs *compile.Ruleset, r *compile.Rule) bool {
	if names == nil || !exact(rs, r.For.Criterion) {
		return false
	}
	for _, e := range rs.Table(r.For.Table).Entries {
		if names[e.Key] {
			return false
		}
	}
	return true
}

// domains returns the names that a rule is for if these are all it is for.
func domains(rs *compile.Ruleset, r *compile.Rule) map[string]bool {
	if !exact(rs, r.For.Criterion) {
		return nil
	}
	names := make(map[string]bool)
	for _, e := range rs.Table(r.For.Table).Entries {
		names[e.Key] = true
	}
	return names
}

// exact reports whether a criterion wants one of a list of names.
func exact(rs *compile.Ruleset, c compile.Criterion) bool {
	if c.Sign != compile.Is || c.Regex || rs.Table(c.Table).Kind == compile.Dynamic {
		return false
	}
	return !slices.ContainsFunc(rs.Table(c.Table).Entries, func(e compile.Entry) bool { return strings.Contains(e.Key, "*") })
}
