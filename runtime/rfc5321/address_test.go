package rfc5321

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestParsePath(t *testing.T) {
	long := strings.Repeat("a", MaxLocalPart)
	label := strings.Repeat("d", 63)
	domain := strings.Join([]string{label, label, label, label}, ".") // 255 bytes
	for _, c := range []struct {
		in   string
		want Mailbox
		rest string
	}{
		{"<a@example.org>", Mailbox{User: "a", Domain: "example.org"}, ""},
		{"<A.B+c@Example.ORG> SIZE=1", Mailbox{User: "A.B+c", Domain: "Example.ORG"}, " SIZE=1"},
		{"<>", Mailbox{}, ""},
		{"<> RET=HDRS", Mailbox{}, " RET=HDRS"},
		{"<postmaster>", Mailbox{User: "postmaster", Domain: "mx.example.org"}, ""},
		{"<!#$%&'*+-/=?^_`{|}~@e>", Mailbox{User: "!#$%&'*+-/=?^_`{|}~", Domain: "e"}, ""},
		{"<@one.example,@two.example:a@b.example>", Mailbox{User: "a", Domain: "b.example"}, ""},
		{"<@[IPv6:::1]:a@b>", Mailbox{User: "a", Domain: "b"}, ""},
		{"<a@[192.0.2.1]>", Mailbox{User: "a", Domain: "[192.0.2.1]"}, ""},
		{"<a@[IPv6:2001:db8::1]>", Mailbox{User: "a", Domain: "[IPv6:2001:db8::1]"}, ""},
		{"<a@[::1]>", Mailbox{User: "a", Domain: "[::1]"}, ""},
		{`<"a b"@c>`, Mailbox{User: `"a b"`, Domain: "c"}, ""},
		{`<"a@b"@c>`, Mailbox{User: `"a@b"`, Domain: "c"}, ""},
		{`<"a>b"@c> X`, Mailbox{User: `"a>b"`, Domain: "c"}, " X"},
		{`<"alice"@c>`, Mailbox{User: "alice", Domain: "c"}, ""},
		{`<"\a\l\i\c\e"@c>`, Mailbox{User: "alice", Domain: "c"}, ""},
		{`<"a\"b\\c"@d>`, Mailbox{User: `"a\"b\\c"`, Domain: "d"}, ""},
		{`<""@c>`, Mailbox{User: `""`, Domain: "c"}, ""},
		{"<a@under_score.example>", Mailbox{User: "a", Domain: "under_score.example"}, ""},
		{"<ünï.x@b>", Mailbox{User: "ünï.x", Domain: "b"}, ""},
		{`<"ü x"@b>`, Mailbox{User: `"ü x"`, Domain: "b"}, ""},
		{`<"\ü"@b>`, Mailbox{User: "ü", Domain: "b"}, ""},
		{"<a@BÜCHER.example>", Mailbox{User: "a", Domain: "xn--bcher-kva.example"}, ""},
		{"<a@bu\u0308cher\u3002example>", Mailbox{User: "a", Domain: "xn--bcher-kva.example"}, ""},
		{"<@bücher.example:a@b>", Mailbox{User: "a", Domain: "b"}, ""},
		{"<" + long + "@e>", Mailbox{User: long, Domain: "e"}, ""},
		{"<a@" + domain + ">", Mailbox{User: "a", Domain: domain}, ""},
	} {
		got, rest, err := ParsePath(c.in, "mx.example.org")
		if err != nil || got != c.want || rest != c.rest {
			t.Errorf("ParsePath(%q) = %#v, %q, %v, want %#v, %q", c.in, got, rest, err, c.want, c.rest)
		}
	}
}

func TestParsePathRefuses(t *testing.T) {
	label := strings.Repeat("d", 63)
	for _, in := range []string{
		"", "a@b", "<a@b", "a@b>", " <a@b>", "<a b@c>", "<a@b c>", "< a@b>", "<a@b >",
		"<@b>", "<a@>", "<.a@b>", "<a.@b>", "<a..b@c>", "<a@b@c>", "<a@.b>", "<a@b.>", "<a@b..c>", "<a@-b>", "<a@b->",
		"<a@b\x00>", "<\x80@b>", "<a\u00a0b@c>", "<a\u202eb@c>", "<a\u0085b@c>", "<\ufffd@b>", "<\"\x80\"@b>", "<a@\x80>", "<a@-ü.example>", "<a@\u2488com>", "<a@b\r\n>", "<a\tb@c>",
		"<(c)a@b>", "<a,b@c>", "<a:b@c>", "<a;b@c>", "<a<b@c>", "<[a]@b>", `<a\b@c>`,
		`<"a@b>`, `<"a"b@c>`, `<"a" @b>`, "<\"\x01\"@b>", "<\"\x7f\"@b>", `<"a\`, `<"a\"@b>`,
		"<@a:>", "<@a>", "<@a,b:c@d>", "<@:c@d>", "<@a,:c@d>", "<@a@b:c@d>",
		"<a@[1.2.3]>", "<a@[1.2.3.4>", "<a@[IPv6:1.2.3.4]>", "<a@[fe80::1%eth0]>", "<a@[]>", "<a@[x]>", "<a@[1.2.3.4]x>",
		"<" + strings.Repeat("a", MaxLocalPart+1) + "@e>",
		"<a@" + label + "d.example>",
		"<a@" + strings.Join([]string{label, label, label, label, "d"}, ".") + ">",
	} {
		if a, _, err := ParsePath(in, "mx.example.org"); err == nil {
			t.Errorf("ParsePath(%q) = %#v, want an error", in, a)
		}
	}
}

func TestValidDomain(t *testing.T) {
	for in, want := range map[string]bool{
		"client.example": true, "localhost": true, "a_b.example": true, "[127.0.0.1]": true, "[IPv6:::1]": true, "[::1]": true,
		"[ipv6:::1]": true, "192.0.2.1": true,
		"": false, "example.": false, ".example": false, "a b": false, "a/b": false, "[IPv6:127.0.0.1]": false, "[a]": false, "ü.example": false,
	} {
		if got := ValidDomain(in); got != want {
			t.Errorf("ValidDomain(%q) = %v", in, got)
		}
	}
}

// FuzzParsePath checks that an accepted address is made of allowed bytes
// only, and that it means the same when it is read again.
func FuzzParsePath(f *testing.F) {
	f.Add("<a@b>")
	f.Add(`<"a\"b"@[IPv6:::1]> X`)
	f.Add("<@a,@b:c@d>")
	f.Add("<>")
	f.Add("<postmaster>")
	f.Add("<ünï@bücher.example>")
	f.Fuzz(func(t *testing.T, in string) {
		a, rest, err := ParsePath(in, "default.example")
		if err != nil {
			return
		}
		if !strings.HasSuffix(in, rest) {
			t.Fatalf("rest %q is not the end of %q", rest, in)
		}
		for _, c := range a.String() {
			if c < ' ' || c == 0x7f || c == utf8.RuneError || c > '~' && !unicode.IsGraphic(c) {
				t.Fatalf("%q has %#x in it", a, c)
			}
		}
		if !IsASCII(a.Domain) {
			t.Fatalf("domain %q", a.Domain)
		}
		if len(a.User) > MaxLocalPart || len(a.Domain) > MaxDomain {
			t.Fatalf("%q is too long", a)
		}
		again, _, err := ParsePath("<"+a.String()+">", "default.example")
		if err != nil || again != a {
			t.Fatalf("%q became %#v, read again %#v, %v", in, a, again, err)
		}
	})
}
