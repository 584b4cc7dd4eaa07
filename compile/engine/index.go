package engine

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"unsafe"

	"github.com/gaissmai/bart"
)

// The indexes of this file find every entry of a table, or of all tables
// that one field is compared with, that matches a key. What they find are
// values: Static files an entry under its number, the engine under a set of
// tests. A joiner combines the values of entries that a key cannot tell
// apart.
type joiner func(old, v uint32) uint32

// none is the value of no entry; it is greater than any other.
const none = ^uint32(0)

// A textIndex finds by equality.
type textIndex map[string]uint32

func (x *textIndex) add(text string, v uint32, join joiner) {
	if *x == nil {
		*x = make(textIndex)
	}
	if old, ok := (*x)[text]; ok {
		v = join(old, v)
	}
	(*x)[text] = v
}

func (x textIndex) find(text string, hits []uint32) []uint32 {
	if v, ok := x[text]; ok {
		hits = append(hits, v)
	}
	return hits
}

// findJoined finds a+b+c, which it puts together in buf.
func (x textIndex) findJoined(buf []byte, a, b, c string, hits []uint32) []uint32 {
	if len(x) == 0 {
		return hits
	}
	buf = append(append(append(buf, a...), b...), c...)
	if v, ok := x[string(buf)]; ok {
		hits = append(hits, v)
	}
	return hits
}

// A shape is how a domain pattern can be looked up.
type shape uint8

const (
	exactName shape = iota // no star
	anyName                // only stars
	oneSkip                // stars, then a text without any: "*.example.org"
	otherGlob
)

// shapeOf returns the shape of a pattern and, for oneSkip, what follows the
// stars. Since a star skips to the first occurrence of the next character
// and no further, such a pattern matches if and only if what follows is
// exactly the rest of the name from that occurrence on: one probe.
func shapeOf(pattern string) (shape, string) {
	rest := strings.TrimLeft(pattern, "*")
	switch {
	case strings.IndexByte(rest, '*') >= 0:
		return otherGlob, ""
	case len(rest) == len(pattern):
		return exactName, ""
	case rest == "":
		return anyName, ""
	}
	return oneSkip, rest
}

// A domainIndex finds domain patterns. It must be built before it is asked.
type domainIndex struct {
	exact  textIndex
	skips  []skip
	any    textIndex // under "": the patterns of stars
	others globIndex
}

// A skip holds the patterns of shape oneSkip whose text starts with to.
type skip struct {
	to    byte
	rests textIndex
}

func (x *domainIndex) add(pattern string, v uint32, join joiner) {
	switch shape, rest := shapeOf(pattern); shape {
	case exactName:
		x.exact.add(pattern, v, join)
	case anyName:
		x.any.add("", v, join)
	case oneSkip:
		x.skip(rest[0]).rests.add(rest, v, join)
	case otherGlob:
		x.others.add("", pattern, v)
	}
}

func (x *domainIndex) build(join joiner) { x.others.build(join) }

func (x *domainIndex) skip(to byte) *skip {
	i := slices.IndexFunc(x.skips, func(s skip) bool { return s.to == to })
	if i < 0 {
		i = len(x.skips)
		x.skips = append(x.skips, skip{to: to})
	}
	return &x.skips[i]
}

func (x *domainIndex) find(name string, hits []uint32) []uint32 {
	hits = x.exact.find(name, hits)
	if name == "" {
		return hits
	}
	hits = x.any.find("", hits)
	for i := range x.skips {
		if at := strings.IndexByte(name, x.skips[i].to); at >= 0 {
			hits = x.skips[i].rests.find(name[at:], hits)
		}
	}
	return x.others.find(name, 0, hits)
}

// A mailIndex finds entries for addresses. Those with a user and a domain
// that a probe can find are in one map, under user@name or user@*rest. It
// must be built before it is asked.
type mailIndex struct {
	all     textIndex // under "": the entries "" and "@"
	domains domainIndex
	users   textIndex // entries without a domain
	full    textIndex
	anyHost textIndex // entries user@*, under the user
	skips   []byte    // characters that a rest in full starts with
	others  globIndex
}

func (x *mailIndex) build(join joiner) {
	x.domains.build(join)
	x.others.build(join)
}

func (x *mailIndex) add(entry string, v uint32, join joiner) {
	user, domain := splitAddr(entry)
	switch {
	case user == "" && domain == "":
		x.all.add("", v, join)
	case user == "":
		x.domains.add(domain, v, join)
	case domain == "":
		x.users.add(user, v, join)
	default:
		x.addFull(entry, user, domain, v, join)
	}
}

func (x *mailIndex) addFull(entry, user, domain string, v uint32, join joiner) {
	switch shape, rest := shapeOf(domain); shape {
	case exactName:
		x.full.add(entry, v, join)
	case anyName:
		x.anyHost.add(user, v, join)
	case oneSkip:
		if len(rest)+1 < len(domain) { // several stars are one
			entry = user + "@*" + rest
		}
		x.full.add(entry, v, join)
		if !slices.Contains(x.skips, rest[0]) {
			x.skips = append(x.skips, rest[0])
		}
	case otherGlob:
		x.others.add(user+"@", domain, v)
	}
}

func (x *mailIndex) find(addr string, delim byte, hits []uint32) []uint32 {
	user, domain := splitAddr(addr)
	hits = x.all.find("", hits)
	if domain != "" {
		hits = x.domains.find(domain, hits)
	}
	// An entry with a sub-address is found by the whole user part, one
	// without by what stands before it; neither is ever found by the other.
	hits = x.findUser(user, domain, hits)
	if bare := stripTag(user, delim); len(bare) != len(user) {
		hits = x.findUser(bare, domain, hits)
	}
	return hits
}

func (x *mailIndex) findUser(user, domain string, hits []uint32) []uint32 {
	if user == "" {
		return hits
	}
	hits = x.users.find(user, hits)
	if domain == "" {
		return hits
	}
	hits = x.anyHost.find(user, hits)
	var buf [maxKey + 2]byte
	hits = x.full.findJoined(buf[:0], user, "@", domain, hits)
	for _, c := range x.skips {
		if at := strings.IndexByte(domain, c); at >= 0 {
			hits = x.full.findJoined(buf[:0], user, "@*", domain[at:], hits)
		}
	}
	if len(x.others.nodes) > 0 {
		addr := append(append(append(buf[:0], user...), '@'), domain...)
		hits = x.others.find(unsafe.String(&addr[0], len(addr)), len(user)+1, hits)
	}
	return hits
}

// A netIndex finds entries that are a text or a network. It must be built
// before it is asked.
type netIndex struct {
	text  textIndex // what is no network, the word "local" above all
	nets  *bart.Table[uint32]
	nodes []netNode
	added []addedNet // until build
}

// A netNode is what is filed under a network; the networks that cover it
// follow by parent.
type netNode struct{ v, parent uint32 }

type addedNet struct {
	prefix netip.Prefix
	v      uint32
}

func (x *netIndex) add(entry string, v uint32, join joiner) {
	if p, ok := parseNetAddr(entry); ok {
		x.added = append(x.added, addedNet{p.Masked(), v})
		return
	}
	x.text.add(entry, v, join)
}

// build files the networks, those that cover others first.
func (x *netIndex) build(join joiner) {
	slices.SortStableFunc(x.added, func(a, b addedNet) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	x.nets = new(bart.Table[uint32])
	x.nodes = make([]netNode, 0, len(x.added))
	for i, a := range x.added {
		if i > 0 && x.added[i-1].prefix == a.prefix {
			last := &x.nodes[len(x.nodes)-1]
			last.v = join(last.v, a.v)
			continue
		}
		node := netNode{v: a.v, parent: none}
		if parent, ok := x.nets.LookupPrefix(a.prefix); ok {
			node.parent = parent
		}
		x.nets.Insert(a.prefix, uint32(len(x.nodes)))
		x.nodes = append(x.nodes, node)
	}
	x.added = nil
}

func (x *netIndex) find(key string, hits []uint32) []uint32 {
	hits = x.text.find(key, hits)
	if p, ok := parseNetAddr(key); ok {
		hits = x.findAddr(p.Addr(), hits)
	}
	return hits
}

// findAddr finds an address. It need not look for its text: an entry that is
// the text of an address is a network.
func (x *netIndex) findAddr(addr netip.Addr, hits []uint32) []uint32 {
	node, ok := x.nets.Lookup(addr)
	if !ok {
		return hits
	}
	for ; node != none; node = x.nodes[node].parent {
		hits = append(hits, x.nodes[node].v)
	}
	return hits
}
