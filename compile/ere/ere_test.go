package ere

import (
	"errors"
	"flag"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var verdicts = flag.String("verdicts", "testdata/glibc.tsv", "file of verdicts to agree with")

// TestVerdicts compares with what regcomp and regexec of glibc said: lines
// of pattern, "invalid" or "matches", texts, "but not", texts.
func TestVerdicts(t *testing.T) {
	data, err := os.ReadFile(*verdicts)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		fields := strings.Split(line, "\t")
		expr, err := strconv.Unquote(fields[0])
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		re, err := Compile(expr)
		if valid := fields[1] == "matches"; valid != (err == nil) {
			t.Errorf("line %d: %s is valid: %v, but Compile says %v", i+1, fields[0], valid, err)
		}
		if err != nil || len(fields) < 3 {
			continue
		}
		want := true
		for _, f := range fields[2:] {
			if f == "but not" {
				want = false
				continue
			}
			text, err := strconv.Unquote(f)
			if err != nil {
				t.Fatalf("line %d: %v", i+1, err)
			}
			if got := re.MatchString(text); got != want {
				t.Errorf("line %d: %s in %s: %v, want %v", i+1, fields[0], f, got, want)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		expr   string
		offset int
		text   string
	}{
		{"a|*b", 2, "nothing stands before * that could be repeated"},
		{"ab(c", 2, "the group is not closed"},
		{"a[b-a]", 2, "the range ends before it begins"},
		{"(a)\\1", 3, "back references are not supported"},
		{"(?i)(", 4, "the group is not closed"},
		{"((((a{1000}){1000}){1000}){1000})", 0, "the expression is too large when its counts are written out"},
		{strings.Repeat("(", 1000), 500, "groups are nested too deeply"},
	}
	for _, tt := range tests {
		_, err := Compile(tt.expr)
		var e *Error
		if !errors.As(err, &e) || e.Offset != tt.offset || e.Text != tt.text {
			t.Errorf("Compile(%.20q): %v, want %d: %s", tt.expr, err, tt.offset, tt.text)
		}
	}
}

// TestCompileAny has expressions that would mean something else with | in
// between.
func TestCompileAny(t *testing.T) {
	tests := []struct {
		exprs []string
		text  string
		want  bool
	}{
		{nil, "", false},
		{nil, "a", false},
		{[]string{"a"}, "a", true},
		{[]string{"^a$", "b)c", "(?i)d"}, "xb)c", true},
		{[]string{"^a$", "b)c", "(?i)d"}, "d", true},
		{[]string{"^a$", "b)c", "(?i)d"}, "aa", false},
		{[]string{"", "a"}, "b", true},
	}
	for _, tt := range tests {
		re, err := CompileAny(tt.exprs...)
		if err != nil {
			t.Fatal(err)
		}
		if got := re.MatchString(tt.text); got != tt.want {
			t.Errorf("%q in %q: %v, want %v", tt.exprs, tt.text, got, tt.want)
		}
	}
	if _, err := CompileAny("a", "("); err == nil {
		t.Error("a bad expression was taken among good ones")
	}
}

func TestNotes(t *testing.T) {
	tests := []struct {
		expr string
		want string
	}{
		{`^a[b]{2}(c|d)*\.$`, ""},
		{`\<a`, `0 \< is a GNU extension`},
		{`x\d`, "1 a backslash before an ordinary character is undefined in POSIX"},
		{`a{,2}`, "1 {,n} is not in POSIX: write {0,n}"},
		{`(a|)`, "3 an empty alternative or group is an error in POSIX"},
		{`a)`, "1 a ) without a ( is undefined in POSIX"},
		{`a**`, "2 a repetition of a repetition is undefined in POSIX"},
	}
	for _, tt := range tests {
		re, err := Compile(tt.expr)
		if err != nil {
			t.Errorf("%s: %v", tt.expr, err)
			continue
		}
		got := ""
		for _, n := range re.Notes() {
			got += strconv.Itoa(n.Offset) + " " + n.Text
		}
		if got != tt.want {
			t.Errorf("%s: notes %q, want %q", tt.expr, got, tt.want)
		}
	}
}

// goSyntax writes a node in the syntax of Go's regexp, for texts whose bytes
// were made runes.
func goSyntax(b *strings.Builder, n *node) (ok bool) {
	ok = true
	switch n.op {
	case opSet:
		if n.set.len() == 0 {
			b.WriteString(`[^\x00-\x{10FFFF}]`)
			return true
		}
		b.WriteString("[")
		for c := range 256 {
			if n.set.has(byte(c)) {
				b.WriteString(`\x{` + strconv.FormatInt(int64(c), 16) + "}")
			}
		}
		b.WriteString("]")
	case opAssert:
		if n.assert >= wordStart {
			return false // Go has no such thing
		}
		b.WriteString([]string{`\A`, `\z`, `\b`, `\B`}[n.assert])
	case opRepeat:
		if n.max > 50 || n.min > 50 {
			return false
		}
		b.WriteString("(?:")
		ok = goSyntax(b, n.subs[0])
		b.WriteString("){" + strconv.Itoa(n.min) + ",")
		if n.max >= 0 {
			b.WriteString(strconv.Itoa(n.max))
		}
		b.WriteString("}")
	default:
		b.WriteString("(?:")
		for i, sub := range n.subs {
			if i > 0 && n.op == opAlt {
				b.WriteString("|")
			}
			ok = goSyntax(b, sub) && ok
		}
		b.WriteString(")")
	}
	return ok
}

// FuzzMatch states that an expression that can be written in Go's syntax
// matches what Go's regexp matches, in time linear in the text, and that a
// second walk through the states that the first one left behind gives the
// same answer.
func FuzzMatch(f *testing.F) {
	f.Add("^(a|b)*abb$", "ababb")
	f.Add("[^]a-c]{2,}\\b", "xx ]")
	f.Add("(a?){20}a{20}", "aaaaaaaaaaaaaaaaaaaa")
	f.Add("\\w+@\\w+", "a@b")
	f.Fuzz(func(t *testing.T, expr, text string) {
		if len(expr) > 100 || len(text) > 200 {
			return
		}
		re, err := Compile(expr)
		if err != nil {
			return
		}
		got := re.MatchString(text)
		checkLinear(t, re, text)
		if again := re.MatchString(text); again != got {
			t.Fatalf("%q in %q: %v, then %v", expr, text, got, again)
		}
		n, _ := (&parser{text: strings.TrimPrefix(expr, ignoreCase)}).parse()
		if l := required(n); got && !strings.Contains(text, l) {
			t.Fatalf("%q in %q, which lacks the required %q", expr, text, l)
		}
		var b strings.Builder
		if !goSyntax(&b, n) {
			return
		}
		want, err := regexp.Compile(b.String())
		if err != nil {
			return // too large for Go
		}
		runes := make([]rune, len(text))
		for i := range len(text) {
			runes[i] = rune(text[i])
		}
		if want.MatchString(string(runes)) != got {
			t.Fatalf("%q in %q: %v, Go's regexp says otherwise", expr, text, got)
		}
	})
}

// checkLinear checks what a text has cost: of every byte at most once what
// the program is long, for each instruction leads to two others at most.
func checkLinear(t *testing.T, re *Regexp, text string) {
	t.Helper()
	limit := uint64(len(text)+1) * 3 * uint64(len(re.prog.insts)+1)
	if n := re.cache.followed.Load(); n > limit {
		t.Errorf("a text of %d bytes took %d steps through a program of %d, the limit is %d", len(text), n, len(re.prog.insts), limit)
	}
}

// TestHostile is about expressions and texts that make other matchers run
// for hours, and about one whose automaton does not fit: the cost grows as
// the text does.
func TestHostile(t *testing.T) {
	tests := []struct {
		expr, text string // the text is repeated
		end        string
		want       bool
	}{
		{"(a*)*b", "a", "", false},
		{"(a?){500}a{500}", "a", "", true},
		{"(a|aa)+$", "a", "b", false},
		{"(a|b)*a(a|b){15}c", "abbabaab", "abbabaabbbabaabac", true},
		{"((((a*)*)*)*)*$x", "aaaaaaaa", "", false},
		{"^(([a-z])+.)+[A-Z]([a-z])+$", "aaaaaaaa", "", false},
		{"(.*)(.*)(.*)(.*)(.*)[^a]$", "a", "a", false},
	}
	for _, tt := range tests {
		for _, n := range []int{500, 1000, 2000, 4000} {
			re, err := Compile(tt.expr)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Repeat(tt.text, n/len(tt.text)) + tt.end
			if got := re.MatchString(text); got != tt.want {
				t.Errorf("%s, %d bytes: %v, want %v", tt.expr, len(text), got, tt.want)
			}
			checkLinear(t, re, text)
			if n := len(re.cache.current.Load().byKey); n > maxStates {
				t.Errorf("%s: %d states are kept, the limit is %d", tt.expr, n, maxStates)
			}
		}
	}
}

// BenchmarkMatch measures an address against a usual expression.
func BenchmarkMatch(b *testing.B) {
	re, err := Compile(`^[a-z0-9.]+@(mail\.)?example\.(org|net)$`)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !re.MatchString("alice.smith.1980@mail.example.net") {
			b.Fatal("no match")
		}
	}
}
