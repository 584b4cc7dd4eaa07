package postfix

import (
	"slices"
	"strings"

	"smtpd/lang/diag"
)

// A domains is what a parameter names as destinations.
type domains struct {
	own    bool     // the host itself, whatever it is called
	tables []string // that hold some of them
	names  []string // those that are known
}

// domains converts the destinations that a parameter names.
func (im *importer) domains(name string) domains {
	base := bases[name]
	p := im.main.lookup(name)
	parents := slices.Contains(words(im.value("parent_domain_matches_subdomains")), name)
	d := domains{}
	add := func(domain string) {
		domain = strings.ToLower(domain)
		names := []string{domain}
		if sub, ok := strings.CutPrefix(domain, "."); ok {
			names = []string{"*." + sub}
			domain = sub
		} else if parents && strings.Contains(domain, ".") {
			names = append(names, "*."+domain)
		}
		if !isDomain(domain) {
			im.note(p, diag.Warning, "postfix-domain", "%s: %q is no domain that can be written, it is left out", name, clip(domain))
			return
		}
		if len(names) > 1 || strings.HasPrefix(names[0], "*") {
			im.note(p, diag.Portability, "postfix-subdomains", "%s: %q is for all that is below it in Postfix, and here for one more label", name, domain)
		}
		for _, n := range names {
			if !slices.Contains(d.names, n) {
				d.names = append(d.names, n)
			}
		}
	}
	for _, w := range words(im.value(name)) {
		r, isMap := parseMap(w)
		switch {
		case w == unnamed:
			d.own = true
		case strings.Contains(w, unnamed): // localhost.$mydomain
		case strings.HasPrefix(w, "!"):
			im.note(p, diag.Warning, "postfix-domain", "%s: %q cannot be carried over; put the domain into a rule that rejects it before", name, clip(w))
		case isPath(w):
			d.tables = append(d.tables, im.domainFile(p, w, base))
		case isMap && !strings.HasPrefix(w, "["):
			if p == nil && !r.isFile() && r.kind != "inline" {
				continue // that is said of the parameter that it comes from
			}
			entries, ok := im.entries(r)
			if !ok {
				d.tables = append(d.tables, im.unknownDomains(p, r, base)...)
				continue
			}
			for _, e := range entries {
				// Keys with an @ are addresses, and those without a dot users.
				if !strings.Contains(e.Key, "@") && strings.Contains(e.Key, ".") {
					add(e.Key)
				}
			}
		default:
			add(w)
		}
	}
	if d.own {
		// This is localhost too, and the addresses of the host.
		d.names = slices.DeleteFunc(d.names, func(n string) bool { return n == "localhost" })
	}
	return d
}

// bases are what the tables of domains are called.
var bases = map[string]string{
	"mydestination": "local-domains", "virtual_alias_domains": "virtual-domains",
	"virtual_mailbox_domains": "mailbox-domains", "relay_domains": "relay-domains",
}

// criteria returns the criteria of matches, each for a part of the domains.
func (im *importer) criteria(d *domains, base string) []string {
	var list []string
	if d.own {
		list = append(list, "for local")
	}
	for _, t := range d.tables {
		list = append(list, "for domain <"+t+">")
	}
	if len(d.names) > 0 {
		list = append(list, "for domain <"+im.list(base, d.names)+">")
	}
	return list
}

// domainFile declares a file with a domain on each line.
func (im *importer) domainFile(p *param, file, base string) string {
	key := "domains " + file
	name, ok := im.tables[key]
	if !ok {
		name = im.name(base)
		im.tables[key] = name
		im.decls = append(im.decls, "table "+name+" "+spec(file))
		text, known := im.readFile(file)
		good := known
		for l := range strings.Lines(string(text)) {
			l = strings.Trim(l, blanks)
			good = good && (l == "" || l[0] == '#' || isDomain(l))
		}
		if !good {
			im.note(p, diag.Portability, "postfix-table", "%s must have one domain on each line, and nothing else", file)
		}
	}
	return name
}

// unknownDomains stands for the keys of a map that cannot be read.
func (im *importer) unknownDomains(p *param, r mapRef, base string) []string {
	if p == nil {
		im.note(im.main.lookup("virtual_alias_maps"), diag.Warning, "postfix-domain",
			"%s may name domains of its own, and is not here to be looked at: write a rule `match from any for domain ...` for each", r.name)
		return nil
	}
	key := "domains " + r.String()
	name, ok := im.tables[key]
	if !ok {
		name = im.name(base)
		im.tables[key] = name
		im.decls = append(im.decls, "table "+name+" file:/etc/mail/"+name)
	}
	im.note(p, diag.Warning, "postfix-domain", "the domains in %s cannot be looked at: write each on a line of /etc/mail/%s", r, name)
	return []string{name}
}

// among reports whether a domain is one of those that are known.
func among(names []string, domain string) bool {
	_, parent, _ := strings.Cut(domain, ".")
	return slices.Contains(names, domain) || slices.Contains(names, "*."+parent)
}
