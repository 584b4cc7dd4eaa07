package certificate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"smtpd/compile/engine"
)

// words are the values that the tables of some facts can tell apart.
type words struct {
	texts   []string // of entries
	fresh   string   // occurs in none
	domains []string // one name of each cell
	edges   []netip.Addr
	users   []string // that may have any domain
	exact   []engine.Address
}

func wordsOf(facts []fact) *words {
	w := &words{fresh: "other", edges: []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}}
	var delims []string
	seen := make(map[[2]int]bool) // the same table may hold domains for one part and users for another
	for _, f := range facts {
		delims = append(delims, string(rune(f.side.SMTP.SubAddrDelim)))
		c := Criterion(f.rule, f.part)
		if key := [2]int{int(f.part), f.side.meanings.Tables[c.Table]}; c.Table != 0 && !seen[key] {
			seen[key] = true
			for _, e := range f.side.Table(c.Table).Entries {
				w.texts = append(w.texts, e.Key)
				w.entry(f.part, e.Key)
			}
		}
	}
	for i := 0; slices.ContainsFunc(w.texts, func(e string) bool { return strings.Contains(e, w.fresh) }); i++ {
		w.fresh = fmt.Sprint("other", i)
	}
	w.finish(delims)
	return w
}

// entry adds what an entry can tell apart.
func (w *words) entry(part engine.Part, e string) {
	switch part {
	case engine.PartFrom:
		if p, ok := engine.ParseNetAddr(e); ok {
			w.edges = append(w.edges, p.Masked().Addr())
			if next := last(p).Next(); next.IsValid() {
				w.edges = append(w.edges, next)
			}
		}
	case engine.PartFor, engine.PartHelo:
		w.domains = append(w.domains, e)
	case engine.PartAuth, engine.PartMailFrom, engine.PartRcptTo:
		at := strings.LastIndexByte(e, '@')
		switch domain := e[at+1:]; {
		case at < 0:
			w.users = append(w.users, e)
		case domain == "" || domain[0] == '*':
			w.users, w.domains = append(w.users, e[:at]), append(w.domains, domain)
		default:
			w.exact, w.domains = append(w.exact, engine.Address{User: e[:at], Domain: domain}), append(w.domains, domain)
		}
	}
}

// finish adds what the entries do not hold: another name in each wildcard,
// other names, other sub-addresses, other users.
func (w *words) finish(delims []string) {
	slices.SortFunc(w.edges, netip.Addr.Compare)
	w.edges = slices.Compact(w.edges)
	for i, d := range w.domains {
		if rest := strings.TrimLeft(d, "*"); rest != d {
			w.domains[i] = w.fresh + rest
		}
	}
	w.domains = append(w.domains, w.fresh)
	slices.Sort(w.domains)
	w.domains = slices.DeleteFunc(slices.Compact(w.domains), func(d string) bool { return d == "" })
	slices.Sort(delims)
	delims = slices.Compact(delims)
	for _, u := range slices.Clip(w.users) {
		w.users = append(w.users, w.subAddresses(u, delims)...)
	}
	for _, a := range slices.Clip(w.exact) {
		for _, u := range w.subAddresses(a.User, delims) {
			w.exact = append(w.exact, engine.Address{User: u, Domain: a.Domain})
		}
	}
	w.users = append(w.users, w.fresh)
}

// subAddresses returns a user without his sub-address, and with another.
func (w *words) subAddresses(user string, delims []string) []string {
	if user == "" {
		return nil
	}
	users := []string{user}
	for _, d := range delims {
		base, _, _ := strings.Cut(user, d)
		users = append(users, base)
	}
	for _, u := range slices.Clip(users) {
		for _, d := range delims {
			users = append(users, u+d+w.fresh)
		}
	}
	return users[1:]
}

// addresses yields one address of each cell. A user that entries name with
// exact domains only is like any other user elsewhere.
func (w *words) addresses(yield func(engine.Address) bool) {
	for _, a := range w.exact {
		if a.User != "" && !yield(a) {
			return
		}
	}
	for _, u := range w.users {
		for _, d := range w.domains {
			if u != "" && !yield(engine.Address{User: u, Domain: d}) {
				return
			}
		}
	}
}
