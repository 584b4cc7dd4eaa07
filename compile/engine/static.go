package engine

import (
	"slices"
	"sync"
	"sync/atomic"

	"smtpd/compile"
	"smtpd/compile/ere"
)

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
	regexes func() []*ere.Regexp
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
			return x
		}),
		regexes: sync.OnceValue(func() []*ere.Regexp { return compileAll(t.Entries) }),
	}
}

func fill(entries []compile.Entry, add func(key string, i uint32)) {
	for i := range entries {
		add(entries[i].Key, uint32(i))
	}
}

// compileAll compiles the entries of a table of expressions; an invalid one
// is nil and never matches.
func compileAll(entries []compile.Entry) []*ere.Regexp {
	regexes := make([]*ere.Regexp, len(entries))
	for i := range entries {
		if re, err := ere.Compile(entries[i].Key); err == nil {
			regexes[i] = re
		}
	}
	return regexes
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

// find returns the first entry that matches.
func (s *Static) find(service Service, key string) (uint32, error) {
	if len(key) > maxKey {
		return none, ErrKeyTooLong
	}
	key = fold(key)
	var buf [16]uint32
	hits := buf[:0]
	switch service {
	case Domain:
		hits = s.domain().find(key, hits)
	case NetAddr:
		hits = s.net().find(key, hits)
	case MailAddr:
		hits = s.mail().find(key, s.delim, hits)
	case Regex:
		return s.findRegex(key), nil
	default:
		hits = s.text().find(key, hits)
	}
	if len(hits) == 0 {
		return none, nil
	}
	return slices.Min(hits), nil
}

func (s *Static) findRegex(key string) uint32 {
	for i, re := range s.regexes() {
		if re != nil && re.MatchString(key) {
			return uint32(i)
		}
	}
	return none
}
