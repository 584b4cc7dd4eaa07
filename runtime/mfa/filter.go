package mfa

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/compile/expand"
	"smtpd/runtime/envelope"
	"smtpd/runtime/lka"
	"smtpd/runtime/stat"
)

// phase asks the filters of a listener in order. The first that says more
// than to go on decides; a report is only noted (runtime.md 9.5 and 9.7). A
// condition that cannot be evaluated, or a program that cannot be asked, is
// an error: no answer would be safe.
func (a *agent) phase(ctx context.Context, p *Phase) (PhaseVerdict, error) {
	a.tell(&sessionRef{p.Filter, p.Session.ID}, p.Events)
	v, err := a.decide(ctx, p)
	if err == nil {
		a.respond(p, &v)
	}
	return v, err
}

func (a *agent) decide(ctx context.Context, p *Phase) (v PhaseVerdict, err error) {
	for f := range members(a.rules, p.Filter) {
		if f.Process() {
			if !a.concerns(f, p) {
				continue
			}
			said, err := a.askProcess(ctx, f, p)
			if err != nil {
				return PhaseVerdict{}, err
			}
			v.Changes.merge(&said.Changes)
			if said.Do != 0 || said.Discard {
				v.Do, v.Text, v.Discard = said.Do, said.Text, said.Discard
				return v, nil
			}
			continue
		}
		if f.Phase != p.Name {
			continue
		}
		holds, err := a.holds(ctx, &f.Test, p)
		if err != nil {
			return PhaseVerdict{}, fmt.Errorf("filter %q: %w", f.Name, err)
		}
		if !holds {
			continue
		}
		switch f.Do {
		case compile.Report:
			v.Reports = append(v.Reports, f.Text)
			a.noteReport(p, "builtin", f.Name, f.Text)
			continue
		case compile.Bypass:
			return v, nil
		}
		v.Do, v.Text = f.Do, f.Text
		return v, nil
	}
	return v, nil
}

// What filters that are programs or milters have done, by their names.
var (
	filterRequests  = stat.Counter("smtpd_mfa_filter_requests_total", "Questions to filter processes and milters.", "filter")
	filterDecisions = stat.Counter("smtpd_mfa_filter_decisions_total", "Answers of filter processes and milters.", "filter", "decision")
	filterFailures  = stat.Counter("smtpd_mfa_filter_failures_total", "Questions that filter processes and milters did not answer.", "filter")
)

// askProcess puts a phase to a program or a milter. One that cannot be asked is
// an error, unless the configuration lets mail pass then.
func (a *agent) askProcess(ctx context.Context, f *compile.Filter, p *Phase) (v PhaseVerdict, err error) {
	filterRequests.WithLabelValues(f.Name).Inc()
	if f.Milter != "" {
		v, err = a.askMilter(ctx, f, p)
	} else {
		v, err = a.ask(ctx, f, p)
	}
	if err == nil {
		filterDecisions.WithLabelValues(f.Name, v.word()).Inc()
		return v, nil
	}
	if ctx.Err() != nil {
		return v, err
	}
	filterFailures.WithLabelValues(f.Name).Inc()
	if f.Bypass {
		a.log.Warn("filter bypassed", "filter", f.Name, "phase", p.Name, "err", err)
		return PhaseVerdict{}, nil
	}
	return v, err
}

// concerns reports whether a program or a milter has something to say at a
// phase. Whether one that is down would have is not known.
func (a *agent) concerns(f *compile.Filter, p *Phase) bool {
	if f.Milter != "" {
		return slices.Contains(milterPhases, p.Name)
	}
	r, err := a.programs[f.Proc].Registration(p.Session.ID)
	return err != nil || r.Filters(p.Name)
}

// word returns the word of the filter protocol for a verdict.
func (v *PhaseVerdict) word() string {
	switch {
	case v.Discard:
		return "discard"
	case v.Do == 0:
		return "proceed"
	}
	return v.Do.String()
}

// members yields the filters that id stands for, in order. The members of a
// chain are declared before it, so this ends.
func members(rs *compile.Ruleset, id compile.FilterID) iter.Seq[*compile.Filter] {
	return func(yield func(*compile.Filter) bool) { visit(rs, id, yield) }
}

func visit(rs *compile.Ruleset, id compile.FilterID, yield func(*compile.Filter) bool) bool {
	f := rs.Filter(id)
	if f.Chain == nil {
		return yield(f)
	}
	for _, member := range f.Chain {
		if !visit(rs, member, yield) {
			return false
		}
	}
	return true
}

// Phases returns the phases in which built-in filters of id have something to
// say; what programs say they tell themselves.
func Phases(rs *compile.Ruleset, id compile.FilterID) map[string]bool {
	if id == 0 {
		return nil
	}
	phases := make(map[string]bool)
	for f := range members(rs, id) {
		if !f.Process() {
			phases[f.Phase] = true
		}
	}
	return phases
}

// Programs reports whether a program or a milter is among what id stands for.
func Programs(rs *compile.Ruleset, id compile.FilterID) bool {
	if id == 0 {
		return false
	}
	for f := range members(rs, id) {
		if f.Process() {
			return true
		}
	}
	return false
}

// holds evaluates the condition of a filter.
func (a *agent) holds(ctx context.Context, t *compile.FilterTest, p *Phase) (bool, error) {
	var found bool
	var err error
	if t.Table == 0 {
		found = fact(t.Field, p)
	} else if key, service, ok := a.filterKey(t, p); ok {
		found, err = a.contains(ctx, t.Table, service, key)
	}
	return found == (t.Sign != compile.Not), err
}

// fact answers a test without a table.
func fact(f compile.FilterField, p *Phase) bool {
	switch f {
	case compile.FieldFCrDNS:
		return p.Forward == lka.Pass
	case compile.FieldRDNS:
		return p.Session.RDNS != "" && !isAddressText(p.Session.RDNS)
	case compile.FieldAuth:
		return p.Session.Auth
	}
	return false
}

// isAddressText reports whether a reverse name is nothing but the address.
func isAddressText(s string) bool {
	_, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return err == nil
}

// filterKey returns what a table is asked for a test, and whether there is
// anything to ask.
func (a *agent) filterKey(t *compile.FilterTest, p *Phase) (key string, s engine.Service, ok bool) {
	switch t.Field {
	case compile.FieldRDNS:
		key = p.Session.RDNS
	case compile.FieldSrc:
		key = source(&p.Session)
	case compile.FieldHelo:
		key = p.Session.Helo
	case compile.FieldAuth:
		if !p.Session.Auth {
			return "", 0, false
		}
		key = p.Session.User
	case compile.FieldMailFrom:
		key = a.forRules(p.Sender).String()
	case compile.FieldRcptTo:
		key = a.forRules(p.Rcpt).String()
	default:
		return "", 0, false
	}
	return key, filterService(a.rules, t), true
}

// forRules returns an address as tables of addresses have it.
func (a *agent) forRules(addr envelope.Address) engine.Address {
	return expand.ForRules(engine.Address(addr), a.rules.SMTP.SubAddrDelim)
}

// filterService returns what the table of a test is asked as.
func filterService(rs *compile.Ruleset, t *compile.FilterTest) engine.Service {
	switch {
	case t.Regex:
		return engine.Regex
	case t.Field == compile.FieldRDNS, t.Field == compile.FieldHelo:
		return engine.Domain
	case t.Field == compile.FieldSrc:
		return engine.NetAddr
	case t.Field != compile.FieldAuth:
		return engine.MailAddr
	case rs.Table(t.Table).Kind == compile.List:
		return engine.String
	}
	return engine.Credentials
}

func (a *agent) contains(ctx context.Context, t compile.TableID, s engine.Service, key string) (bool, error) {
	var ok bool
	var err error
	if inline := a.inline[t-1]; inline != nil {
		ok, err = inline.Check(s, key)
	} else if f := a.views.current.Load().files[t]; f != nil {
		ok, err = f.table.Check(s, key)
	} else {
		ok, err = a.lookups.Check(ctx, t, s, key)
	}
	if err != nil {
		err = fmt.Errorf("table %q: %w", a.rules.Table(t).Name, err)
	}
	return ok, err
}
