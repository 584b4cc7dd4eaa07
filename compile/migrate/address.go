package migrate

import (
	"slices"
	"strings"

	"smtpd/ast/old"
	"smtpd/compile/tablefile"
	"smtpd/compile/tablefile/hashdb"
	"smtpd/lang/diag"
)

// keys returns the keys of a table, if what it holds is known here.
func (c *converter) keys(t *old.TableArg) (keys []string, known bool) {
	elems := t.Elems
	if t.Ref != nil {
		decl := c.tables[t.Ref.Text]
		if decl == nil {
			return nil, false
		}
		if decl.Elems == nil {
			return c.fileKeys(decl)
		}
		elems = decl.Elems.Elems
	}
	for _, e := range elems {
		keys = append(keys, e.Key.Text)
	}
	return keys, true
}

// mapping reports whether the elements of a table in the text have values.
func (c *converter) mapping(t *old.TableArg) bool {
	elems := c.elems(t)
	return len(elems) > 0 && elems[0].Value != nil
}

// elems returns the elements of a table that is in the text.
func (c *converter) elems(t *old.TableArg) []*old.Elem {
	if t.Ref == nil {
		return t.Elems
	}
	if decl := c.tables[t.Ref.Text]; decl != nil && decl.Elems != nil {
		return decl.Elems.Elems
	}
	return nil
}

// fileKeys reads the keys of a table from its file.
func (c *converter) fileKeys(t *old.Table) (keys []string, known bool) {
	if c.opts.Host == nil {
		return nil, false
	}
	path, text := textFile(t)
	if !text {
		if path = database(t); path == "" {
			return nil, false
		}
	}
	f, err := c.opts.Host.ReadFile(path)
	if err != nil {
		return nil, false
	}
	var entries []tablefile.Entry
	if text {
		_, entries, err = tablefile.Parse(path, f.Data)
	} else {
		entries, err = hashdb.Parse(f.Data)
	}
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	return keys, err == nil
}

// database returns the path of a table that is a database, or "".
func database(t *old.Table) string {
	if t.Source == "db" {
		return t.Path.Text
	}
	if t.Spec == nil {
		return ""
	}
	path, ok := strings.CutPrefix(t.Spec.Text, "db:")
	if !ok {
		return ""
	}
	return path
}

// textFile returns the path of a table that is a text file.
func textFile(t *old.Table) (string, bool) {
	if t.Source == "plain" || t.Source == "file" {
		return t.Path.Text, true
	}
	if t.Spec == nil {
		return "", false
	}
	if strings.HasPrefix(t.Spec.Text, "/") {
		return t.Spec.Text, true
	}
	backend, path, ok := strings.Cut(t.Spec.Text, ":")
	return path, ok && (backend == "file" || backend == "static")
}

// addresses converts sender or recipient: to the ways in which an address
// passes, or to why none does.
func (c *converter) addresses(a *old.Addresses, word string) (ways []string, dead string) {
	if a == nil {
		return []string{""}, ""
	}
	if a.Not {
		word = "!" + word
	}
	plain := word + " " + c.arg(a.Table)
	keys, known := c.keys(a.Table)
	if a.Table.Ref != nil && c.elems(a.Table) == nil {
		c.fileEntries(a.Table.Ref.Text, keys, known)
		return []string{plain}, ""
	}
	rest, null := c.meaningful(keys)
	if len(rest) == len(keys) {
		return []string{plain}, ""
	}
	switch {
	case a.Not && null:
		return []string{word + " regex " + quoteList(patterns(rest))}, ""
	case a.Not && len(rest) == 0:
		return []string{""}, ""
	case len(rest) == 0 && !null:
		return nil, "no entry of its list could match"
	}
	if len(rest) > 0 {
		ways = append(ways, word+" "+quoteList(rest))
	}
	if null {
		ways = append(ways, word+` regex "^@$"`)
	}
	return ways, ""
}

// fileEntries says what of a table that is no part of the text means something
// else now. It cannot be changed here.
func (c *converter) fileEntries(table string, keys []string, known bool) {
	if !known {
		c.note(diag.Warning, "migrate-table-unread", "entries of table <%s> without an @ matched nothing before, and match any domain now", table)
		return
	}
	for _, k := range keys {
		if d := c.file.Dialect; !strings.Contains(k, "@") || k == "@" && d < old.D57 || d < old.D541 && strings.Contains(k, "*") {
			c.note(diag.Warning, "migrate-entry", "entry %q of table <%s> matches more than it did: see whether it is meant to", k, table)
		}
	}
}

// meaningful returns the entries that could match an address and mean the
// same today, and whether there was one for the null sender.
func (c *converter) meaningful(keys []string) (rest []string, null bool) {
	d := c.file.Dialect
	for _, k := range keys {
		switch {
		case !strings.Contains(k, "@"):
			c.note(diag.Portability, "migrate-never-matched", "entry %q has no domain and matched nothing: it is left out", k)
		case k == "@" && d < old.D57:
			null = true
		case d < old.D541 && strings.Contains(k, "*"):
			c.note(diag.Portability, "migrate-never-matched", "entry %q matched nothing, as patterns came later: it is left out", k)
		default:
			if d < old.D57 && !strings.HasPrefix(k, "@") && !strings.Contains(k, "+") {
				c.once(diag.Warning, "migrate-sub-address", "%q did not match an address with a part after a +; now it does", k)
			}
			rest = append(rest, k)
		}
	}
	return rest, null
}

// patterns returns expressions that match the null sender and what entries
// match.
func patterns(keys []string) []string {
	list := []string{"^@$"}
	for _, k := range keys {
		var b strings.Builder
		if !strings.HasPrefix(k, "@") {
			b.WriteByte('^')
		}
		for i := 0; i < len(k); i++ {
			switch ch := k[i]; {
			case ch == '*':
				b.WriteString(".*")
			case isAlnum(ch) || ch == '@' || ch == '-' || ch == '_':
				b.WriteByte(ch)
			default:
				b.WriteString("[" + string(ch) + "]")
			}
		}
		list = append(list, b.String()+"$")
	}
	return list
}

func quoteList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return "{ " + strings.Join(quoted, ", ") + " }"
}

// recipientList returns the criterion for what virtual meant on a relaying
// rule in 5.3 and 5.4: the list of recipients there are.
func (c *converter) recipientList(r *old.Rule) string {
	if r.Virtual == nil || r.Action == nil || r.Action.Method < old.Relay {
		return ""
	}
	keys, known := c.keys(r.Virtual)
	if !known || !c.mapping(r.Virtual) && r.Virtual.Ref != nil {
		return "rcpt-to " + c.arg(r.Virtual)
	}
	// Releases up to 7.4 wanted a list here.
	return "rcpt-to " + quoteList(keys)
}

// virtualDomains converts for virtual: mail for the domains that a map has as
// keys.
func (c *converter) virtualDomains(m *old.TableArg) (text, dead string) {
	decl := c.tables[m.Ref.Text]
	if decl != nil && database(decl) != "" {
		return "for domain " + c.arg(m), ""
	}
	keys, known := c.keys(m)
	if !known {
		list := m.Ref.Text + "-domains"
		c.note(diag.Warning, "migrate-virtual-domains", "the domains that map %q has as keys are not known here: table %q must list them", m.Ref.Text, list).
			Help = []string{"put them into its file, one a line, or convert on the mail host with --this-host"}
		if !c.declared[list] {
			c.declared[list] = true
			c.emit("table %s file:/etc/mail/%s", c.quoteName(list), tidy(list))
		}
		return "for domain <" + c.quoteName(list) + ">", ""
	}
	keys = slices.DeleteFunc(keys, func(k string) bool { return strings.Contains(k, "@") })
	if len(keys) == 0 {
		return "", "its map has no domain as a key"
	}
	c.note(diag.Warning, "migrate-virtual-domains", "the domains of map %q are written out; a new one must be added here too", m.Ref.Text)
	return "for domain " + quoteList(keys), ""
}
