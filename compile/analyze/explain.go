package analyze

import (
	"context"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// An Explanation says why a transaction is decided as it is.
type Explanation struct {
	Decision engine.Decision
	Passed   []Passed          // the rules before the one that decides, in order
	Asked    []engine.Question // the lookups that the decision needs
}

// A Passed is a rule that was passed over.
type Passed struct {
	Rule int
	// Failed are the criteria that do not hold, in their order. The first
	// one is why the rule was passed over; a rule with one is a near miss.
	Failed []engine.Question
}

// Near reports whether the rule would have decided but for one criterion.
func (p *Passed) Near() bool { return len(p.Failed) == 1 }

// Explain decides a transaction by the indexed engine and says why. Tables
// that have to be asked are asked through l.
func Explain(ctx context.Context, rs *compile.Ruleset, tx *engine.Transaction, l engine.Lookups) Explanation {
	x := Explanation{}
	log := &asking{lookups: l}
	x.Decision = engine.New(rs).Decide(ctx, tx, log)
	last := x.Decision.Rule
	if x.Decision.Outcome == engine.NoRule {
		last = len(rs.Rules)
	}
	linear := engine.NewLinear(rs)
	for i := range last {
		p := Passed{Rule: i}
		for _, q := range tx.Ask(&rs.Rules[i]) {
			if ok, err := linear.Answer(ctx, q, log); err != nil || !ok {
				p.Failed = append(p.Failed, q)
			}
		}
		x.Passed = append(x.Passed, p)
	}
	x.Asked = log.questions
	return x
}

// An asking hands lookups on and remembers them and their answers, so that
// the explanation is of the decision that was made.
type asking struct {
	lookups   engine.Lookups
	questions []engine.Question
	answers   []result
}

type result struct {
	found bool
	err   error
}

func (a *asking) Check(ctx context.Context, t compile.TableID, s engine.Service, key string) (bool, error) {
	for i, q := range a.questions {
		if q.Table == t && q.Service == s && q.Key == key {
			return a.answers[i].found, a.answers[i].err
		}
	}
	r := result{err: ErrNotAsked}
	if a.lookups != nil {
		r.found, r.err = a.lookups.Check(ctx, t, s, key)
	}
	a.questions = append(a.questions, engine.Question{Table: t, Service: s, Key: key})
	a.answers = append(a.answers, r)
	return r.found, r.err
}

// Criterion returns a criterion of a rule as it would be written, and "" if
// the rule has none of this part.
func Criterion(rs *compile.Ruleset, r *compile.Rule, p engine.Part) string {
	switch p {
	case engine.PartFrom:
		return write(rs, fromWords[r.From.Kind], r.From.Criterion, r.From.Kind <= compile.FromSocket)
	case engine.PartFor:
		return write(rs, forWords[r.For.Kind], r.For.Criterion, r.For.Kind != compile.ForDomain)
	}
	c := [...]compile.Criterion{engine.PartTag: r.Tag, engine.PartHelo: r.Helo, engine.PartAuth: r.Auth,
		engine.PartTLS: r.TLS, engine.PartMailFrom: r.MailFrom, engine.PartRcptTo: r.RcptTo}[p]
	return write(rs, p.String(), c, false)
}

var (
	fromWords = [...]string{compile.FromLocal: "from local", compile.FromAny: "from any", compile.FromSocket: "from socket",
		compile.FromSrc: "from src", compile.FromRDNS: "from rdns"}
	forWords = [...]string{compile.ForLocal: "for local", compile.ForAny: "for any", compile.ForDomain: "for domain"}
)

// write writes a criterion; complete says that the words say it all.
func write(rs *compile.Ruleset, words string, c compile.Criterion, complete bool) string {
	if c.Sign == compile.Absent {
		return ""
	}
	if c.Sign == compile.Not {
		words = "!" + words
	}
	if c.Regex {
		words += " regex"
	}
	if !complete && c.Table != 0 {
		words += " " + tableText(rs.Table(c.Table))
	}
	return words
}

// tableText writes a table as a rule would name it: a few entries of one
// without a name, else the name.
func tableText(t *compile.Table) string {
	if !strings.HasPrefix(t.Name, "<dynamic:") {
		return "<" + t.Name + ">"
	}
	var b strings.Builder
	b.WriteString("{ ")
	for i, e := range t.Entries {
		if i == 3 && len(t.Entries) > 4 {
			b.WriteString(", …")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(`"` + e.Key + `"`)
	}
	b.WriteString(" }")
	return b.String()
}

// RelayHost returns the host that a relay action names, without scheme,
// label and port: the first if it names several, "" if it names none.
func RelayHost(rs *compile.Ruleset, a *compile.Action) string {
	if a.Relay.Host == 0 || len(rs.Table(a.Relay.Host).Entries) == 0 {
		return ""
	}
	host := rs.Table(a.Relay.Host).Entries[0].Key
	if _, after, ok := strings.Cut(host, "://"); ok {
		host = after
	}
	if _, after, ok := strings.Cut(host, "@"); ok {
		host = after
	}
	if strings.HasPrefix(host, "[") {
		host, _, _ = strings.Cut(host, "]")
		return host + "]"
	}
	host, _, _ = strings.Cut(host, ":")
	return host
}

// fold is the folding of lookup keys.
func fold(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
