package certificate

import (
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
	listener  *compile.Listener
	forgeable bool     // they choose their addresses
	own       []Range  // what no stranger has for an address
	trusted   []string // tables that hold no stranger
	declared  Names    // recipients that are no concern
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
			v.spend(len(f.side.Table(c.Table).Entries))
		}
	}
	for tx := range v.values(facts, groupOf(p)) {
		if !v.spend(len(facts)) || v.fit(facts, &tx) {
			return false
		}
	}
	return v.steps >= 0 // what was not looked at is not shown to be impossible
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
			for a := range w.addresses {
				if !yield(engine.Transaction{Sender: a}) {
					return
				}
			}
			yield(engine.Transaction{})
		case engine.PartFor:
			for a := range w.addresses {
				declared := v.declared.Has(strings.ToLower(a.Domain))
				if !v.spend(1) || !declared && !yield(engine.Transaction{Rcpt: a}) {
					return
				}
			}
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
	logins := func(tx engine.Transaction) bool {
		tx.Auth = tx.Kind == engine.FromSocket
		if ok := yield(tx); !ok || v.listener != nil || tx.Auth {
			return ok
		}
		tx.Auth = true
		for a := range auth.addresses {
			if tx.User = a.String(); !yield(tx) {
				return false
			}
		}
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
		stranger := v.listener == nil || v.forgeable || !covers(v.own, a, end)
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
	var needs map[question]bool
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
		if needs == nil {
			needs = make(map[question]bool)
		}
		needs[key] = found
	}
	return true
}

// answer returns what becomes of the criterion of a fact, or 0 if that is
// not known.
func (v *verifier) answer(f fact, tx *engine.Transaction) (answer, engine.Question) {
	q := tx.AskPart(f.rule, f.part)
	found := q.Answer == engine.Yes
	switch {
	case q.Answer == engine.Never:
		return no, q
	case q.Answer != engine.Ask:
	case f.side.Table(q.Table).Kind == compile.Dynamic && f.down:
		return unanswered, q
	case f.side.Table(q.Table).Kind == compile.Dynamic:
		byStranger := v.listener != nil && !v.forgeable && f.part == engine.PartFrom && f.rule.From.Kind == compile.FromSrc
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
