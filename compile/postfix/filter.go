package postfix

import (
	"path"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/lang/diag"
)

// milters converts a list of the filters that Postfix asks and returns the
// name of the filter that stands for it, or "".
func (im *importer) milters(s *scope, name string) string {
	value := im.get(s, name)
	if f, ok := im.chains[value]; ok {
		return f
	}
	p := s.lookup(name)
	var members []string
	for _, w := range words(value) {
		def, ok := im.milter(s, p, w)
		if !ok {
			im.note(p, diag.Warning, "postfix-filter", "the milter %s is left out: it is not understood where it listens", clip(w))
			continue
		}
		f, ok := im.milterNames[def]
		if !ok {
			f = im.filterName(milterName(def))
			im.milterNames[def] = f
			im.filters = append(im.filters, "filter "+quote(f)+" "+def)
		}
		if !slices.Contains(members, f) {
			members = append(members, f)
		}
	}
	filter := ""
	switch len(members) {
	case 0:
	case 1:
		filter = members[0]
	default:
		filter = im.filterName("milters")
		for i := range members {
			members[i] = quote(members[i])
		}
		im.filters = append(im.filters, "filter "+quote(filter)+" chain { "+strings.Join(members, ", ")+" }")
	}
	im.chains[value] = filter
	return filter
}

// filterName returns a name that no other filter has.
func (im *importer) filterName(base string) string {
	return strings.TrimPrefix(im.name("filter "+base), "filter ")
}

// milter returns the definition of the filter for one milter, which may be
// written with options of its own, in braces.
func (im *importer) milter(s *scope, p *param, text string) (def string, ok bool) {
	failure := im.get(s, "milter_default_action")
	if inner, braces := strings.CutPrefix(text, "{"); braces {
		parts := words(strings.TrimSuffix(inner, "}"))
		if len(parts) == 0 {
			return "", false
		}
		text = parts[0]
		for _, option := range strings.Split(strings.Join(parts[1:], " "), " ") {
			if v, set := strings.CutPrefix(option, "default_action="); set {
				failure = v
			}
		}
	}
	addr := milterAddr(text, im.value("queue_directory"))
	if _, _, ok := addr.Split(); !ok || !quotable(string(addr)) {
		return "", false
	}
	def = "milter " + quote(string(addr))
	switch failure {
	case "accept":
		def += " on-failure bypass"
	case "reject":
		im.note(p, diag.Portability, "postfix-filter", "milter_default_action = reject: while the milter cannot be asked clients are told to try later, not for good")
	case "quarantine":
		im.note(p, diag.Warning, "postfix-filter", "milter_default_action = quarantine: while the milter cannot be asked clients are told to try later")
	}
	return def, true
}

// milterAddr returns where a milter listens. Paths of Postfix are relative to
// its queue.
func milterAddr(text, queue string) compile.MilterAddr {
	kind, rest, _ := strings.Cut(text, ":")
	switch {
	case kind == "unix" && !path.IsAbs(rest):
		rest = path.Join(queue, rest)
	case kind == "inet" && strings.Count(rest, ":") == 0: // a port of this host
		rest = "localhost:" + rest
	}
	return compile.MilterAddr(kind + ":" + rest)
}

// milterName returns what a milter is called, by where the common ones listen.
func milterName(def string) string {
	for _, known := range []struct{ part, name string }{
		{":11332", "rspamd"}, {"rspamd", "rspamd"}, {":8891", "dkim"}, {"opendkim", "dkim"}, {":8893", "dmarc"}, {"opendmarc", "dmarc"},
		{"clam", "clamav"}, {"spamass", "spamassassin"},
	} {
		if strings.Contains(def, known.part) {
			return known.name
		}
	}
	return "milter"
}

// milters returns the filter that is asked about mail of a listener, or "".
func (l *listener) milters(im *importer) string {
	if slices.Contains(words(im.get(l.sv.scope, "receive_override_options")), "no_milters") {
		return ""
	}
	return im.milters(l.sv.scope, "smtpd_milters")
}

// scanner converts the content filter that all mail goes through, and comes
// back from on another listener. It returns the action that leads there.
func (im *importer) scanner(list []*listener) string {
	const name = "content_filter"
	value := im.value(name)
	for _, l := range list {
		if value == "" && l.scanner != "" {
			im.serviceNote(l.sv, "the content filter of port "+l.port+" alone is left out")
		}
	}
	if value == "" {
		return ""
	}
	p := im.main.lookup(name)
	transport, next, _ := strings.Cut(value, ":")
	sv := im.unix(transport)
	h, ok := parseHop(next)
	back := 0
	for _, l := range list {
		if l.scanner == "" {
			back++
		}
	}
	if !ok || back == 0 || transport != "smtp" && transport != "lmtp" && (sv == nil || sv.command != "smtp" && sv.command != "lmtp") {
		im.note(p, diag.Warning, "postfix-filter", "content_filter = %s is left out: mail is not filtered", clip(value)).
			Help = []string{"a filter that hands mail back on a listener of its own, to which no other filter applies, is carried over"}
		return ""
	}
	for _, l := range list {
		if l.scanner == "" {
			l.tag = "filtered"
		}
	}
	scheme := "smtp+notls"
	if transport == "lmtp" || sv != nil && sv.command == "lmtp" {
		scheme = "lmtp"
		if h.port == "" {
			h.port = "24"
		}
	}
	return im.action("content-filter", "relay host "+quote(h.url(scheme, "")))
}
