package analyze

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
	"smtpd/compile/engine"
)

// TestRelayAttacker goes through the definition of an open relay, with a
// case or more for each sentence: what the attacker controls, what he does
// not, what is a violation, and which findings there are.
func TestRelayAttacker(t *testing.T) {
	const eth0 = "listen on eth0\n"
	const cert = "pki a cert \"/c\"\npki a key \"/k\"\n"
	tests := []struct {
		sentence, conf string
		trusted        string
		want           Verdict
		gate           Gate
	}{
		{"any source", eth0 + "match from any for any action out", "", Refuted, NoGate},
		{"any source of IPv6", eth0 + "match !from src \"0.0.0.0/0\" for any action out", "", Refuted, NoGate},
		{"not one in the facts of the host", eth0 + "match for any action out", "", Proved, 0},
		{"not one in the facts of the host, named", eth0 + "match from src { \"192.0.2.1\", \"127.0.0.1\" } for any action out", "", Proved, 0},
		{"one beside the host", eth0 + "match from src \"192.0.0.0/16\" for any action out", "", Refuted, NetworkGate},
		{"not one in a table declared trusted", eth0 + "table ours { \"10.0.0.0/8\" }\nmatch from src <ours> for any action out", "ours", Proved, 0},
		{"not one in a table declared trusted that has to be asked", eth0 + "table ours ldap:/etc/l\nmatch from src <ours> for any action out", "ours", Proved, 0},
		{"one outside the table declared trusted", eth0 + "table ours { \"10.0.0.0/8\" }\nmatch from any for any action out", "ours", Refuted, NoGate},

		{"the listener", eth0 + "listen on lo tag IN\nmatch !tag IN from any for any action out", "", Refuted, ForgedGate},
		{"the listener, by its address", "listen on 192.0.2.1 tag OUT\nmatch tag OUT from any for any action out", "", Refuted, ForgedGate},
		{"not one bound to loopback alone", "listen on lo\nmatch from any for any action out", "", Proved, 0},
		{"not one bound to loopback alone, by its address", "listen on 127.0.0.1\nmatch from any for any action out", "", Proved, 0},
		{"one bound to loopback and more", "listen on mixed\nmatch from any for any action out", "", Refuted, NoGate},
		{"not one that demands a login", cert + "listen on eth0 tls-require auth pki a\nmatch from any for any action out", "", Proved, 0},
		{"one that allows a login", cert + "listen on eth0 tls auth-optional pki a\nmatch from any for any action out", "", Refuted, NoGate},
		{"thereby the tag", "listen on eth0 tag OUT\nmatch tag OUT from any for any action out", "", Refuted, ForgedGate},
		{"not the tag of another listener", eth0 + "listen on lo tag OUT\nmatch tag OUT from any for any action out", "", Proved, 0},

		{"HELO", eth0 + "match from any helo \"mx.friend.example\" for any action out", "", Refuted, ForgedGate},
		{"HELO, by an expression", eth0 + "match from any helo regex \"^mx[0-9]\" for any action out", "", Refuted, ForgedGate},
		{"the sender", eth0 + "match from any mail-from \"boss@example.org\" for any action out", "", Refuted, ForgedGate},
		{"the null sender", eth0 + "match from any !mail-from regex \"[a-z]\" for any action out", "", Refuted, ForgedGate},
		{"the recipient", eth0 + "match from any for any rcpt-to \"bob\" action out", "", Refuted, NoGate},
		{"his reverse name", eth0 + "match from rdns \"mx.friend.example\" for any action out", "", Refuted, ForgedGate},
		{"that he has a reverse name", eth0 + "match from rdns for any action out", "", Refuted, ForgedGate},
		{"TLS", cert + "listen on eth0 tls pki a\nmatch tls from any for any action out", "", Refuted, NoGate},
		{"TLS, not to use it", cert + "listen on eth0 tls pki a\nmatch !tls from any for any action out", "", Refuted, NoGate},
		{"not TLS where there is none", eth0 + "match tls from any for any action out", "", Proved, 0},
		{"not to leave TLS where it must be", cert + "listen on eth0 smtps pki a\nmatch !tls from any for any action out", "", Proved, 0},
		{"behind PROXY the source too", "listen on eth0 proxy-v2\nmatch for any action out", "", Refuted, ProxyGate},
		{"behind PROXY a trusted source too", "listen on eth0 proxy-v2\ntable ours { \"10.0.0.0/8\" }\nmatch from src <ours> for any action out", "ours", Refuted, ProxyGate},
		{"behind a PROXY that is named", "listen on eth0 proxy-v2 only-from { 192.0.2.7, 192.0.2.64/28 }\nmatch for any action out", "", Proved, 0},
		{"behind a PROXY that may be anyone", "listen on eth0 proxy-v2 only-from { 0.0.0.0/1, 128.0.0.0/1 }\nmatch for any action out", "", Refuted, ProxyGate},
		{"behind a PROXY of an unknown table", "table p proc-exec:/p\nlisten on eth0 proxy-v2 only-from <p>\nmatch for any action out", "", Refuted, ProxyGate},
		{"behind PROXY no login", "listen on eth0 proxy-v2\nmatch from any auth for any action out", "", Proved, 0},

		{"not the login", eth0 + "match from any auth for any action out", "", Proved, 0},
		{"not the login of a user", eth0 + "match from any auth { \"bob\" } for any action out", "", Proved, 0},
		{"that he has no login", eth0 + "match from any !auth for any action out", "", Refuted, NoGate},
		{"not the local socket", eth0 + "match from socket for any action out", "", Proved, 0},
		{"not to be the local socket", eth0 + "match !from socket for any action out", "", Refuted, NoGate},

		{"a relay action is a violation", eth0 + "match from any for any action in", "", Proved, 0},
		{"one that is reached", eth0 + "match from any for any reject\nmatch from any for any action out", "", Proved, 0},
		{"an exact name is declared", eth0 + "match from any for domain \"a.example\" action out", "", Proved, 0},
		{"a name of this host is declared", eth0 + "match from any for local action out", "", Proved, 0},
		{"a wildcard below a domain is declared", eth0 + "match from any for domain \"*.a.example\" action out", "", Proved, 0},
		{"a recipient is declared", eth0 + "match from any for any rcpt-to \"bob@a.example\" action out", "", Proved, 0},
		{"recipients of a domain are declared", eth0 + "match from any for any rcpt-to \"@a.example\" action out", "", Proved, 0},
		{"a star is not", eth0 + "match from any for domain \"*\" action out", "", Refuted, NoGate},
		{"a star beside names is not", eth0 + "match from any for domain { \"a.example\", \"*\" } action out", "", Refuted, NoGate},
		{"a top level is not", eth0 + "match from any for domain \"*.com\" action out", "", Refuted, NoGate},
		{"a star elsewhere is not", eth0 + "match from any for domain \"mx*.a.example\" action out", "", Refuted, NoGate},
		{"an expression is not", eth0 + "match from any for domain regex \"^a[.]example$\" action out", "", Refuted, NoGate},
		{"@ is not", eth0 + "match from any for any rcpt-to \"@\" action out", "", Refuted, NoGate},
		{"what is not named is not", eth0 + "match from any !for domain \"a.example\" action out", "", Refuted, NoGate},

		{"a private /16", eth0 + "match from src \"10.1.0.0/16\" for any action out", "", Proved, 0},
		{"more than a private /16", eth0 + "match from src \"10.0.0.0/15\" for any action out", "", Refuted, NetworkGate},
		{"a public /24", eth0 + "match from src \"198.51.100.0/24\" for any action out", "", Proved, 0},
		{"more than a public /24", eth0 + "match from src \"198.51.100.0/23\" for any action out", "", Refuted, NetworkGate},
		{"an IPv6 /48", eth0 + "match from src \"2001:db8:1::/48\" for any action out", "", Proved, 0},
		{"more than an IPv6 /48", eth0 + "match from src \"2001:db8::/47\" for any action out", "", Refuted, NetworkGate},
		{"halves of a network", eth0 + "match from src { \"198.51.100.0/24\", \"198.51.101.0/24\" } for any action out", "", Refuted, NetworkGate},
		{"halves of a network by two rules", eth0 + "match from src \"198.51.100.0/24\" for any action out\nmatch from src \"198.51.101.0/24\" for any action out", "", Refuted, NetworkGate},
		{"two small networks", eth0 + "match from src { \"198.51.100.0/24\", \"203.0.113.0/24\" } for any action out", "", Proved, 0},
		{"what is left of a network", eth0 + "match from src \"198.51.100.0/23\" for any reject\nmatch from src \"198.51.100.0/22\" mail-from \"@a.example\" for any action out", "", Refuted, NetworkGate},
		{"a small network by exclusion", eth0 + "match !from src \"198.51.100.0/24\" for any reject\nmatch from any for any action out", "", Proved, 0},

		{"a table of sources", eth0 + "table nets ldap:/etc/l\nmatch from src <nets> for any action out", "", Conditional, NoGate},
		{"a table of senders", eth0 + "table vip ldap:/etc/l\nmatch from any mail-from <vip> for any action out", "", Conditional, ForgedGate},
		{"a table of domains", eth0 + "table dom ldap:/etc/l\nmatch from any for domain <dom> action out", "", Conditional, NoGate},
		{"a table that only some mail depends on", eth0 + "table dom ldap:/etc/l\nmatch from any for domain <dom> mail-from \"@a.example\" reject\nmatch from any for any action out", "", Refuted, NoGate},
		{"a table behind a small network", eth0 + "table vip ldap:/etc/l\nmatch from src \"198.51.100.0/24\" mail-from <vip> for any action out", "", Proved, 0},
	}
	for _, tt := range tests {
		rs := load(t, tt.conf)
		var o RelayOptions
		if tt.trusted != "" {
			o.Trusted = []string{tt.trusted}
		}
		got := Relay(rs, o)
		if got.Verdict != tt.want || (got.Certificate != nil) != (tt.want == Proved) {
			t.Errorf("%s: %v (%s), want %v\n%+v", tt.sentence, got.Verdict, got.Unproved, tt.want, got.Open)
			continue
		}
		if tt.gate != 0 && got.Open[0].Gate != tt.gate {
			t.Errorf("%s: gate %d, want %d", tt.sentence, got.Open[0].Gate, tt.gate)
		}
		for _, open := range got.Open {
			checkOpen(t, tt.sentence, rs, &open)
		}
	}
}

// checkOpen decides the witness of an open way again, and sees that it is a
// stranger's.
func checkOpen(t *testing.T, name string, rs *compile.Ruleset, o *Open) {
	t.Helper()
	tx, l := &o.Witness.Transaction, &rs.Listeners[o.Listener]
	d := engine.NewLinear(rs).Decide(t.Context(), tx, script{rules: rs, list: o.Witness.Assumed})
	if d.Rule != o.Rule || d.Outcome != engine.Accept {
		t.Errorf("%s: witness %+v is decided %+v, not by rule %d", name, o.Witness, d, o.Rule)
	}
	if tx.Kind != engine.FromAddress || tx.Auth || tx.Tag != l.Tag || !certificate.Public(l) || tx.Addr.IsLoopback() && !l.ProxyV2 {
		t.Errorf("%s: witness %+v is no stranger at %+v", name, tx, l)
	}
	if certificate.Declared(rs, &rs.Rules[o.Rule]).Has(tx.Rcpt.Domain) {
		t.Errorf("%s: the recipient %v is meant", name, tx.Rcpt)
	}
	if text := o.Witness.Dialogue(); !strings.HasPrefix(text, "EHLO ") || !strings.Contains(text, "\nRCPT TO:<"+tx.Rcpt.String()+">\n") {
		t.Errorf("%s: dialogue\n%s", name, text)
	}
}

// TestRelayDeclared checks that rules for domains that they name are listed.
func TestRelayDeclared(t *testing.T) {
	rs := load(t, `listen on eth0
match from any auth for domain "a.example" action out
match from any for domain { "a.example", "*.b.example" } action out
match from any for domain "a.example" action out
match from src "198.51.100.0/24" for domain "c.example" action out
match from any for any rcpt-to "bob@d.example" action out
`)
	if got := fmt.Sprint(Relay(rs, RelayOptions{}).Declared); got != "[1 3 4]" {
		t.Errorf("rules %s, want [1 3 4]", got)
	}
}

// TestRelayCount counts addresses that overlap, touch and are taken away.
func TestRelayCount(t *testing.T) {
	const all6 = "340282366920938463463374607427473244160" // but for the IPv4 addresses in them
	tests := []struct{ conf, v4, v6 string }{
		{`match from src "198.51.100.7" for any action out`, "1", "0"},
		{`match from src { "10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16" } for any action out`, "16842752", "0"},
		{`match from src { "2001:db8::/32", "2001:db8:1::/48" } for any action out`, "0", "79228162514264337593543950336"},
		{"match from src \"10.0.0.0/9\" for any reject\nmatch from src \"10.0.0.0/8\" for any action out", "8388608", "0"},
		{"match from src \"10.0.0.0/8\" for any action out\nmatch from src \"10.0.0.0/7\" mail-from \"@a.example\" for any action out", "33554432", "0"},
		{`match from any for any action out`, "4294967296", all6},
		{`match !from src { "0.0.0.0/1", "::/0" } for any action out`, "2147483648", "0"},
		{`match from any for domain "a.example" action out`, "0", "0"},
		{`match for any action out`, "2", "1"},
		{`match from src "::ffff:10.0.0.0/104" for any action out`, "0", "0"},
	}
	for _, tt := range tests {
		got := Relay(load(t, "listen on eth0\n"+tt.conf), RelayOptions{})
		if !got.Counted || got.Total.V4.String() != tt.v4 || got.Total.V6.String() != tt.v6 {
			t.Errorf("%s: %v and %v (counted %v), want %s and %s", tt.conf, got.Total.V4, got.Total.V6, got.Counted, tt.v4, tt.v6)
		}
		if everybody := tt.v6 == all6; got.IsEverybody(got.Total) != everybody {
			t.Errorf("%s: everybody is not %v", tt.conf, everybody)
		}
	}
}

// TestRelayFindsAll tries strangers' transactions on random rule tables:
// where one relays, it is not said to be proved that none can.
func TestRelayFindsAll(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	verdicts := make(map[Verdict]int)
	for range 150 {
		conf := "listen on eth0\nlisten on eth0 tag A\n" + vip + strings.Join(randomRules(random), "")
		rs := load(t, conf)
		got := Relay(rs, RelayOptions{})
		verdicts[got.Verdict]++
		for i := range got.Open {
			checkOpen(t, conf, rs, &got.Open[i])
		}
		if got.Verdict != Proved {
			continue
		}
		e := engine.New(rs)
		for tx := range transactions {
			if tx.Kind != engine.FromAddress || tx.Auth || tx.TLS || !isStranger(got.Certificate, rs, &tx) {
				continue
			}
			for _, says := range []answer{{false, nil}, {true, nil}} {
				d := e.Decide(t.Context(), &tx, says)
				if d.Outcome == engine.Accept && rs.Action(rs.Rules[d.Rule].Action).Method == compile.Relay &&
					!certificate.Declared(rs, &rs.Rules[d.Rule]).Has(fold(tx.Rcpt.Domain)) {
					t.Fatalf("%+v relays by rule %d though that is proved impossible\n%s", tx, d.Rule, conf)
				}
			}
		}
	}
	if verdicts[Proved] < 10 || verdicts[Refuted] < 10 || verdicts[Conditional] == 0 {
		t.Errorf("verdicts %v try one side only", verdicts)
	}
}

func isStranger(c *certificate.Certificate, rs *compile.Ruleset, tx *engine.Transaction) bool {
	for _, r := range append(certificate.Host(rs), c.Sources...) {
		if !tx.Addr.Less(r.First) && !r.Last.Less(tx.Addr) {
			return false
		}
	}
	return true
}

// TestRelayRewriters checks that filters which may change a recipient are
// named, through chains too, if strangers meet them.
func TestRelayRewriters(t *testing.T) {
	rs := load(t, `filter harmless phase connect match fcrdns reject "550 no"
filter rewriter phase rcpt-to match fcrdns rewrite "x@a.example"
filter program proc-exec "filter-x"
filter both chain { harmless, rewriter }
listen on eth0 filter both
listen on lo filter program
match from any auth for any action out
`)
	var names []string
	for _, id := range Relay(rs, RelayOptions{}).Rewriters {
		names = append(names, rs.Filter(id).Name)
	}
	if got := fmt.Sprint(names); got != "[rewriter]" {
		t.Errorf("filters %s, want [rewriter]", got)
	}
}

// TestLongTables checks that tables of the size that hosts have are settled,
// by the search and by the checker.
func TestLongTables(t *testing.T) {
	list := func(format string) string {
		var entries []string
		for i := range 20_000 {
			entries = append(entries, fmt.Sprintf(format, i, i%250))
		}
		return "{ " + strings.Join(entries, ", ") + " }"
	}
	nets, domains, users := list(`"2001:db8:%x:%x::1"`), list(`"d%d-%d.example"`), list(`"u%d@d%d.example"`)
	for _, conf := range []string{
		"match from src " + nets + " for any action out",
		"match from any for domain " + domains + " reject\nmatch from any for domain " + domains + " action out",
		"match from any !for domain " + domains + " reject\nmatch from any for domain " + domains + " reject\nmatch from any for any action out",
		"match from any for any rcpt-to " + users + " reject\nmatch from any for any rcpt-to " + users + " action out",
	} {
		rs := load(t, "listen on eth0\n"+conf)
		if r := Relay(rs, RelayOptions{}); r.Verdict != Proved {
			t.Errorf("%.60s…: relay %v, %s", conf, r.Verdict, r.Unproved)
		}
		edited := load(t, "listen on eth0\nmatch from any for domain \"d7-7.example\" rcpt-to \"nobody@a.example\" action out\n"+conf)
		if d := Diff(rs, edited); d.Verdict != Proved {
			t.Errorf("%.60s…: diff %v, %s", conf, d.Verdict, d.Unproved)
		}
	}
}
