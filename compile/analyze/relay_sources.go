package analyze

import (
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"slices"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
)

// maxRefined bounds the work on classes of addresses.
const maxRefined = 20_000_000

// classes are the addresses, put together so that no table of sources tells
// the addresses of one class apart.
type classes struct {
	edges   []netip.Addr // ascending; from each to the next goes a range
	class   []int        // of each range
	parts   [][]int      // the ranges of each class
	samples []netip.Addr // one of each class
	host    []bool       // of each class: no stranger is in it
	err     string       // why the classes are not exact
}

// The first classes are those of addresses that nobody has.
var usual = []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::9")}

// mapped are addresses that no client has: they are IPv4 addresses.
var mapped = certificate.Range{First: netip.MustParseAddr("::ffff:0.0.0.0"), Last: netip.MustParseAddr("::ffff:255.255.255.255")}

// newClasses returns the classes for the rules of a table. Those in the
// trusted tables are no strangers', nor are those of the host.
func newClasses(rs *compile.Ruleset, numbers []int, trusted []string) classes {
	own := certificate.Host(rs)
	sets := [][]certificate.Range{{mapped}}
	for i := range rs.Tables {
		if t := &rs.Tables[i]; slices.Contains(trusted, t.Name) {
			own = append(own, certificate.Ranges(certificate.Networks(t))...)
		}
	}
	own = certificate.Join(own)
	sets = append(sets, own)
	c := classes{}
	seen := make(map[int]bool)
	for i := range rs.Rules {
		f := &rs.Rules[i].From
		if f.Table == 0 || f.Kind == compile.FromRDNS || seen[numbers[f.Table]] {
			continue
		}
		if f.Regex {
			c.err = fmt.Sprintf("rule %d looks for expressions in addresses", i+1)
			continue
		}
		seen[numbers[f.Table]] = true
		sets = append(sets, certificate.Ranges(certificate.Networks(rs.Table(f.Table))))
	}
	c.cut(sets)
	c.name(own)
	return c
}

// cut makes the classes.
func (c *classes) cut(sets [][]certificate.Range) {
	c.edges = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	for _, set := range sets {
		for _, r := range set {
			c.edges = append(c.edges, r.First)
			if next := r.Last.Next(); next.IsValid() {
				c.edges = append(c.edges, next)
			}
		}
	}
	slices.SortFunc(c.edges, netip.Addr.Compare)
	c.edges = slices.Compact(c.edges)
	c.class = make([]int, len(c.edges))
	count, work := 1, 0
	for _, set := range sets {
		inside := make(map[int]int)
		for _, r := range set {
			from, to := c.span(r)
			if work += to - from; work > maxRefined {
				c.err = "the tables of sources overlap too much to be counted"
				return
			}
			for k := from; k < to; k++ {
				n, ok := inside[c.class[k]]
				if !ok {
					n = count
					inside[c.class[k]] = n
					count++
				}
				c.class[k] = n
			}
		}
	}
}

// span returns which ranges of the classes make up a range.
func (c *classes) span(r certificate.Range) (from, to int) {
	from, _ = slices.BinarySearchFunc(c.edges, r.First, netip.Addr.Compare)
	to = len(c.edges)
	if next := r.Last.Next(); next.IsValid() || r.Last.Is4() {
		if !next.IsValid() {
			next = netip.IPv6Unspecified()
		}
		to, _ = slices.BinarySearchFunc(c.edges, next, netip.Addr.Compare)
	}
	return from, to
}

// name numbers the classes anew, the usual ones first, and finds samples.
func (c *classes) name(own []certificate.Range) {
	numbers := make(map[int]int)
	for k, to := c.span(mapped); k < to; k++ {
		numbers[c.class[k]] = -1
	}
	none := len(numbers)
	add := func(k int, sample netip.Addr) {
		if _, ok := numbers[c.class[k]]; ok {
			return
		}
		numbers[c.class[k]] = len(numbers) - none
		c.samples = append(c.samples, sample)
	}
	for _, a := range usual {
		add(c.at(a), a)
	}
	for k := range c.edges {
		add(k, c.within(k))
	}
	c.parts = make([][]int, len(c.samples))
	for k := range c.class {
		c.class[k] = numbers[c.class[k]]
		if n := c.class[k]; n >= 0 {
			c.parts[n] = append(c.parts[n], k)
		}
	}
	c.host = make([]bool, len(c.samples))
	for _, r := range own {
		for k, to := c.span(r); k < to; k++ {
			if c.class[k] >= 0 {
				c.host[c.class[k]] = true
			}
		}
	}
}

// at returns the range that holds an address.
func (c *classes) at(a netip.Addr) int {
	k, found := slices.BinarySearchFunc(c.edges, a, netip.Addr.Compare)
	if !found {
		k--
	}
	return k
}

// within returns an address of a range, the second one if there is one: the
// first is often that of a network and not of a host.
func (c *classes) within(k int) netip.Addr {
	if next := c.edges[k].Next(); next.IsValid() && c.at(next) == k {
		return next
	}
	return c.edges[k]
}

// rangeAt returns a range of the classes.
func (c *classes) rangeAt(k int) certificate.Range {
	r := certificate.Range{First: c.edges[k]}
	switch {
	case k+1 == len(c.edges):
		r.Last = netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	case r.First.Is4() && !c.edges[k+1].Is4():
		r.Last = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	default:
		r.Last = c.edges[k+1].Prev()
	}
	return r
}

// of returns the classes that a rule may match.
func (c *classes) of(rs *compile.Ruleset, r *compile.Rule) []int {
	var list []int
	f := &r.From
	if f.Kind != compile.FromSrc && f.Kind != compile.FromLocal || f.Sign != compile.Is || f.Regex || rs.Table(f.Table).Kind == compile.Dynamic {
		for n := range c.samples {
			list = append(list, n)
		}
		return list
	}
	for _, r := range certificate.Ranges(certificate.Networks(rs.Table(f.Table))) {
		for k, to := c.span(r); k < to; k++ {
			if c.class[k] >= 0 {
				list = append(list, c.class[k])
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// ranges returns the addresses of classes.
func (c *classes) ranges(set map[int]bool) []certificate.Range {
	var list []certificate.Range
	for n := range set {
		for _, k := range c.parts[n] {
			list = append(list, c.rangeAt(k))
		}
	}
	return certificate.Join(list)
}

// large returns which classes have a part in a range that is too large to be
// trusted, when all of set are put together, and an address of that part.
func (c *classes) large(set map[int]bool) map[int]netip.Addr {
	strange := make(map[int]bool)
	for n := range set {
		if !c.host[n] {
			strange[n] = true
		}
	}
	large := make(map[int]netip.Addr)
	for _, r := range c.ranges(strange) {
		if !r.IsLarge() {
			continue
		}
		for k, to := c.span(r); k < to; k++ {
			n := c.class[k]
			if k == c.at(c.samples[n]) {
				large[n] = c.samples[n]
			} else if _, ok := large[n]; !ok {
				large[n] = c.within(k)
			}
		}
	}
	return large
}

// byRule yields the ways of one rule after another.
func (r *relaying) byRule(yield func(rule int, ways []way) bool) {
	for i := 0; i < len(r.found); {
		end := i
		for end < len(r.found) && r.found[end].rule == r.found[i].rule {
			end++
		}
		if !yield(r.found[i].rule, r.found[i:end]) {
			return
		}
		i = end
	}
}

// count counts who can relay.
func (r *relaying) count() {
	total, all := make(map[int]bool), make(map[int]bool)
	for n := range r.classes.samples {
		all[n] = true
	}
	for rule, ways := range r.byRule {
		set := make(map[int]bool)
		for _, w := range ways {
			switch {
			case w.verdict != Refuted:
				r.report.Counted = false
			case r.forgeable(w.listener):
				set = all // whoever he is, he can say that he is another
			case len(set) < len(all):
				set[w.class] = true
			}
		}
		if len(set) > 0 {
			maps.Copy(total, set)
			r.report.Senders = append(r.report.Senders, Sender{rule, size(r.classes.ranges(set))})
		}
	}
	r.report.Total, r.report.everybody = size(r.classes.ranges(total)), size(r.classes.ranges(all))
	if r.classes.err != "" || r.gaveUp {
		r.report.Counted = false
	}
}

func size(list []certificate.Range) Count {
	c := Count{new(big.Int), new(big.Int)}
	for _, r := range list {
		if r.First.Is4() {
			c.V4.Add(c.V4, r.Size())
		} else {
			c.V6.Add(c.V6, r.Size())
		}
	}
	return c
}

// large returns the classes that can relay by a rule and are too large to be
// trusted, of the ways that are at least as bad as v. Rules that are harmless
// alone may be too much together.
func (r *relaying) large(v Verdict) map[[2]int]netip.Addr {
	large := make(map[[2]int]netip.Addr)
	together := make(map[int]bool)
	var rest []way
	for rule, ways := range r.byRule {
		set := make(map[int]bool)
		for _, w := range ways {
			if w.verdict >= v {
				set[w.class] = true
			}
		}
		alone := r.classes.large(set)
		for class, addr := range alone {
			large[[2]int{rule, class}] = addr
		}
		if len(alone) == 0 {
			maps.Copy(together, set)
			rest = append(rest, ways...)
		}
	}
	all := r.classes.large(together)
	for _, w := range rest {
		if addr, ok := all[w.class]; ok && w.verdict >= v {
			large[[2]int{w.rule, w.class}] = addr
		}
	}
	return large
}

// judge decides which of the ways to relay are strangers'.
func (r *relaying) judge() {
	large := make(map[Verdict]map[[2]int]netip.Addr)
	for _, v := range []Verdict{Unknown, Conditional, Refuted} {
		large[v] = r.large(v)
	}
	replays := maxReplayed
	worst := make(map[[2]int]int) // by rule and listener: index of the open way
	for _, w := range r.found {
		addr, isLarge := large[w.verdict][[2]int{w.rule, w.class}]
		if !isLarge && !r.forgeable(w.listener) {
			continue
		}
		if w.verdict == Unknown {
			r.notKnown("the search for rule %d was given up", w.rule+1)
			continue
		}
		at, ok := worst[[2]int{w.rule, w.listener}]
		if ok && (w.verdict < Refuted || len(r.report.Open[at].Witness.Assumed) == 0) {
			continue
		}
		if replays -= len(r.rules.Rules); replays < 0 {
			break
		}
		o := r.open(&w, addr, isLarge)
		if !r.replayed(&o) {
			r.notKnown("the engines disagree on rule %d", w.rule+1) // believe neither
			continue
		}
		r.report.Verdict = max(r.report.Verdict, w.verdict)
		if ok {
			r.report.Open[at] = o
			continue
		}
		worst[[2]int{w.rule, w.listener}] = len(r.report.Open)
		r.report.Open = append(r.report.Open, o)
	}
	if r.gaveUp {
		r.notKnown("there are too many rules and networks")
	}
	if r.classes.err != "" {
		r.notKnown("%s", r.classes.err)
	}
}

// notKnown says why the answer is not known, unless it is worse.
func (r *relaying) notKnown(format string, args ...any) {
	r.report.Verdict = max(r.report.Verdict, Unknown)
	if r.report.Unproved == "" {
		r.report.Unproved = fmt.Sprintf(format, args...)
	}
}

// open returns a way as it is shown, from an address in the large range if
// it is one.
func (r *relaying) open(w *way, addr netip.Addr, isLarge bool) Open {
	o := Open{Rule: w.rule, Listener: w.listener, Witness: *w.witness}
	switch {
	case w.verdict < Refuted: // a table was asked for the very address
	case isLarge:
		o.Witness.Transaction.Addr = addr
	default:
		o.Witness.Transaction.Addr = r.classes.samples[w.class]
	}
	o.Gate = r.gate(&o, isLarge)
	return o
}

// gate says what a stranger has to pass to relay.
func (r *relaying) gate(o *Open, isLarge bool) Gate {
	rule := &r.rules.Rules[o.Rule]
	from := rule.From.Kind == compile.FromSrc && rule.From.Sign == compile.Is
	switch {
	case !isLarge:
		return ProxyGate
	case from && o.Witness.Transaction.Addr != usual[0]:
		return NetworkGate
	case rule.From.Kind == compile.FromRDNS || rule.Tag.Sign|rule.Helo.Sign|rule.MailFrom.Sign != compile.Absent:
		return ForgedGate
	}
	return NoGate
}

// prove writes the certificate, and lets it be checked.
func (r *relaying) prove() {
	senders, own := make(map[int]bool), make(map[int]bool)
	for _, w := range r.found {
		senders[w.class] = true
		if !r.classes.host[w.class] {
			own[w.class] = true
		}
	}
	c := &certificate.Certificate{
		Version: certificate.Version, Claim: certificate.Closed, Trusted: r.options.Trusted,
		Sources: r.classes.ranges(own),
	}
	var strangers []netip.Addr
	for n, a := range r.classes.samples {
		if !senders[n] && !r.classes.host[n] {
			strangers = append(strangers, a)
		}
	}
	alike := r.alike()
	for i := range r.rules.Rules {
		if !r.relays(i) {
			continue
		}
		trees := make(map[int]*certificate.Node)
		for l, first := range alike {
			if first < 0 {
				continue
			}
			if first == l {
				addrs := strangers
				if r.forgeable(l) {
					addrs = r.classes.samples
				}
				s := r.search(i, l, addrs)
				_, _, trees[l] = r.relayBy(&s, i)
			}
			if tree := trees[first]; tree.Taken != nil { // else it is plain
				c.Proofs = append(c.Proofs, certificate.Proof{Listener: l + 1, Old: certificate.Case{Rule: i + 1}, Tree: tree})
			}
		}
	}
	if err := certificate.VerifyClosed(r.rules, c); err != nil {
		r.notKnown("the checker refuses the proof: %v", err)
		return
	}
	r.report.Certificate = c
}
