package migrate

import (
	"testing"

	"smtpd/ast/old"
	"smtpd/lang"
)

// TestQuote checks that a text comes back from its quotes.
func TestQuote(t *testing.T) {
	for _, text := range []string{"", "a b", `say "x"`, `it's "x"`, `a\ b`, `\"`, `a\\ b`, "tab\t", "back\\\tslash", `\'"`, `\\"\\'`, `C:\x\y`} {
		file, list := lang.Parse("f", lang.Options{Text: []byte("x = " + quote(text) + "\n")})
		if len(list) > 0 || len(file.Stmts) != 1 || file.Stmts[0].Macro.Value.Text != text {
			t.Errorf("%q is quoted as %s: %v", text, quote(text), list)
		}
	}
}

func TestParseURL(t *testing.T) {
	for text, want := range map[string]url{
		"h":                             {host: "h"},
		"h:25":                          {host: "h", port: ":25"},
		"TLS+auth://lab@h.example:587":  {scheme: "tls", label: "lab", host: "h.example", auth: true, port: ":587"},
		"smtp://[2001:db8::1]:26":       {scheme: "smtp", host: "[2001:db8::1]", port: ":26"},
		"smtp://[2001:db8::1]":          {scheme: "smtp", host: "[2001:db8::1]"},
		"smtp://2001:db8::1":            {scheme: "smtp", host: "2001:db8::1"},
		"secure+auth://me@x.org@h:1234": {scheme: "secure", label: "me@x.org", host: "h", auth: true, port: ":1234"},
	} {
		if got := parseURL(text); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}

func TestExpand(t *testing.T) {
	tests := []struct {
		dialect    old.Dialect
		text, want string
	}{
		{old.D1B, "%u %a %d %A %U %D", "%{user.username} %{dest.user:lowercase} %{dest.domain:lowercase} %{sender.user:lowercase} %{sender.user:lowercase} %{sender.domain:lowercase}"},
		{old.D1B, "/m/%0u/%1d", "/m/%{user.username[0]}/%{dest.domain[1]}"},
		{old.D1B, "100% %x %{u} %% %", "100% %x %%{u} %%% %"},
		{old.D53, "%{dest.user} %{rcpt.user[0]} %{sender:lowercase} %u %%", "%{dest.user:lowercase} %{rcpt.user[0]} %{sender:lowercase} %u %%"},
		{old.D54, "%{dest.domain}", "%{dest.domain}"},
		{old.D603, "%{dest.user:strip|lowercase}", "%{dest.user:strip|lowercase}"},
	}
	for _, tt := range tests {
		c := newConverter(&old.File{Dialect: tt.dialect}, Options{})
		c.stmt = &old.Stmt{}
		if got := c.expand(&old.Str{Text: tt.text}); got != tt.want {
			t.Errorf("%v: %s becomes %s, want %s", tt.dialect, tt.text, got, tt.want)
		}
	}
}

func TestPatterns(t *testing.T) {
	got := patterns([]string{"bob@a.example", "@*.a.example", "x+y@a"})
	want := []string{"^@$", "^bob@a[.]example$", "@.*[.]a[.]example$", "^x[+]y@a$"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
}
