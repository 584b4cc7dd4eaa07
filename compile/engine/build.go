package engine

import (
	"cmp"
	"hash/maphash"
	"slices"

	"smtpd/compile"
)

// maxShared is how many rules may be filed under one test before a second
// test is used to tell them apart. Verifying that many costs less than the
// probe that a pair needs.
const maxShared = 8

// New returns an Indexed engine for the rules. Tables are read now; what
// changes in files later is for With.
func New(rs *compile.Ruleset) *Indexed {
	b := builder{
		e:         &Indexed{plan: &plan{rules: rs}, linear: NewLinear(rs)},
		canonical: make([]compile.TableID, len(rs.Tables)+1),
		contents:  make(map[uint64]compile.TableID, len(rs.Tables)),
		ids:       make(map[testKey]uint32),
		seed:      maphash.MakeSeed(),
	}
	for i := range rs.Rules {
		b.rule(&rs.Rules[i])
	}
	b.index()
	b.file()
	b.e.files = make([]*Static, len(b.e.numbers))
	for _, id := range b.e.numbers {
		b.e.prepare(id, NewStatic(rs.Table(id), rs.SMTP.SubAddrDelim))
	}
	return b.e
}

// A builder makes an Indexed engine.
type builder struct {
	e *Indexed
	// canonical maps a table to the first one with the same content, which
	// is what a test refers to.
	canonical []compile.TableID
	contents  map[uint64]compile.TableID
	seed      maphash.Seed

	ids    map[testKey]uint32
	uses   []uint32 // of each test: the rules that need to pass it
	broad  []bool   // of each test: it tells next to nothing apart
	joined [][]uint32
	terms  []uint32 // of the rule in hand
}

type testKey struct {
	kind  testKind
	field field
	regex bool
	table compile.TableID
}

func (b *builder) rule(r *compile.Rule) {
	b.terms = b.terms[:0]
	b.table(PartTag, fieldTag, r.Tag)
	b.from(&r.From)
	b.table(PartFor, fieldFor, r.For.Criterion)
	b.table(PartHelo, fieldHelo, r.Helo)
	if r.Auth.Table == 0 {
		b.term(PartAuth, testKey{kind: testAuth, field: noField}, r.Auth.Sign)
	} else {
		b.table(PartAuth, fieldUser, r.Auth)
	}
	b.term(PartTLS, testKey{kind: testTLS, field: noField}, r.TLS.Sign)
	b.table(PartMailFrom, fieldMailFrom, r.MailFrom)
	b.table(PartRcptTo, fieldRcptTo, r.RcptTo)
	slices.SortStableFunc(b.terms, func(x, y uint32) int { return cmp.Compare(b.kind(x), b.kind(y)) })
	b.e.need.push(b.terms)
}

func (b *builder) kind(t uint32) testKind { return b.e.tests[term(t).test()].kind }

func (b *builder) from(f *compile.From) {
	switch {
	case f.Kind == compile.FromSocket:
		b.term(PartFrom, testKey{kind: testSocket, field: noField}, f.Sign)
	case f.Kind != compile.FromRDNS:
		b.table(PartFrom, fieldSource, f.Criterion)
	case f.Table == 0:
		b.term(PartFrom, testKey{kind: testRDNS, field: noField}, f.Sign)
	default:
		b.table(PartFrom, fieldRDNS, f.Criterion)
	}
}

// table adds the test of a criterion that has a table.
func (b *builder) table(p Part, f field, c compile.Criterion) {
	if c.Sign == compile.Absent {
		return
	}
	k := testKey{field: f, table: c.Table}
	switch {
	case !isStatic(b.e.rules, c.Table):
		k.kind, k.regex = testTable, c.Regex
	case c.Regex:
		k.kind, k.table = testRegex, b.canon(c.Table)
	default:
		k.kind, k.table = testIndex, b.canon(c.Table)
	}
	b.term(p, k, c.Sign)
}

func (b *builder) term(p Part, k testKey, s compile.Sign) {
	if s == compile.Absent {
		return
	}
	id, ok := b.ids[k]
	if !ok {
		id = b.newTest(p, k)
	}
	if s == compile.Is && k.kind == testIndex {
		b.uses[id]++
	}
	b.terms = append(b.terms, uint32(newTerm(id, s)))
}

func (b *builder) newTest(p Part, k testKey) uint32 {
	id := uint32(len(b.e.tests))
	t := test{kind: k.kind, field: k.field, part: p, regex: k.regex, table: k.table, file: b.fileOf(k)}
	broad := false
	switch k.kind {
	case testRegex:
		if t.file == noFile {
			t.regexes = newSet(b.e.rules.Table(k.table).Entries)
		}
	case testIndex:
		broad = slices.ContainsFunc(b.e.rules.Table(k.table).Entries, func(e compile.Entry) bool { return isBroad(k.field, e.Key) })
	}
	b.e.tests = append(b.e.tests, t)
	b.uses = append(b.uses, 0)
	b.broad = append(b.broad, broad)
	b.ids[k] = id
	return id
}

// fileOf returns the number of the file that a test looks into.
func (b *builder) fileOf(k testKey) int {
	if k.kind != testIndex && k.kind != testRegex || !isFile(b.e.rules.Table(k.table)) {
		return noFile
	}
	i := slices.Index(b.e.numbers, k.table)
	if i < 0 {
		i = len(b.e.numbers)
		b.e.numbers = append(b.e.numbers, k.table)
	}
	return i
}

// isBroad reports whether an entry matches next to everything.
func isBroad(f field, entry string) bool {
	switch f {
	case fieldFor, fieldHelo:
		shape, _ := shapeOf(entry)
		return shape == anyName
	case fieldMailFrom, fieldRcptTo, fieldUser:
		user, domain := splitAddr(entry)
		shape, _ := shapeOf(domain)
		return user == "" && (domain == "" || shape == anyName)
	case fieldSource:
		net, ok := parseNetAddr(entry)
		return ok && net.Bits() == 0
	}
	return false
}

// canon returns the first table seen that has the keys of the given one. A
// file is itself.
func (b *builder) canon(id compile.TableID) compile.TableID {
	if b.canonical[id] != 0 {
		return b.canonical[id]
	}
	if isFile(b.e.rules.Table(id)) {
		b.canonical[id] = id // it may hold something else tomorrow
		return id
	}
	entries := b.e.rules.Table(id).Entries
	hash := b.hash(entries)
	for {
		first, ok := b.contents[hash]
		if !ok {
			b.contents[hash] = id
			first = id
		}
		if first == id || sameKeys(b.e.rules.Table(first).Entries, entries) {
			b.canonical[id] = first
			return first
		}
		hash++ // another content has this hash
	}
}

func (b *builder) hash(entries []compile.Entry) uint64 {
	var h maphash.Hash
	h.SetSeed(b.seed)
	for i := range entries {
		h.WriteString(entries[i].Key)
		h.WriteByte(0)
	}
	return h.Sum64()
}

func sameKeys(a, b []compile.Entry) bool {
	return slices.EqualFunc(a, b, func(a, b compile.Entry) bool { return a.Key == b.Key })
}

// index fills the index of every field with the tests of the field.
func (b *builder) index() {
	for id := range b.e.tests {
		t := &b.e.tests[id]
		if t.kind == testRegex || t.kind == testTable {
			b.e.fields[t.field].reads = true
		}
		if t.kind == testIndex {
			b.fill(&b.e.fields[t.field], t, uint32(id))
		}
	}
	for f := range b.e.fields {
		x := &b.e.fields[f]
		x.net.build(b.join)
		x.domain.build(b.join)
		x.mail.build(b.join)
	}
	for _, list := range b.joined {
		b.e.lists.push(list)
	}
}

func (b *builder) fill(x *fieldIndex, t *test, id uint32) {
	x.filled = true
	if t.file != noFile {
		x.files = append(x.files, id)
		return
	}
	for _, e := range b.e.rules.Table(t.table).Entries {
		switch t.field {
		case fieldFor, fieldHelo:
			x.domain.add(e.Key, id, b.join)
		case fieldMailFrom, fieldRcptTo:
			x.mail.add(e.Key, id, b.join)
		case fieldSource, fieldRDNS:
			x.net.add(e.Key, id, b.join)
		case fieldUser:
			x.mail.add(e.Key, id, b.join)
			x.text.add(e.Key, id, b.join)
		default:
			x.text.add(e.Key, id, b.join)
		}
	}
}

// join puts a test into the set that a value passes. Tests come in ascending
// order, so that a set is sorted.
func (b *builder) join(old, test uint32) uint32 {
	switch {
	case old == test:
		return old
	case old&isList == 0:
		b.joined = append(b.joined, []uint32{old, test})
		return isList | uint32(len(b.joined)-1)
	}
	list := &b.joined[old&^isList]
	if (*list)[len(*list)-1] != test {
		*list = append(*list, test)
	}
	return old
}

// file files every rule under its anchor.
func (b *builder) file() {
	e := b.e
	e.pairs = make(map[pair]uint32)
	filed := make([]filing, 0, len(e.rules.Rules))
	var paired []filing
	for r := range e.rules.Rules {
		anchor, second := b.anchor(uint32(r))
		switch {
		case anchor == none:
			e.always = append(e.always, uint32(r))
		case second == none:
			filed = append(filed, filing{anchor, uint32(r)})
		default:
			e.tests[anchor].partners |= 1 << e.tests[second].field
			p := newPair(anchor, second)
			i, ok := e.pairs[p]
			if !ok {
				i = uint32(len(e.pairs))
				e.pairs[p] = i
			}
			paired = append(paired, filing{i, uint32(r)})
		}
	}
	e.filed = gather(filed, len(e.tests))
	e.paired = gather(paired, len(e.pairs))
	b.anchorFields()
}

// anchor returns the test to file a rule under: of those that it needs to
// pass the one that the fewest rules need. If these are still many it
// returns a second one, of another field.
func (b *builder) anchor(r uint32) (anchor, second uint32) {
	anchor, second = b.rarest(r, noField), none
	if anchor != none && b.uses[anchor] > maxShared {
		second = b.rarest(r, b.e.tests[anchor].field)
	}
	return anchor, second
}

func (b *builder) rarest(r uint32, except field) uint32 {
	best := none
	for _, n := range b.e.need.get(r) {
		id := term(n).test()
		t := &b.e.tests[id]
		if term(n).not() || t.kind != testIndex || t.field == except || b.broad[id] {
			continue
		}
		if best == none || b.uses[id] < b.uses[best] {
			best = id
		}
	}
	return best
}

// A filing is a rule and the number of the list it belongs to.
type filing struct{ list, rule uint32 }

// gather makes lists of filings, which come in the order of the rules.
func gather(filings []filing, n int) lists {
	l := lists{ends: make([]uint32, n), items: make([]uint32, len(filings))}
	for _, f := range filings {
		l.ends[f.list]++
	}
	sum := uint32(0)
	for i, count := range l.ends {
		l.ends[i] = sum
		sum += count
	}
	for _, f := range filings {
		l.items[l.ends[f.list]] = f.rule
		l.ends[f.list]++
	}
	return l
}

// anchorFields lists the fields that have to be looked up, the one with the
// most rules first: what it finds saves most of the work for the others.
func (b *builder) anchorFields() {
	var rules [numFields]int
	for id := range b.e.tests {
		t := &b.e.tests[id]
		if t.kind == testIndex {
			rules[t.field] += len(b.e.filed.get(uint32(id)))
			if t.partners != 0 {
				rules[t.field]++
			}
		}
	}
	for f, n := range rules {
		if n > 0 {
			b.e.anchors = append(b.e.anchors, field(f))
		}
	}
	slices.SortStableFunc(b.e.anchors, func(x, y field) int { return cmp.Compare(rules[y], rules[x]) })
}
