package analyze

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/expand"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
)

// loneRule returns a rule table of nothing but a rule that lacks one of its
// criteria.
func loneRule(rs *compile.Ruleset, r compile.Rule, p engine.Part) *compile.Ruleset {
	switch p {
	case engine.PartTag:
		r.Tag = compile.Criterion{}
	case engine.PartFrom:
		r.From = compile.From{Kind: compile.FromAny, Criterion: compile.Criterion{Sign: compile.Is, Table: rs.AnyHost}}
	case engine.PartFor:
		r.For = compile.For{Kind: compile.ForAny, Criterion: compile.Criterion{Sign: compile.Is, Table: rs.AnyDest}}
	case engine.PartHelo:
		r.Helo = compile.Criterion{}
	case engine.PartAuth:
		r.Auth = compile.Criterion{}
	case engine.PartTLS:
		r.TLS = compile.Criterion{}
	case engine.PartMailFrom:
		r.MailFrom = compile.Criterion{}
	case engine.PartRcptTo:
		r.RcptTo = compile.Criterion{}
	}
	one := *rs
	one.Rules = []compile.Rule{r}
	return &one
}

// TestExplainFlips takes the recorded decisions: each rule before the one
// that decides has a criterion that says no, and matches without it if, and
// only if, it is called a near miss.
func TestExplainFlips(t *testing.T) {
	paths, err := filepath.Glob("../../testdata/decisions/*.conf")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	passed, near := 0, 0
	for _, path := range paths {
		f, _ := lang.Parse(path, lang.Options{})
		rs, list := compile.Draft(f, hostfacts.Unnamed())
		if rs == nil {
			t.Fatal(list)
		}
		x := NewExplainer(rs, engine.Intended)
		for _, tx := range recorded(t, rs, strings.TrimSuffix(path, ".conf")+".tsv") {
			e := x.Explain(t.Context(), tx, nil)
			last := e.Decision.Rule
			if last < 0 {
				last = len(rs.Rules)
			}
			if len(e.Passed) != last || len(e.Asked) != 0 {
				t.Fatalf("%s: %d rules passed over before %d", path, len(e.Passed), last)
			}
			for i := range e.Passed {
				p, r := &e.Passed[i], &rs.Rules[i]
				if p.Rule != i || len(p.Failed) == 0 || len(p.Open) != 0 {
					t.Fatalf("%s rule %d: %+v", path, i+1, p)
				}
				q := p.Failed[0]
				d := engine.NewLinear(loneRule(rs, *r, q.Part)).Decide(t.Context(), tx, nil)
				if (d.Rule == 0) != p.Near() {
					t.Errorf("%s rule %d without %s: rule %d, near is %v", path, i+1, q.Part, d.Rule, p.Near())
				}
				if Criterion(rs, r, q.Part) == "" || Value(tx, r, q) == "" || Would(rs, r, q) == "" {
					t.Errorf("%s rule %d: nothing to say of %s", path, i+1, q.Part)
				}
				passed++
				if p.Near() {
					near++
				}
			}
		}
	}
	if passed < 10_000 || near < 2_000 {
		t.Errorf("%d rules passed over, %d of them near misses", passed, near)
	}
}

// recorded reads the transactions of a recording.
func recorded(t *testing.T, rs *compile.Ruleset, path string) []*engine.Transaction {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	address := func(s string) engine.Address {
		user, domain, _ := strings.Cut(s, "@")
		return engine.Address{User: user, Domain: domain}
	}
	var txs []*engine.Transaction
	for line := range strings.Lines(string(text)) {
		row := strings.Split(strings.TrimRight(line, "\n"), "\t")
		tx := &engine.Transaction{Kind: engine.FromSocket, Auth: true, TLS: row[1] == "y", Helo: row[3], RDNS: "client.invalid", Rcpt: address(row[5])}
		if row[4] != "-" {
			tx.Sender = address(row[4])
		}
		if row[0] != "socket" {
			tx.Kind, tx.Tag, tx.Auth = engine.FromAddress, rs.Listeners[0].Tag, row[2] != "-"
			tx.Addr = netip.MustParseAddr(strings.Replace(row[0], "local", "127.0.0.1", 1))
		}
		if row[2] != "-" {
			tx.User = row[2]
		}
		if row[6] == "y" {
			tx.Kind = engine.FromInternal
		}
		txs = append(txs, tx)
	}
	return txs
}

// A scripted answers as it is told to, and notes what it was not told.
type scripted struct {
	answers map[string]bool
	unknown int
}

func (s *scripted) Check(_ context.Context, _ compile.TableID, _ engine.Service, key string) (bool, error) {
	found, ok := s.answers[key]
	if !ok {
		s.unknown++
		return false, errors.New("nobody told")
	}
	return found, nil
}

// TestCases checks that the cases of a decision that depends on tables are
// what it is with those answers, that none is missing, and that none says
// more than it needs to.
func TestCases(t *testing.T) {
	rs := load(t, `table froms ldap:/x
table rcpts ldap:/y
match from any mail-from <froms> for any reject
match from any for rcpt-to <rcpts> action in
match from any !mail-from <froms> for domain "a.example" action out
`)
	x := NewExplainer(rs, engine.Intended)
	tx := &engine.Transaction{Kind: engine.FromAddress, Addr: netip.MustParseAddr("203.0.113.9"),
		Sender: engine.Address{User: "s", Domain: "b.example"}, Rcpt: engine.Address{User: "r", Domain: "a.example"}}
	e := x.Explain(t.Context(), tx, nil)
	if e.Decision.Outcome != engine.TempFail || len(e.Asked) != 1 || !errors.Is(e.Asked[0].Err, ErrNotAsked) {
		t.Fatalf("%+v", e)
	}
	var got []string
	for _, c := range x.Cases(t.Context(), tx, nil) {
		s := &scripted{answers: make(map[string]bool)}
		var words []string
		for _, a := range c.If {
			s.answers[a.Key] = a.Found
			words = append(words, strings.Trim(holdsText(a.Found)+" "+a.Key, " "))
		}
		d := engine.NewLinear(rs).Decide(t.Context(), tx, s)
		if d.Outcome != c.Decision.Outcome || d.Rule != c.Decision.Rule || s.unknown > 0 {
			t.Errorf("%v: %+v, but %+v", words, c.Decision, d)
		}
		got = append(got, strings.Join(words, ", "))
	}
	want := "holds s@b.example; lacks s@b.example, holds r@a.example; lacks s@b.example, lacks r@a.example"
	if strings.Join(got, "; ") != want {
		t.Errorf("cases %s", strings.Join(got, "; "))
	}
	many := "table t ldap:/x\n"
	for range 40 {
		many += "match from any helo <t> for any action in\nmatch from any mail-from <t> for any action in\nmatch from any for rcpt-to <t> action in\n"
	}
	if n := len(NewExplainer(load(t, many), engine.Intended).Cases(t.Context(), tx, nil)); n == 0 || n > maxCases {
		t.Errorf("%d cases", n)
	}
}

func holdsText(found bool) string {
	if found {
		return "holds"
	}
	return "lacks"
}

// TestWays says in words how each kind of delivery is made.
func TestWays(t *testing.T) {
	rs := load(t, `table users { bob = "1000:1000:/home/bob" }
table routes { r.example = "smtps://mx.r.example" }
table hosts { "smtp://one.example", "smtp://two.example" }
table far ldap:/x
table aliases { both = "bob+tag, |prog, /var/mail/x" }
action box mbox alias <aliases>
action md maildir "~/Mail/%{user.username}" user vmail userbase <users>
action spool lmtp "localhost:24"
action cmd mda "/bin/deliver"
action direct relay
action hosts relay host <hosts>
action unknown relay host <far>
action routed relay domain <routes>
action askrouted relay domain <far>
action mx2 relay backup mx mx.b.example
action mx3 relay backup
match from any for domain box.example action box
match from any for domain md.example action md
match from any for domain lmtp.example action spool
match from any for domain cmd.example action cmd
match from any for domain hosts.example action hosts
match from any for domain unknown.example action unknown
match from any for domain r.example action routed
match from any for domain nor.example action routed
match from any for domain ask.example action askrouted
match from any for domain b.example action mx2
match from any for domain c.example action mx3
match from any for any action direct
`)
	x := NewExplainer(rs, engine.Intended)
	for rcpt, want := range map[string]string{
		"both@box.example":  "mbox, mail of bob with sub-address tag; command prog, as _smtpd; file /var/mail/x, as _smtpd",
		"bob@md.example":    "maildir ~/Mail/%{user.username}, mail of bob, as vmail",
		"x+y@lmtp.example":  "lmtp localhost:24, mail of x with sub-address y",
		"x@cmd.example":     "mda /bin/deliver, mail of x",
		"x@hosts.example":   "relay by way of smtp://one.example, then smtp://two.example",
		"x@unknown.example": "relay, table far names the host",
		"x@r.example":       "relay by way of smtps://mx.r.example",
		"x@nor.example":     "relay, table routes has no host for nor.example: the mail waits in the queue",
		"x@ask.example":     "relay, table far would be asked for the host of ask.example",
		"x@b.example":       "relay to the MX hosts of b.example that are better than mx.b.example",
		"x@c.example":       "relay to the MX hosts of c.example that are better than mx.example.org",
		"x@D.example":       "relay to the MX hosts of d.example",
	} {
		user, domain, _ := strings.Cut(rcpt, "@")
		tx := &engine.Transaction{Kind: engine.FromAddress, Addr: netip.MustParseAddr("203.0.113.9"), Rcpt: engine.Address{User: user, Domain: domain}}
		e := Expand(t.Context(), &expand.AtHand{Rules: rs, Transaction: tx, Decider: x.Engine(), Lookups: NotAsked{}}, time.Unix(0, 0))
		var ways []string
		for i := range e.Deliveries {
			w := WayOf(rs, &e.Deliveries[i])
			ways = append(ways, w.String())
		}
		if got := strings.Join(ways, "; "); got != want || e.Err != nil {
			t.Errorf("%s: %s, %v; want %s", rcpt, got, e.Err, want)
		}
	}
}
