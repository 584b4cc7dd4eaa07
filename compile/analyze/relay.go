package analyze

import (
	"fmt"
	"net/netip"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A Verdict is the answer to a question about all transactions.
type Verdict uint8

// The verdicts, from good to bad.
const (
	Proved      Verdict = iota + 1
	Unknown             // a budget was used up, or a pattern was beyond the search
	Conditional         // it depends on tables that have to be asked
	Refuted
)

var verdictNames = [...]string{"", "proved", "unknown", "conditional", "refuted"}

// String returns the name of v.
func (v Verdict) String() string { return verdictNames[v] }

// A RelayReport says who can send mail out through the host.
type RelayReport struct {
	Verdict  Verdict
	Open     []Open // at most one for each rule and listener
	Declared []int  // rules that relay for anyone, but only to domains they name
	// Certificate is for Proved what Verify checks.
	Certificate *Certificate
}

// An Open is a way to relay without a login from an address that is not
// trusted.
type Open struct {
	Rule     int
	Listener int // index into Ruleset.Listeners
	Witness  Witness
}

// Relay says whether a client that is not authenticated and not trusted can
// have mail relayed to where no rule names the domain.
//
// The client chooses the listener among those that are not bound to loopback
// alone, and so the tag; his reverse name, HELO, sender and TLS; and on a
// listener with proxy-v2 his address too. Addresses of the host and networks
// that a rule names with "from src" are trusted as long as they are no
// larger than a private /16, a public /24 or an IPv6 /48. What comes out of
// expansions of aliases is not looked at, nor are filters, which only take
// mail away unless they rewrite.
func Relay(rs *compile.Ruleset) RelayReport {
	t := newTable(rs)
	r := RelayReport{Verdict: Proved}
	trusted := trustedNets(rs)
	c := &Certificate{Version: CertificateVersion}
	for i := range rs.Rules {
		if !t.relays(i) {
			continue
		}
		open := len(r.Open)
		for l := range rs.Listeners {
			if isPublic(&rs.Listeners[l]) {
				v, o, proof := t.relayBy(i, l, trusted)
				r.add(v, o)
				c.Proofs = append(c.Proofs, Proof{i + 1, l + 1, proof})
			}
		}
		rule := &rs.Rules[i]
		if len(r.Open) == open && rule.From.Kind == compile.FromAny && rule.Auth.Sign == compile.Absent && rule.For.Kind == compile.ForDomain {
			r.Declared = append(r.Declared, i)
		}
	}
	if r.Verdict == Proved {
		r.Certificate = c
	}
	return r
}

func (r *RelayReport) add(v Verdict, o Open) {
	r.Verdict = max(r.Verdict, v)
	if v >= Conditional {
		r.Open = append(r.Open, o)
	}
}

func (t *table) relays(i int) bool {
	a := t.rules.Rules[i].Action
	return a != 0 && t.rules.Action(a).Method == compile.Relay
}

// isPublic reports whether strangers can reach a listener and send by it
// without a login.
func isPublic(l *compile.Listener) bool {
	if l.Auth == compile.RequireAuth {
		return false
	}
	if !l.Addr.IsValid() {
		return l.Interface != "lo" && l.Interface != "lo0" && l.Interface != "localhost"
	}
	return !l.Addr.IsLoopback()
}

// relayBy looks for a way to relay by rule i through listener l.
func (t *table) relayBy(i, l int, trusted []netip.Prefix) (Verdict, Open, *Node) {
	listener := &t.rules.Listeners[l]
	s := search{base: ordinary(), fixed: true}
	s.base.Tag = listener.Tag
	s.source = func(a netip.Addr) bool { return listener.ProxyV2 || t.stranger(a, trusted) }
	s.allows = func(tx *engine.Transaction) bool { return !t.excepts(i, tx.Rcpt) }
	open := Open{Rule: i, Listener: l}
	verdict := Proved
	s.split(t, t.covered(i), func(w Witness, d engine.Decision) bool {
		if d.Outcome != engine.Accept || !t.relays(d.Rule) || t.excepts(d.Rule, w.Transaction.Rcpt) {
			return false
		}
		if !t.replays(&w, d) {
			verdict = max(verdict, Unknown) // the engines disagree: believe neither
			return false
		}
		open.Witness = w
		if verdict = Refuted; len(w.Assumed) > 0 {
			verdict = Conditional
		}
		return verdict == Refuted
	}, func() { verdict = max(verdict, Unknown) })
	return verdict, open, s.proof
}

func (t *table) stranger(a netip.Addr, trusted []netip.Prefix) bool {
	a = a.Unmap()
	if a.IsLoopback() {
		return false
	}
	for _, e := range t.rules.Table(t.rules.Local).Entries {
		if p, ok := engine.ParseNetAddr(e.Key); ok && p.Contains(a) {
			return false
		}
	}
	for _, p := range trusted {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// trustedNets returns the networks that rules name as sources and that are
// small enough to be somebody's own.
func trustedNets(rs *compile.Ruleset) []netip.Prefix {
	var nets []netip.Prefix
	for i := range rs.Rules {
		f := &rs.Rules[i].From
		if f.Kind != compile.FromSrc || f.Sign != compile.Is || f.Regex {
			continue
		}
		for _, e := range rs.Table(f.Table).Entries {
			if p, ok := engine.ParseNetAddr(e.Key); ok && p.Bits() >= ownBits(p.Addr()) {
				nets = append(nets, p.Masked())
			}
		}
	}
	return nets
}

// ownBits is the width of the largest network that may be trusted.
func ownBits(a netip.Addr) int {
	switch {
	case a.Is6():
		return 48
	case a.IsPrivate():
		return 16
	}
	return 24
}

// excepts reports whether a rule names the domain of a recipient: exactly,
// or by one label below a domain that is more than a top level. Whoever
// writes that means to relay there.
func (t *table) excepts(i int, rcpt engine.Address) bool {
	r := &t.rules.Rules[i]
	return r.For.Kind == compile.ForDomain && t.names(r.For.Criterion, rcpt.Domain) || t.names(r.RcptTo, rcpt.Domain)
}

func (t *table) names(c compile.Criterion, domain string) bool {
	if c.Sign != compile.Is || c.Regex {
		return false
	}
	domain = fold(domain)
	for _, e := range t.rules.Table(c.Table).Entries {
		name := e.Key[strings.LastIndexByte(e.Key, '@')+1:]
		suffix, wild := strings.CutPrefix(name, "*.")
		switch {
		case strings.Contains(suffix, "*") || name == "":
		case !wild && name == domain:
			return true
		case wild && strings.Contains(suffix, "."):
			if _, rest, ok := strings.Cut(domain, "."); ok && rest == suffix {
				return true
			}
		}
	}
	return false
}

// Dialogue returns the SMTP session that shows a witness.
func Dialogue(w *Witness) string {
	tx := &w.Transaction
	sender := tx.Sender.String()
	if sender == "@" {
		sender = ""
	}
	starttls := ""
	if tx.TLS {
		starttls = fmt.Sprintf("STARTTLS\nEHLO %s\n", tx.Helo)
	}
	return fmt.Sprintf("EHLO %s\n%sMAIL FROM:<%s>\nRCPT TO:<%s>\n", tx.Helo, starttls, sender, tx.Rcpt)
}
