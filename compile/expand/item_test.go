package expand

import (
	"strings"
	"testing"

	"smtpd/compile/engine"
)

// kinds prints items with their kinds, one a word, for the tables below.
func kinds(items []Item) string {
	var b strings.Builder
	for i, it := range items {
		if i > 0 {
			b.WriteString("; ")
		}
		text := it.Text
		if it.Kind == Address {
			text = it.Addr.String()
		}
		b.WriteString(it.Kind.String() + "(" + text + ")")
	}
	return b.String()
}

func TestParseList(t *testing.T) {
	tests := []struct{ line, want string }{
		{"", ""},
		{" , ,", ""},
		{"alice", "user(alice)"},
		{"Alice", "user(alice)"},
		{"alice, bob ,\tcarol", "user(alice); user(bob); user(carol)"},
		{`\root`, "user(root)"},
		{"bob+lists", "user(bob+lists)"},
		{"alice@Example.org", "address(alice@Example.org)"},
		{`o\'brien@example.org`, "address(o'brien@example.org)"},
		{"a|b@example.org", "address(a|b@example.org)"},
		{"!#$%*/?^{}`~&+-=_.@example.org", "address(!#$%*/?^{}`~&+-=_.@example.org)"},
		{"/var/mail/list", "file(/var/mail/list)"},
		{"/a@example.org", "file(/a@example.org)"},
		{"|/bin/cat", "command(/bin/cat)"},
		{`"|/bin/prog a, b"`, "command(/bin/prog a, b)"},
		{`|"prog one", bob`, `command("prog one"); user(bob)`},
		{`"|prog \"x\""`, `command(prog "x")`},
		{"|/bin/prog 'a,b'", "command(/bin/prog 'a,b')"},
		{":include:/etc/list", "include(/etc/list)"},
		{"include:/etc/list", "include(/etc/list)"},
		{"error:550 gone", "error(550 gone)"},
		{":error:450 4.2.1 full", "error(450 4.2.1 full)"},
	}
	for _, tt := range tests {
		items, err := parseList(tt.line)
		if got := kinds(items); err != nil || got != tt.want {
			t.Errorf("parseList(%q) = %s, %v; want %s", tt.line, got, err, tt.want)
		}
	}
}

// TestParseListRefuses holds what no list may contain. A host name with an
// underscore, which OpenSMTPD cuts at the @ and takes for a local user, is
// among it.
func TestParseListRefuses(t *testing.T) {
	for _, line := range []string{
		`"|prog`, "o'brien@example.org", `bob"`,
		"|", `"|"`, "| ", "|a\x00b", "|a\nb",
		"/", "/a\x01",
		":include:", ":include:list", "include:~/list",
		"error:", "error:550", "error:550  two", "error:250 fine", "error:55x no", "error:550 -", "error:550 a\rb",
		"bob@my_host", "bob@", "@example.org", "@", "a@b@c", "a b@example.org", "a;b@example.org", `a\\b@example.org`,
		"a b", "a;b", "$(x)", "a:b", "a=b", "é", "a@exämple.org",
		"good, a b",
		strings.Repeat("a", 256), strings.Repeat("a", 256) + "@b",
	} {
		if items, err := parseList(line); err == nil {
			t.Errorf("parseList(%q) = %s, want an error", line, kinds(items))
		}
	}
}

func TestParseFile(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""},
		{"# only a comment\n\n  \n", ""},
		{"alice\nbob", "user(alice); user(bob)"},
		{"alice, \\\nbob\n", "user(alice); user(bob)"},
		{"alice # a comment, with a comma\nbob", "user(alice); user(bob)"},
		{"# a comment \\\ngoes on\nbob", "user(bob)"},
		{`\alice` + "\r\n", "user(alice)"},
		{"include:/etc/passwd\nbob", "user(bob)"},
		{`a\#b@example.org`, "address(a#b@example.org)"},
		{`"|prog a, b"` + "\n", "command(prog a, b)"},
	}
	for _, tt := range tests {
		items, err := parseFile(tt.text)
		if got := kinds(items); err != nil || got != tt.want {
			t.Errorf("parseFile(%q) = %s, %v; want %s", tt.text, got, err, tt.want)
		}
	}
	if items, err := parseFile("alice\nnot a name\n"); err == nil {
		t.Errorf("a bad line passed: %s", kinds(items))
	}
}

// FuzzParseList checks that an item means the same when it is written again,
// and that no address or user name holds a byte that is not sanctioned.
func FuzzParseList(f *testing.F) {
	for _, s := range []string{
		"alice, bob@example.org", `"|prog \"a, b\"", /var/mail/x`, ":include:/x, error:550 no",
		`\\`, `a\,b`, `|'x,y' \z`, "a@b@c", "|\\\"|x\"",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		items, err := parseList(line)
		if err != nil {
			return
		}
		for _, it := range items {
			again, err := parseList(it.String())
			if err != nil || len(again) != 1 || again[0] != it {
				t.Fatalf("%+v printed as %q came back as %+v, %v", it, it.String(), again, err)
			}
			sanctioned(t, it)
		}
	})
}

const alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

func sanctioned(t *testing.T, it Item) {
	t.Helper()
	check := func(s, set string) {
		if s == "" || strings.Trim(s, set+alnum) != "" {
			t.Fatalf("%+v holds a byte outside %q", it, set)
		}
	}
	switch it.Kind {
	case User:
		check(it.Text, "_.-+")
	case Address:
		check(it.Addr.User, "!#$%*/?|^{}`~&'+-=_.")
		check(it.Addr.Domain, "-.")
	default:
		if it.Addr != (engine.Address{}) || strings.ContainsAny(it.Text, "\x00\r\n") {
			t.Fatalf("%+v", it)
		}
	}
}
