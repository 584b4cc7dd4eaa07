package migrate

import (
	"slices"
	"strings"

	"smtpd/ast/old"
	"smtpd/lang/diag"
)

// rule converts one rule: its action, and one match for every way of meeting
// its conditions.
func (c *converter) rule(r *old.Rule) {
	reject := r.Reject
	if reject && r.Action != nil {
		c.note(diag.Warning, "migrate-reject-ignored", "the old program ignored `reject` in front of an action and accepted; now this mail is rejected").
			Help = []string{"if it was meant to be accepted, change it to accept and convert again"}
	}
	w, dead := c.ways(r)
	if dead != "" {
		c.comment("never matched, " + dead)
		c.note(diag.Portability, "migrate-dead-rule", "the rule could never match (%s) and is left out", dead)
		return
	}
	for _, to := range w.destinations {
		disposition := "reject"
		if !reject {
			text := c.action(r, to.virtual)
			name, isNew := c.names.action(text, r)
			if isNew {
				c.emit("action %s %s", quote(name), text)
			}
			disposition = "action " + quote(name)
		}
		c.matches(w, to.text, w.recipients, disposition)
		if c.recipientList(r) != "" {
			// Who was not in the list was refused at once.
			c.matches(w, to.text, []string{""}, "reject")
		}
	}
}

// ways are the ways in which mail meets the conditions of a rule, by
// condition.
type ways struct {
	tag                          string
	sources, senders, recipients []string
	destinations                 []destination
}

// A destination is a criterion, and the map of for virtual.
type destination struct {
	text    string
	virtual *old.TableArg
}

// ways converts the conditions of a rule, or says why no mail meets them.
func (c *converter) ways(r *old.Rule) (w ways, dead string) {
	if as := r.Action; as != nil && as.As != nil && c.file.Dialect.Generation() == 1 && !strings.Contains(as.As.Text, "@") {
		return w, "a user alone after `as` made the parser drop the rule"
	}
	w.tag = c.tag(r)
	if w.sources, dead = c.sources(r); dead != "" {
		return w, dead
	}
	if w.destinations, dead = c.destinations(r); dead != "" {
		return w, dead
	}
	if w.senders, dead = c.addresses(r.Sender, "mail-from"); dead != "" {
		return w, dead
	}
	if list := c.recipientList(r); list != "" {
		w.recipients = []string{list}
		return w, ""
	}
	w.recipients, dead = c.addresses(r.Recipient, "rcpt-to")
	return w, dead
}

// matches emits a match for each way to one destination.
func (c *converter) matches(w ways, to string, recipients []string, disposition string) {
	for _, rcpt := range recipients {
		for _, sender := range w.senders {
			for _, from := range w.sources {
				c.match(disposition, w.tag, from, sender, rcpt, to)
			}
		}
	}
}

// match emits one match of the criteria that are not empty.
func (c *converter) match(disposition string, criteria ...string) {
	c.matched = true
	words := append([]string{"match"}, slices.DeleteFunc(slices.Clone(criteria), func(s string) bool { return s == "" })...)
	c.emit("%s %s", strings.Join(words, " "), disposition)
}

func (c *converter) tag(r *old.Rule) string {
	switch {
	case r.Tag == nil:
		return ""
	case r.NotTag:
		return "!tag " + c.str(r.Tag)
	}
	return "tag " + c.str(r.Tag)
}

// sources returns the ways in which mail passes what the rule says of its
// source and of authentication, or why none does.
func (c *converter) sources(r *old.Rule) (ways []string, dead string) {
	from := r.From
	if from == nil {
		from = &old.From{Local: true}
	}
	if c.file.Dialect.Generation() == 1 {
		return c.sources1(from), ""
	}
	if from.Any && from.Not {
		return nil, "`from ! any`"
	}
	local := from.Any || from.Local // a session that is authenticated passes
	if from.Source != nil {
		local = c.listsLocal(from.Source)
	}
	local = local != from.Not
	switch {
	case r.Auth && !r.NotAuth && !local:
		return nil, "no authenticated session has this source"
	case r.Auth && !r.NotAuth:
		return []string{"auth from any"}, ""
	}
	text := c.from(from)
	switch {
	case from.Any && !r.Auth:
		return []string{text}, ""
	case r.NotAuth, c.auth && !local:
		return []string{"!auth " + text}, ""
	case c.auth:
		return []string{text, "auth from any"}, ""
	}
	return []string{text}, ""
}

func (c *converter) from(from *old.From) string {
	text := "from any"
	switch {
	case from.Source != nil:
		text = "from src " + c.arg(from.Source)
	case from.Local:
		text = "from local"
	}
	if from.Not {
		return "!" + text
	}
	return text
}

// sources1 is sources for generation 1, where who was authenticated passed
// every test of the source, and so did what came out of an expansion.
func (c *converter) sources1(from *old.From) []string {
	switch {
	case from.Any:
		return []string{"from any"}
	case from.Local && c.auth:
		return []string{"from local", "auth from any"}
	case from.Local:
		return []string{"from local"}
	}
	c.once(diag.Warning, "migrate-internal", "addresses out of an alias or a .forward passed every test of the source and met this rule; now they do not")
	text := "from src " + c.arg(from.Source)
	if !c.auth {
		return []string{text}
	}
	// The pattern leaves out the local socket, which has no user.
	return []string{text, `auth regex "." from any`}
}

// listsLocal reports whether a table of sources has the entry local, which
// stood for the socket and for every authenticated session.
func (c *converter) listsLocal(t *old.TableArg) bool {
	keys, known := c.keys(t)
	if !known {
		c.note(diag.Warning, "migrate-table-unread", "whether table <%s> has the entry `local` is not known here; it is taken to have none", t.Ref.Text).
			Help = []string{"on the mail host --this-host reads it; an entry `local` let in every authenticated session"}
	}
	return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, "local") })
}

// destinations returns the ways in which mail passes what the rule says of
// the recipient's domain, or why none does.
func (c *converter) destinations(r *old.Rule) (ways []destination, dead string) {
	if len(r.For) == 0 {
		return []destination{{text: "for local"}}, ""
	}
	// The conditions of a block were tried from the last to the first.
	for _, f := range slices.Backward(r.For) {
		text, why := c.destination(f)
		if why != "" {
			dead = why
			continue
		}
		ways = append(ways, destination{text, f.Virtual})
	}
	if len(ways) > 0 {
		dead = ""
	}
	return ways, dead
}

func (c *converter) destination(f *old.For) (text, dead string) {
	switch {
	case f.Any && f.Not:
		return "", "`for ! any`"
	case f.Any:
		return "for any", ""
	case f.Local && f.Not:
		return "!for local", ""
	case f.Local:
		return "for local", ""
	case f.Network != nil:
		return "", "`for network` had no effect"
	case f.Virtual != nil:
		return c.virtualDomains(f.Virtual)
	case f.Not:
		return "!for domain " + c.arg(f.Domain), ""
	}
	return "for domain " + c.arg(f.Domain), ""
}
