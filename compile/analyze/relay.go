package analyze

import (
	"cmp"
	"context"
	"math/big"
	"net/netip"
	"slices"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
	"smtpd/compile/engine"
)

// A Verdict is the answer to a question about all transactions.
type Verdict uint8

// The verdicts, from good to bad.
const (
	Proved      Verdict = iota + 1
	Unknown             // a budget was used up, or a pattern was beyond the search
	Conditional         // it depends on tables that have to be asked
	Refuted
)

var verdictNames = [...]string{"", "proved", "unknown", "conditional", "refuted"}

// String returns the name of v.
func (v Verdict) String() string { return verdictNames[v] }

// A RelayReport says who can send mail out through the host.
type RelayReport struct {
	Verdict Verdict
	Open    []Open // at most one for each rule and listener; the first of very many
	// Declared are the rules that relay for strangers, but only to domains
	// that they name.
	Declared []int
	// Senders are the rules that relay for somebody who has not logged in, to
	// domains that they do not name. Counted says that all numbers are exact.
	Senders []Sender
	Total   Count // by any rule
	Counted bool
	// Unproved says why the answer is not known.
	Unproved string
	// Rewriters are filters of listeners that strangers reach and which may
	// give mail another recipient before the rules see it.
	Rewriters []compile.FilterID

	everybody Count // all addresses that there are
	// Certificate is for Proved; the checker has taken it.
	Certificate *certificate.Certificate
}

// An Open is a way to relay for somebody who has not logged in and is not
// trusted.
type Open struct {
	Rule     int
	Listener int // index into Ruleset.Listeners
	Gate     Gate
	Witness  Witness
}

// A Gate is what a stranger has to pass to relay.
type Gate uint8

// The gates.
const (
	NoGate      Gate = iota + 1
	ForgedGate       // the tag, HELO name, sender or reverse name that he chooses
	NetworkGate      // to be in a network that is too large to be trusted
	ProxyGate        // to say that he is somebody else
)

// A Sender is a rule that relays without a login, and for how many addresses.
type Sender struct {
	Rule int
	Count
}

// A Count is a number of addresses.
type Count struct{ V4, V6 *big.Int }

// RelayOptions say what is known that the configuration does not say.
type RelayOptions struct {
	// Trusted are names of tables that hold whom this host sends mail out
	// for, however many they are.
	Trusted []string
}

// Relay says whether a client that is not authenticated and not trusted can
// have mail relayed to where no rule names the domain.
//
// The client chooses the listener among those that are not bound to loopback
// alone, and so the tag; his reverse name, HELO, sender and TLS; and on a
// listener that believes his PROXY header his address too. First it is found out which
// addresses can relay. Those of the host, of trusted tables, and ranges of
// them that are no larger than a private /16, a public /24 or an IPv6 /48 are
// no strangers'. Then it is proved that nobody else can.
//
// What comes out of expansions of aliases is not looked at, nor are filters,
// which only take mail away unless they rewrite.
func Relay(rs *compile.Ruleset, o RelayOptions) RelayReport {
	work := maxWork
	r := relaying{table: newTable(rs), options: o, work: &work}
	r.report.Verdict, r.report.Counted = Proved, true
	r.classes = newClasses(rs, r.numbers, o.Trusted)
	r.ways()
	r.count()
	r.judge()
	if r.report.Verdict == Proved {
		r.prove()
	}
	r.report.Rewriters = rewriters(rs)
	return r.report
}

// A relaying is the work on one report.
type relaying struct {
	*table
	options RelayOptions
	work    *int
	classes classes
	found   []way
	gaveUp  bool // before all ways were found
	report  RelayReport
}

// A way is that addresses of a class can relay, or that it is not known
// whether they can. The witness may have an address of another class.
type way struct {
	rule, listener, class int
	verdict               Verdict
	witness               *Witness
}

// ways finds all ways to relay. Of listeners that look alike to the rules
// only the first is tried. The usual addresses come before all others, so
// that a rule which is open to anybody is found within the budget.
func (r *relaying) ways() {
	alike := r.alike()
	shown := make(map[[2]int]*Witness)
	declared := make(map[int]bool)
	for _, first := range []bool{true, false} {
		for i := range r.rules.Rules {
			if !r.relays(i) {
				continue
			}
			for _, class := range r.classes.of(r.rules, &r.rules.Rules[i]) {
				if class < len(usual) != first {
					continue
				}
				for l, same := range alike {
					if same == l {
						r.way(i, l, class, shown)
						declared[i] = declared[i] || r.relaysToDeclared(i, l, class)
					}
				}
			}
		}
	}
	for i := range declared {
		if declared[i] {
			r.report.Declared = append(r.report.Declared, i)
		}
	}
	slices.Sort(r.report.Declared)
	slices.SortFunc(r.found, func(a, b way) int {
		return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.listener, b.listener), cmp.Compare(a.class, b.class))
	})
}

// way finds out whether addresses of a class can relay. Most often mail that
// is shown to be relayed for one class is relayed for another one as well.
func (r *relaying) way(i, l, class int, shown map[[2]int]*Witness) {
	s := r.search(i, l, r.classes.samples[class:class+1])
	key := [2]int{i, l}
	if !s.spend(workOfDecision) {
		r.gaveUp = true
		return
	}
	if w := shown[key]; w != nil {
		tx := w.Transaction
		tx.Addr = r.classes.samples[class]
		if d := r.engine.Decide(context.Background(), &tx, nil); d.Outcome == engine.Accept && d.Rule == i {
			r.found = append(r.found, way{i, l, class, Refuted, w})
			return
		}
	}
	v, w, _ := r.relayBy(&s, i)
	if v == Refuted {
		shown[key] = &w
	}
	if v != Proved {
		r.found = append(r.found, way{i, l, class, v, &w})
	}
}

// What is charged for work that is not trying values.
const (
	workOfDecision = 100
	maxReplayed    = 20_000_000 // rules that the linear engine looks at
)

// replayed reports whether the linear engine agrees that rule i relays.
func (r *relaying) replayed(o *Open) bool {
	var trusted []string
	if !r.forgeable(o.Listener) {
		trusted = r.options.Trusted
	}
	return r.table.replays(&o.Witness, engine.Decision{Outcome: engine.Accept, Rule: o.Rule}, trusted)
}

// alike returns for each listener the first one that looks the same to the
// rules; -1 for one that strangers do not reach.
func (r *relaying) alike() []int {
	type look struct {
		tag       string
		tls       compile.TLSMode
		forgeable bool
	}
	first := make(map[look]int)
	var list []int
	for l := range r.rules.Listeners {
		at := &r.rules.Listeners[l]
		n := -1
		if certificate.Public(at) {
			k := look{at.Tag, at.TLS, r.forgeable(l)}
			if _, ok := first[k]; !ok {
				first[k] = l
			}
			n = first[k]
		}
		list = append(list, n)
	}
	return list
}

// forgeable reports whether strangers choose their addresses on listener l.
func (r *relaying) forgeable(l int) bool {
	return certificate.Forgeable(r.rules, &r.rules.Listeners[l])
}

func (t *table) relays(i int) bool {
	a := t.rules.Rules[i].Action
	return a != 0 && t.rules.Action(a).Method == compile.Relay
}

// search returns a search for mail that strangers with the addresses send
// through listener l, and not to domains that rule i names.
func (r *relaying) search(i, l int, addrs []netip.Addr) search {
	at := &r.rules.Listeners[l]
	s := search{base: ordinary(), work: r.work, stranger: &stranger{
		listener: at, forgeable: r.forgeable(l), addrs: addrs, trusted: r.options.Trusted,
		declared: certificate.Declared(r.rules, &r.rules.Rules[i]),
	}}
	s.base.Tag, s.base.TLS = at.Tag, certificate.TLS(at)[0]
	if len(addrs) > 0 {
		s.base.Addr = addrs[0]
	}
	return s
}

// relaysToDeclared reports whether rule i relays for a stranger to a domain
// that it names.
func (r *relaying) relaysToDeclared(i, l, class int) bool {
	s := r.search(i, l, r.classes.samples[class:class+1])
	if len(s.stranger.declared) == 0 || r.classes.host[class] {
		return false
	}
	s.stranger.declared = nil
	v, w, _ := r.relayBy(&s, i)
	return v >= Conditional && certificate.Declared(r.rules, &r.rules.Rules[i]).Has(fold(w.Transaction.Rcpt.Domain))
}

// relayBy looks for mail that rule i relays. What rules before it decide is
// taken away until nothing is left; how is returned as a proof.
func (r *relaying) relayBy(s *search, i int) (Verdict, Witness, *certificate.Node) {
	type job struct {
		region region
		node   *certificate.Node
	}
	root := new(certificate.Node)
	work := []job{{r.covered(i), root}}
	verdict, witness := Proved, Witness{}
	for n := 0; len(work) > 0; n++ {
		if n == maxRegions || !s.spend(workOfDecision) {
			return max(verdict, Unknown), witness, root
		}
		j := work[len(work)-1]
		work = work[:len(work)-1]
		tx, a, f := s.pick(j.region)
		if f != found {
			j.node.Empty = s.gone.String()
			if f == unsure {
				verdict = max(verdict, Unknown)
			}
			continue
		}
		a.rules = r.rules
		d := r.engine.Decide(context.Background(), &tx, a)
		w := Witness{tx, a.list}
		switch {
		case d.Rule < 0 || d.Rule > i:
			verdict = max(verdict, Unknown) // the region and the engine disagree
			continue
		case d.Rule == i && len(w.Assumed) == 0:
			return Refuted, w, root
		case d.Rule == i:
			// It depends on tables; there may be a way that does not.
			verdict, witness = Conditional, w
			for _, g := range r.unasked(j.region, &tx, i) {
				work = append(work, job{g, new(certificate.Node)})
			}
			continue
		}
		j.node.Taken = &certificate.Taken{Case: certificate.Case{Rule: d.Rule + 1}}
		j.node.Rest = make(map[string]*certificate.Node)
		for _, p := range j.region.pieces(r.covered(d.Rule)) {
			n := new(certificate.Node)
			j.node.Rest[p.part.String()] = n
			work = append(work, job{p.region, n})
		}
	}
	return verdict, witness, root
}

// unasked returns what of a region does not ask the table that the decision
// of a transaction asks first; nothing if rule i itself asks it.
func (r *relaying) unasked(g region, tx *engine.Transaction, i int) []region {
	for k := range i {
		var static region
		asks, holds := false, true
		for _, c := range r.covered(k) {
			if certificate.Asks(r.rules, c.rule, c.part) {
				asks = true
				continue
			}
			static = append(static, c)
			holds = holds && c.true(tx, nil)
		}
		if asks && holds {
			return g.minus(static)
		}
	}
	return nil
}

// rewriters returns the filters of public listeners that may rewrite.
func rewriters(rs *compile.Ruleset) []compile.FilterID {
	var list []compile.FilterID
	var add func(id compile.FilterID)
	add = func(id compile.FilterID) {
		f := rs.Filter(id)
		for _, part := range f.Chain {
			add(part)
		}
		if (f.Process() || f.Phase != "" && f.Do == compile.Rewrite) && !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	for i := range rs.Listeners {
		if l := &rs.Listeners[i]; l.Filter != 0 && certificate.Public(l) {
			add(l.Filter)
		}
	}
	return list
}

// IsEverybody reports whether a count is all addresses that there are.
func (r *RelayReport) IsEverybody(c Count) bool {
	return c.V4.Cmp(r.everybody.V4) == 0 && c.V6.Cmp(r.everybody.V6) == 0
}
