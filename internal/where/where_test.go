package where

import (
	"strings"
	"testing"
	"time"

	"smtpd/runtime/envelope"
	"smtpd/runtime/queue"
)

var now = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// sample is an envelope that was tried three times in two hours.
func sample() *queue.Listed {
	return &queue.Listed{
		Envelope: envelope.Envelope{
			ID: 0x0a0b0c0d_00000001, Type: envelope.MTA, Action: "out", Tag: "sub", Source: "[2001:db8::1]", Helo: "pc", User: "ann",
			Flags:  envelope.Authenticated | envelope.SMTPUTF8,
			Sender: envelope.ParseAddress("ann@example.org"), Rcpt: envelope.ParseAddress("list@example.org"), Dest: envelope.ParseAddress("bob@MX.Example.com"),
			Created: now.Add(-2 * time.Hour), Expires: now.Add(94 * time.Hour), LastTry: now.Add(-30 * time.Minute), NextTry: now.Add(10 * time.Minute),
			Tries: 3, Error: "451 4.7.1 Greylisted, try again", Status: "4.7.1",
		},
		Size: 20 << 10,
	}
}

func TestMatch(t *testing.T) {
	held, flying, broken, report := sample(), sample(), sample(), sample()
	held.Envelope.Flags |= envelope.Suspended
	held.Why = "it is suspended"
	flying.InFlight = true
	*broken = queue.Listed{Envelope: envelope.Envelope{ID: 0x0a0b0c0d_00000001}, Error: "checksum"}
	report.Envelope.Sender, report.Envelope.Flags = envelope.Address{}, envelope.IsBounce
	for _, tt := range []struct {
		expr string
		l    *queue.Listed
		want bool
	}{
		{"domain = mx.example.com and age > 1h and tries > 2", sample(), true},
		{"domain = mx.example.com and age > 1h and tries > 3", sample(), false},
		{"domain = *.example.com", sample(), true},
		{"domain = example.com", sample(), false},
		{"domain != example.com", sample(), true},
		{"domain ~ example", sample(), true},
		{"domain ~ ^example", sample(), false},
		{"domain !~ ^example", sample(), true},
		{"NOT domain = *.org AND (tries = 3 OR tries = 4)", sample(), true},
		{"not (domain = *.org or tries = 3)", sample(), false},
		{"tries = 1 or tries = 3 and age < 1h", sample(), false},
		{"(tries = 3 or tries = 1) and age <= 2h", sample(), true},
		{"age >= 2h and age < 2h1s and idle = 30m and next = 10m and expires = 3d22h", sample(), true},
		{"size >= 20K and size < 21k and size != 1M", sample(), true},
		{`error ~ "grey.*again$" and status = 4.7.*`, sample(), true},
		{"sender = ann@example.org and rcpt = list@* and dest = bob@*", sample(), true},
		{"user = ann and tag = sub and helo = pc and source = 2001:db8::* and action = out and type = mta", sample(), true},
		{"id = 0a0b0c0d00000001 and message = 0a0b0c0d", sample(), true},
		{"flag = auth and flag = smtputf8 and flag != bounce", sample(), true},
		{"flag != auth", sample(), false},
		{"state = pending", sample(), true},
		{"state = held and why ~ suspended", held, true},
		{"state = inflight", flying, true},
		{`sender = ""`, report, true},
		{`sender = ""`, sample(), false},
		{"flag = bounce", report, true},
		{"state = invalid and message = 0a0b0c0d", broken, true},
		{"age > 0s", broken, false},
		{"tries != 7", broken, false},
		{`domain = "mx.example.com"and(tries=3)`, sample(), true},
		{`helo = "a\"b"`, sample(), false},
		{`domain = "mx.exa.ple.com"`, sample(), false}, // a dot is a dot
	} {
		q, err := Parse(tt.expr)
		if err != nil {
			t.Errorf("%s: %v", tt.expr, err)
			continue
		}
		if got := q.Match(tt.l, now); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.expr, got, tt.want)
		}
		if got := q.NeedsSizes(); got != strings.Contains(tt.expr, "size") {
			t.Errorf("%s: needs sizes: %v", tt.expr, got)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for expr, want := range map[string]string{
		"":                            "column 1",
		"domian = a":                  `column 1: no field "domian"; there are action, age,`,
		"domain = a and":              "column",
		"domain = a b = c":            "column 12",
		"domain < a":                  "column 10: domain <: is text",
		"tries ~ 3":                   "column 9: tries ~: is a number",
		"tries > many":                `"many" is no number`,
		"tries > -1":                  `"-1" is no number`,
		"age > 3":                     `"3" is no time`,
		"age > h":                     `"h" is no time`,
		`age > ""`:                    `"" is no time`,
		"age > 99999999999999999999d": "is no time",
		"size > 3X":                   `"3X" is no size`,
		"size > 9999999999G":          "is no size",
		"error ~ [":                   "pattern",
		"(tries > 3":                  "column",
		"domain = \"a":                "column",
		strings.Repeat("(", 5000):     "expression of 5000 bytes",
	} {
		if _, err := Parse(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", expr, err, want)
		}
	}
}

// TestDeep reads what nests as deep as its length allows.
func TestDeep(t *testing.T) {
	n := (maxLength - len("tries=3")) / 2
	q, err := Parse(strings.Repeat("(", n) + "tries=3" + strings.Repeat(")", n))
	if err != nil || !q.Match(sample(), now) {
		t.Errorf("%d deep: %v", n, err)
	}
}
