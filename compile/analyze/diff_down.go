package analyze

import (
	"context"
	"errors"
	"slices"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
	"smtpd/compile/engine"
)

// A withoutSource is a rule table in the terms of one all of whose tables
// answer: what asks the source that is down is an action of its own.
type withoutSource struct {
	rules *compile.Ruleset
	cases []certificate.Case // what each rule stands for
	fails compile.ActionID   // the action that stands for a temporary failure
	empty compile.TableID    // a table that holds nothing
}

// without returns what a rule table is while a source is down.
func without(rs *compile.Ruleset, source string) withoutSource {
	c := *rs
	c.Actions = append(slices.Clip(rs.Actions), compile.Action{Argument: "a temporary failure"})
	c.Tables = append(slices.Clip(rs.Tables), compile.Table{Name: "<nothing>", Kind: compile.Empty})
	c.Rules = nil
	w := withoutSource{rules: &c, fails: compile.ActionID(len(c.Actions)), empty: compile.TableID(len(c.Tables))}
	for i := range rs.Rules {
		w.split(i, rs.Rules[i], source, engine.PartTag)
	}
	return w
}

// split adds the rules that stand for rule i; parts of r before from do not
// ask the source. The first part that asks it fails for whatever has passed
// the constant parts, and the tables that are asked earlier.
func (w *withoutSource) split(i int, r compile.Rule, source string, from engine.Part) {
	for p := from; p <= engine.PartRcptTo; p++ {
		if !w.asks(&r, p, source) {
			continue
		}
		failing := r
		failing.Action = w.fails
		for later := p + 1; later <= engine.PartRcptTo; later++ {
			if w.asks(&failing, later, "") {
				w.drop(&failing, later)
			}
		}
		sign := criterion(&r, p).Sign
		w.drop(&failing, p)
		if p == engine.PartAuth { // only a login is looked up
			failing.Auth = compile.Criterion{Sign: compile.Is}
		}
		w.add(failing, certificate.Case{Rule: i + 1, Fails: p.String()})
		if p != engine.PartAuth || sign == compile.Is {
			return
		}
		r.Auth = compile.Criterion{Sign: compile.Not}
	}
	w.add(r, certificate.Case{Rule: i + 1})
}

func (w *withoutSource) add(r compile.Rule, c certificate.Case) {
	w.rules.Rules = append(w.rules.Rules, r)
	w.cases = append(w.cases, c)
}

// asks reports whether a part of a rule asks a source; "" is any.
func (w *withoutSource) asks(r *compile.Rule, p engine.Part, source string) bool {
	return certificate.Asks(w.rules, r, p) && (source == "" || certificate.Identity(w.rules.Table(criterion(r, p).Table)) == source)
}

// drop makes a part of a rule look at nothing but whether there is something
// to be looked up.
func (w *withoutSource) drop(r *compile.Rule, p engine.Part) {
	is := func(t compile.TableID) compile.Criterion { return compile.Criterion{Sign: compile.Is, Table: t} }
	switch p {
	case engine.PartTag:
		r.Tag = compile.Criterion{}
	case engine.PartFrom:
		if r.From.Kind == compile.FromRDNS {
			// What is not in an empty table is whatever may be looked up:
			// a reverse name, and what came out of an expansion.
			r.From.Criterion = compile.Criterion{Sign: compile.Not, Table: w.empty}
			return
		}
		r.From = compile.From{Kind: compile.FromAny, Criterion: is(w.rules.AnyHost)}
	case engine.PartFor:
		r.For = compile.For{Kind: compile.ForAny, Criterion: is(w.rules.AnyDest)}
	case engine.PartHelo:
		r.Helo = compile.Criterion{}
	case engine.PartAuth:
		if r.Auth.Sign == compile.Is {
			r.Auth = is(0)
		} else {
			r.Auth = compile.Criterion{}
		}
	case engine.PartMailFrom:
		r.MailFrom = compile.Criterion{}
	case engine.PartRcptTo:
		r.RcptTo = compile.Criterion{}
	}
}

var errDown = errors.New("the table does not answer")

// answers are those that a witness assumes, but for the source that is down.
type answers struct {
	script
	down string
}

// Check implements engine.Lookups. Of what nothing is assumed is not there.
func (a *answers) Check(ctx context.Context, t compile.TableID, s engine.Service, key string) (bool, error) {
	if a.down != "" && certificate.Identity(a.rules.Table(t)) == a.down {
		return false, errDown
	}
	found, err := a.script.Check(ctx, t, s, key)
	if errors.Is(err, ErrNotAsked) {
		return false, nil
	}
	return found, err
}
