package analyze

import (
	"context"
	"errors"
	"slices"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A withoutSource is a rule table in the terms of one all of whose tables
// answer: what asks the source that is down is an action of its own.
type withoutSource struct {
	rules *compile.Ruleset
	index []int            // of each rule in the table that it is made of
	fails compile.ActionID // the action that stands for a temporary failure
}

// without returns what a rule table is while a source is down.
func without(rs *compile.Ruleset, source string) withoutSource {
	c := *rs
	c.Actions = append(slices.Clip(rs.Actions), compile.Action{Argument: "a temporary failure"})
	c.Rules = nil
	w := withoutSource{rules: &c, fails: compile.ActionID(len(c.Actions))}
	for i := range rs.Rules {
		for _, r := range w.split(rs.Rules[i], source, engine.PartTag) {
			c.Rules = append(c.Rules, r)
			w.index = append(w.index, i)
		}
	}
	return w
}

// split returns the rules that stand for r; parts before from do not ask the
// source. The first part that asks it fails for whatever has passed the
// constant parts, and the tables that are asked earlier.
func (w *withoutSource) split(r compile.Rule, source string, from engine.Part) []compile.Rule {
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
		c := criterion(&r, p)
		w.drop(&failing, p)
		if p != engine.PartAuth {
			return []compile.Rule{failing}
		}
		// Only a login is looked up.
		failing.Auth = compile.Criterion{Sign: compile.Is}
		if c.Sign == compile.Is {
			return []compile.Rule{failing}
		}
		r.Auth = compile.Criterion{Sign: compile.Not}
		return append([]compile.Rule{failing}, w.split(r, source, p+1)...)
	}
	return []compile.Rule{r}
}

// asks reports whether a part of a rule asks a source; "" is any.
func (w *withoutSource) asks(r *compile.Rule, p engine.Part, source string) bool {
	c := criterion(r, p)
	if c.Sign == compile.Absent || c.Table == 0 {
		return false
	}
	t := w.rules.Table(c.Table)
	return t.Kind == compile.Dynamic && (source == "" || t.Name == source)
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
			r.From.Criterion = is(0)
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

// sourcesOf returns the sources that rules ask, each once.
func sourcesOf(tables ...*compile.Ruleset) []string {
	var list []string
	for _, rs := range tables {
		w := withoutSource{rules: rs}
		for i := range rs.Rules {
			for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
				if r := &rs.Rules[i]; w.asks(r, p, "") {
					list = append(list, rs.Table(criterion(r, p).Table).Name)
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

var errDown = errors.New("the table does not answer")

// answers are those that a witness assumes, but for the source that is down.
type answers struct {
	assumptions
	down string
}

// Check implements engine.Lookups.
func (a *answers) Check(ctx context.Context, t compile.TableID, s engine.Service, key string) (bool, error) {
	if a.down != "" && a.rules.Table(t).Name == a.down {
		return false, errDown
	}
	return a.assumptions.Check(ctx, t, s, key)
}
