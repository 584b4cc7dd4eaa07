package certificate

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
)

// A world says which transactions there are: what strangers send to a
// listener, or without one all, from addresses, from the local socket, and
// out of expansions.
type world struct {
	listener *compile.Listener
	own      []Range  // what no stranger has for an address
	trusted  []string // tables that hold no stranger
	declared Names    // recipients that are no concern
}

// groupOf returns the first of the parts that are looked at together.
func groupOf(p engine.Part) engine.Part {
	switch p {
	case engine.PartAuth:
		return engine.PartFrom
	case engine.PartRcptTo:
		return engine.PartFor
	}
	return p
}

// impossible reports whether no value of the parts of a group fits what is
// known of them. The values fall into cells that no entry of a table tells
// apart, and one value of each cell is held against the facts.
func (v *verifier) impossible(known []fact, p engine.Part) bool {
	facts := only(known, func(f fact) bool { return groupOf(f.part) == groupOf(p) })
	if len(facts) == 0 {
		return false
	}
	for _, f := range facts {
		if c := Criterion(f.rule, f.part); c.Table != 0 {
			v.steps -= len(f.side.Table(c.Table).Entries)
		}
	}
	for tx := range v.values(facts, groupOf(p)) {
		if v.steps -= len(facts); v.steps < 0 || v.fit(facts, &tx) {
			return false
		}
	}
	return true
}

func only(facts []fact, want func(fact) bool) []fact {
	return slices.DeleteFunc(slices.Clone(facts), func(f fact) bool { return !want(f) })
}

// values returns transactions with one value of each cell of a group.
func (v *verifier) values(facts []fact, p engine.Part) iter.Seq[engine.Transaction] {
	w := wordsOf(facts)
	return func(yield func(engine.Transaction) bool) {
		switch p {
		case engine.PartTag:
			tags := append(w.texts, "", w.fresh)
			if v.listener != nil {
				tags = []string{v.listener.Tag}
			}
			each(tags, func(tag string) bool { return yield(engine.Transaction{Tag: tag}) })
		case engine.PartTLS:
			both := []bool{false, true}
			if v.listener != nil {
				both = TLS(v.listener)
			}
			each(both, func(on bool) bool { return yield(engine.Transaction{TLS: on}) })
		case engine.PartHelo:
			each(w.domains, func(name string) bool { return yield(engine.Transaction{Helo: name}) })
		case engine.PartMailFrom:
			each(append(w.addresses(), engine.Address{}), func(a engine.Address) bool { return yield(engine.Transaction{Sender: a}) })
		case engine.PartFor:
			each(w.addresses(), func(a engine.Address) bool {
				return v.declared.Has(strings.ToLower(a.Domain)) || yield(engine.Transaction{Rcpt: a})
			})
		case engine.PartFrom:
			v.sources(facts, yield)
		}
	}
}

func each[T any](list []T, yield func(T) bool) bool {
	return !slices.ContainsFunc(list, func(t T) bool { return !yield(t) })
}

// sources yields sources with their reverse names and logins.
func (v *verifier) sources(facts []fact, yield func(engine.Transaction) bool) {
	isRDNS := func(f fact) bool { return f.part == engine.PartFrom && f.rule.From.Kind == compile.FromRDNS }
	src := wordsOf(only(facts, func(f fact) bool { return f.part == engine.PartFrom && !isRDNS(f) }))
	reverse := wordsOf(only(facts, isRDNS))
	auth := wordsOf(only(facts, func(f fact) bool { return f.part == engine.PartAuth }))

	names := append(reverse.texts, "", reverse.fresh)
	for _, a := range reverse.edges { // a name may look like an address
		names = append(names, a.String())
	}
	users := append(auth.texts, auth.fresh)
	for _, a := range auth.addresses() {
		users = append(users, a.String())
	}
	logins := func(tx engine.Transaction) bool {
		tx.Auth = tx.Kind == engine.FromSocket
		if ok := yield(tx); !ok || v.listener != nil || tx.Auth {
			return ok
		}
		tx.Auth = true
		return each(users, func(user string) bool { tx.User = user; return yield(tx) })
	}
	named := func(tx engine.Transaction) bool {
		return each(names, func(name string) bool { tx.RDNS = name; return logins(tx) })
	}
	for i, a := range src.edges {
		end := netip.Addr{}
		if i+1 < len(src.edges) {
			end = src.edges[i+1]
		}
		stranger := v.listener == nil || v.listener.ProxyV2 || !covers(v.own, a, end)
		if stranger && !named(engine.Transaction{Kind: engine.FromAddress, Addr: a}) {
			return
		}
	}
	if v.listener == nil && named(engine.Transaction{Kind: engine.FromInternal}) {
		named(engine.Transaction{Kind: engine.FromSocket})
	}
}

// covers reports whether all addresses from a to the one before end are in
// the ranges; there is no end after the last one.
func covers(own []Range, a, end netip.Addr) bool {
	i, found := slices.BinarySearchFunc(own, a, func(r Range, a netip.Addr) int { return r.First.Compare(a) })
	if !found {
		i--
	}
	if i < 0 || own[i].Last.Less(a) {
		return false
	}
	next := own[i].Last.Next()
	if !next.IsValid() && a.Is4() {
		next = netip.IPv6Unspecified()
	}
	return !next.IsValid() || end.IsValid() && !next.Less(end)
}

// A question is one to which the answer is not known here: what a table that
// has to be asked says, an expression, or an unusual pattern. Its answer is
// free, but the same whenever it is asked of one value.
type question struct {
	part        engine.Part
	rdns, regex bool
	table       int
}

// fit reports whether a transaction may be as the facts say.
func (v *verifier) fit(facts []fact, tx *engine.Transaction) bool {
	needs := make(map[question]bool)
	for _, f := range facts {
		got, q := v.answer(f, tx)
		want := f.want &^ unanswered
		switch {
		case got != 0 && got&f.want == 0:
			return false
		case got != 0, want == yes|no:
			continue
		}
		key := question{f.part, f.rule.From.Kind == compile.FromRDNS, q.Service == engine.Regex, f.side.meanings.Tables[q.Table]}
		found := (want == yes) == (q.Sign == compile.Is)
		if old, ok := needs[key]; ok && old != found {
			return false
		}
		needs[key] = found
	}
	return true
}

// answer returns what becomes of the criterion of a fact, or 0 if that is
// not known.
func (v *verifier) answer(f fact, tx *engine.Transaction) (answer, engine.Question) {
	q := tx.Ask(f.rule)[f.part]
	found := q.Answer == engine.Yes
	switch {
	case q.Answer == engine.Never:
		return no, q
	case q.Answer != engine.Ask:
	case f.side.Table(q.Table).Kind == compile.Dynamic && f.down:
		return unanswered, q
	case f.side.Table(q.Table).Kind == compile.Dynamic:
		byStranger := v.listener != nil && !v.listener.ProxyV2 && f.part == engine.PartFrom && f.rule.From.Kind == compile.FromSrc
		if q.Service == engine.Regex || !byStranger || !slices.Contains(v.trusted, f.side.Table(q.Table).Name) {
			return 0, q
		}
	case q.Service == engine.Regex || f.side.static(q.Table).odd:
		return 0, q
	default:
		found, _ = f.side.static(q.Table).Check(q.Service, q.Key) // no value is too long for a key
	}
	if found == (q.Sign == compile.Is) {
		return yes, q
	}
	return no, q
}

// A static answers for a table whose content is known.
type static struct {
	*engine.Static
	odd bool // it holds patterns that are not cut into cells: with stars elsewhere than before a dot
}

func (s *side) static(id compile.TableID) *static {
	if s.statics[id] == nil {
		t := s.Table(id)
		odd := slices.ContainsFunc(t.Entries, func(e compile.Entry) bool {
			rest := strings.TrimLeft(e.Key[strings.LastIndexByte(e.Key, '@')+1:], "*")
			return strings.Contains(rest, "*") || rest != "" && rest[0] != '.' && strings.HasSuffix(e.Key, "*"+rest)
		})
		s.statics[id] = &static{engine.NewStatic(t, s.SMTP.SubAddrDelim), odd}
	}
	return s.statics[id]
}

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

// addresses returns one address of each cell. A user that entries name with
// exact domains only is like any other user elsewhere.
func (w *words) addresses() []engine.Address {
	list := slices.Clone(w.exact)
	for _, u := range w.users {
		for _, d := range w.domains {
			list = append(list, engine.Address{User: u, Domain: d})
		}
	}
	return slices.DeleteFunc(list, func(a engine.Address) bool { return a.User == "" })
}
