package main

import (
	"fmt"
	"strings"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// openRelay returns what is to be said of who can send mail out through the
// host: an error for each rule by which strangers certainly can, a remark
// where it depends on tables or could not be proved.
func openRelay(rs *compile.Ruleset) diag.List {
	r := analyze.Relay(rs, analyze.RelayOptions{})
	return relayFindings(rs, &r)
}

func relayFindings(rs *compile.Ruleset, r *analyze.RelayReport) diag.List {
	var list diag.List
	said := make(map[int]bool) // by rule: one listener shows it as well as all
	for i := range r.Open {
		if o := &r.Open[i]; !said[o.Rule] {
			said[o.Rule] = true
			list = append(list, openRelayBy(rs, o))
		}
	}
	if r.Verdict == analyze.Unknown {
		list = append(list, &diag.Diagnostic{
			Class: diag.Warning, Code: "relay-unproved",
			Message: "it could not be proved that no stranger can relay: " + r.Unproved,
			Help:    []string{"smtpd-check explain answers for one transaction"},
		})
	}
	return list
}

// gates are the codes of ways to relay, and what they have in common.
var gates = map[analyze.Gate]struct {
	code diag.Code
	text string
}{
	analyze.NoGate:      {"open-relay", "strangers can relay by this rule"},
	analyze.ForgedGate:  {"open-relay-forgeable", "strangers can relay by this rule, which looks only at what they choose themselves"},
	analyze.NetworkGate: {"open-relay-network", "strangers can relay by this rule, which lets in a network that is too large to be anybody's own"},
	analyze.ProxyGate:   {"open-relay-proxy", "strangers can relay by this rule, as a listener believes what they say of their address"},
}

func openRelayBy(rs *compile.Ruleset, o *analyze.Open) *diag.Diagnostic {
	tx := &o.Witness.Transaction
	gate := gates[o.Gate]
	d := &diag.Diagnostic{
		Span: spanOf(rs, o.Rule), Class: diag.Security, Code: gate.code,
		Message: fmt.Sprintf("%s: %s, from %q to %q", gate.text, tx.SourceKey(), tx.Sender, tx.Rcpt),
		Help:    []string{"smtpd-check relay prints the session that shows it"},
	}
	if len(o.Witness.Assumed) > 0 {
		d.Class, d.Code = diag.Warning, "relay-conditional"
		d.Message = fmt.Sprintf("strangers can relay by this rule if %s", strings.Join(conditions(o.Witness.Assumed), " and "))
	}
	return d
}

func spanOf(rs *compile.Ruleset, rule int) token.Span {
	at := rs.Rules[rule].Origin
	return token.At(token.Pos{Filename: at.File, Line: at.Line, Column: at.Column})
}

// conditions says what tables must answer.
func conditions(assumed []analyze.Assumption) []string {
	var list []string
	for _, a := range assumed {
		list = append(list, fmt.Sprintf("table %s %s %q", a.Table, holds(a.Found), a.Key))
	}
	return list
}

// holds says what a table is assumed to say of a key.
func holds(found bool) string {
	if found {
		return "holds"
	}
	return "lacks"
}

// forged returns the criteria of a rule that a stranger satisfies as he likes.
func forged(r *compile.Rule) []string {
	var list []string
	add := func(c compile.Criterion, p engine.Part) {
		if c.Sign != compile.Absent {
			list = append(list, p.String())
		}
	}
	add(r.Tag, engine.PartTag)
	if r.From.Kind == compile.FromRDNS {
		list = append(list, "rdns")
	}
	add(r.Helo, engine.PartHelo)
	add(r.MailFrom, engine.PartMailFrom)
	return list
}
