package mfa

import (
	"context"
	"net/netip"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/runtime/lka"
)

// phase asks the built-in filters of a listener in order. The first whose
// condition holds decides, but for a report, which is only noted
// (runtime.md 9.7).
func (a *agent) phase(ctx context.Context, p *Phase) PhaseVerdict {
	var v PhaseVerdict
	for _, f := range a.builtins(nil, p.Filter) {
		if f.Phase != p.Name || !a.holds(ctx, &f.Test, p) {
			continue
		}
		switch f.Do {
		case compile.Report:
			v.Reports = append(v.Reports, f.Text)
			continue
		case compile.Bypass:
			return v
		}
		v.Do, v.Text = f.Do, f.Text
		return v
	}
	return v
}

// builtins appends the built-in filters that id stands for. The members of a
// chain are declared before it, so this ends.
func (a *agent) builtins(list []*compile.Filter, id compile.FilterID) []*compile.Filter {
	f := a.rules.Filter(id)
	if f.Phase != "" {
		list = append(list, f)
	}
	for _, member := range f.Chain {
		list = a.builtins(list, member)
	}
	return list
}

// holds evaluates the condition of a filter. A lookup that fails finds
// nothing.
func (a *agent) holds(ctx context.Context, t *compile.FilterTest, p *Phase) bool {
	var found bool
	if t.Table == 0 {
		found = fact(t.Field, p)
	} else if key, service, ok := a.filterKey(t, p); ok {
		found = a.contains(ctx, t.Table, service, key)
	}
	return found == (t.Sign != compile.Not)
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
		key, s = p.Session.RDNS, engine.Domain
	case compile.FieldSrc:
		key, s = source(&p.Session), engine.NetAddr
	case compile.FieldHelo:
		key, s = p.Session.Helo, engine.Domain
	case compile.FieldAuth:
		if !p.Session.Auth {
			return "", 0, false
		}
		key, s = p.Session.User, engine.Credentials
		if a.rules.Table(t.Table).Kind == compile.List {
			s = engine.String
		}
	case compile.FieldMailFrom:
		key, s = engine.Address(p.Sender).String(), engine.MailAddr
	case compile.FieldRcptTo:
		key, s = engine.Address(p.Rcpt).String(), engine.MailAddr
	default:
		return "", 0, false
	}
	if t.Regex {
		s = engine.Regex
	}
	return key, s, true
}

func (a *agent) contains(ctx context.Context, t compile.TableID, s engine.Service, key string) bool {
	var ok bool
	var err error
	if inline := a.inline[t-1]; inline != nil {
		ok, err = inline.Check(s, key)
	} else {
		ok, err = a.lookups.Check(ctx, t, s, key)
	}
	if err != nil {
		a.log.Warn("lookup of a filter failed", "table", a.rules.Table(t).Name, "err", err)
	}
	return ok && err == nil
}
