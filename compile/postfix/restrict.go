package postfix

import (
	"slices"
	"strings"

	"smtpd/lang/diag"
)

// A client is told apart by whether it is in the trusted networks and whether
// it has logged in. A who holds what becomes of each of the four kinds.
type who [4]bool

const (
	inNetworks = 1 << iota
	loggedIn
)

// A policy says whose mail is taken, for what this host is a destination of
// and for all else.
type policy struct{ ours, other who }

// stages are the lists of restrictions, all of which mail has to pass.
var stages = []string{
	"smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions",
	"smtpd_relay_restrictions", "smtpd_recipient_restrictions",
}

// policyOf evaluates the restrictions of a service. trusted says that its
// networks are those that the result knows.
func (im *importer) policyOf(s *scope, trusted bool) policy {
	p := policy{who{true, true, true, true}, who{true, true, true, true}}
	for _, stage := range stages {
		list := im.restrictions(s, stage, im.get(s, stage), 0)
		for kind := range 4 {
			p.ours[kind] = p.ours[kind] && decide(list, kind, true, trusted)
			p.other[kind] = p.other[kind] && decide(list, kind, false, trusted)
		}
	}
	if p.other[0] || !trusted && p.other[inNetworks] {
		at := s.lookup("smtpd_recipient_restrictions")
		if at == nil {
			at = s.lookup("smtpd_relay_restrictions")
		}
		im.note(at, diag.Security, "postfix-open-relay", "the restrictions do not keep strangers from relaying: what lets them is not carried over")
		p.other[0] = false
		p.other[inNetworks] = p.other[inNetworks] && trusted
	}
	return p
}

// decide returns whether a list lets a kind of client through.
func decide(list []string, kind int, ours, trusted bool) bool {
	for _, r := range list {
		switch r {
		case "permit":
			return true
		case "permit_mynetworks":
			if trusted && kind&inNetworks != 0 {
				return true
			}
		case "permit_sasl_authenticated":
			if kind&loggedIn != 0 {
				return true
			}
		case "permit_auth_destination":
			if ours {
				return true
			}
		case "reject_unauth_destination", "defer_unauth_destination":
			if !ours {
				return false
			}
		case "reject", "defer", "defer_if_permit":
			return false
		}
	}
	return true
}

// understood are the restrictions that decide takes, and those that the
// server or the configuration sees to anyway.
var understood = map[string]bool{
	"permit": true, "permit_mynetworks": true, "permit_sasl_authenticated": true, "permit_auth_destination": true,
	"reject": true, "defer": true, "defer_if_permit": true, "reject_unauth_destination": true, "defer_unauth_destination": true,
	"reject_unlisted_recipient": true, "reject_unauth_pipelining": true, "reject_multi_recipient_bounce": true,
	"reject_plaintext_session": true,
}

// instead says what does the work of a restriction here.
var instead = map[string]string{
	"reject_rbl_client":                          "the program filter-dnsbl asks such lists: `filter NAME proc-exec \"filter-dnsbl LIST\"`",
	"reject_unknown_reverse_client_hostname":     "`filter NAME phase connect match !rdns disconnect \"550 no reverse name\"` refuses such clients, the trusted ones too unless a filter bypasses it",
	"reject_unknown_client_hostname":             "`filter NAME phase connect match !fcrdns disconnect \"550 no confirmed name\"` refuses such clients, the trusted ones too unless a filter bypasses it",
	"reject_sender_login_mismatch":               "`senders <TABLE>` on a listener says which addresses a user may send from",
	"reject_authenticated_sender_login_mismatch": "`senders <TABLE>` on a listener says which addresses a user may send from",
	"check_sender_access":                        "`match mail-from <TABLE> for any reject`, before the other rules, refuses senders",
	"check_recipient_access":                     "`match from any for rcpt-to <TABLE> reject`, before the other rules, refuses recipients",
	"check_client_access":                        "`match from src <TABLE> for any reject`, before the other rules, refuses clients",
	"check_helo_access":                          "`match from any helo <TABLE> for any reject`, before the other rules, refuses names",
	"check_policy_service":                       "a program can decide as a filter: `filter NAME proc-exec \"PROGRAM\"`",
}

// restrictions returns the words of a list that decide something. Others are
// said, and left out with what belongs to them: mail that they refuse is
// taken, and mail that they permit is left to the rest of the list.
func (im *importer) restrictions(s *scope, stage, text string, depth int) []string {
	var list, dropped []string
	var help []string
	items := words(text)
	classes := words(im.get(s, "smtpd_restriction_classes"))
	for i := 0; i < len(items); i++ {
		w := strings.ToLower(items[i])
		if inside, rest, ok := bracketed(w); ok && rest == "" {
			w = strings.Join(words(inside), " ")
		}
		if w == "warn_if_reject" {
			i++ // what it is said of refuses nothing
			if i < len(items) && takesArgument(strings.ToLower(items[i])) {
				i++
			}
			continue
		}
		if slices.Contains(classes, items[i]) && depth < 5 {
			list = append(list, im.restrictions(s, stage, im.get(s, items[i]), depth+1)...)
			continue
		}
		name, _, _ := strings.Cut(w, " ")
		whole := w
		if takesArgument(w) && i+1 < len(items) {
			i++
			whole += " " + items[i]
		}
		if understood[w] {
			list = append(list, w)
			continue
		}
		target := strings.TrimPrefix(whole, name+" ")
		if _, ok := parseMap(items[i]); ok && whole == w && bare[stage] != "" {
			name, target = bare[stage], items[i] // the old way to write it
		}
		if kind, ok := checked(name); ok && depth == 0 && im.access(s, stage, kind, target, list) {
			continue
		}
		dropped = append(dropped, clip(whole))
		if text := instead[name]; text != "" && !slices.Contains(help, text) {
			help = append(help, text)
		}
	}
	if len(dropped) > 0 {
		im.note(s.lookup(stage), diag.Warning, "postfix-restriction", "%s: left out: %s", stage, strings.Join(dropped, ", ")).Help = help
	}
	return list
}

// checked returns what a check_..._access looks at.
func checked(name string) (kind string, ok bool) {
	kind, ok = strings.CutPrefix(name, "check_")
	kind, ok2 := strings.CutSuffix(kind, "_access")
	return kind, ok && ok2 && slices.Contains([]string{"client", "helo", "sender", "recipient"}, kind)
}

// bare is what a map means that stands in a list by itself.
var bare = map[string]string{
	"smtpd_client_restrictions": "check_client_access", "smtpd_helo_restrictions": "check_helo_access",
	"smtpd_sender_restrictions": "check_sender_access", "smtpd_recipient_restrictions": "check_recipient_access",
}

// takesArgument reports whether a restriction has a word after it.
func takesArgument(name string) bool {
	return strings.HasPrefix(name, "check_") && !strings.Contains(name, " ") ||
		strings.HasPrefix(name, "reject_r") && (strings.HasPrefix(name, "reject_rbl") || strings.HasPrefix(name, "reject_rhsbl")) ||
		strings.HasPrefix(name, "permit_dnswl") || strings.HasPrefix(name, "permit_rhswl") || name == "sleep"
}

// criteria returns the criteria of rules that are for the clients of w, and
// nobody else.
func (w who) criteria(networks string) []string {
	var list []string
	var covered who
	for _, c := range []struct {
		text  string
		kinds []int
	}{
		{"from any", []int{0, 1, 2, 3}},
		{networks, []int{1, 3}},
		{"auth from any", []int{2, 3}},
		{"!auth from any", []int{0, 1}},
		{"!" + networks, []int{0, 2}},
		{"!auth !" + networks, []int{0}},
		{"!auth " + networks, []int{1}},
		{"auth !" + networks, []int{2}},
		{"auth " + networks, []int{3}},
	} {
		inside, news := true, false
		for _, k := range c.kinds {
			inside = inside && w[k]
			news = news || !covered[k]
		}
		if !inside || !news {
			continue
		}
		list = append(list, c.text)
		for _, k := range c.kinds {
			covered[k] = true
		}
	}
	return list
}

// with returns who is in either.
func (w who) with(v who) who {
	for k := range w {
		w[k] = w[k] || v[k]
	}
	return w
}
