package lang

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// parseByReference is Parse without the parser written by hand.
func parseByReference(t *testing.T, name string, opts Options) (stmts []*ast.Stmt, failed int) {
	t.Helper()
	p := newParser(name, opts)
	p.enter(name, opts.Text, token.Pos{})
	for {
		p.collect(0)
		toks := p.toks
		switch toks[0].kind {
		case newline:
			continue
		case endOfInput:
			return stmts, failed
		}
		st, at, err := parseReference(toks)
		if expected, i := expectedAt(toks); err != nil && (i != at || len(expected) == 0) {
			t.Errorf("%v: the reference parser stops at token %d, the grammar at %d", toks[0].pos, at, i)
		}
		if err != nil || misfit(st) != nil {
			st = badStatement(toks)
			failed++
		}
		st.EndPos = toks[len(toks)-1].pos
		stmts = append(stmts, st)
		p.carryOut(st)
		p.depth = 0
	}
}

// noFiles is an Options.Open that finds nothing.
func noFiles(string) ([]byte, error) { return nil, errors.New("no such file") }

// sameTree compares trees. Offsets of expansions differ, because a statement
// that is read again expands its macros again, and so do the places of nodes
// without any token.
var sameTree = cmp.Options{
	cmpopts.IgnoreFields(token.Pos{}, "Offset"),
	cmpopts.IgnoreFields(ast.Limits{}, "Pos", "EndPos"),
	cmpopts.IgnoreFields(ast.MTALimits{}, "Pos", "EndPos"),
	cmpopts.IgnoreFields(ast.Bad{}, "Part"),
	cmpopts.IgnoreFields(ast.Filter{}, "KindPos"),
	cmpopts.EquateEmpty(),
}

// samples returns texts that between them use all of the language.
func samples(t testing.TB) (texts [][]byte) {
	t.Helper()
	var files []string
	for _, pattern := range []string{"../testdata/language/*.conf", "../testdata/decisions/*.conf", "../testdata/migration/*/new.conf", "../../shared/corpus/*/*.conf"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, names...)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	return texts
}

// checkParsers fails if the two parsers do not agree on text, or a
// diagnostic is not inside it.
func checkParsers(t *testing.T, text []byte) {
	t.Helper()
	opts := Options{Text: text, Open: noFiles}
	if text == nil {
		opts.Text = []byte{}
	}
	file, diags := Parse("f", opts)
	want, failed := parseByReference(t, "f", opts)
	if slices.ContainsFunc(diags, func(d *diag.Diagnostic) bool { return d.Code == "too-many-errors" }) {
		want = want[:min(len(want), len(file.Stmts))] // Parse gave up where the reference goes on
	}
	if diff := cmp.Diff(want, file.Stmts, sameTree); diff != "" {
		t.Errorf("%q: reference and hand-written parser differ (-want +got):\n%s", clip(string(text)), diff)
	}
	if failed > 0 && len(diags) == 0 {
		t.Errorf("%q: %d statements failed and nothing was said", text, failed)
	}
	lines := bytes.Count(text, []byte("\n")) + 1
	for _, d := range diags {
		// A file that ends too early ends after the newline that the
		// original adds to it.
		if p := d.Span.Start; p.Line < 1 || p.Line > lines+1 || d.Message == "" || d.Code == "" {
			t.Errorf("%q: %v (%s) is outside", text, d, d.Code)
		}
		if strings.ContainsAny(d.Message+d.Label, "\n\r\x00\x1b") {
			t.Errorf("%q: message is not one printable line: %q", text, d.Message)
		}
	}
}

func TestParsersAgree(t *testing.T) {
	for _, text := range samples(t) {
		checkParsers(t, text)
	}
}

// TestParsersAgreeOnBroken does the same on text with one byte taken out or
// one word doubled.
func TestParsersAgreeOnBroken(t *testing.T) {
	for i, text := range samples(t) {
		if i%29 != 0 || len(text) > 1000 {
			continue
		}
		for at := i % 17; at < len(text); at += 17 {
			checkParsers(t, append(append([]byte{}, text[:at]...), text[at+1:]...))
			checkParsers(t, append(append(append([]byte{}, text[:at]...), " user "...), text[at:]...))
		}
	}
}

// FuzzParse holds the parser written by hand to the reference parser: both
// refuse a statement, or both make the same tree of it.
func FuzzParse(f *testing.F) {
	for _, text := range samples(f) {
		f.Add(text)
	}
	for _, text := range []string{"a=\"b\"\n$a $a", "table t {\n a\n, b", "x = '\"'\n$x", "\\", "match \\\n !", "\x01\x02$", "table t { a = b,\n\nc }", "1-", "-1", "=>", "listen on $", "admd \"\\\x01\"", "admd a\\\x02b", strings.Repeat("admd\x00\n", 12)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<14 {
			return // the reference parser is slow
		}
		checkParsers(t, text)
	})
}

// FuzzLex checks that the lexer reads every byte once: its tokens lie in
// order and end.
func FuzzLex(f *testing.F) {
	for _, text := range samples(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p := newParser("f", Options{Open: noFiles})
		p.enter("f", text, token.Pos{})
		last := 0
		for n := 0; ; n++ {
			tk := p.next()
			if tk.kind == endOfInput {
				return
			}
			if tk.kind != unclosed && tk.pos.Offset < last || tk.end.Offset < tk.pos.Offset && p.exp.text == "" {
				t.Fatalf("%q: token %v %q after offset %d", text, tk.pos, tk.text, last)
			}
			last = tk.pos.Offset
			if n > 2*len(text)+4 {
				t.Fatalf("%q: no end", text)
			}
		}
	})
}

// rules returns n actions and n match lines.
func rules(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "action \"a%d\" relay host smtp://127.0.0.1:2600\n", i)
	}
	for i := range n {
		fmt.Fprintf(&b, "match from any for domain \"d%d.example\" action \"a%d\"\n", i, i)
	}
	return b.Bytes()
}

// BenchmarkParse stands for a provider's generated file: n actions and n
// rules, and for one table of n elements.
func BenchmarkParse(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		inline := []byte("table t { " + strings.Repeat(`"d1.example", `, n-1) + "x }\n")
		for kind, text := range map[string][]byte{"rules": rules(n), "inline": inline} {
			b.Run(fmt.Sprintf("kind=%s/n=%d", kind, n), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					if _, diags := Parse("f", Options{Text: text}); len(diags) > 0 {
						b.Fatal(diags[0])
					}
				}
			})
		}
	}
}

// cpuTime returns the time that this process has worked: other tests on the
// same machine do not count.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestLinear parses four times as much and expects not much more than four
// times the time, for what could be quadratic: lists, macros, broken
// statements and braces that are never closed.
func TestLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for name, line := range map[string]string{
		"rules":     "match from any for domain d.example action a\n",
		"broken":    "match from any for domian d.example action a\n",
		"old":       "accept from any for domain d relay\n",
		"elements":  "element\n",
		"words":     "a ",
		"numbers":   "1234567890123456 ",
		"macros":    "$x ",
		"undefined": "$y ",
		"open":      "table t { a\n",
		"stray":     "table t {\n",
		"minus":     "---------",
		"continued": "a\\\n",
		"quotes":    "\"a\n",
		"include":   "include x\n",
	} {
		timeOf := func(n int) time.Duration {
			text := []byte("x = abc\ntable z { a \n" + strings.Repeat(line, n))
			best := time.Hour
			for range 2 {
				start := cpuTime(t)
				Parse("f", Options{Text: text, Open: noFiles})
				best = min(best, cpuTime(t)-start)
			}
			return best
		}
		small, large := timeOf(25_000), timeOf(100_000)
		if large > 12*small && large > 500*time.Millisecond {
			t.Errorf("%s: %v for 25 000, %v for 100 000", name, small, large)
		}
		t.Logf("%-10s %10v %10v", name, small, large)
	}
}
