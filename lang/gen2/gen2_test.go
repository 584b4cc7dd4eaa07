package gen2_test

import (
	"fmt"
	"testing"

	"smtpd/ast/old"
	"smtpd/lang"
	"smtpd/lang/gen2"
)

// TestMistakes checks where a mistake is reported and what is said to be
// expected there.
func TestMistakes(t *testing.T) {
	tests := []struct {
		text    string
		dialect old.Dialect
		want    string // line:column: message; label
	}{
		{"accept from everywhere deliver", old.D57, "1:31: the line ends too early after `deliver`; expected `to`"},
		{"accept for nowhere", old.D57, "1:12: `nowhere` does not belong here; expected `!`, `any`, `all`, `local` or `domain`"},
		{"accept from any from local for any relay", old.D57, "1:17: `from` is given twice; "},
		{"reject for any deliver to mbox", old.D57, "1:27: `reject` takes no action; "},
		{"accept for any alias <a> relay", old.D57, "1:26: a relaying rule has no users: `alias`, `virtual` and `userbase` do not go with `relay`; "},
		{"accept for any alias <a> virtual <b> deliver to mbox", old.D57, "1:49: `alias` and `virtual` exclude each other; "},
		{"accept for any relay via smtp://h verify", old.D57, "1:35: `verify` needs a URL with TLS; "},
		{"accept for any relay via map m", old.D57, "1:26: no release had `relay via map`; the present language has `relay host <TABLE>`; "},
		{"listen on lo tls smtps", old.D57, "1:18: `smtps` is given twice; "},
		{"table t { a, b = }", old.D57, "1:18: `}` does not belong here; expected a string"},
		{"limit cpu max 1", old.D57, "1:7: `cpu` does not belong here; expected `session`, `mda`, `mta` or `scheduler`"},
		{"max-mta-deferred x", old.D57, "1:18: `x` does not belong here; expected a number"},
	}
	for _, tt := range tests {
		s, _ := lang.Scan("f", lang.Options{Text: []byte(tt.text + "\n")})
		_, list := gen2.Read(s, tt.dialect)
		got := ""
		if len(list) > 0 {
			d := list[len(list)-1]
			got = fmt.Sprintf("%d:%d: %s; %s", d.Span.Start.Line, d.Span.Start.Column, d.Message, d.Label)
		}
		if got != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

// TestSuperset reads what published files have and no release took, and says
// so.
func TestSuperset(t *testing.T) {
	for _, text := range []string{
		"accept for all relay", "accept from 127.0.0.0/8 for any relay", "accept on x for any relay",
		"map a source db \"/a\"", "table a { b = c }\naccept for local alias a deliver to mbox", "size 20M",
	} {
		s, _ := lang.Scan("f", lang.Options{Text: []byte(text + "\n")})
		f, list := gen2.Read(s, old.D57)
		if len(list) != 1 || list[0].Code != "migrate-mixed" || len(f.Stmts) != len(s.Statements) {
			t.Errorf("%s: %v", text, list)
		}
	}
}

// TestKeywordsAreNames reads words that another release reserved.
func TestKeywordsAreNames(t *testing.T) {
	s, _ := lang.Scan("f", lang.Options{Text: []byte("table user { host, relay }\naccept tagged local for domain <user> deliver to maildir \"~/M\" as user\n")})
	f, list := gen2.Read(s, old.D57)
	if len(list) > 0 {
		t.Fatal(list)
	}
	r := f.Stmts[1].Rule
	if f.Stmts[0].Table.Name.Text != "user" || r.Tag.Text != "local" || r.For[0].Domain.Ref.Text != "user" || r.Action.User.Text != "user" {
		t.Errorf("got %+v", r)
	}
}
