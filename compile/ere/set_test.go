package ere

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestRequired(t *testing.T) {
	tests := []struct{ expr, want string }{
		{`^mx[0-9]+\.example\.org$`, ".example.org"},
		{`abc+d`, "abc"},
		{`ab{3}cdef`, "bcdef"},
		{`(abc){2}d`, "abcd"},
		{`(ab(cd)ef)`, "abcdef"},
		{`x(abc|abd)yz`, "yz"},
		{`(abc)*d`, "d"},
		{`ab?c`, "a"},
		{`a\b^$b`, "ab"},
		{`[a][b]`, "ab"},
		{`a|b`, ""},
		{`.*`, ""},
	}
	for _, tt := range tests {
		n, err := (&parser{text: tt.expr}).parse()
		if err != nil {
			t.Fatal(err)
		}
		if got := required(n); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.expr, got, tt.want)
		}
	}
}

// TestSet compares with trying one expression after another.
func TestSet(t *testing.T) {
	pieces := []string{"a", "b", "ab", "abab", "bbaabb", "babababa", "[ab]", "a+", "(ab|b)", "^", "$", ".", "b{2}", "("}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var exprs []string
		for range r.IntN(20) {
			var b strings.Builder
			for range 1 + r.IntN(4) {
				b.WriteString(pieces[r.IntN(len(pieces))])
			}
			exprs = append(exprs, b.String())
		}
		s := NewSet(exprs)
		for range 20 {
			var text strings.Builder
			for range r.IntN(14) {
				text.WriteByte("ab"[r.IntN(2)])
			}
			want := -1
			for i, expr := range exprs {
				if re, err := Compile(expr); err == nil && re.MatchString(text.String()) {
					want = i
					break
				}
			}
			if got := s.Find(text.String()); got != want {
				t.Fatalf("%q in %q: %d, want %d", text.String(), exprs, got, want)
			}
		}
	}
}

// TestSetForgets has more expressions found than are kept compiled.
func TestSetForgets(t *testing.T) {
	const n = maxRecent + 100
	var exprs []string
	for i := range n {
		exprs = append(exprs, fmt.Sprintf(`^[a-z]+@d%d\.example$`, i))
	}
	s := NewSet(exprs)
	for i := range n {
		if got := s.Find(fmt.Sprintf("bob@d%d.example", i)); got != i {
			t.Fatalf("expression %d was found as %d", i, got)
		}
	}
	if len(s.recent) > maxRecent || len(s.always) > 0 {
		t.Errorf("%d are compiled, %d are always tried", len(s.recent), len(s.always))
	}
}
