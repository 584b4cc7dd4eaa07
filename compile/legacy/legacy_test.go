package legacy_test

import (
	"errors"
	"testing"
	"time"

	"smtpd/ast/old"
	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/compile/legacy"
	"smtpd/lang"
	"smtpd/lang/gen1"
	"smtpd/lang/gen2"
)

func compiled(t *testing.T, d old.Dialect, text string) (*compile.Ruleset, error) {
	t.Helper()
	s, list := lang.Scan("f", lang.Options{Text: []byte(text)})
	read := gen2.Read
	if d.Generation() == 1 {
		read = gen1.Read
	}
	f, more := read(s, d)
	if list = append(list, more...); len(list) > 0 {
		t.Fatal(list)
	}
	return legacy.Compile(f, hostfacts.Unnamed())
}

// TestRules counts the rules that one old rule comes to, and looks at the
// first: what they decide is tested with the conversion.
func TestRules(t *testing.T) {
	const login = "listen on lo tls certificate c auth\n"
	tests := []struct {
		name    string
		dialect old.Dialect
		text    string
		rules   int
		accepts bool
	}{
		{"nobody logs in", old.D53, "accept for any relay\n", 1, true},
		{"a session that is logged in counts as local", old.D53, login + "accept for any relay\n", 2, true},
		{"a network is not for it", old.D53, login + "accept from 10.0.0.0/8 for any relay\n", 1, true},
		{"but for one that lists local", old.D53, login + "accept from { 10.0.0.0/8, \"local\" } for any relay\n", 2, true},
		{"everybody", old.D53, login + "accept from any for any relay\n", 1, true},
		{"in generation 1 no network stops it", old.D1D, "listen on lo tls enable auth\naccept from 10.0.0.0/8 for all relay\n", 2, true},
		{"a block from its end", old.D1B, "accept for { local, all, network 10.0.0.0/8 } relay\n", 2, true},
		{"reject did nothing", old.D1B, "reject for local deliver to mbox\n", 1, true},
		{"a sender without domain", old.D1C, "accept for all relay as user\n", 0, false},
		{"reject", old.D1E, "reject for local\n", 1, false},
		{"recipients that there are", old.D53, "accept for any virtual { a } relay\n", 2, true},
		{"nobody", old.D603, "accept from ! any for any relay\naccept for ! any relay\n", 0, false},
		{"an entry without domain", old.D603, "accept sender x for any relay\n", 0, false},
		{"a null sender of its own", old.D541, "accept sender { \"@\", \"@a.example\" } for any relay\n", 2, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rs, err := compiled(t, tt.dialect, tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if len(rs.Rules) != tt.rules || tt.rules > 0 && (rs.Rules[0].Action != 0) != tt.accepts {
				t.Errorf("rules %+v, want %d", rs.Rules, tt.rules)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	rs, err := compiled(t, old.D603, `max-message-size 1.5M
bounce-warn 1h, 2h, 3h, 4h, 5h
limit session max-rcpt 7
limit mta max-conn-per-host 3
limit mta for domain "X.example" conn-delay-host 9 inet6
limit scheduler max-msg-batch-size 11
max-mta-deferred 12
expire 2d
subaddressing-delimiter "-"
pki a certificate "/c" key "/k"
listen on lo secure pki a hostname a
listen on lo port smtp
accept for any relay
`)
	if err != nil {
		t.Fatal(err)
	}
	x := rs.MTA.Domains[0]
	switch {
	case rs.SMTP.MaxMessageSize != 3<<19, len(rs.Bounce) != 4, rs.SMTP.MaxRcpt != 7, rs.SMTP.SubAddrDelim != '-':
		t.Errorf("smtp %+v, bounce %v", rs.SMTP, rs.Bounce)
	case rs.MTA.Limits.MaxConnPerHost != 3, rs.MTA.MaxDeferred != 12, x.Domain != "x.example", x.Limits.ConnDelayHost != 9, x.Limits.MaxConnPerHost != 3, x.Limits.Family != "inet6":
		t.Errorf("mta %+v", rs.MTA)
	case rs.Scheduler.MaxMsgBatchSize != 11, rs.Actions[0].TTL != 48*time.Hour:
		t.Errorf("scheduler %+v, action %+v", rs.Scheduler, rs.Actions[0])
	case len(rs.Listeners) != 3, rs.Listeners[1].Port != 465, rs.Listeners[1].TLS != compile.SMTPS, rs.Listeners[2].Port != 25, rs.Listeners[0].PKI[0] != "a":
		t.Errorf("listeners %+v", rs.Listeners)
	}
}

func TestWrong(t *testing.T) {
	for _, text := range []string{
		"accept from source <gone> for any relay\n", "accept for any relay expire soon\n", "limit session speed 1\naccept for any relay\n",
		"accept for any relay via gopher://h\n", "max-message-size big\naccept for any relay\n",
	} {
		if rs, err := compiled(t, old.D57, text); err == nil || rs == nil || errors.Unwrap(err) != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}
