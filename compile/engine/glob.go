package engine

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// A globIndex finds patterns with stars in any place. It is a tree over the
// texts of the patterns, with a star as one more character, and an automaton
// all the same: since a star skips to the first occurrence of what follows
// and no further, a name reaches each node at one place only, and no node is
// visited twice. It must be built before it is asked.
type globIndex struct {
	added []addedGlob // until build
	nodes []globNode  // the root first; children of a node lie together
	first []byte      // of the label of each node
}

type addedGlob struct {
	pattern string
	v       uint32
}

type globNode struct {
	label    string
	v        uint32 // of the pattern that ends here, or none
	children uint32 // the first one
	count    uint16
}

// add adds a pattern after a text that is taken as it is, stars and all.
func (x *globIndex) add(literal, pattern string, v uint32) {
	for strings.Contains(pattern, "**") { // a run of stars is one
		pattern = strings.ReplaceAll(pattern, "**", "*")
	}
	x.added = append(x.added, addedGlob{literal + pattern, v})
}

// build makes the tree.
func (x *globIndex) build(join joiner) {
	if len(x.added) == 0 {
		return
	}
	slices.SortStableFunc(x.added, func(a, b addedGlob) int { return cmp.Compare(a.pattern, b.pattern) })
	sorted := x.added[:0]
	for _, a := range x.added {
		if n := len(sorted); n > 0 && sorted[n-1].pattern == a.pattern {
			sorted[n-1].v = join(sorted[n-1].v, a.v)
			continue
		}
		sorted = append(sorted, a)
	}
	x.added = nil
	type span struct{ from, to, depth int } // patterns that a node and its children hold
	x.nodes, x.first = []globNode{{v: none}}, []byte{0}
	spans := []span{{0, len(sorted), 0}}
	for i := 0; i < len(x.nodes); i++ {
		s := spans[i]
		n := &x.nodes[i]
		if s.from < s.to && len(sorted[s.from].pattern) == s.depth {
			n.v = sorted[s.from].v
			s.from++
		}
		n.children = uint32(len(x.nodes))
		for s.from < s.to {
			c := sorted[s.from].pattern[s.depth]
			count, _ := slices.BinarySearchFunc(sorted[s.from:s.to], int(c)+1, func(a addedGlob, c int) int {
				return cmp.Compare(int(a.pattern[s.depth]), c)
			})
			label := common(sorted[s.from].pattern, sorted[s.from+count-1].pattern)[s.depth:]
			x.nodes = append(x.nodes, globNode{label: label, v: none})
			x.first = append(x.first, c)
			spans = append(spans, span{s.from, s.from + count, s.depth + len(label)})
			s.from += count
		}
		n = &x.nodes[i]
		n.count = uint16(len(x.nodes) - int(n.children))
	}
	x.nodes = slices.Clip(x.nodes)
}

// common returns the text with which both begin.
func common(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// A globStep is a node whose label is not read yet, at a place in a name.
type globStep struct {
	node uint32
	pos  int
}

// find finds the patterns that match name; so many of its first bytes are
// of the text that add took as it is.
func (x *globIndex) find(name string, literal int, hits []uint32) []uint32 {
	if len(x.nodes) == 0 {
		return hits
	}
	var buf [32]globStep
	todo := append(buf[:0], globStep{})
	for len(todo) > 0 {
		step := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n := &x.nodes[step.node]
		pos, star, ok := n.read(name, step.pos, literal)
		if !ok {
			continue
		}
		if n.v != none && (star || pos == len(name)) {
			hits = append(hits, n.v)
		}
		switch {
		case n.count == 0 || pos == len(name):
		case star:
			todo = x.skip(n, name, pos, todo)
		default:
			if c := name[pos]; c != '*' || pos < literal {
				todo = x.child(n, c, pos, todo)
			}
			if pos >= literal {
				todo = x.child(n, '*', pos, todo)
			}
		}
	}
	return hits
}

// read reads the label of a node. Afterwards a star may be open: it skips
// to what follows.
func (n *globNode) read(name string, pos, literal int) (end int, star, ok bool) {
	for i := 0; i < len(n.label); i++ {
		c := n.label[i]
		switch {
		case c == '*' && pos >= literal:
			if pos == len(name) {
				return 0, false, false
			}
			star = true
			continue
		case star:
			skip := strings.IndexByte(name[pos:], c)
			if skip < 0 {
				return 0, false, false
			}
			pos, star = pos+skip, false
		case pos == len(name) || name[pos] != c:
			return 0, false, false
		}
		pos++
	}
	return pos, star, true
}

// skip goes on after a star, wherever a character occurs for the first time.
func (x *globIndex) skip(n *globNode, name string, pos int, todo []globStep) []globStep {
	var seen [4]uint64
	for ; pos < len(name); pos++ {
		c := name[pos]
		if seen[c>>6]>>(c&63)&1 == 0 {
			seen[c>>6] |= 1 << (c & 63)
			todo = x.child(n, c, pos, todo)
		}
	}
	return todo
}

// child goes on to the child of a node whose label begins with c.
func (x *globIndex) child(n *globNode, c byte, pos int, todo []globStep) []globStep {
	from, to := n.children, n.children+uint32(n.count)
	if i := bytes.IndexByte(x.first[from:to], c); i >= 0 {
		todo = append(todo, globStep{from + uint32(i), pos})
	}
	return todo
}
