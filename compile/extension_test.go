package compile_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
	"smtpd/lang/diag"
)

// TestExtensions checks that each of our words works, is said to be ours, and
// is a mistake for who wants none of them.
func TestExtensions(t *testing.T) {
	for _, e := range ast.Extensions {
		f, parsed := parse("c", lang.Options{Text: []byte(e.Example + "\nmatch reject\n")})
		rs, list := compile.Compile(f, hostfacts.Unnamed())
		if rs == nil || len(parsed) > 0 {
			t.Errorf("%s: %v %v", e.Example, parsed, list)
			continue
		}
		ours := 0
		for _, d := range list {
			if d.Code == "extension" && d.Class == diag.Portability && d.Span.Start.Line == 1 {
				ours++
			}
		}
		if ours != 1 || !list.Refuse("extension") || !list.Has(diag.Language) {
			t.Errorf("%s: %v, want one finding that it is ours", e.Example, list)
		}
	}
}

// TestExtensionsAreNotReserved checks that our words are names like any
// other, bare and quoted, wherever OpenSMTPD takes a name or a string.
func TestExtensionsAreNotReserved(t *testing.T) {
	const conf = `%[1]s = yes
table %[1]s { %[1]s }
table m { %[1]s = %[1]s }
proc %[1]s %[1]s
mda wrapper %[1]s %[1]s
filter f proc %[1]s
filter %[1]s phase connect match rdns %[1]s junk
filter c chain { %[1]s, f }
listen on 127.0.0.1 tag %[1]s hostname %[1]s filter %[1]s
listen on socket filter { %[1]s }
action %[1]s maildir %[1]s wrapper %[1]s user %[1]s
action r relay helo %[1]s host %[1]s auth <m>
action l lmtp %[1]s alias <m> ttl 1d
admd %[1]s
pki "a" cert %[1]s key %[1]s
match from auth %[1]s for domain %[1]s action %[1]s
match auth %[1]s from rdns %[1]s tag %[1]s helo <%[1]s> action r
match auth <%[1]s> reject
queue encryption 0123456789abcdef0123456789abcdef
`
	for _, e := range ast.Extensions {
		for _, word := range []string{e.Word, `"` + e.Word + `"`} {
			f, parsed := parse("c", lang.Options{Text: fmt.Appendf(nil, conf, word)})
			_, list := compile.Draft(f, hostfacts.Unnamed())
			for _, d := range append(parsed, list...) {
				if d.Class == diag.Language || d.Code == "extension" {
					t.Errorf("%s: %v", word, d)
				}
			}
		}
	}
}

func TestMaxConnPerSource(t *testing.T) {
	for conf, want := range map[string]int{
		"":                                     0,
		"smtp limit max-conn-per-source 7":     7,
		"smtp limit \"max-conn-per-source\" 8": 8,
		"smtp limit max-mails 3 max-conn-per-source 9": 9,
	} {
		f, _ := parse("c", lang.Options{Text: []byte(conf + "\nmatch reject\n")})
		rs, list := compile.Compile(f, hostfacts.Unnamed())
		if rs == nil || rs.SMTP.MaxConnPerSource != want {
			t.Errorf("%q: %v, want %d", conf, list, want)
		}
	}
	for _, conf := range []string{"smtp limit max-conn-per-source 0", "smtp limit max-conn-per-source -1", "mda limit max-conn-per-source 1"} {
		f, _ := parse("c", lang.Options{Text: []byte(conf + "\nmatch reject\n")})
		if rs, list := compile.Compile(f, hostfacts.Unnamed()); rs != nil {
			t.Errorf("%q: accepted, %v", conf, list)
		}
	}
}

// TestExtensionsCut compiles each statement with one of our words cut short at
// every byte.
func TestExtensionsCut(t *testing.T) {
	for _, e := range ast.Extensions {
		for n := range len(e.Example) {
			f, _ := parse("c", lang.Options{Text: []byte(e.Example[:n] + "\nmatch reject\n")})
			compile.Compile(f, hostfacts.Unnamed())
		}
	}
}

func TestProxyOnlyFrom(t *testing.T) {
	const conf = "table proxies { 192.0.2.7 }\nlisten on 127.0.0.1 proxy-v2 %s tag X\nmatch reject\n"
	for from, want := range map[string]bool{"": false, "only-from <proxies>": true} {
		f, _ := parse("c", lang.Options{Text: fmt.Appendf(nil, conf, from)})
		rs, list := compile.Compile(f, hostfacts.Unnamed())
		if rs == nil {
			t.Fatalf("%s: %v", from, list)
		}
		l := rs.Listeners[0]
		if !l.ProxyV2 || l.Tag != "X" || (l.ProxyFrom != 0) != want || want && rs.Table(l.ProxyFrom).Name != "proxies" {
			t.Errorf("%q: %+v", from, l)
		}
	}
}

func TestListenMetrics(t *testing.T) {
	f, _ := parse("c", lang.Options{Text: []byte("listen metrics on 127.0.0.1 port 9325\nlisten metrics on ::1 port 9325\nmatch reject\n")})
	rs, list := compile.Compile(f, hostfacts.Unnamed())
	if rs == nil || len(rs.Metrics) != 2 || len(rs.Listeners) != 0 || fmt.Sprint(rs.Metrics[1].Addr, rs.Metrics[1].Port) != "::1 9325" {
		t.Fatalf("%+v, %v", rs, list)
	}
	for _, conf := range []string{
		"listen metrics on 127.0.0.1", "listen metrics on lo port 1", "listen metrics on 127.0.0.1 port 0",
		"listen metrics on 127.0.0.1 port 65536", "listen metrics on fe80::1%lo port 1", "listen metrics on socket port 1",
		"listen metrics on 127.0.0.1 port 1 tag x", "listen metrics 127.0.0.1",
	} {
		f, parsed := parse("c", lang.Options{Text: []byte(conf + "\nmatch reject\n")})
		if rs, list := compile.Compile(f, hostfacts.Unnamed()); rs != nil && len(parsed) == 0 {
			t.Errorf("%q: accepted, %v", conf, list)
		}
	}
}

func TestMilter(t *testing.T) {
	for conf, want := range map[string]compile.Filter{
		`filter "m" milter "inet:localhost:8891"`:                               {Name: "m", Milter: "inet:localhost:8891"},
		`filter m milter "inet:[::1]:8891" on-failure bypass`:                   {Name: "m", Milter: "inet:[::1]:8891", Bypass: true},
		`filter m milter "unix:/run/m.sock"`:                                    {Name: "m", Milter: "unix:/run/m.sock"},
		`filter m proc-exec "/bin/m" user "x" on-failure bypass`:                {Name: "m", Proc: "m", Bypass: true},
		"proc p \"/bin/m\"\nfilter m proc p on-failure bypass\nfilter n proc p": {Name: "m", Proc: "p", Bypass: true},
	} {
		f, _ := parse("c", lang.Options{Text: []byte(conf + "\nmatch reject\n")})
		rs, list := compile.Compile(f, hostfacts.Unnamed())
		if rs == nil {
			t.Errorf("%s: %v", conf, list)
			continue
		}
		got := rs.Filters[0]
		got.Origin = compile.Origin{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", conf, diff)
		}
	}
	for _, address := range []string{"", "inet:25", "inet:host", "inet:host:0", "inet:host:smtp", "inet::25", "unix:run/m.sock", "/run/m.sock", "tcp:h:1"} {
		f, _ := parse("c", lang.Options{Text: fmt.Appendf(nil, "filter m milter %q\nmatch reject\n", address)})
		if rs, list := compile.Compile(f, hostfacts.Unnamed()); rs != nil {
			t.Errorf("%q: accepted, %v", address, list)
		}
	}
}
