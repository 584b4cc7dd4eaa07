package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// text writes a trace for a reader.
func (t *trace) text(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s\n", t.subject())
	if t.Decoded != "" {
		fmt.Fprintf(b, "the recipient was made by sender rewriting and is <%s>, out of an expansion\n", t.Decoded)
	}
	if t.Filter != "" {
		fmt.Fprintf(b, "not looked at: filter %q of the listener\n", t.Filter)
	}
	for i := range t.Passed {
		p := &t.Passed[i]
		fmt.Fprintf(b, "%s:%d: %s passed over: %s does not hold for %s\n", p.File, p.Line, ruleName(p.Rule, p.Label), p.Criterion, p.Value)
		if p.Would != "" {
			fmt.Fprintf(b, "\trule %d would match if %s\n", p.Rule, p.Would)
		}
	}
	for i := range t.Asked {
		fmt.Fprintf(b, "%s\n", t.Asked[i].text())
	}
	fmt.Fprintf(b, "%s\n", t.conclusion())
	for _, line := range t.origins() {
		fmt.Fprintf(b, "\t%s\n", line)
	}
	for i := range t.Cases {
		fmt.Fprintf(b, "\t%s\n", t.Cases[i].text())
	}
	if t.Expansion != nil {
		t.Expansion.text(b, 0)
	}
	if t.Assumed != nil {
		fmt.Fprintf(b, "assumed: %s\n", strings.Join(t.Assumed, "; "))
	}
	if t.Reply != "" {
		fmt.Fprintf(b, "reply: %s\n", t.Reply)
	}
	if t.Expansion != nil && t.Error != "" && !t.Expansion.refused() {
		fmt.Fprintf(b, "\t%s\n", t.Error)
	}
	return b.Flush()
}

// refused reports whether the tree shows what failed.
func (n *nodeTrace) refused() bool {
	return n.Reply != "" || slices.ContainsFunc(n.Children, (*nodeTrace).refused)
}

// subject says in a line which transaction it is about.
func (t *trace) subject() string {
	var b strings.Builder
	d := &t.Transaction
	fmt.Fprintf(&b, "mail from <%s> to <%s>, source %s", d.MailFrom, d.RcptTo, d.Source)
	if d.Internal {
		b.WriteString(", out of an expansion")
	}
	if *d.Tag != "" {
		fmt.Fprintf(&b, ", tag %s", *d.Tag)
	}
	switch {
	case d.Auth != "":
		fmt.Fprintf(&b, ", authenticated as %s", d.Auth)
	case d.Source == "socket" && !d.Internal:
		b.WriteString(", authenticated without a name")
	}
	if d.TLS {
		b.WriteString(", TLS")
	}
	if d.Helo != "" {
		fmt.Fprintf(&b, ", HELO %s", d.Helo)
	}
	if d.RDNS != "" {
		fmt.Fprintf(&b, ", reverse name %s", d.RDNS)
	}
	return b.String()
}

func ruleName(rule int, label string) string {
	if label == "" {
		return fmt.Sprintf("rule %d", rule)
	}
	return fmt.Sprintf("rule %d (%s)", rule, label)
}

func (a *askTrace) text() string {
	head := fmt.Sprintf("table <%s> is asked (%s) for %q", a.Table, a.Service, a.Key)
	switch {
	case a.Error != "":
		return head + ": " + a.Error + a.probeTrace.text()
	case !a.Known:
		return fmt.Sprintf("table <%s> would be asked (%s) for %q", a.Table, a.Service, a.Key)
	case a.Found:
		return head + ": found" + a.probeTrace.text()
	}
	return head + ": not found" + a.probeTrace.text()
}

// conclusion says which rule decides what.
func (t *trace) conclusion() string {
	if t.Rule == 0 {
		return "reject: no rule matches"
	}
	head := fmt.Sprintf("%s:%d: %s decides: %s", t.File, t.Line, ruleName(t.Rule, t.Label), t.Outcome)
	switch {
	case t.Outcome == "tempfail":
		return head + ", " + t.Error
	case t.Action == "":
		return head
	}
	return head + fmt.Sprintf(", action %q", t.Action) + by(t.Host)
}

func by(host string) string {
	if host == "" {
		return ""
	}
	return " by way of " + host
}

// origins says where the rule and its tables come from.
func (t *trace) origins() []string {
	var list []string
	for _, i := range t.Includes {
		list = append(list, fmt.Sprintf("included from %s:%d", i.File, i.Line))
	}
	for _, m := range t.Macros {
		where := "defined on the command line"
		if m.File != "" {
			where = fmt.Sprintf("defined at %s:%d", m.File, m.Line)
		}
		list = append(list, fmt.Sprintf("with macro %s, %s", m.Name, where))
	}
	for i := range t.Tables {
		list = append(list, t.Tables[i].text())
	}
	return list
}

func (t *tableTrace) text() string {
	source := t.Backend
	if t.Path != "" {
		source += ":" + t.Path
	}
	if t.Snapshot != "" {
		source = "snapshot " + t.Snapshot
	}
	content := fmt.Sprintf("%d entries", t.Entries)
	switch {
	case !t.Known:
		content = "content not known"
	case t.Entries == 1:
		content = "1 entry"
	}
	return fmt.Sprintf("table <%s> of %s:%d, %s, %s", t.Name, t.File, t.Line, source, content)
}

func (c *caseTrace) text() string {
	var b strings.Builder
	for i, a := range c.If {
		word := "if"
		if i > 0 {
			word = " and"
		}
		fmt.Fprintf(&b, "%s <%s> %s %q", word, a.Table, holds(a.Found), a.Key)
	}
	return b.String() + ": " + c.verdict.text()
}

func (v *verdict) text() string {
	switch {
	case v.Rule == 0:
		return "reject, no rule matches"
	case v.Action == "":
		return fmt.Sprintf("%s by rule %d (%s:%d)", v.Outcome, v.Rule, v.File, v.Line)
	}
	return fmt.Sprintf("%s by rule %d (%s:%d), action %q%s", v.Outcome, v.Rule, v.File, v.Line, v.Action, by(v.Host))
}

// text writes a node and what is below it.
func (n *nodeTrace) text(w io.Writer, depth int) {
	indent := strings.Repeat("  ", depth)
	fmt.Fprintf(w, "%s%s\n", indent, n.title())
	for _, line := range n.facts() {
		fmt.Fprintf(w, "%s  %s\n", indent, line)
	}
	for _, c := range n.Children {
		c.text(w, depth+1)
	}
}

// title names a node.
func (n *nodeTrace) title() string {
	if n.Encoded != "" {
		return n.Encoded + ", which is " + n.Item
	}
	return n.Item
}

// facts says what was done about a node, a line each.
func (n *nodeTrace) facts() []string {
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	switch {
	case n.Loop != "":
		say("stands in its own expansion and is not followed again: %s", n.Loop)
	case n.Same:
		say("met before, not followed again")
	case n.Skipped:
		say("not followed: the recipient is refused already")
	}
	if n.Rule > 0 && n.Action != "" {
		say("rule %d (%s:%d), action %q", n.Rule, n.File, n.Line, n.Action)
	} else if n.Rule > 0 {
		say("rule %d (%s:%d)", n.Rule, n.File, n.Line)
	}
	for i := range n.Lookups {
		if text := n.Lookups[i].text(); text != "" {
			say("%s", text)
		}
	}
	if n.Delivery != nil {
		say("%s", n.Delivery.text)
	}
	switch {
	case n.Reply != "":
		say("refused, %s: %s", n.Reply, n.Error)
	case n.Error != "":
		say("not known: %s", n.Error)
	}
	return list
}

func (l *expandTrace) text() string {
	source := l.What
	if l.Table != "" {
		source = "<" + l.Table + ">"
	}
	switch {
	case !l.Known && l.Table != "":
		return fmt.Sprintf("%s would be asked for %q", source, l.Key)
	case !l.Known:
		return ""
	case l.What == "forward" && l.Found:
		return fmt.Sprintf(".forward of %s: %s", l.Key, oneLine(l.Value))
	case l.What == "forward":
		return ""
	case l.What == "include" && l.Found:
		return "includes " + l.Key
	case l.What == "include":
		return l.Key + " is missing"
	case l.Found && l.What == "alias":
		return fmt.Sprintf("%s has %q: %s", source, l.Key, oneLine(l.Value)) + l.probeTrace.text()
	case l.Found && l.Table != "":
		return fmt.Sprintf("%s has %q", source, l.Key) + l.probeTrace.text()
	case l.Found && l.Backend != "":
		return fmt.Sprintf("the system has %q", l.Key) + l.probeTrace.text()
	case l.Found || l.Table == "": // of the system; that it lacks a user is said as the failure
		return ""
	}
	return fmt.Sprintf("%s has no %q", source, l.Key) + l.probeTrace.text()
}

// oneLine makes a text fit for a line.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}
