package postfix

import (
	"net/netip"
	"slices"
	"strings"

	"smtpd/compile/tablefile"
)

// An access is a table that refuses some clients, senders, recipients or
// names, for those who come that far in a list of restrictions.
type access struct {
	kind  string   // client, helo, sender or recipient
	keys  []string // as the language writes them
	nets  []netip.Prefix
	stage string
	reach who
}

// access takes check_KIND_access MAP in a list of main.cf, which has decided
// as before says until there. It is false if rules cannot say the same.
func (im *importer) access(s *scope, stage, kind, word string, before []string) bool {
	r, ok := parseMap(word)
	if !ok || !r.isFile() && r.kind != "inline" && r.kind != "cidr" || im.main.lookup(stage) == nil || s.lookup(stage) != im.main.lookup(stage) {
		return false
	}
	entries, ok := im.entries(r)
	if !ok || len(entries) == 0 || len(entries) > maxNetworks {
		return false
	}
	a := &access{kind: kind, stage: stage}
	for _, e := range entries {
		if !isRefusal(e.Value) || !a.add(e, slices.Contains(words(im.value("parent_domain_matches_subdomains")), "smtpd_access_maps")) {
			return false
		}
	}
	for k := range a.reach {
		// Whom the list has let through by then is not asked about, and whom
		// it has refused may be refused again.
		a.reach[k] = !decide(append(slices.Clone(before), "reject"), k, true, true)
	}
	for _, sv := range im.services {
		// A service with a list of its own must have nobody whom the rules
		// would refuse.
		if sv.scope != nil && sv.params[stage] != nil && (a.reach[loggedIn] || a.reach[loggedIn|inNetworks]) {
			return false
		}
	}
	if !slices.ContainsFunc(im.accesses, func(b *access) bool {
		return b.stage == a.stage && slices.Equal(a.keys, b.keys) && slices.Equal(a.nets, b.nets)
	}) {
		im.accesses = append(im.accesses, a)
	}
	return true
}

// isRefusal reports whether an action of an access table refuses mail.
func isRefusal(action string) bool {
	word, _, _ := strings.Cut(strings.ToUpper(action), " ")
	return word == "REJECT" || word == "DEFER" || len(word) == 3 && (word[0] == '5' || word[0] == '4') && strings.Trim(word, "0123456789") == ""
}

// add takes a key. It is false if the language has none like it.
func (a *access) add(e tablefile.Entry, parents bool) bool {
	key := strings.ToLower(e.Key)
	switch a.kind {
	case "client":
		x, ok := prefix(key)
		a.nets = append(a.nets, x)
		return ok
	case "helo":
		a.keys = append(a.keys, key)
		if parents {
			a.keys = append(a.keys, "*."+key)
		}
		return isDomain(key)
	}
	user, domain, isAddress := strings.Cut(key, "@")
	switch {
	case !isAddress && isDomain(key):
		a.keys = append(a.keys, "@"+key)
		if parents {
			a.keys = append(a.keys, "@*."+key)
		}
		return true
	case isAddress && domain == "" && user != "": // of any domain
		a.keys = append(a.keys, user)
		return quotable(user)
	}
	a.keys = append(a.keys, key)
	return isAddress && user != "" && isDomain(domain) && quotable(key)
}

// refusals writes the rules for the access tables. They are for mail over the
// network alone, as in Postfix.
func (im *importer) refusals(n networks) []string {
	var rules []string
	for _, a := range im.accesses {
		if a.kind == "client" {
			rules = append(rules, im.refuseClients(a, n)...)
			continue
		}
		criterion := map[string]string{"helo": "helo", "sender": "mail-from", "recipient": "rcpt-to"}[a.kind]
		table := im.list("refused-"+a.kind+"s", a.keys)
		for _, c := range a.reach.criteria(n.criterion) {
			rules = append(rules, "match "+strings.Replace(c, "from any", `!from src "local"`, 1)+" "+criterion+" <"+table+"> for any reject")
		}
	}
	return rules
}

// refuseClients is refusals for clients. Trusted ones that may pass are taken
// out of the table.
func (im *importer) refuseClients(a *access, n networks) []string {
	nets := a.nets
	if !a.reach[inNetworks] {
		nets = without(nets, n.prefixes)
	}
	var names []string
	for _, x := range nets {
		names = append(names, address(x))
	}
	if len(names) == 0 || !a.reach[0] {
		return nil
	}
	auth := ""
	if !a.reach[loggedIn] {
		auth = "!auth "
	}
	return []string{"match " + auth + "from src <" + im.list("refused-clients", names) + "> for any reject"}
}

// address writes a network, or the address that is all of it.
func address(x netip.Prefix) string {
	if x.IsSingleIP() {
		return x.Addr().String()
	}
	return x.String()
}
