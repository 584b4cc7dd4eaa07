package postfix

import (
	"strings"

	"smtpd/lang/diag"
)

// maxTransports bounds the rules that are made of a transport table.
const maxTransports = 500

// transports converts the transport tables, whose entries become rules. The
// action for everything else is "" if they do not say.
func (im *importer) transports(ours []string) (list []target, everything string) {
	p := im.main.lookup("transport_maps")
	// The more an entry says the earlier it is asked for.
	var addresses, exact, below []target
	for _, r := range im.maps("transport_maps") {
		entries, ok := im.entries(r)
		if !ok || len(entries) > maxTransports {
			im.note(p, diag.Warning, "postfix-transport", "%s is not here to be looked at, or too long: none of its transports is carried over", r.name)
			continue
		}
		for _, e := range entries {
			key := strings.ToLower(e.Key)
			user, domain, isAddress := strings.Cut(key, "@")
			if !isAddress {
				domain = key
			}
			action, ok := im.transport(p, e.Value, among(ours, domain))
			switch {
			case !ok:
				im.note(p, diag.Warning, "postfix-transport", "the transport %q for %q is not carried over", clip(e.Value), clip(e.Key))
			case action == "":
			case key == "*":
				everything = action
			case isAddress && isDomain(domain) && quotable(user) && user != "":
				addresses = append(addresses, target{[]string{"for rcpt-to " + quote(key)}, action, among(ours, domain)})
			case strings.HasPrefix(key, ".") && isDomain(key[1:]):
				im.note(p, diag.Portability, "postfix-subdomains", "transport_maps: %q is for all that is below it in Postfix, and here for one more label", key)
				below = append(below, target{[]string{"for domain " + quote("*"+key)}, action, among(ours, domain)})
			case !isAddress && isDomain(key):
				exact = append(exact, target{[]string{"for domain " + quote(key)}, action, among(ours, domain)})
			default:
				im.note(p, diag.Warning, "postfix-transport", "the transport for %q is not carried over", clip(e.Key))
			}
		}
	}
	list = append(list, addresses...)
	list = append(list, exact...)
	return append(list, below...), everything
}

// transport returns the action for a transport of a table; "" if the entry
// changes nothing.
func (im *importer) transport(p *param, value string, ours bool) (action string, ok bool) {
	name, next, _ := strings.Cut(value, ":")
	sv := im.unix(name)
	switch {
	case name == "local":
		if !ours {
			return "", false
		}
		return im.local(), true
	case name == "virtual":
		return im.mailboxes(), ours
	case name == "" && next == "":
		return "", true
	case name == "smtp" || name == "relay" || name == "" || sv != nil && sv.command == "smtp":
		return im.relayTo(p, next, true)
	}
	method, user, ok := im.deliverBy(p, value)
	switch {
	case !ok || method == rejecting:
		return rejecting, ok
	case strings.HasPrefix(method, "lmtp "):
		method += " rcpt-to"
	}
	return im.action("deliver", method+im.everybody(p, user)), true
}
