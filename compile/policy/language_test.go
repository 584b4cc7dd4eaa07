package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"smtpd/compile"
	"smtpd/lang/token"
)

func TestReadStatements(t *testing.T) {
	s, list := Read("t", []byte(`
table <users> { "bob", carol }
table <down> fails
accounts { bob = "1000:1000:/home/bob" }
forward Bob { "|/bin/prog", "carol@example.org" }
test "one" {
	table <users> { x = y }
	table <other> fails
	from 203.0.113.9 rcpt-to a@b.example
	expect reply "550 no"
}
test "two" { from local rcpt-to a@b.example expect rule outsiders }
test "three" { from local rcpt-to a@b.example expect rule "3" }
test "four" { from local rcpt-to a@b.example expect rule 3 }
`))
	if len(list) > 0 {
		t.Fatal(list)
	}
	places := cmpopts.IgnoreTypes(token.Span{})
	want := []Table{{Name: "users", Entries: []compile.Entry{{Key: "bob"}, {Key: "carol"}}}, {Name: "down", Fails: true}}
	if diff := cmp.Diff(want, s.Tables, places); diff != "" {
		t.Error(diff)
	}
	own := []Table{{Name: "users", Mapping: true, Entries: []compile.Entry{{Key: "x", Value: "y"}}}, {Name: "other", Fails: true}}
	if diff := cmp.Diff(own, s.Tests[0].Tables, places); diff != "" {
		t.Error(diff)
	}
	accounts := &Table{Name: "accounts", Mapping: true, Entries: []compile.Entry{{Key: "bob", Value: "1000:1000:/home/bob"}}}
	if diff := cmp.Diff(accounts, s.Accounts, places); diff != "" {
		t.Error(diff)
	}
	if got := s.Forwards["bob"]; got != "|/bin/prog\ncarol@example.org\n" {
		t.Errorf(".forward is %q", got)
	}
	var expects []Expectation
	for i := range s.Tests {
		expects = append(expects, s.Tests[i].Expect)
	}
	if diff := cmp.Diff([]Expectation{{Reply: "550 no"}, {Label: "outsiders"}, {Label: "3"}, {Rule: 3}}, expects, places); diff != "" {
		t.Error(diff)
	}
}

// TestReadWrong checks that what is wrong is said where it is, and that the
// statement after it is read.
func TestReadWrong(t *testing.T) {
	const good = "\n" + `test "good" { from local rcpt-to a@b.example expect reject }`
	tests := []struct{ text, want string }{
		{`tset "x" {}`, "t:1:1: syntax"},
		{`table <x> { a = b, c }`, "t:1:20: mixed-list"},
		{`table <x> { a b }`, "t:1:15: syntax"},
		{`table <x> falls`, "t:1:11: syntax"},
		{"accounts { a }\naccounts { b }", "t:2:10: repeated-option"},
		{`forward bob { a = b }`, "t:1:9: mixed-list"},
		{`forward { a }`, "t:1:9: syntax"},
		{`test "x" { from local rcpt-to a expect reply "no" }`, "t:1:46: syntax"},
		{`test "x" { from local rcpt-to a expect reply "5500" }`, "t:1:46: syntax"},
		{`test "x" { from local rcpt-to a expect rule 0 }`, "t:1:45: number-range"},
		{`test "x" { from local rcpt-to a expect rule "" }`, "t:1:45: number-range"},
		{`test "x" { table <y { a } from local }`, "t:1:21: syntax"},
		{`test "x" { from local rcpt-to "a`, "t:1:31: unterminated-string"},
		{`test "good" { from local rcpt-to a expect reject }`, "t:2:6: duplicate-test"},
	}
	for _, tt := range tests {
		s, list := Read("t", []byte(tt.text+good))
		if len(list) != 1 || list[0].Span.Start.String()+": "+string(list[0].Code) != tt.want {
			t.Errorf("%s: %v, want %s", tt.text, list, tt.want)
		}
		if n := len(s.Tests); n == 0 || s.Tests[n-1].Name != "good" {
			t.Errorf("%s: the test after it is lost", tt.text)
		}
	}
}

// TestQuote holds strings to a trip through a file.
func TestQuote(t *testing.T) {
	for _, s := range []string{"", "a", `a"b`, `a\b`, `\`, `'`, "a\tb"} {
		l := lexer{text: quote(s) + " ", line: 1}
		if got := l.next(); got.kind != quoted || got.text != s || !strings.HasPrefix(l.text[l.off:], " ") {
			t.Errorf("%q came back as %q", s, got.text)
		}
	}
}
