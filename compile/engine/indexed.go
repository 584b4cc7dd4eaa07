package engine

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"smtpd/compile"
	"smtpd/compile/ere"
)

// An Indexed engine decides in a time that does not depend on the number of
// rules.
//
// Every criterion of every rule becomes a test: a field of the transaction
// and what it is compared with. Rules that ask the same of a field share the
// test, even if each has a table of its own for it. An index per field finds
// all tests that a value passes. Every rule is filed under one test that it
// needs to pass, its anchor, and the one that the fewest rules need; where
// many rules share their best anchor they are filed under a pair of tests.
// So a decision looks the fields up, collects the few rules filed under what
// was found, and verifies them.
//
// Tables that are files have an index each, beside those of the fields: when
// one changes, With makes an engine that differs in it alone.
//
// Tables that have to be asked come last, in the order of the rules, each
// question at most once, and only for rules that need nothing else.
type Indexed struct {
	*plan
	linear *Linear   // for keys that no table holds
	files  []*Static // by test.file
}

// A plan is what of an Indexed engine is the same whatever files hold.
type plan struct {
	rules *compile.Ruleset

	tests  []test
	fields [numFields]fieldIndex
	lists  lists           // of tests, for values that pass more than one
	need   lists           // what each rule needs: tests in terms
	filed  lists           // the rules under each test
	pairs  map[pair]uint32 // index into paired
	paired lists           // the rules under each pair
	always []uint32        // the rules under no test, ascending

	anchors []field           // that have rules filed under their tests
	numbers []compile.TableID // the tables that are files, by test.file
	pool    sync.Pool
}

var _ Engine = (*Indexed)(nil)

// A field is a text of a transaction that tables are compared with.
type field uint8

const (
	fieldTag field = iota
	fieldSource
	fieldRDNS
	fieldFor
	fieldHelo
	fieldUser
	fieldMailFrom
	fieldRcptTo
	numFields
	noField // of a test that has no table
)

// A testKind says how a test is made. The kinds are in the order in which
// the tests of a rule are best made: what has to be asked comes last.
type testKind uint8

const (
	testSocket testKind = iota // from socket
	testRDNS                   // bare from rdns
	testAuth                   // bare auth
	testTLS
	testIndex // the index of the field knows
	testRegex // expressions of a static table
	testTable // a table that has to be asked
)

// A test is a criterion without its sign.
type test struct {
	kind  testKind
	field field
	part  Part
	regex bool // testTable
	// partners are the fields that hold the second test of a pair.
	partners uint16
	table    compile.TableID // the first of those with the same content
	file     int             // index into Indexed.files, or noFile
	regexes  *ere.Set        // testRegex of no file
}

// noFile is the file of a test that looks into none.
const noFile = -1

// A term is a test with its sign, as a rule needs it.
type term uint32

func newTerm(test uint32, s compile.Sign) term {
	if s == compile.Not {
		return term(test<<1 | 1)
	}
	return term(test << 1)
}

func (t term) test() uint32 { return uint32(t >> 1) }
func (t term) not() bool    { return t&1 == 1 }

// A pair is two tests, the first one the anchor.
type pair uint64

func newPair(a, b uint32) pair { return pair(a)<<32 | pair(b) }

// A lists is a list of lists, in two slices.
type lists struct {
	ends  []uint32
	items []uint32
}

func (l *lists) get(i uint32) []uint32 {
	start := uint32(0)
	if i > 0 {
		start = l.ends[i-1]
	}
	return l.items[start:l.ends[i]]
}

func (l *lists) push(list []uint32) {
	l.items = append(l.items, list...)
	l.ends = append(l.ends, uint32(len(l.items)))
}

// isList marks a value of a fieldIndex that is the number of a list of tests
// and not one test.
const isList = 1 << 31

// A fieldIndex finds the tests that a value of a field passes. A field is
// looked up as one service, but for the user, who may be an address or not.
type fieldIndex struct {
	text   textIndex
	domain domainIndex
	net    netIndex
	mail   mailIndex
	filled bool     // with tests
	files  []uint32 // the tests that look into files
	// reads says that some test needs the text of a source, which the
	// networks do not.
	reads bool
}

// Decide implements Engine.
func (e *Indexed) Decide(ctx context.Context, tx *Transaction, l Lookups) Decision {
	if tx.hasLongKey() {
		return e.linear.Decide(ctx, tx, l)
	}
	m, _ := e.pool.Get().(*matching)
	if m == nil {
		m = new(matching)
	}
	m.start(e, tx)
	d := m.decide(ctx, l)
	m.tx = nil
	e.pool.Put(m)
	return d
}

// With returns an engine that decides as e does, but with s for what the
// table id holds, which must be one of FileTables. All that takes long is
// done before it returns.
func (e *Indexed) With(id compile.TableID, s *Static) *Indexed {
	next := &Indexed{plan: e.plan, linear: e.linear.With(id, s), files: slices.Clone(e.files)}
	next.prepare(id, s)
	return next
}

// prepare sets the content of a file and has it indexed for what it is used
// for.
func (e *Indexed) prepare(id compile.TableID, s *Static) {
	for i := range e.tests {
		if t := &e.tests[i]; t.table == id && t.file != noFile {
			e.files[t.file] = s
			s.Prepare(t.services()...)
		}
	}
}

// services are what a file is asked for in a test. A user may be an address
// or not, and is looked up as either.
func (t *test) services() []Service {
	switch {
	case t.kind == testRegex:
		return []Service{Regex}
	case t.field == fieldUser:
		return []Service{String, MailAddr}
	}
	return []Service{t.field.service("")}
}

// hasLongKey reports whether some text of tx is too long for a table.
func (tx *Transaction) hasLongKey() bool {
	return len(tx.Tag) > maxKey || len(tx.Helo) > maxKey || len(tx.User) > maxKey || len(tx.RDNS) > maxKey ||
		len(tx.Sender.User)+1+len(tx.Sender.Domain) > maxKey || len(tx.Rcpt.User)+1+len(tx.Rcpt.Domain) > maxKey
}

// A matching is one decision under way.
type matching struct {
	e    *Indexed
	tx   *Transaction
	best uint32 // the first rule known to apply
	// open are the rules before best that wait for tables to be asked.
	open   []uint32
	values [numFields]value
	found  []uint32 // in one file
	regex  []known  // answers of testRegex
	asked  []answer
}

// A value is a field of the transaction, looked up once.
type value struct {
	done  bool
	state Answer // Ask: key holds it
	key   string
	buf   []byte
	hits  []uint32
}

type known struct {
	test uint32
	yes  bool
}

// An answer is what a table said.
type answer struct {
	table   compile.TableID
	service Service
	key     string
	yes     bool
	err     error
}

func (m *matching) start(e *Indexed, tx *Transaction) {
	m.e, m.tx = e, tx
	m.best = uint32(len(e.rules.Rules))
	m.open, m.regex = m.open[:0], m.regex[:0]
	clear(m.asked)
	m.asked = m.asked[:0]
	for i := range m.values {
		m.values[i].done = false
	}
}

func (m *matching) decide(ctx context.Context, l Lookups) Decision {
	m.consider(m.e.always)
	for _, f := range m.e.anchors {
		for _, hit := range m.value(f).hits {
			if hit&isList == 0 {
				m.considerTest(hit)
				continue
			}
			for _, t := range m.e.lists.get(hit &^ isList) {
				m.considerTest(t)
			}
		}
	}
	slices.Sort(m.open)
	for _, r := range m.open {
		if r >= m.best {
			break
		}
		ok, err := m.ask(ctx, r, l)
		if err != nil {
			return Decision{Outcome: TempFail, Rule: int(r), Err: err}
		}
		if ok {
			m.best = r
		}
	}
	if int(m.best) == len(m.e.rules.Rules) {
		return Decision{Outcome: NoRule, Rule: -1}
	}
	return decided(&m.e.rules.Rules[m.best], int(m.best))
}

// considerTest looks at the rules filed under a test that is passed.
func (m *matching) considerTest(t uint32) {
	m.consider(m.e.filed.get(t))
	partners := m.e.tests[t].partners
	for f := field(0); partners != 0; f++ {
		if partners&(1<<f) == 0 {
			continue
		}
		partners &^= 1 << f
		for _, hit := range m.value(f).hits {
			if hit&isList == 0 {
				m.considerPair(t, hit)
				continue
			}
			for _, u := range m.e.lists.get(hit &^ isList) {
				m.considerPair(t, u)
			}
		}
	}
}

func (m *matching) considerPair(t, u uint32) {
	if i, ok := m.e.pairs[newPair(t, u)]; ok {
		m.consider(m.e.paired.get(i))
	}
}

// consider verifies rules, which come in ascending order, as far as one of
// them can be the first.
func (m *matching) consider(rules []uint32) {
	for _, r := range rules {
		if r >= m.best {
			return
		}
		switch m.verify(r) {
		case Yes:
			m.best = r
		case Ask:
			m.open = append(m.open, r)
		}
	}
}

// verify makes all tests of a rule that need no table to be asked. It
// returns Ask if only others are left.
func (m *matching) verify(r uint32) Answer {
	result := Yes
	for _, n := range m.e.need.get(r) {
		t := term(n)
		switch m.test(t.test()) {
		case Ask:
			result = Ask
		case Never:
			return No
		case Yes:
			if t.not() {
				return No
			}
		case No:
			if !t.not() {
				return No
			}
		}
	}
	return result
}

func (m *matching) test(id uint32) Answer {
	t := &m.e.tests[id]
	switch t.kind {
	case testSocket:
		if m.tx.Kind == FromInternal {
			return Never
		}
		return yesNo(m.tx.Kind == FromSocket)
	case testRDNS:
		if m.tx.Kind == FromInternal {
			return Never
		}
		return yesNo(m.tx.RDNS != "")
	case testAuth:
		return yesNo(m.tx.Auth)
	case testTLS:
		return yesNo(m.tx.TLS)
	}
	v := m.value(t.field)
	switch {
	case v.state != Ask:
		return v.state
	case t.kind == testTable:
		return Ask
	case t.kind == testRegex:
		return yesNo(m.matchRegex(id, t, v.key))
	}
	return yesNo(m.passes(v, id))
}

// passes reports whether a test is among those that the index found.
func (m *matching) passes(v *value, id uint32) bool {
	for _, hit := range v.hits {
		if hit == id {
			return true
		}
		if hit&isList != 0 {
			if _, ok := slices.BinarySearch(m.e.lists.get(hit&^isList), id); ok {
				return true
			}
		}
	}
	return false
}

func (m *matching) matchRegex(id uint32, t *test, key string) bool {
	for _, k := range m.regex {
		if k.test == id {
			return k.yes
		}
	}
	regexes := t.regexes
	if t.file != noFile {
		regexes = m.e.files[t.file].regexes()
	}
	yes := regexes.Find(key) >= 0
	m.regex = append(m.regex, known{id, yes})
	return yes
}

// ask makes the tests of a rule that verify left open, in their order.
func (m *matching) ask(ctx context.Context, r uint32, l Lookups) (bool, error) {
	for _, n := range m.e.need.get(r) {
		t := &m.e.tests[term(n).test()]
		if t.kind != testTable || m.value(t.field).state != Ask {
			continue
		}
		yes, err := m.lookup(ctx, t, l)
		if err != nil || yes == term(n).not() {
			return false, err
		}
	}
	return true, nil
}

func (m *matching) lookup(ctx context.Context, t *test, l Lookups) (bool, error) {
	key := m.value(t.field).key
	s := t.field.service(key)
	if t.regex {
		s = Regex
	}
	for _, a := range m.asked {
		if a.table == t.table && a.service == s && a.key == key {
			return a.yes, a.err
		}
	}
	// The key may stand in a buffer that outlives this decision; what asks
	// a table may keep it longer.
	key = strings.Clone(key)
	yes, err := check(ctx, l, t.part, t.table, m.e.rules.Table(t.table), s, key)
	m.asked = append(m.asked, answer{t.table, s, key, yes, err})
	return yes, err
}

// service is what a table is asked for when it is compared with the field.
func (f field) service(key string) Service {
	switch f {
	case fieldSource, fieldRDNS:
		return NetAddr
	case fieldFor, fieldHelo:
		return Domain
	case fieldMailFrom, fieldRcptTo:
		return MailAddr
	case fieldUser:
		if strings.IndexByte(key, '@') >= 0 {
			return MailAddr
		}
	}
	return String
}

// value returns a field of the transaction, looked up.
func (m *matching) value(f field) *value {
	v := &m.values[f]
	if v.done {
		return v
	}
	v.done = true
	v.hits = v.hits[:0]
	m.read(f, v)
	if x := &m.e.fields[f]; v.state == Ask && x.filled {
		m.find(f, x, v)
	}
	return v
}

func (m *matching) find(f field, x *fieldIndex, v *value) {
	service := f.service(v.key)
	addr := netip.Addr{}
	if f == fieldSource && m.tx.Kind == FromAddress {
		addr = m.tx.source()
	}
	switch service {
	case Domain:
		v.hits = x.domain.find(v.key, v.hits)
	case MailAddr:
		v.hits = x.mail.find(v.key, m.e.rules.SMTP.SubAddrDelim, v.hits)
	case String:
		v.hits = x.text.find(v.key, v.hits)
	case NetAddr:
		if addr.IsValid() {
			v.hits = x.net.findAddr(addr, v.hits)
		} else {
			v.hits = x.net.find(v.key, v.hits)
		}
	}
	for _, t := range x.files {
		s := m.e.files[m.e.tests[t].file]
		if addr.IsValid() {
			m.found = s.net().findAddr(addr, m.found[:0])
		} else {
			m.found = s.appendHits(service, v.key, m.found[:0])
		}
		if len(m.found) > 0 {
			v.hits = append(v.hits, t)
		}
	}
}

// read puts the folded text of a field into v. Transaction.Ask says the same
// of single rules.
func (m *matching) read(f field, v *value) {
	v.state = Ask
	tx, buf := m.tx, v.buf[:0]
	switch f {
	case fieldTag:
		buf = append(buf, tx.Tag...)
	case fieldSource:
		buf = m.appendSource(buf)
	case fieldRDNS:
		buf = append(buf, tx.RDNS...)
		if tx.Kind == FromInternal {
			buf = append(buf[:0], local...)
		} else if tx.RDNS == "" {
			v.state = Never
		}
	case fieldFor:
		buf = append(buf, tx.Rcpt.Domain...)
	case fieldHelo:
		buf = append(buf, tx.Helo...)
	case fieldUser:
		buf = append(buf, tx.User...)
		if !tx.Auth {
			v.state = No
		}
	case fieldMailFrom:
		buf = tx.Sender.appendTo(buf)
	case fieldRcptTo:
		buf = tx.Rcpt.appendTo(buf)
	}
	foldBytes(buf)
	// The buffer is written once in a decision, before its text is read, and
	// lookup clones what leaves the engine; so the text need not be a copy.
	v.buf, v.key = buf, unsafe.String(unsafe.SliceData(buf), len(buf))
}

func (m *matching) appendSource(buf []byte) []byte {
	if m.tx.Kind != FromAddress {
		return append(buf, local...)
	}
	if !m.e.fields[fieldSource].reads {
		return buf
	}
	return m.tx.appendSource(buf)
}
