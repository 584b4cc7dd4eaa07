package postfix_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/lang"
	"smtpd/lang/diag"
)

// FuzzImport imports any settings. What comes out is a configuration that the
// server takes and through which a stranger sends nothing to the world,
// whatever the settings are, unless they trust his network.
func FuzzImport(f *testing.F) {
	archives, _ := filepath.Glob("testdata/*.txtar")
	for _, name := range archives {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		files := make(setup)
		for _, a := range archive.Files {
			files[a.Name] = a.Data
		}
		f.Add(files["main.cf"], files["master.cf"], slices.Concat(files["virtual"], files["transport"]))
	}
	for _, text := range []string{
		"a = $b\nb = ${a}\nmydestination = $a", "x = ${{1} < {2} ? {a} : {${{b} == {b} ? {c}}}}\nrelayhost = $x",
		"smtpd_relay_restrictions = permit", "smtpd_recipient_restrictions = !permit, { reject }", "mynetworks = !0.0.0.0/1, ::/0, 0.0.0.0/0",
		"relayhost = [::1]:smtp\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = inline:{ [::1]:smtp=a:b }",
		"transport_maps = inline:{ { * = error:no }, { .x = lmtp:unix:a b } }", "content_filter = smtp:", "relay_domains = /!", "mydestination = \"x, 'y, \\z",
	} {
		f.Add([]byte(text), []byte("smtp inet n - y - - smtpd -o { a = b }\n"), []byte("a@b c\n d\n"))
	}
	f.Fuzz(func(t *testing.T, main, master, table []byte) {
		s := setup{"main.cf": main, "master.cf": master, "virtual": table, "transport": table}
		r := imported(t, s)
		if r.Text == nil {
			if !r.Notes.Has(diag.Language) {
				t.Fatal("no result, and no word about it")
			}
			return
		}
		text, err := lang.Format("smtpd.conf", r.Text)
		if err != nil {
			t.Fatalf("%v\n%s", err, r.Text)
		}
		rs, err := rules(t, text, s)
		if err != nil && !strings.Contains(err.Error(), "/etc/postfix/") {
			t.Fatalf("%v\n%s", err, text)
		}
		if rs != nil {
			stranger(t, rs, text)
		}
	})
}

// stranger tries to send mail to the world through each listener.
func stranger(t *testing.T, rs *compile.Ruleset, text []byte) {
	t.Helper()
	addr := netip.MustParseAddr("198.18.7.9")
	for i := range rs.Tables {
		for _, e := range rs.Tables[i].Entries {
			if x, err := netip.ParsePrefix(e.Key); err == nil && x.Contains(addr) || e.Key == addr.String() {
				return
			}
		}
	}
	e := engine.New(rs)
	for i := range rs.Listeners {
		for _, sender := range []string{"", "a.example"} {
			tx := &engine.Transaction{Kind: engine.FromAddress, Addr: addr, Tag: rs.Listeners[i].Tag, TLS: true, Helo: "x",
				Sender: engine.Address{User: "u", Domain: sender}, Rcpt: engine.Address{User: "nobody", Domain: "nowhere.at.all.example"}}
			if d := e.Decide(context.Background(), tx, unanswered{}); d.Outcome == engine.Accept {
				t.Fatalf("a stranger relays by rule %d\n%s", d.Rule+1, text)
			}
		}
	}
}

// unanswered is a host whose tables nobody can ask.
type unanswered struct{}

func (unanswered) Check(_ context.Context, id compile.TableID, _ engine.Service, _ string) (bool, error) {
	return false, fmt.Errorf("table %d is not here", id)
}
