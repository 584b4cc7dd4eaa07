package postfix

import (
	"slices"
	"strings"

	"smtpd/lang/diag"
)

// A target is mail that is treated alike.
type target struct {
	criteria []string // of its recipients, each for a part of them
	action   string   // or rejecting
	ours     bool     // this host is a destination of it
}

// policy converts who may send what where.
func (im *importer) policy() {
	n := im.mynetworks()
	listeners := im.listeners(n)
	base := basis(listeners)
	taken := shared(listeners, base, n)
	targets := im.targets()

	scanner := im.scanner(listeners)
	for _, l := range listeners {
		switch refuse := l.refuses(taken, n); {
		case l.differs(taken, n), l.tag != "" && refuse != (who{}):
			im.apart(l, scanner, targets, n)
		case refuse != (who{}):
			im.narrower(l, refuse, n)
		}
	}
	im.rules = append(im.refusals(n), im.rules...)
	for _, l := range listeners {
		im.write(l, l.milters(im))
	}
	if filter := im.milters(im.main, "non_smtpd_milters"); filter != "" {
		im.listens = append(im.listens, "listen on socket filter "+quote(filter))
	}
	if scanner != "" {
		im.match(`tag "filtered" `, "", targets, taken, n)
	}
	im.match("", scanner, targets, taken, n)
}

// basis returns the listener whose restrictions are those of the rules: the
// one that the world connects to. nil if nothing listens.
func basis(list []*listener) *listener {
	for _, l := range list {
		if (l.port == "smtp" || l.port == "25") && !l.loopback {
			return l
		}
	}
	for _, l := range list {
		if l.port == "smtp" || l.port == "25" {
			return l
		}
	}
	if len(list) > 0 {
		return list[0]
	}
	return nil
}

// shared returns the policy of the rules. Of clients that the basis cannot
// have, such as those who log in elsewhere, the other listeners decide; and
// what no client can do is whatever makes the rules short.
func shared(list []*listener, base *listener, n networks) policy {
	if base == nil {
		return policy{}
	}
	p := base.policy
	can := base.possible(n)
	for kind := range can {
		if can[kind] {
			continue
		}
		p.ours[kind], p.other[kind] = p.ours[kind&^loggedIn], p.other[kind&^loggedIn]
		first := true
		for _, l := range list {
			if l.possible(n)[kind] {
				if first {
					p.ours[kind], p.other[kind], first = false, false, false
				}
				p.ours[kind] = p.ours[kind] || l.policy.ours[kind]
				p.other[kind] = p.other[kind] || l.policy.other[kind]
			}
		}
	}
	return p
}

// differs reports whether a listener takes what the rules refuse, or takes
// only a part of what a client may send by the rules.
func (l *listener) differs(taken policy, n networks) bool {
	for kind, can := range l.possible(n) {
		ours, other := l.policy.ours[kind], l.policy.other[kind]
		more := ours && !taken.ours[kind] || other && !taken.other[kind]
		less := taken.ours[kind] && !ours || taken.other[kind] && !other
		if can && (more || less && (ours || other)) {
			return true
		}
	}
	return false
}

// refuses returns whom a listener refuses and the rules would not.
func (l *listener) refuses(taken policy, n networks) who {
	var w who
	for kind, can := range l.possible(n) {
		w[kind] = can && !l.policy.ours[kind] && !l.policy.other[kind] && (taken.ours[kind] || taken.other[kind])
	}
	return w
}

// apart writes rules of its own for a listener.
func (im *importer) apart(l *listener, scanner string, targets []target, n networks) {
	im.tag(l)
	if l.scanner == "" {
		scanner = ""
	}
	tag := "tag " + quote(l.tag) + " "
	im.match(tag, scanner, targets, shared([]*listener{l}, l, n), n)
	im.rules = append(im.rules, "match "+tag+`!from src "local" for any reject`)
}

// tag gives a listener a tag that no other has.
func (im *importer) tag(l *listener) {
	base := "tag " + l.port
	if l.loopback {
		base = "tag local-" + l.port
	}
	l.tag = strings.TrimPrefix(im.name(base), "tag ")
}

// narrower writes rules that refuse whom a listener refuses.
func (im *importer) narrower(l *listener, refuse who, n networks) {
	im.tag(l)
	// Whom the listener cannot have may be refused too, if that is shorter.
	wider := refuse
	for kind, can := range l.possible(n) {
		wider[kind] = refuse[kind] || !can
	}
	criteria := refuse.criteria(n.criterion)
	if short := wider.criteria(n.criterion); len(short) < len(criteria) {
		criteria = short
	}
	for _, c := range criteria {
		// The addresses that come out of expansions are not refused.
		switch c {
		case "from any":
			c = `!from src "local"`
		case "auth from any":
			c = `auth !from src "local"`
		}
		im.rules = append(im.rules, "match tag "+quote(l.tag)+" "+c+" for any reject")
	}
}

// match writes the rules for all targets, with instead in the place of their
// actions if it is set.
func (im *importer) match(tag, instead string, targets []target, taken policy, n networks) {
	for _, t := range targets {
		w := taken.other
		if t.ours {
			w = taken.ours
		}
		action := `action ` + quote(t.action)
		if t.action == rejecting {
			action = rejecting
		} else if instead != "" {
			action = "action " + quote(instead)
		}
		for _, c := range t.criteria {
			for _, from := range clients(w, n) {
				im.rules = append(im.rules, "match "+tag+from+" "+c+" "+action)
			}
		}
	}
}

// clients returns the criteria for the clients in w, and for this host, which
// can always send.
func clients(w who, n networks) []string {
	list := w.criteria(n.criterion)
	for _, c := range list {
		if c == "from any" || c == n.criterion {
			return list
		}
	}
	return append(list, `from src "local"`)
}

// targets converts the classes of addresses, in the order in which Postfix
// asks for them.
func (im *importer) targets() []target {
	local := im.domains("mydestination")
	alias := im.domains("virtual_alias_domains")
	boxes := im.domains("virtual_mailbox_domains")
	relayed := im.domains("relay_domains")
	if !im.main.set("relay_domains") {
		relayed = domains{} // its old default is mydestination, which is local
	}
	// mydestination may be in it too, and decides.
	relayed.names = slices.DeleteFunc(relayed.names, func(name string) bool { return slices.Contains(local.names, name) })
	transports, everything := im.transports(slices.Concat(local.names, alias.names, boxes.names, relayed.names))
	for _, t := range transports {
		// What has a transport of its own needs no other rule.
		relayed.names = slices.DeleteFunc(relayed.names, func(name string) bool { return "for domain "+quote(name) == t.criteria[0] })
	}
	locals, virtuals := im.criteria(&local, "local-domains"), im.criteria(&alias, "virtual-domains")
	mailboxes, relays := im.criteria(&boxes, "mailbox-domains"), im.criteria(&relayed, "relay-domains")
	list := im.virtual(slices.Concat(locals, mailboxes, relays), virtuals)
	list = append(list, transports...)
	if len(locals) > 0 {
		list = append(list, target{locals, im.local(), true})
	}
	if len(mailboxes) > 0 {
		list = append(list, im.known("virtual_mailbox_maps", "mailboxes", mailboxes, im.mailboxes())...)
	}
	if len(relays) > 0 {
		list = append(list, im.known("relay_recipient_maps", "relay-recipients", relays, im.onward())...)
	}
	if everything == "" {
		everything = im.outward()
	}
	return append(list, target{[]string{"for any"}, everything, false})
}

// local returns the action for the users of this host.
func (im *importer) local() string {
	method := im.method()
	if method == rejecting {
		return rejecting
	}
	return im.action("local", method+im.aliases())
}

// known returns the targets for domains of which maps say who is there. If
// some of the maps are missing nobody is refused for not being in the others.
func (im *importer) known(param, base string, criteria []string, action string) []target {
	refs := im.maps(param)
	named := len(words(im.value(param)))
	if len(refs) < named || named == 0 || action == rejecting {
		if named == 0 && param == "relay_recipient_maps" && action != rejecting {
			im.note(im.main.lookup("relay_domains"), diag.Portability, "postfix-recipients", "nothing says which recipients the relayed domains have: mail for all is taken, as Postfix does")
		}
		return []target{{criteria, action, true}}
	}
	var list []target
	for _, r := range refs {
		table := im.table(im.main.lookup(param), r, base, false)
		for _, c := range criteria {
			list = append(list, target{[]string{c + " rcpt-to <" + table + ">"}, action, true})
		}
	}
	for _, c := range criteria {
		list = append(list, target{[]string{c}, rejecting, true})
	}
	return list
}

// virtual converts the aliases of whole addresses, which come before all else.
func (im *importer) virtual(ours, alias []string) []target {
	refs := im.maps("virtual_alias_maps")
	var list []target
	for i, r := range refs {
		p := im.main.lookup("virtual_alias_maps")
		table := im.table(p, r, "virtuals", false)
		im.identities(p, r)
		method := im.method()
		if method == rejecting {
			method = "expand-only"
		}
		action := im.action("virtual", method+" virtual <"+table+">")
		for _, c := range ours {
			list = append(list, target{[]string{c + " rcpt-to <" + table + ">"}, action, true})
		}
		for _, c := range alias {
			if i < len(refs)-1 {
				c += " rcpt-to <" + table + ">"
			}
			list = append(list, target{[]string{c}, action, true})
		}
	}
	if len(refs) == 0 && len(alias) > 0 {
		list = append(list, target{alias, rejecting, true})
	}
	return list
}

// identities says which addresses stand for themselves. Postfix stops there,
// so that a catch-all has exceptions; here such an address never ends.
func (im *importer) identities(p *param, r mapRef) {
	entries, _ := im.entries(r)
	for _, e := range entries {
		if strings.Contains(e.Key, "@") && slices.ContainsFunc(words(e.Value), func(to string) bool { return strings.EqualFold(to, e.Key) }) {
			im.note(p, diag.Warning, "postfix-identity", "%s: %s stands for itself there, which refuses its mail here: name the user, or the mailbox, instead", r.name, clip(e.Key))
		}
	}
}

// onward returns the action for domains that are relayed to.
func (im *importer) onward() string {
	p := im.main.lookup("relay_transport")
	transport, next, _ := strings.Cut(im.value("relay_transport"), ":")
	if sv := im.unix(transport); transport != "relay" && transport != "smtp" && (sv == nil || sv.command != "smtp") {
		if method, user, ok := im.deliverBy(p, im.value("relay_transport")); ok && method != rejecting {
			if strings.HasPrefix(method, "lmtp ") {
				method += " rcpt-to"
			}
			return im.action("deliver", method+im.everybody(p, user))
		} else if ok {
			return rejecting
		}
		im.notCarried("relay_transport")
		next = ""
	}
	if next == "" {
		next = im.value("relayhost")
		p = im.main.lookup("relayhost")
	}
	if next == "" {
		def := "relay backup"
		if name := im.hostname(); name != "" && im.main.set("myhostname") {
			def += " mx " + quote(name)
		}
		return im.action("backup", def+im.exchangerTLS()+im.outgoing())
	}
	if name, ok := im.relayTo(p, next, true); ok {
		return name
	}
	im.note(p, diag.Warning, "postfix-transport", "the host %q is not understood: mail for it is refused", clip(next))
	return rejecting
}

// outward returns the action for mail that leaves.
func (im *importer) outward() string {
	p := im.main.lookup("default_transport")
	transport, next, _ := strings.Cut(im.value("default_transport"), ":")
	if transport == "error" || transport == "retry" {
		return rejecting
	}
	if sv := im.unix(transport); transport != "smtp" && transport != "relay" && (sv == nil || sv.command != "smtp") {
		im.note(p, diag.Warning, "postfix-transport", "default_transport = %s is not understood: mail that leaves is refused", clip(im.value("default_transport")))
		return rejecting
	}
	if next == "" {
		p, next = im.main.lookup("relayhost"), im.value("relayhost")
	}
	if strings.Contains(next, unnamed) {
		im.note(p, diag.Warning, "postfix-hostname", "relayhost needs the name of this host, which is not known: set myhostname in main.cf, and convert again. Mail that leaves is refused")
		return rejecting
	}
	name, ok := im.relayTo(p, next, true)
	if !ok {
		im.note(p, diag.Warning, "postfix-transport", "the host %q is not understood: mail that leaves is refused", clip(next))
		return rejecting
	}
	return name
}
