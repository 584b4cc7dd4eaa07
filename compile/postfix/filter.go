package postfix

import (
	"slices"
	"strings"

	"smtpd/lang/diag"
)

// milters converts the filters that Postfix asks. They speak another protocol
// than those here; for one of them there is a program that everybody uses.
func (im *importer) milters() (filter string) {
	seen := make(map[string]bool)
	for _, name := range []string{"smtpd_milters", "non_smtpd_milters"} {
		for _, w := range words(im.value(name)) {
			if seen[w] {
				continue
			}
			seen[w] = true
			p := im.main.lookup(name)
			switch {
			case strings.HasSuffix(w, ":11332") || strings.Contains(w, "rspamd"):
				if filter == "" {
					filter = "rspamd"
					im.filters = append(im.filters, `filter "rspamd" proc-exec "filter-rspamd"`)
				}
				im.note(p, diag.Warning, "postfix-filter", "%s is taken for rspamd, which filter-rspamd asks: install that program, and let it reach the controller or the normal worker of rspamd", clip(w))
			case strings.HasSuffix(w, ":8891") || strings.Contains(w, "dkim"):
				im.note(p, diag.Warning, "postfix-filter", "the milter %s is left out", clip(w)).
					Help = []string{"filter-dkimsign signs mail: `filter \"dkim\" proc-exec \"filter-dkimsign -d DOMAIN -s SELECTOR -k KEY\"`"}
			default:
				im.note(p, diag.Warning, "postfix-filter", "the milter %s is left out: filters speak another protocol", clip(w))
			}
		}
	}
	return filter
}

// asks reports whether the milters are asked about mail of a listener.
func (l *listener) asks(im *importer) bool {
	return im.get(l.sv.scope, "smtpd_milters") != "" && !slices.Contains(words(im.get(l.sv.scope, "receive_override_options")), "no_milters")
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
