package postfix

import (
	"strings"
	"testing"
)

// TestExpand expands values as postconf -x of Postfix 3.7 does.
func TestExpand(t *testing.T) {
	const given = "compatibility_level = 3.6\na = one\nb = ${a}two\nempty =\nmyhostname = mx.test.example\n"
	for _, c := range []struct{ text, want string }{
		{"${a?yes}", "yes"},
		{"${zzz:no}", "no"},
		{"${a?{yes}:{no}}", "yes"},
		{"${zzz?{yes}:{no}}", "no"},
		{"${{$a} == {one} ? {eq} : {ne}}", "eq"},
		{"${{3} < {10} ? {lt} : {ge}}", "lt"},
		{"${{$compatibility_level} <level {2} ? {low} : {high}}", "high"},
		{"${{3.10} >level {3.6} ? {gt} : {le}}", "gt"},
		{"${{3.10} > {3.6} ? {gt} : {le}}", "le"},
		{"$$x", "$x"},
		{"$(a)-x", "one-x"},
		{"${a}${b}.$a", "oneonetwo.one"},
		{"${a?pre-$b}", "pre-onetwo"},
		{"${empty?{x}:{y}}", "y"},
		{"${empty:{y}}", "y"},
		{"${a:{y}}z", "z"},
		{"${{abc} == {abc}?same}", "same"},
		{"${ a }", "one"},
		{"${a?{ spaced }:{no}}z", "spaced z"},
		{"${a? {yes}}z", "yesz"},
		{"${{}=={}?{both}}", "both"},
		{"${{a b} != {a} ? {differs}}", "differs"},
		{"localhost.$mydomain", "localhost.test.example"},
		{"$mydestination", "mx.test.example, localhost.test.example, localhost"},
		{"$nothing", ""},
	} {
		s, _, err := readMain("main.cf", []byte(given+"x = "+c.text+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.value("x"); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.text, got, err, c.want)
		}
	}
}

// TestExpandRefuses has values that Postfix refuses too, or would work on for
// ever.
func TestExpandRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"x = $-x", "without a name"},
		{"x = x${a", "not closed"},
		{"x = $y\ny = ${x}", "refers to itself"},
		{"x = ${a!b}", "no reference"},
		{"x = ${{a} ~ {b}?c}", "no comparison"},
		{"x = " + strings.Repeat("$y", 1000) + "\ny = " + strings.Repeat("$z", 1000) + "\nz = " + strings.Repeat("z", 1000), "more than"},
	} {
		s, _, err := readMain("main.cf", []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.value("x"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", clip(c.text), err, c.want)
		}
	}
}

// TestLogical joins lines as Postfix does.
func TestLogical(t *testing.T) {
	const text = "# first\na = 1\n  2\n# within\n\n\t3 # kept\nb = 4\r\nc=\n x\x00y\n"
	lines, err := logical("main.cf", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []line{{"a = 1 2 3 # kept", 2}, {"b = 4", 7}, {"c= x", 8}}
	if len(lines) != len(want) {
		t.Fatalf("%+v", lines)
	}
	for i, l := range lines {
		if l != want[i] {
			t.Errorf("line %d: %+v, want %+v", i, l, want[i])
		}
	}
	if _, err := logical("main.cf", make([]byte, maxFile+1)); err == nil {
		t.Error("a file of any size is read")
	}
}

// TestSyntax refuses what Postfix cannot read.
func TestSyntax(t *testing.T) {
	for _, text := range []string{"a", "= b", "a b = c"} {
		if _, _, err := readMain("main.cf", []byte(text)); err == nil {
			t.Errorf("main.cf: %q is read", text)
		}
	}
	for _, text := range []string{"smtp inet n - y - -", "smtp inet n - y - - smtpd -o", "smtp inet n - y - - smtpd -o x"} {
		if _, err := readMaster("master.cf", []byte(text), &scope{}); err == nil {
			t.Errorf("master.cf: %q is read", text)
		}
	}
}
