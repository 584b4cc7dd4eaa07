package engine

import (
	"slices"
	"sync"
	"sync/atomic"

	"smtpd/compile"
	"smtpd/compile/ere"
)

// FileTables returns the tables, ascending, that are files and that a rule
// or the condition of a filter compares something with: their content may
// change while rules are in force.
func FileTables(rs *compile.Ruleset) []compile.TableID {
	var ids []compile.TableID
	add := func(c compile.Criterion) {
		if c.Sign != compile.Absent && c.Table != 0 && isFile(rs.Table(c.Table)) {
			ids = append(ids, c.Table)
		}
	}
	for i := range rs.Rules {
		for _, c := range criteria(&rs.Rules[i]) {
			add(c)
		}
	}
	for i := range rs.Filters {
		add(rs.Filters[i].Test.Criterion)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// isFile reports whether the content of a table is that of a file, and known.
func isFile(t *compile.Table) bool {
	return t.Path != "" && t.Backend == "static" && t.Kind != compile.Dynamic
}

// A Static answers lookups in a table whose entries are known. It is safe
// for concurrent use. What it needs for a service it builds when the service
// is first asked for, so that a large alias table costs no prefix trie.
type Static struct {
	entries []compile.Entry
	delim   byte
	next    atomic.Uint64 // of Fetch

	text    func() textIndex
	domain  func() *domainIndex
	net     func() *netIndex
	mail    func() *mailIndex
	regexes func() *ere.Set
}

// NewStatic returns the Static of a table. Its entries must be as a Ruleset
// has them: keys folded, ascending, unique. subAddrDelim separates a user
// from his sub-address.
func NewStatic(t *compile.Table, subAddrDelim byte) *Static {
	first := func(old, _ uint32) uint32 { return old }
	return &Static{
		entries: t.Entries,
		delim:   subAddrDelim,
		text: sync.OnceValue(func() textIndex {
			x := make(textIndex, len(t.Entries))
			fill(t.Entries, func(key string, i uint32) { x[key] = i })
			return x
		}),
		domain: sync.OnceValue(func() *domainIndex {
			x := new(domainIndex)
			fill(t.Entries, func(key string, i uint32) { x.add(key, i, first) })
			x.build(first)
			return x
		}),
		net: sync.OnceValue(func() *netIndex {
			x := new(netIndex)
			fill(t.Entries, func(key string, i uint32) { x.add(key, i, first) })
			x.build(first)
			return x
		}),
		mail: sync.OnceValue(func() *mailIndex {
			x := new(mailIndex)
			fill(t.Entries, func(key string, i uint32) { x.add(key, i, first) })
			x.build(first)
			return x
		}),
		regexes: sync.OnceValue(func() *ere.Set { return newSet(t.Entries) }),
	}
}

func fill(entries []compile.Entry, add func(key string, i uint32)) {
	for i := range entries {
		add(entries[i].Key, uint32(i))
	}
}

// newSet returns the expressions that entries are.
func newSet(entries []compile.Entry) *ere.Set {
	exprs := make([]string, len(entries))
	fill(entries, func(key string, i uint32) { exprs[i] = key })
	return ere.NewSet(exprs)
}

// Check reports whether the table has an entry that matches key. The error
// is ErrKeyTooLong or nil.
func (s *Static) Check(service Service, key string) (bool, error) {
	i, err := s.find(service, key)
	return i != none, err
}

// Lookup returns the value of the first entry, in the order of the keys,
// that matches key.
func (s *Static) Lookup(service Service, key string) (value string, ok bool, err error) {
	i, err := s.find(service, key)
	if i == none {
		return "", false, err
	}
	return s.entries[i].Value, true, nil
}

// Fetch returns the keys of the table in turn, as relays and source
// addresses are taken; ok is false if there are none.
func (s *Static) Fetch(Service) (key string, ok bool, err error) {
	if len(s.entries) == 0 {
		return "", false, nil
	}
	n := s.next.Add(1) - 1
	return s.entries[n%uint64(len(s.entries))].Key, true, nil
}

// Prepare builds what is needed for services, which otherwise the first
// lookup has to wait for.
func (s *Static) Prepare(services ...Service) {
	for _, service := range services {
		switch service {
		case Domain:
			s.domain()
		case NetAddr:
			s.net()
		case MailAddr:
			s.mail()
		case Regex:
			s.regexes()
		default:
			s.text()
		}
	}
}

// appendHits appends the entries that match a folded key, by any service but
// Regex.
func (s *Static) appendHits(service Service, key string, hits []uint32) []uint32 {
	switch service {
	case Domain:
		return s.domain().find(key, hits)
	case NetAddr:
		return s.net().find(key, hits)
	case MailAddr:
		return s.mail().find(key, s.delim, hits)
	}
	return s.text().find(key, hits)
}

// find returns the first entry that matches.
func (s *Static) find(service Service, key string) (uint32, error) {
	if len(key) > maxKey {
		return none, ErrKeyTooLong
	}
	key = fold(key)
	if service == Regex {
		return uint32(s.regexes().Find(key)), nil // -1 is none
	}
	var buf [16]uint32
	hits := s.appendHits(service, key, buf[:0])
	if len(hits) == 0 {
		return none, nil
	}
	return slices.Min(hits), nil
}
