package analyze

import (
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
)

const facts = "name mx.example.org\ninterface lo 127.0.0.1 ::1\ninterface eth0 192.0.2.1\ngroup mixed lo eth0\nhelper ldap\n"

func load(t testing.TB, conf string) *compile.Ruleset {
	t.Helper()
	host, err := hostfacts.Parse("facts", facts, nil)
	if err != nil {
		t.Fatal(err)
	}
	conf = "action in maildir\naction out relay\n" + conf
	f, list := lang.Parse("smtpd.conf", lang.Options{Text: []byte(conf)})
	rs, more := compile.Draft(f, host)
	if rs == nil || len(list) > 0 {
		t.Fatalf("%s\n%v", conf, append(list, more...))
	}
	return rs
}

func TestReachable(t *testing.T) {
	tests := []struct {
		name, conf string
		want       string // a letter a rule: r, d, u
	}{
		{"any before one", "match from any for any action out\nmatch from any for domain \"a.example\" action in", "rd"},
		{"one before any", "match from any for domain \"a.example\" action in\nmatch from any for any action out", "rr"},
		{"two halves", `match from src "0.0.0.0/1" for any action in
match from src "128.0.0.0/1" for any action in
match from src "10.0.0.0/8" for any action out
match from src "0.0.0.0/0" for any action out`, "rrdd"},
		{"a rule and its negation", `match from any auth for any action in
match from any !auth for any action in
match from any for domain "a.example" action out`, "rrd"},
		{"a wildcard and a name in it", `match from any for domain "*.example.org" action in
match from any for domain "a.example.org" action out
match from any for domain "example.org" action out`, "rdr"},
		{"behind a table that has to be asked", `table vip ldap:/etc/ldap.conf
match from any mail-from <vip> for any action in
match from any mail-from <vip> for domain "a.example" action out
match from any for any action out`, "rdr"},
		{"a sub-address", `match from any for rcpt-to "bob" action in
match from any for rcpt-to "bob+x" action out`, "rd"},
		{"no login, from nowhere but an expansion", `match from src "local" !auth for any action in
match from src "local" auth "bob" for any action out
match from socket !auth for any action in`, "rrd"},
		{"expansions are not from the socket, and not from elsewhere", `match !from socket for any action in
match from any !auth for any action out
match from any auth for any action in`, "rrr"},
		{"equal tables", `match from any for domain regex { "x*y", "z" } mail-from "@a*b*.example" action in
match from any for domain regex { "x*y", "z" } mail-from "@a*b*.example" action out`, "rd"},
		{"contradiction", `match from any for domain "a.example" !rcpt-to "@a.example" action out
match from any for any action in`, "dr"},
		{"expressions", `match from any for domain regex "^a" action in
match from any for domain regex "^b" action out
match from any for domain "abc" action out`, "rrd"},
	}
	for _, tt := range tests {
		got := ""
		rs := load(t, tt.conf)
		e := engine.NewLinear(rs)
		for _, r := range Reachable(rs) {
			got += string(" rdu"[r.State])
			if r.State == Reached && len(r.Witness.Assumed) == 0 {
				if d := e.Decide(t.Context(), &r.Witness.Transaction, nil); d.Rule != r.Rule {
					t.Errorf("%s: witness %+v of rule %d is decided by %d", tt.name, r.Witness, r.Rule, d.Rule)
				}
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestRelay(t *testing.T) {
	const public = "listen on eth0\n"
	tests := []struct {
		name, conf string
		want       Verdict
	}{
		{"default", public + "match for any action out\nmatch from any for local action in", Proved},
		{"wide open", public + "match from any for any action out", Refuted},
		{"loopback only", "listen on lo\nmatch from any for any action out", Proved},
		{"login", public + "match from any auth for any action out", Proved},
		{"tag of a public listener", "listen on eth0 tag OUT\nmatch tag OUT from any for any action out", Refuted},
		{"tag of a loopback listener", public + "listen on lo tag OUT\nmatch tag OUT from any for any action out", Proved},
		{"sender", public + "match from any mail-from \"@example.org\" for any action out", Refuted},
		{"helo", public + "match from any helo \"mx.friend.example\" for any action out", Refuted},
		{"reverse name", public + "match from rdns \"mx.friend.example\" for any action out", Refuted},
		{"own network", public + "match from src \"198.51.100.0/24\" for any action out", Proved},
		{"large network", public + "match from src \"198.51.0.0/16\" for any action out", Refuted},
		{"all but a network", public + "match !from src \"198.51.100.0/24\" for any action out", Refuted},
		{"backup", public + "match from any for domain { \"a.example\", \"*.b.example\" } action out", Proved},
		{"top level", public + "match from any for domain \"*.com\" action out", Refuted},
		{"regex domain", public + "match from any for domain regex \"example\" action out", Refuted},
		{"closed before", public + "match !from local for any reject\nmatch from any for any action out", Proved},
		{"a table of sources", public + "table nets ldap:/etc/l\nmatch from src <nets> for any action out", Conditional},
		{"proxy", "listen on eth0 proxy-v2\nmatch for any action out", Refuted},
		{"not a login", public + "match !from auth for any action out", Refuted},
	}
	for _, tt := range tests {
		rs := load(t, tt.conf)
		got := Relay(rs, RelayOptions{})
		if got.Verdict != tt.want {
			t.Errorf("%s: %v, want %v\n%+v", tt.name, got.Verdict, tt.want, got.Open)
		}
		for _, o := range got.Open {
			d := engine.NewLinear(rs).Decide(t.Context(), &o.Witness.Transaction, script{rules: rs, list: o.Witness.Assumed})
			if d.Rule != o.Rule || (d.Outcome != engine.Accept || !strings.Contains(o.Witness.Dialogue(), "RCPT TO:<")) {
				t.Errorf("%s: witness %+v is decided %+v", tt.name, o.Witness, d)
			}
		}
	}
}
