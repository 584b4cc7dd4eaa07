package analyze

import (
	"fmt"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
	"smtpd/lang/diag"
)

// readable is a host on which everybody can read every file.
type readable struct{ compile.Host }

func (h readable) ReadFile(path string) (compile.File, error) {
	text := "label user:password\n"
	if path == "/etc/redis.conf" {
		text = "master redis.example\npassword secret\n"
	}
	return compile.File{Data: []byte(text), Mode: 0o644}, nil
}

// lint returns the findings of Lint and of nothing else.
func lint(t testing.TB, conf string, defines ...lang.Define) diag.List {
	t.Helper()
	host, err := hostfacts.Parse("facts", facts, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := readable{host}
	f, list := lang.Parse("smtpd.conf", lang.Options{Text: []byte(conf), Defines: defines})
	rs, more := compile.Draft(f, h)
	if rs == nil || list.Has(diag.Language) {
		t.Fatalf("%s\n%v", conf, append(list, more...))
	}
	return Lint(f, rs, h)
}

func TestLint(t *testing.T) {
	const rule = "match from any for local action in\n"
	const in = "action in maildir\n"
	tests := []struct {
		name, conf string
		want       string // line:class:code of each finding
	}{
		{"nothing", in + rule, ""},
		{"unused names", "m = \"x\"\ntable t { a }\naction spare mbox\nfilter f phase connect match fcrdns junk\n" +
			"proc p \"/bin/p\"\nca c cert \"/c\"\nmda wrapper w \"/bin/w\"\n" + in + rule,
			"1:warning:unused-macro 2:warning:unused-table 3:warning:unused-action 4:warning:unused-filter " +
				"5:warning:unused-proc 6:warning:unused-ca 7:warning:unused-wrapper"},
		{"used names", "m = in\ntable t { a = b }\nfilter f phase connect match fcrdns junk\nproc p \"/bin/p\"\nfilter g proc p\n" +
			"filter c chain { f, g }\nmda wrapper w \"/bin/w\"\nlisten on eth0 filter c\n" +
			"action $m maildir alias <t> wrapper w\n" + rule, ""},
		{"a macro that another definition replaces", "m = a\nm = in\naction $m maildir\n" + rule, "1:warning:unused-macro"},
		{"contradiction", in + `match from any for domain "a.example" !rcpt-to "@a.example" action in` + "\n", "2:warning:contradictory-rule"},
		{"dead", in + "match from any for any reject\nmatch from any for local action in\n", "3:warning:dead-rule"},
		{"redundant", in + "match from any for any action in\nmatch from any for local action in\n", "3:style:redundant-rule"},
		{"one label", in + `match from any for domain { "*.b.example" "*.c.example" } action in`, "2:warning:one-label-wildcard"},
		{"star in the middle", in + `match from any for domain "a*.example" action in`, "2:warning:stray-star"},
		{"star for everything", in + `match from any mail-from "@*" for local action in`, ""},
		{"star for a user", in + `match from any mail-from { "*@a.example" b } for local action in`, "2:warning:wildcard-user"},
		{"star for an excepted user", in + `match from any !mail-from { "*@a.example" b } for local action in`, "2:security:wildcard-user"},
		{"capital letters", in + `match from any mail-from regex "^Bob@" for local action in`, "2:style:regex-case"},
		{"a capital escape", in + `match from any mail-from regex "^\S+@" for local action in`, "2:warning:regex-case 2:portability:regex-portability"},
		{"bad expression", in + `match from any mail-from regex "(" for local action in`, "2:warning:invalid-regex"},
		{"bad excepted expression", in + `match from any !mail-from regex "(" for local action in`, "2:security:invalid-regex"},
		{"bad expression of a filter", in + rule + "filter f phase mail-from match !mail-from regex \"(\" reject \"550 no\"\nlisten on lo filter f",
			"3:security:invalid-regex"},
		{"no network", in + `match from src { "10.0.0.0/8" "mx.a.example" } for local action in`, "2:warning:not-a-network"},
		{"networks", in + `match from src { "10.0.0.0/8" "2001:db8::/32" "[::1]" "local" } for local action in`, ""},
		{"tls", in + "match from any tls for local action in\n", "2:portability:match-tls"},
		{"a tag that no listener gives", in + "listen on lo tag In\nlisten on socket tag sock\nmatch tag { in out } from any for domain a action in\n" +
			"match tag OUT from any for domain b action in\nmatch !tag gone from any for domain c action in\nmatch tag sock for local action in\n" +
			"match tag \"\" from any for domain e action in", "5:warning:unknown-tag 6:warning:unknown-tag"},
		{"the null sender", in + `match from any mail-from { "@" b } for local action in`, "2:warning:every-address"},
		{"all but the null sender", in + `match from any !mail-from "@" for local action in`, "2:security:every-address"},
		{"relay without for", "action out relay\nmatch from auth action out\nmatch for any action out", "2:warning:for-local"},
		{"from local by default", in + "listen on eth0\nmatch for domain \"a.example\" action in\n", "3:style:from-local"},
		{"from local for a private host", in + "listen on lo\nmatch for domain \"a.example\" action in\n", ""},
		{"from local beside from any", in + "listen on eth0\nmatch for domain \"a.example\" action in\nmatch from any for domain \"a.example\" action in\n", ""},
		{"login without label", "action out relay host \"smtps://a.example\" auth { l = \"u:p\" }\nmatch for any action out\n", "1:warning:auth-without-label"},
		{"label without login", "action out relay host \"smtps://l@a.example\"\nmatch for any action out\n", "1:warning:label-without-auth"},
		{"label in clear", "action out relay host \"smtp://l@a.example\" auth { l = \"u:p\" }\nmatch for any action out\n", "1:warning:label-without-tls"},
		{"another label", "action out relay host \"smtps://m@a.example\" auth { l = \"u:p\" }\nmatch for any action out\n", "1:warning:unknown-label"},
		{"not verified", "action out relay host \"smtps://l@a.example\" tls no-verify auth { l = \"u:p\" }\nmatch for any action out\n", "1:security:unverified-login"},
		{"passwords for everybody", "table s file:/etc/secrets\naction out relay host \"smtps://label@a.example\" auth <s>\nmatch for any action out\n", "2:security:readable-secret"},
		{"password of a server for everybody", "table s redis:/etc/redis.conf\n" + in + "match from any for domain <s> action in\n", "1:security:readable-secret"},
	}
	for _, tt := range tests {
		var got []string
		for _, d := range lint(t, tt.conf) {
			got = append(got, fmt.Sprintf("%d:%v:%s", d.Span.Start.Line, d.Class, d.Code))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, s, tt.want)
		}
	}
}

// TestLintDefine checks that a macro which the command line overrides is used
// where it is referred to.
func TestLintDefine(t *testing.T) {
	conf := "m = x\naction $m maildir\nmatch for local action $m\n"
	if list := lint(t, conf, lang.Define{Name: "m", Value: "in"}); len(list) > 0 {
		t.Errorf("findings: %v", list)
	}
}

// TestLintLarge checks that a table of many rules gives no false alarm. How
// long that takes is BenchmarkReachable's to say.
func TestLintLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds to prepare")
	}
	var b strings.Builder
	b.WriteString("action in maildir\n")
	const n = 100_000
	for i := range n {
		fmt.Fprintf(&b, "match from any for domain \"d%d.example\" action in\n", i)
	}
	host, err := hostfacts.Parse("facts", facts, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := lang.Parse("smtpd.conf", lang.Options{Text: []byte(b.String())})
	rs, _ := compile.Draft(f, host)
	if list := Lint(f, rs, host); len(list) > 0 {
		t.Errorf("%d findings, the first is %v", len(list), list[0])
	}
}
