package analyze

import (
	"context"
	"errors"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// An Explainer says why transactions are decided as they are. It is safe for
// concurrent use.
type Explainer struct {
	rules  *compile.Ruleset
	engine engine.Engine
	linear *engine.Linear
}

// NewExplainer returns an Explainer for rs. It decides by the indexed engine,
// as the daemon does, or by the semantics of OpenSMTPD 7.8.
func NewExplainer(rs *compile.Ruleset, s engine.Semantics) *Explainer {
	x := &Explainer{rules: rs, linear: engine.NewLinearWith(rs, s)}
	x.engine = x.linear
	if s == engine.Intended {
		x.engine = engine.New(rs)
	}
	return x
}

// An Explanation says why a transaction is decided as it is.
type Explanation struct {
	Decision engine.Decision
	Passed   []Passed // the rules before the one that decides, in order
	Asked    []Asked  // the lookups that the decision made
}

// A Passed is a rule that was passed over.
type Passed struct {
	Rule int
	// Failed are the criteria that do not hold, in their order. The first
	// one is why the rule was passed over.
	Failed []engine.Question
	// Open are the criteria of which it is not known whether they hold:
	// nobody asked, as the others settle it.
	Open []engine.Question
}

// Near reports whether the rule would match but for one criterion.
func (p *Passed) Near() bool { return len(p.Failed) == 1 && len(p.Open) == 0 }

// An Asked is a lookup that a decision made, and the answer.
type Asked struct {
	engine.Question
	Found bool
	Err   error
}

// Explain decides a transaction and says why. Tables that have to be asked
// are asked through l.
func (x *Explainer) Explain(ctx context.Context, tx *engine.Transaction, l engine.Lookups) *Explanation {
	log := &asking{lookups: l}
	e := &Explanation{Decision: x.engine.Decide(ctx, tx, log)}
	e.Asked = log.asked
	last := e.Decision.Rule
	if e.Decision.Outcome == engine.NoRule {
		last = len(x.rules.Rules)
	}
	log.closed = true
	for i := range last {
		p := Passed{Rule: i}
		for _, q := range tx.Ask(&x.rules.Rules[i]) {
			switch ok, err := x.linear.Answer(ctx, q, log); {
			case err != nil:
				p.Open = append(p.Open, q)
			case !ok:
				p.Failed = append(p.Failed, q)
			}
		}
		e.Passed = append(e.Passed, p)
	}
	return e
}

// Engine returns the engine that decides.
func (x *Explainer) Engine() engine.Engine { return x.engine }

// A Case is a decision under assumptions about tables that are not known.
type Case struct {
	If       []Asked
	Decision engine.Decision
}

// maxCases bounds what Cases returns: nobody reads more.
const maxCases = 16

// Cases decides a transaction for each combination of answers of the tables
// that l does not know, of which only those are assumed that matter.
func (x *Explainer) Cases(ctx context.Context, tx *engine.Transaction, l engine.Lookups) []Case {
	var cases []Case
	var split func(assumed []Asked)
	split = func(assumed []Asked) {
		log := &asking{lookups: l, asked: slices.Clone(assumed)}
		d := x.engine.Decide(ctx, tx, log)
		open := len(log.asked) - 1
		if d.Outcome != engine.TempFail || open < len(assumed) || !errors.Is(log.asked[open].Err, ErrNotAsked) {
			cases = append(cases, Case{assumed, d})
			return
		}
		q := log.asked[open]
		for _, q.Found = range []bool{true, false} {
			if q.Err = nil; len(cases) < maxCases {
				split(append(slices.Clone(assumed), q))
			}
		}
	}
	split(nil)
	return cases
}

// NotAsked is the Lookups of tables that nobody asks.
type NotAsked struct{}

// Check implements engine.Lookups.
func (NotAsked) Check(context.Context, compile.TableID, engine.Service, string) (bool, error) {
	return false, ErrNotAsked
}

// CriterionOf returns the criterion of a part of a rule.
func CriterionOf(r *compile.Rule, p engine.Part) compile.Criterion { return criterion(r, p) }

// An asking hands lookups on and remembers them and their answers, so that
// the explanation is of the decision that was made. Once it is closed it
// knows nothing but these.
type asking struct {
	lookups engine.Lookups
	closed  bool
	asked   []Asked
}

func (a *asking) Check(ctx context.Context, t compile.TableID, s engine.Service, key string) (bool, error) {
	for i := range a.asked {
		if q := &a.asked[i]; q.Table == t && q.Service == s && q.Key == key {
			return q.Found, q.Err
		}
	}
	q := Asked{Question: engine.Question{Table: t, Service: s, Key: key}, Err: ErrNotAsked}
	if a.closed {
		return false, q.Err
	}
	if a.lookups != nil {
		q.Found, q.Err = a.lookups.Check(ctx, t, s, key)
	}
	a.asked = append(a.asked, q)
	return q.Found, q.Err
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
