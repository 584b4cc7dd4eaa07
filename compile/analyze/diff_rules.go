package analyze

import (
	"slices"
	"sort"
	"strings"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
)

// bySource returns a copy of a rule table in which each dynamic table goes by
// the source that it asks. What is assumed of tables is kept by their names,
// and a source says the same whatever either configuration calls it.
func bySource(rs *compile.Ruleset) *compile.Ruleset {
	c := *rs
	c.Tables = slices.Clone(rs.Tables)
	for i := range c.Tables {
		if t := &c.Tables[i]; t.Kind == compile.Dynamic {
			t.Name = certificate.Identity(t)
		}
	}
	return &c
}

// uncommon is the place that an index has in the other list if it has none.
const uncommon = -1

// common returns a long common subsequence of two lists of numbers: for each
// index of either its place in the other list, or uncommon. What both begin
// and end with is common. Of what lies between only the first of equal
// numbers takes part, and of these a longest common subsequence, which is a
// longest ascending run of places.
func common(a, b []int) (inB, inA []int) {
	inB, inA = slices.Repeat([]int{uncommon}, len(a)), slices.Repeat([]int{uncommon}, len(b))
	pair := func(i, j int) { inB[i], inA[j] = j, i }
	start, end := 0, 0
	for start < min(len(a), len(b)) && a[start] == b[start] {
		pair(start, start)
		start++
	}
	for end < min(len(a), len(b))-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
		pair(len(a)-end, len(b)-end)
	}
	longestRun(a[start:len(a)-end], b[start:len(b)-end], func(i, j int) { pair(start+i, start+j) })
	return inB, inA
}

// longestRun calls pair for a longest common subsequence of two lists,
// of which only the first of equal numbers takes part.
func longestRun(a, b []int, pair func(i, j int)) {
	places := make(map[int]int, len(b))
	for j := len(b) - 1; j >= 0; j-- {
		places[b[j]] = j
	}
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
			pair(i, place[i])
		}
	}
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
