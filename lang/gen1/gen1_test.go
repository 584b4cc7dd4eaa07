package gen1_test

import (
	"fmt"
	"testing"

	"smtpd/ast/old"
	"smtpd/lang"
	"smtpd/lang/gen1"
)

func read(t *testing.T, text string, d old.Dialect) *old.File {
	t.Helper()
	s, list := lang.Scan("f", lang.Options{Text: []byte(text)})
	f, more := gen1.Read(s, d)
	if list = append(list, more...); len(list) > 0 {
		t.Fatalf("%s: %v", text, list)
	}
	return f
}

func TestDialects(t *testing.T) {
	rule := func(text string, d old.Dialect) *old.Rule { return read(t, text+"\n", d).Stmts[0].Rule }
	if r := rule("accept for all relay via ssl \"h\" port 26", old.D1A); r.Action.Transport != "ssl" || r.Action.Port.Text != "26" {
		t.Errorf("2009: %+v", r.Action)
	}
	if r := rule("accept for all relay via h smtps enable auth", old.D1B); r.Action.Transport != "smtps" || !r.Action.EnabAuth {
		t.Errorf("2009-11: %+v", r.Action)
	}
	if r := rule("accept for all relay tag X", old.D1B); r.Tag != nil {
		t.Error("2009-11 looked at a tag after the action")
	}
	if r := rule("accept on Y for all relay tag X", old.D1C); r.Tag == nil || r.Tag.Text != "X" {
		t.Error("2011-08 did not let a tag after the action replace the other")
	}
	if r := rule("accept for { local alias a, domain \"x\", virtual map v } deliver to maildir user u", old.D1D); len(r.For) != 3 || r.Alias.Ref.Text != "a" ||
		r.For[2].Virtual.Ref.Text != "v" || r.Action.User.Text != "u" {
		t.Errorf("2012-05: %+v", r)
	}
	if r := rule("accept from ( 10.0.0.0/8, \"local\" ) for any deliver to mbox", old.D1E); len(r.From.Source.Elems) != 2 {
		t.Errorf("5.2: %+v", r.From)
	}
	if l := read(t, "ssmtp listen on lo port 465 use certificate c enable auth\n", old.D1A).Stmts[0].Listen; l.TLS != "smtps" || l.Certificate.Text != "c" || l.Auth == "" {
		t.Errorf("listener: %+v", l)
	}
	m := read(t, "map a {\n\ttype hash\n\tsource db \"/a\"\n\tconfig \"x\"\n}\n", old.D1B).Stmts[0].Table
	if m.Source != "db" || m.Path.Text != "/a" {
		t.Errorf("map: %+v", m)
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"accept relay":                       "1:8: `relay` does not belong here; expected `on`, `from` or `for`",
		"accept for all":                     "1:15: the line ends too early after `all`; expected `alias`, `relay` or `deliver`",
		"accept for all alias a relay":       "1:24: `alias` does not go with `relay`; ",
		"map a source sqlite \"/x\"":         "1:14: no release had `source sqlite`; the present language has tables served by a program; ",
		"accept for all relay via map m":     "1:26: no release had `relay via map`; the present language has `relay host <TABLE>`; ",
		"listen on lo tls hostname x":        "1:18: `hostname` does not belong here; expected `port`, `smtps`, `tls`, `tls-require` or one of 7 other words",
		"accept for { local } deliver to mb": "1:33: `mb` does not belong here; expected `mbox`, `maildir` or `mda`",
	} {
		s, _ := lang.Scan("f", lang.Options{Text: []byte(text + "\n")})
		_, list := gen1.Read(s, old.D1C)
		got := ""
		if len(list) > 0 {
			d := list[len(list)-1]
			got = fmt.Sprintf("%d:%d: %s; %s", d.Span.Start.Line, d.Span.Start.Column, d.Message, d.Label)
		}
		if got != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
}
