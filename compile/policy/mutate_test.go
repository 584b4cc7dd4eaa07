package policy

import (
	"fmt"
	"slices"
	"testing"

	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
)

// ruleset compiles a configuration for a host of which nothing is known.
func ruleset(t *testing.T, text string) *compile.Ruleset {
	t.Helper()
	f, list := lang.Parse("smtpd.conf", lang.Options{Text: []byte(text)})
	rs, more := compile.Draft(f, hostfacts.Unnamed())
	if rs == nil {
		t.Fatal(append(list, more...))
	}
	return rs
}

// bind binds tests to rs, which they must fit.
func bind(t *testing.T, rs *compile.Ruleset, text string) []*Bound {
	t.Helper()
	suite, list := Read("t", []byte(text))
	bound, unbound := suite.Bind(rs, nil)
	if len(list)+len(unbound) > 0 {
		t.Fatalf("%s\n%v", text, append(list, unbound...))
	}
	return bound
}

// changed returns the rule table that a mutation stands for, made from
// nothing but its description, so that Mutate's short cuts are not believed.
func changed(rs *compile.Ruleset, m *mutation) *compile.Ruleset {
	c := *rs
	c.Rules = append(slices.Clone(rs.Rules[:m.first]), m.rules...)
	c.Rules = append(c.Rules, rs.Rules[m.first+m.replaced:]...)
	c.Tables = slices.Clone(rs.Tables)
	if m.table != 0 {
		var kept []compile.Entry
		for _, e := range rs.Table(m.table).Entries {
			if e.Key != m.key {
				kept = append(kept, e)
			}
		}
		c.Tables[m.table-1].Entries = kept
	}
	return &c
}

// number returns the number in the configuration of a rule of the changed
// table, both from 0.
func (m *mutation) number(rule int) int {
	switch n := rule - m.first; {
	case n < 0:
		return rule
	case n < len(m.rules):
		return m.original[n]
	default:
		return rule - len(m.rules) + m.replaced
	}
}

const mutationConf = `
table nets { "192.0.2.0/24", "2001:db8::/32" }
table aliases { info = bob }
action "in" maildir alias <aliases>
action "out" relay host "smart.example"
match from any helo { "bad.example", "worse.example" } for any reject
match from any mail-from regex "^spam.*@" for any reject
match from any tls for domain { "example.org", "*.example.org" } action "in"
match !from src <nets> auth "bob" for any action "out"
match from rdns "mx.trusted.example" for any rcpt-to "@partner.example" action "out"
match tag "IN" from local for local action "in"
match from local for any action "out"
`

// A configuration whose tables have to be asked: tests must bring content.
const unknownConf = `
table staff ldap:/etc/mail/ldap.conf
table nets db:/etc/mail/nets.db
table names ldap:/etc/mail/names.conf
action "in" maildir
action "out" relay
match from src <nets> auth <staff> for any action "out"
match from any helo <names> for any reject
match from any for domain <names> rcpt-to <staff> action "in"
match from any mail-from regex <staff> for any reject
match from any auth for any action "out"
`

// TestSuggestionsKill takes every change that a lonely test does not notice.
// The test that Mutate suggests passes with the configuration and fails with
// the changed one, each decided from the start.
func TestSuggestionsKill(t *testing.T) {
	for _, tt := range []struct {
		name, conf, lonely string
		tried, suggested   int
	}{
		{"known", mutationConf, `test "outsider" { from 203.0.113.9 rcpt-to "x@elsewhere.example" expect reject }`, 50, 45},
		{"unknown", unknownConf, `test "down" { from 203.0.113.9 rcpt-to "x@elsewhere.example" expect tempfail }`, 25, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rs := ruleset(t, tt.conf)
			survivors, tried := Mutate(bind(t, rs, tt.lonely))
			all := make(map[string]*mutation)
			for i := range rs.Rules {
				mutations(rs, i, func(m *mutation) { all[fmt.Sprint(i, m.change)] = m })
			}
			if len(all) != tried || tried < tt.tried {
				t.Errorf("%d changes were tried, of %d", tried, len(all))
			}
			suggested := 0
			for _, s := range survivors {
				if s.Test == "" {
					t.Logf("no test for rule %d %s", s.Rule+1, s.Change)
					continue
				}
				suggested++
				m := all[fmt.Sprint(s.Rule, s.Change)]
				if m == nil {
					t.Fatalf("no change %d %s", s.Rule, s.Change)
				}
				if r := Run(bind(t, rs, s.Test), len(rs.Rules)); r.Failed != 0 {
					t.Errorf("fails as it is: %s\n%s", r.Results[0].Got, s.Test)
				}
				mutant := changed(rs, m)
				if r := Run(bind(t, mutant, s.Test), len(mutant.Rules)); r.Failed == 0 {
					t.Errorf("passes with rule %d %s:\n%s", s.Rule+1, s.Change, s.Test)
				}
			}
			if suggested < tt.suggested {
				t.Errorf("only %d tests for %d changes", suggested, len(survivors))
			}
		})
	}
}

// TestNoticedFails takes every change that tests notice: by each whole
// changed table one of them fails, and by those of the others none does.
func TestNoticedFails(t *testing.T) {
	rs := ruleset(t, mutationConf)
	bound := bind(t, rs, `
accounts { bob }
test "info" { from 203.0.113.9 tls rcpt-to info@example.org expect reply "250" }
test "stranger" { from 203.0.113.9 tls rcpt-to nobody@example.org expect reply "550 Invalid recipient" }
test "alias" {
	table <aliases> { info = "error:550 5.7.1 closed" }
	from 203.0.113.9 tls rcpt-to info@www.example.org expect reply "550 5.7.1"
}
test "trusted" { from 203.0.113.9 rdns mx.trusted.example rcpt-to a@partner.example expect rule 5 }
test "spam" { from 203.0.113.9 tls mail-from spammer@x.example rcpt-to info@example.org expect reject }
test "local" { from local rcpt-to x@far.example expect action "out" }
`)
	if r := Run(bound, len(rs.Rules)); r.Failed > 0 {
		t.Fatalf("%+v", r.Results)
	}
	survivors, _ := Mutate(bound)
	lives := make(map[string]bool)
	for _, s := range survivors {
		lives[fmt.Sprint(s.Rule, s.Change)] = true
	}
	noticed := 0
	for i := range rs.Rules {
		mutations(rs, i, func(m *mutation) {
			mutant := changed(rs, m)
			failed := 0
			for _, b := range bound {
				again := *b
				again.Rules = changed(b.Rules, m)
				for j := range b.tests {
					tt := &b.tests[j]
					// A rule is expected by its number in the configuration.
					if e := tt.Expect.Rule; e > 0 {
						d := Run([]*Bound{{Suite: b.Suite, Rules: again.Rules, tests: []Test{*tt}}}, len(mutant.Rules)).Results[0].Decision
						if d.Rule < 0 || m.number(d.Rule) != e-1 {
							failed++
						}
						continue
					}
					again.tests = []Test{*tt}
					failed += Run([]*Bound{&again}, len(mutant.Rules)).Failed
				}
			}
			if failed > 0 {
				noticed++
			}
			if (failed > 0) == lives[fmt.Sprint(i, m.change)] {
				t.Errorf("rule %d %s: %d tests fail, alive is %v", i+1, m.change, failed, failed == 0)
			}
		})
	}
	if noticed < 15 {
		t.Errorf("only %d changes are noticed", noticed)
	}
}
