package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"smtpd/compile/engine"
	"smtpd/lang/token"
)

func TestReadWritesBack(t *testing.T) {
	tests := []struct{ text, want string }{
		{`test "plain" { from 203.0.113.9 mail-from "" rcpt-to "x@b.example" expect reject }`,
			"test \"plain\" {\n\tfrom 203.0.113.9\n\trcpt-to \"x@b.example\"\n\texpect reject\n}\n"},
		{`test "all" { from [2001:db8::1] tag NET auth 'bob' tls helo h rdns r.example mail-from "<a@b.example>" rcpt-to x@b.example expect action in }`,
			"test \"all\" {\n\tfrom 2001:db8::1\n\ttag \"NET\"\n\tauth \"bob\"\n\ttls\n\thelo \"h\"\n\trdns \"r.example\"\n\tmail-from \"a@b.example\"\n\trcpt-to \"x@b.example\"\n\texpect action \"in\"\n}\n"},
		{"test \"a \\\"quoted\\\" \\\\ name\" { # why\n from socket rcpt-to root expect forward-only }",
			"test \"a \\\"quoted\\\" \\\\ name\" {\n\tfrom socket\n\trcpt-to \"root\"\n\texpect forward-only\n}\n"},
		{`test "n" { from local rcpt-to "a" expect rule 12 }`,
			"test \"n\" {\n\tfrom local\n\trcpt-to \"a\"\n\texpect rule 12\n}\n"},
		{`test "n" { from internal rcpt-to "a" expect tempfail }`,
			"test \"n\" {\n\tfrom internal\n\trcpt-to \"a\"\n\texpect tempfail\n}\n"},
	}
	for _, tt := range tests {
		s, list := Read("t", []byte(tt.text))
		if len(list) > 0 || len(s.Tests) != 1 {
			t.Errorf("%s: %d tests, %v", tt.text, len(s.Tests), list)
			continue
		}
		if diff := cmp.Diff(tt.want, s.Tests[0].String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.text, diff)
		}
	}
}

func TestReadTables(t *testing.T) {
	s, list := Read("t", []byte("table <a> { one, 'two'\nthree }\ntable <b> { k = v, l = \"w x\" } table <c> { }"))
	if len(list) > 0 || len(s.Tables) != 3 {
		t.Fatalf("%d tables, %v", len(s.Tables), list)
	}
	var got []string
	for _, table := range s.Tables {
		for _, e := range table.Entries {
			got = append(got, table.Name+" "+e.Key+" "+e.Value)
		}
	}
	want := []string{"a one ", "a two ", "a three ", "b k v", "b l w x"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestReadMistakes(t *testing.T) {
	tests := []struct{ text, want string }{
		{`tst "a" { }`, `t:1:1: "tst" cannot stand here`},
		{`test a { }`, `t:1:6: "a" cannot stand here`},
		{`test "a" { from local`, `t:1:22: the end of the file cannot stand here`},
		{`test "a" { from local colour red }`, `t:1:23: "colour" cannot stand here`},
		{`test "a" { from local rcpt-to "x }`, `t:1:31: string without an end`},
		{`test "a" { from 1.2.3 }`, `t:1:17: "1.2.3" is no source`},
		{`test "a" { tls tls }`, `t:1:16: tls stands twice in test "a"`},
		{`test "a" { rcpt-to x expect reject }`, `t:1:6: test "a" has no from`},
		{`test "a" { from local rcpt-to x expect rule 0 }`, `t:1:45: "0" is no number of a rule`},
		{`test "a" { from local rcpt-to x expect maybe }`, `t:1:40: "maybe" cannot stand here`},
		{`test "a" { from socket auth bob rcpt-to x expect reject }`, `t:1:6: test "a": mail from the socket is authenticated, without a name`},
		{`test "a" { from local rcpt-to x expect action "" }`, `t:1:47: an action has a name`},
		{`table a { }`, `t:1:7: "a" cannot stand here`},
		{`table <a> { b c }`, `t:1:15: "c" cannot stand here`},
		{`table <a> { b, c = d }`, `t:1:16: a table holds keys or pairs, not both`},
	}
	for _, tt := range tests {
		_, list := Read("t", []byte(tt.text))
		if len(list) != 1 || list[0].Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.text, list, tt.want)
		}
	}
}

// TestReadGoesOn checks that a mistake costs one message and that the tests
// after it are read.
func TestReadGoesOn(t *testing.T) {
	s, list := Read("t", []byte("test \"a\" { from nowhere \"\n{ expect }\ntest \"b\" { from local rcpt-to x expect reject }"))
	if len(list) != 1 || len(s.Tests) != 1 || s.Tests[0].Name != "b" {
		t.Errorf("%d tests, %v", len(s.Tests), list)
	}
}

// FuzzRead checks that reading ends, that every complaint has its place in
// the file, and that a test which was read is the same when it is written
// and read again.
func FuzzRead(f *testing.F) {
	f.Add("table <a> { b = c }\ntest \"n\" { from ::1 tls auth \"b\\\\\" rcpt-to x expect relay }")
	f.Add("test \"n\" { from socket helo '' rcpt-to \"@\" expect action \"\" } #")
	f.Add("test \"n\" {\n\"")
	f.Add("accounts { a }\nforward a { b }\ntest \"n\" { table <x> fails table <y> { k = v } from internal rcpt-to c expect rule \"3\" }")
	f.Add(`test 'n' { from local rcpt-to '' expect reply "550 \\ no" }`)
	f.Fuzz(func(t *testing.T, text string) {
		s, list := Read("t", []byte(text))
		for _, d := range list {
			p := d.Span.Start
			if line, ok := s.Set.Line(p.Filename, p.Line); !ok || p.Column > len(line)+1 {
				t.Fatalf("%v: no such place", d)
			}
		}
		for i := range s.Tests {
			want := s.Tests[i].String()
			again, list := Read("t", []byte(want))
			if len(list) > 0 || len(again.Tests) != 1 {
				t.Fatalf("%q: %v", want, list)
			}
			same := cmp.Diff(s.Tests[i], again.Tests[0], cmp.AllowUnexported(Test{}), cmpopts.IgnoreTypes(token.Span{}),
				cmp.Comparer(func(a, b engine.Transaction) bool { return a == b }))
			if same != "" {
				t.Fatalf("wrote %q, which is another test:\n%s", want, same)
			}
			if strings.Count(want, "\n") < 4 {
				t.Fatalf("%q lacks a field", want)
			}
		}
	})
}
