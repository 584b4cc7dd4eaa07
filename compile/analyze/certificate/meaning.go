package certificate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A Meaning tells rules, actions and tables of two configurations apart by
// what they say. Equal texts have equal numbers. It is what "decided alike"
// means.
type Meaning struct {
	numbers map[string]int
}

// NewMeaning returns a Meaning that has numbered nothing.
func NewMeaning() *Meaning { return &Meaning{numbers: make(map[string]int)} }

func (m *Meaning) number(text string) int {
	n, ok := m.numbers[text]
	if !ok {
		n = len(m.numbers)
		m.numbers[text] = n
	}
	return n
}

// Meanings are the numbers of what a rule table holds.
type Meanings struct {
	Tables   []int // by TableID
	Actions  []int // by ActionID; 0 is to reject
	Rules    []int
	TempFail int // of a temporary failure
}

// Of numbers what a rule table holds. The tables are inlined by their
// content and actions by their definition, so that names do not matter.
func (m *Meaning) Of(rs *compile.Ruleset) Meanings {
	all := Meanings{Tables: []int{m.number("no table")}, Actions: []int{m.number("reject")}, TempFail: m.number("temporary failure")}
	for i := range rs.Tables {
		all.Tables = append(all.Tables, m.number(content(&rs.Tables[i])))
	}
	for i := range rs.Actions {
		all.Actions = append(all.Actions, m.number(definition(rs, rs.Actions[i], all.Tables)))
	}
	var b []byte
	for i := range rs.Rules {
		r := &rs.Rules[i]
		b = append(append(b[:0], "rule"...), byte(r.From.Kind), byte(r.For.Kind))
		for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
			c := Criterion(r, p)
			b = strconv.AppendBool(append(b, byte(c.Sign)), c.Regex)
			b = append(strconv.AppendInt(b, int64(all.Tables[c.Table]), 10), ' ')
			if splits(rs, r, p) {
				b = append(b, rs.SMTP.SubAddrDelim)
			}
		}
		b = strconv.AppendInt(b, int64(all.Actions[r.Action]), 10)
		all.Rules = append(all.Rules, m.number(string(b)))
	}
	return all
}

// splits reports whether a criterion looks at users without what follows the
// sub-addressing delimiter.
func splits(rs *compile.Ruleset, r *compile.Rule, p engine.Part) bool {
	c := Criterion(r, p)
	if c.Table == 0 || c.Regex || p != engine.PartAuth && p != engine.PartMailFrom && p != engine.PartRcptTo {
		return false
	}
	t := rs.Table(c.Table)
	return t.Kind == compile.Dynamic || slices.ContainsFunc(t.Entries, func(e compile.Entry) bool { return !strings.HasPrefix(e.Key, "@") })
}

// Splits returns the name of a source that is asked for addresses where the
// two tables have different sub-addressing delimiters, if there is any. What
// it says of an address with a sub-address then depends on the table that
// asks.
func Splits(before, after *compile.Ruleset) string {
	if before.SMTP.SubAddrDelim == after.SMTP.SubAddrDelim {
		return ""
	}
	for _, rs := range []*compile.Ruleset{before, after} {
		for i := range rs.Rules {
			r := &rs.Rules[i]
			for p := engine.PartAuth; p <= engine.PartRcptTo; p++ {
				if Asks(rs, r, p) && splits(rs, r, p) {
					return Identity(rs.Table(Criterion(r, p).Table))
				}
			}
		}
	}
	return ""
}

// definition says all that an action means, but for its name.
func definition(rs *compile.Ruleset, a compile.Action, tables []int) string {
	var b strings.Builder
	b.WriteString("action")
	for _, t := range []*compile.TableID{&a.Alias, &a.Virtual, &a.Userbase, &a.Relay.HeloSrc, &a.Relay.Src, &a.Relay.Host, &a.Relay.Domain, &a.Relay.Auth} {
		fmt.Fprint(&b, " ", tables[*t])
		*t = 0
	}
	for _, w := range rs.Wrappers {
		if w.Name == a.Wrapper {
			a.Wrapper = "runs " + w.Command
		}
	}
	if a.Relay.Filter != 0 {
		filter(&b, rs, a.Relay.Filter, tables)
		a.Relay.Filter = 0
	}
	a.Name, a.Origin = "", compile.Origin{}
	fmt.Fprintf(&b, " %+v", a)
	return b.String()
}

// filter says what a filter means.
func filter(b *strings.Builder, rs *compile.Ruleset, id compile.FilterID, tables []int) {
	f := *rs.Filter(id)
	for _, part := range f.Chain {
		filter(b, rs, part, tables)
	}
	for _, p := range rs.Procs {
		if p.Name == f.Proc {
			p.Name, p.Origin = "", compile.Origin{}
			fmt.Fprintf(b, " %+v", p)
		}
	}
	fmt.Fprint(b, " ", tables[f.Test.Table])
	f.Name, f.Proc, f.Chain, f.Test.Table, f.Origin = "", "", nil, 0, compile.Origin{}
	fmt.Fprintf(b, " %+v", f)
}

// content says what a table holds, or what is to be asked for it.
func content(t *compile.Table) string {
	if t.Kind == compile.Dynamic {
		return "table " + Identity(t)
	}
	b := []byte("table")
	for _, e := range t.Entries {
		b = strconv.AppendQuote(strconv.AppendQuote(append(b, ' '), e.Key), e.Value)
	}
	return string(b)
}

// Identity says which source a dynamic table asks.
func Identity(t *compile.Table) string {
	if t.Path == "" {
		return t.Backend
	}
	return t.Backend + ":" + t.Path
}

// Criterion returns the criterion of a part of a rule.
func Criterion(r *compile.Rule, p engine.Part) compile.Criterion {
	return [...]compile.Criterion{r.Tag, r.From.Criterion, r.For.Criterion, r.Helo, r.Auth, r.TLS, r.MailFrom, r.RcptTo}[p]
}

// Asks reports whether a criterion of a rule asks a table whose content is
// not known.
func Asks(rs *compile.Ruleset, r *compile.Rule, p engine.Part) bool {
	c := Criterion(r, p)
	return c.Sign != compile.Absent && c.Table != 0 && rs.Table(c.Table).Kind == compile.Dynamic
}

// Sources returns the sources that rules ask, each once.
func Sources(tables ...*compile.Ruleset) []string {
	var list []string
	for _, rs := range tables {
		for i := range rs.Rules {
			for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
				if r := &rs.Rules[i]; Asks(rs, r, p) {
					list = append(list, Identity(rs.Table(Criterion(r, p).Table)))
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
