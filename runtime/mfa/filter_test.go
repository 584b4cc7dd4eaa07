package mfa

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/filter"
	"smtpd/runtime/lka"
)

// filterAgent has one table for each filter that wants one; the table "down"
// fails.
func filterAgent(filters ...compile.Filter) *agent {
	rs := &compile.Ruleset{Filters: filters}
	rs.SMTP.SubAddrDelim = '+'
	list := func(keys ...string) {
		t := compile.Table{Name: "t", Kind: compile.List, Backend: "static"}
		for _, k := range keys {
			t.Entries = append(t.Entries, compile.Entry{Key: k})
		}
		rs.Tables = append(rs.Tables, t)
	}
	list("*.client.net")                                                                            // 1
	list("192.0.2.0/24")                                                                            // 2
	list("@spam.example", "sam")                                                                    // 3
	list(`^host[0-9]+\.`)                                                                           // 4
	list("sam")                                                                                     // 5
	rs.Tables = append(rs.Tables, compile.Table{Name: "down", Kind: compile.Dynamic, Backend: "x"}) // 6
	a := newAgent(Config{Rules: rs})
	a.lookups = &peers{}
	return a
}

func test(f compile.FilterField, sign compile.Sign, t compile.TableID, regex bool) compile.FilterTest {
	return compile.FilterTest{Field: f, Criterion: compile.Criterion{Sign: sign, Table: t, Regex: regex}}
}

func testPhase(name string) *Phase {
	return &Phase{
		Filter: 1, Name: name, Forward: lka.Pass,
		Session: Session{Kind: engine.FromAddress, Addr: netip.MustParseAddr("192.0.2.7"), Helo: "mx.client.net", RDNS: "host7.client.net"},
		Sender:  envelope.ParseAddress("joe@spam.example"), Rcpt: envelope.ParseAddress("Sam+x@here.example"),
	}
}

func TestFilterTests(t *testing.T) {
	tests := []struct {
		name string
		test compile.FilterTest
		set  func(p *Phase)
		want bool
	}{
		{"fcrdns", test(compile.FieldFCrDNS, compile.Is, 0, false), nil, true},
		{"fcrdns error", test(compile.FieldFCrDNS, compile.Is, 0, false), func(p *Phase) { p.Forward = lka.Error }, false},
		{"!fcrdns", test(compile.FieldFCrDNS, compile.Not, 0, false), func(p *Phase) { p.Forward = lka.Fail }, true},
		{"rdns", test(compile.FieldRDNS, compile.Is, 0, false), nil, true},
		{"!rdns", test(compile.FieldRDNS, compile.Not, 0, false), func(p *Phase) { p.Session.RDNS = "" }, true},
		{"rdns is an address", test(compile.FieldRDNS, compile.Is, 0, false), func(p *Phase) { p.Session.RDNS = "192.0.2.7" }, false},
		{"rdns table", test(compile.FieldRDNS, compile.Is, 1, false), nil, true},
		{"rdns table, none", test(compile.FieldRDNS, compile.Is, 1, false), func(p *Phase) { p.Session.RDNS = "" }, false},
		{"rdns regex", test(compile.FieldRDNS, compile.Is, 4, true), nil, true},
		{"src", test(compile.FieldSrc, compile.Is, 2, false), nil, true},
		{"src of the socket", test(compile.FieldSrc, compile.Is, 2, false), func(p *Phase) { p.Session.Kind = engine.FromSocket }, false},
		{"helo", test(compile.FieldHelo, compile.Is, 1, false), nil, true},
		{"helo not known yet", test(compile.FieldHelo, compile.Not, 1, false), func(p *Phase) { p.Session.Helo = "" }, true},
		{"auth", test(compile.FieldAuth, compile.Is, 0, false), nil, false},
		{"auth table", test(compile.FieldAuth, compile.Is, 5, false), func(p *Phase) { p.Session.Auth, p.Session.User = true, "Sam" }, true},
		{"auth table without auth", test(compile.FieldAuth, compile.Is, 5, false), func(p *Phase) { p.Session.User = "sam" }, false},
		{"mail-from", test(compile.FieldMailFrom, compile.Is, 3, false), nil, true},
		{"null sender", test(compile.FieldMailFrom, compile.Is, 3, false), func(p *Phase) { p.Sender = envelope.Address{} }, false},
		{"rcpt-to", test(compile.FieldRcptTo, compile.Is, 3, false), nil, true},
		{"rcpt-to, quoted sub-address", test(compile.FieldRcptTo, compile.Is, 3, false), func(p *Phase) { p.Rcpt.User = `"` + p.Rcpt.User + `+ x"` }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := filterAgent(compile.Filter{Name: "f", Phase: "rcpt-to", Test: tt.test, Do: compile.Reject, Text: "550 no"})
			p := testPhase("rcpt-to")
			if tt.set != nil {
				tt.set(p)
			}
			v, err := a.phase(t.Context(), p)
			if err != nil || (v.Do == compile.Reject) != tt.want || tt.want && v.Text != "550 no" {
				t.Errorf("%+v, %v, want %v", v, err, tt.want)
			}
		})
	}
}

// TestFilterLookupFails checks that a condition nobody can evaluate neither
// holds nor fails to, but only where it is asked.
func TestFilterLookupFails(t *testing.T) {
	for _, sign := range []compile.Sign{compile.Is, compile.Not} {
		a := filterAgent(compile.Filter{
			Name: "f", Phase: "rcpt-to", Do: compile.Reject, Text: "550 no",
			Test: test(compile.FieldRcptTo, sign, 6, false),
		})
		if v, err := a.phase(t.Context(), testPhase("rcpt-to")); err == nil || !strings.Contains(err.Error(), `filter "f": table "down"`) {
			t.Errorf("sign %d: %+v, %v", sign, v, err)
		}
		if v, err := a.phase(t.Context(), testPhase("mail-from")); err != nil || v.Do != 0 {
			t.Errorf("sign %d, another phase: %+v, %v", sign, v, err)
		}
	}
}

// TestFilterChain has one phase of a chain decided by each of its members.
func TestFilterChain(t *testing.T) {
	always := test(compile.FieldFCrDNS, compile.Is, 0, false)
	never := test(compile.FieldFCrDNS, compile.Not, 0, false)
	filter := func(phase string, test compile.FilterTest, do compile.Verdict, text string) compile.Filter {
		return compile.Filter{Name: text, Phase: phase, Test: test, Do: do, Text: text}
	}
	a := filterAgent(
		compile.Filter{Name: "chain", Chain: []compile.FilterID{2, 3, 4, 5, 6, 7, 8, 9, 10}},
		filter("helo", never, compile.Reject, "550 never"),
		filter("helo", always, compile.Report, "first"),
		filter("helo", always, compile.Report, "second"),
		filter("helo", always, compile.Junk, ""),
		filter("helo", always, compile.Reject, "550 too late"),
		filter("mail-from", always, compile.Bypass, ""),
		filter("mail-from", always, compile.Reject, "550 bypassed"),
		filter("rcpt-to", always, compile.Rewrite, "<x@y>"),
		filter("data", always, compile.Disconnect, "421 bye"),
	)
	for phase, want := range map[string]string{
		"connect":   "0 '' []",
		"helo":      "5 '' [first second]",
		"mail-from": "0 '' []",
		"rcpt-to":   "3 '<x@y>' []",
		"data":      "2 '421 bye' []",
	} {
		v, err := a.phase(t.Context(), testPhase(phase))
		if err != nil {
			t.Errorf("%s: %v", phase, err)
		}
		got := string('0'+byte(v.Do)) + " '" + v.Text + "' [" + strings.Join(v.Reports, " ") + "]"
		if got != want {
			t.Errorf("%s: %s, want %s", phase, got, want)
		}
	}
}

func TestUnsupportedFilters(t *testing.T) {
	rs := &compile.Ruleset{Filters: []compile.Filter{
		{Name: "built-in", Phase: "helo"},
		{Name: "process", Proc: "p"},
		{Name: "chain", Chain: []compile.FilterID{1, 2}},
		{Name: "idle", Proc: "p"},
	}}
	at := func(line int) compile.Origin { return compile.Origin{File: "smtpd.conf", Line: line, Column: 1} }
	rs.Listeners = []compile.Listener{{Filter: 1, Origin: at(4)}, {Filter: 3, Origin: at(5)}, {Origin: at(6)}}
	rs.Socket = compile.Socket{Filter: 2, Origin: at(7)}
	rs.Actions = []compile.Action{{Origin: at(8)}}
	rs.Actions[0].Relay.Filter = 1
	var got []string
	for _, d := range Unsupported(rs) {
		got = append(got, d.Error())
	}
	want := []string{
		`smtpd.conf:8:1: filter "built-in" has no effect at a relay action`,
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzPhase(f *testing.F) {
	f.Add(testPhase("rcpt-to").append(nil))
	p := testPhase("auth")
	p.Argument, p.Events = "PLAIN x", []filter.Event{{Name: "n"}}
	f.Add(p.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Phase
		if p.parse(b) == nil && !bytes.Equal(p.append(nil), b) {
			t.Fatalf("%x came back as %x", b, p.append(nil))
		}
		var v PhaseVerdict
		if v.parse(b) == nil && !bytes.Equal(v.append(nil), b) {
			t.Fatalf("%x came back as %x", b, v.append(nil))
		}
	})
}
