package certificate_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/analyze/certificate"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
)

func load(t testing.TB, conf string) *compile.Ruleset {
	t.Helper()
	host, err := hostfacts.Parse("facts", "interface eth0 192.0.2.1\nhelper ldap\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	conf = "action in maildir\naction out relay\nlisten on eth0\n" + conf
	f, list := lang.Parse("smtpd.conf", lang.Options{Text: []byte(conf)})
	rs, _ := compile.Draft(f, host)
	if rs == nil || len(list) > 0 {
		t.Fatalf("%s\n%v", conf, list)
	}
	return rs
}

func ranges(t *testing.T, words string) []certificate.Range {
	t.Helper()
	var nets []netip.Prefix
	for _, w := range strings.Fields(words) {
		nets = append(nets, netip.MustParsePrefix(w))
	}
	return certificate.Ranges(nets)
}

// TestRanges joins networks that overlap or touch, and says which of what
// they make up are too large to be somebody's own.
func TestRanges(t *testing.T) {
	tests := []struct {
		nets, want string
		large      bool // the first
	}{
		{"192.0.2.0/25 192.0.2.128/25", "192.0.2.0-192.0.2.255", false},
		{"192.0.3.0/32 192.0.2.0/24", "192.0.2.0-192.0.3.0", true},
		{"10.0.0.0/16", "10.0.0.0-10.0.255.255", false},
		{"10.0.0.0/16 10.1.0.0/32", "10.0.0.0-10.1.0.0", true},
		{"10.0.0.0/8 10.1.0.0/16", "10.0.0.0-10.255.255.255", true},
		{"172.31.255.0/24 172.32.0.0/24", "172.31.255.0-172.32.0.255", true},
		{"192.0.2.0/24 198.51.100.0/24", "192.0.2.0-192.0.2.255 198.51.100.0-198.51.100.255", false},
		{"2001:db8::/48", "2001:db8::-2001:db8:0:ffff:ffff:ffff:ffff:ffff", false},
		{"2001:db8::/48 2001:db8:1::/128", "2001:db8::-2001:db8:1::", true},
		{"255.255.255.255/32 ::/128", "255.255.255.255-255.255.255.255 ::-::", false},
		{"0.0.0.0/0 ::/0", "0.0.0.0-255.255.255.255 ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true},
	}
	for _, tt := range tests {
		var got []string
		list := ranges(t, tt.nets)
		for _, r := range list {
			got = append(got, r.First.String()+"-"+r.Last.String())
		}
		if text := strings.Join(got, " "); text != tt.want || list[0].IsLarge() != tt.large {
			t.Errorf("%s: %s, large %v, want %s, %v", tt.nets, text, list[0].IsLarge(), tt.want, tt.large)
		}
	}
}

// TestPublic says which listeners strangers reach.
func TestPublic(t *testing.T) {
	tests := []struct {
		l    compile.Listener
		want bool
	}{
		{compile.Listener{Addr: netip.MustParseAddr("192.0.2.1")}, true},
		{compile.Listener{Addr: netip.MustParseAddr("0.0.0.0")}, true},
		{compile.Listener{Addr: netip.MustParseAddr("::")}, true},
		{compile.Listener{Addr: netip.MustParseAddr("127.5.0.1")}, false},
		{compile.Listener{Addr: netip.MustParseAddr("::1")}, false},
		{compile.Listener{Addr: netip.MustParseAddr("::ffff:127.0.0.1")}, false},
		{compile.Listener{Interface: "egress"}, true}, // its addresses are not known
		{compile.Listener{Interface: "lo"}, false},
		{compile.Listener{Addr: netip.MustParseAddr("192.0.2.1"), Auth: compile.OptionalAuth}, true},
		{compile.Listener{Addr: netip.MustParseAddr("192.0.2.1"), Auth: compile.RequireAuth}, false},
	}
	for _, tt := range tests {
		if got := certificate.Public(&tt.l); got != tt.want {
			t.Errorf("%+v: %v, want %v", tt.l, got, tt.want)
		}
	}
}

// TestMeaning holds configurations to be the same or not, whatever their
// names are.
func TestMeaning(t *testing.T) {
	const base = "match from any for domain \"a.example\" action in\n"
	tests := []struct {
		name, before, after string
		same                bool
	}{
		{"a table with a name", base, "table a { \"a.example\" }\nmatch from any for domain <a> action in\n", true},
		{"an action with a name", base, "action other maildir\nmatch from any for domain \"a.example\" action other\n", true},
		{"another maildir", base, "action other maildir \"/x\"\nmatch from any for domain \"a.example\" action other\n", false},
		{"what a wrapper runs", "mda wrapper w \"/a %{mda}\"\naction i mda \"/x\" wrapper w\nmatch for any action i\n",
			"mda wrapper w \"/b %{mda}\"\naction i mda \"/x\" wrapper w\nmatch for any action i\n", false},
		{"what a filter does", "filter f phase connect match fcrdns junk\naction o relay filter f\nmatch for any action o\n",
			"filter f phase connect match fcrdns disconnect \"550 x\"\naction o relay filter f\nmatch for any action o\n", false},
		{"the source of a table", "table t ldap:/a\nmatch from any mail-from <t> for any action in\n", "table t ldap:/b\nmatch from any mail-from <t> for any action in\n", false},
		{"a delimiter without users", base, "smtp sub-addr-delim \"-\"\n" + base, true},
		{"a delimiter with users", "match from any for any rcpt-to \"x\" action in\n", "smtp sub-addr-delim \"-\"\nmatch from any for any rcpt-to \"x\" action in\n", false},
	}
	for _, tt := range tests {
		m := certificate.NewMeaning()
		a, b := m.Of(load(t, tt.before)), m.Of(load(t, tt.after))
		if same := a.Rules[0] == b.Rules[0]; same != tt.same {
			t.Errorf("%s: same %v, want %v", tt.name, same, tt.same)
		}
	}
}

// FuzzVerify checks that no certificate whatever is taken for a table that
// is open, or for two that decide differently.
func FuzzVerify(f *testing.F) {
	open := []*compile.Ruleset{
		load(f, "match from any mail-from \"@a.example\" for any reject\nmatch from any for any action out"),
		load(f, "match from src \"0.0.0.0/1\" for any reject\nmatch from any for any action out"),
		load(f, "match from any rcpt-to \"bob+x\" for any reject\nmatch from any rcpt-to \"bob\" for any action out"),
	}
	closed := load(f, "match !from src \"198.51.100.0/24\" for any reject\nmatch from any for any action out")
	for _, rs := range append(open, closed) {
		if c := analyze.Relay(rs, analyze.RelayOptions{}).Certificate; c != nil {
			text, err := json.Marshal(c)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add([]byte(`{"version":2,"claim":"no decision changes","common":[{"old":1,"new":1,"count":2}],"proofs":[{"down":"","old":{"rule":1},"new":{"rule":2},"tree":{"taken":{"rule":1,"by_new":true},"rest":{"mail-from":{"empty":"from"}}}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := certificate.Read(bytes.NewReader(text))
		if err != nil || len(c.Trusted) > 0 {
			return
		}
		for i, rs := range open {
			if certificate.VerifyClosed(rs, c) == nil {
				t.Errorf("taken for open table %d", i)
			}
			if certificate.VerifyEqual(rs, closed, c) == nil {
				t.Errorf("taken for tables %d and closed, which differ", i)
			}
		}
	})
}
