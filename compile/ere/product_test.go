package ere

import (
	"strings"
	"testing"
)

// parseClause reads an expression, with ! before it for its negation and @:
// for one of what follows the last @.
func parseClause(text string) (c Clause, err error) {
	text, c.Not = strings.CutPrefix(text, "!")
	if rest, ok := strings.CutPrefix(text, "@:"); ok {
		c.After, text = '@', rest
	}
	c.Expr, err = Compile(text)
	return c, err
}

func clause(t testing.TB, text string) Clause {
	t.Helper()
	c, err := parseClause(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const letters = "abcdefghijklmnopqrstuvwxyz0123456789.-@_+"

func TestFind(t *testing.T) {
	tests := []struct {
		name    string
		clauses []string
		text    string
		want    Finding
	}{
		{"nothing is asked", nil, "", Some},
		{"one", []string{"b.*a$"}, "ba", Some},
		{"intersection", []string{"^a", "b$", "^...$"}, "aab", Some},
		{"disjoint", []string{"^a", "^b"}, "", None},
		{"subset", []string{"^mx[0-9]+$", "!^mx"}, "", None},
		{"no subset", []string{"^mx[0-9]*$", "!^mx[0-9]+$"}, "mx", Some},
		{"union covers", []string{"^a(b|c)$", "!^ab$", "!c$"}, "", None},
		{"an expression and names", []string{"^(x|y)\\.example$", "!^x\\.example$", "!^y\\.example$"}, "", None},
		{"equal languages", []string{"^(a|b)*$", "!^(a*b*)*$"}, "", None},
		{"domain", []string{"^[^@]+@[^@]+$", "@:^mx"}, "a@mx", Some},
		{"domain, anchored", []string{"^[^@]+@[^@]+$", "@:^mx$", "!x$"}, "", None},
		{"no domain", []string{"^a$", "@:"}, "", None},
		{"not in a domain that is not there", []string{"^a$", "!@:a"}, "a", Some},
		{"the last domain", []string{"^a@b@c$", "@:^b"}, "", None},
	}
	for _, tt := range tests {
		var clauses []Clause
		for _, c := range tt.clauses {
			clauses = append(clauses, clause(t, c))
		}
		if text, got := Find(clauses, letters, 10_000); text != tt.text || got != tt.want {
			t.Errorf("%s: %q, %v, want %q, %v", tt.name, text, got, tt.text, tt.want)
		}
	}
}

// TestFindBudget has an automaton with exponentially many states.
func TestFindBudget(t *testing.T) {
	clauses := []Clause{clause(t, "^(a|b)*a(a|b){30}$")}
	if text, got := Find(clauses, "ab", 1000); got != Some || !clauses[0].Expr.MatchString(text) {
		t.Errorf("%q, %v, want some text", text, got)
	}
	clauses = append(clauses, clause(t, "!a.{30}$"))
	if _, got := Find(clauses, "ab", 1000); got != Unknown {
		t.Errorf("%v, want to have given up", got)
	}
}

// FuzzFind states that what was found is as it was asked for, and that what
// is said not to exist is not among the short texts.
func FuzzFind(f *testing.F) {
	f.Add("^a*b", "!b$", "a|c")
	f.Add("^(ab)*$", "!^a", "@:b")
	f.Add("\\<a", "!a\\>", "[^b]")
	f.Fuzz(func(t *testing.T, x, y, z string) {
		if len(x)+len(y)+len(z) > 60 {
			return
		}
		var clauses []Clause
		for _, text := range []string{x, y, z} {
			c, err := parseClause(text)
			if err != nil {
				return
			}
			clauses = append(clauses, c)
		}
		holds := func(text string) bool {
			for _, c := range clauses {
				part, there := text, true
				if c.After != 0 {
					at := strings.LastIndexByte(text, c.After)
					part, there = text[at+1:], at >= 0
				}
				if (there && c.Expr.MatchString(part)) == c.Not {
					return false
				}
			}
			return true
		}
		const alphabet = "ab@"
		text, found := Find(clauses, alphabet, 2000)
		if found == Some && !holds(text) {
			t.Fatalf("%q, %q, %q: %q is not as asked for", x, y, z, text)
		}
		if found == Unknown {
			return
		}
		shortest := len(text)
		if found == None {
			shortest = 5
		}
		for n, texts := 0, []string{""}; n < min(shortest, 5); n++ {
			var longer []string
			for _, s := range texts {
				if holds(s) {
					t.Fatalf("%q, %q, %q: %v, %q, but %q is as asked for", x, y, z, found, text, s)
				}
				for _, b := range alphabet {
					longer = append(longer, s+string(b))
				}
			}
			texts = longer
		}
	})
}
