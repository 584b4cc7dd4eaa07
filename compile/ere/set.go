package ere

import (
	"encoding/binary"
	"strings"
	"sync"
)

// A Set finds which of many expressions a text has. Only those are tried of
// which some bytes occur in the text that each text they are found in must
// have: so a table of a million expressions that end in a name each costs as
// much as a few of them. It is safe for concurrent use.
type Set struct {
	exprs  []string
	always []uint32 // without bytes that must occur, ascending
	grams  [len(gramSizes)]gramIndex
	next   []uint32 // the next expression with the same gram

	kept   []*Regexp // of always
	mu     sync.Mutex
	recent map[uint32]*Regexp
}

// gramSizes are the lengths of what is looked for, in bytes. The more there
// are the more of a short literal is used, and the longer a search takes.
var gramSizes = [...]int{8, 4, 2}

// A gramIndex finds expressions by bytes of theirs.
type gramIndex struct {
	first  map[uint64]uint32
	filter []uint64 // bits by hash: most of a text is in no expression
}

// maxRecent is how many expressions are kept compiled. An automaton takes
// more memory than its text by far.
const maxRecent = 4096

// noExpr is the end of a list of expressions.
const noExpr = ^uint32(0)

// NewSet returns the Set of expressions. One that Compile refuses is found
// nowhere.
func NewSet(exprs []string) *Set {
	s := &Set{exprs: exprs, next: make([]uint32, len(exprs)), recent: make(map[uint32]*Regexp)}
	literals := make([]string, len(exprs))
	common := newSketch(len(exprs))
	for i, expr := range exprs {
		p := parser{text: strings.TrimPrefix(expr, ignoreCase)}
		n, err := p.parse()
		if err != nil {
			continue
		}
		if literals[i] = required(n); len(literals[i]) < gramSizes[len(gramSizes)-1] {
			if re, err := Compile(expr); err == nil {
				s.always, s.kept = append(s.always, uint32(i)), append(s.kept, re)
			}
			literals[i] = ""
		}
		common.add(literals[i])
	}
	var counts [len(gramSizes)]int
	for _, l := range literals {
		if l != "" {
			counts[sizeOf(l)]++
		}
	}
	for i, n := range counts {
		if n > 0 {
			s.grams[i] = newGramIndex(n)
		}
	}
	// From the last to the first, so that lists are ascending.
	for i := len(exprs) - 1; i >= 0; i-- {
		if l := literals[i]; l != "" {
			size := sizeOf(l)
			s.next[i] = s.grams[size].add(common.rarest(l), uint32(i))
		}
	}
	return s
}

// sizeOf returns the index of the longest gram that fits into a literal.
func sizeOf(literal string) int {
	i := 0
	for gramSizes[i] > len(literal) {
		i++
	}
	return i
}

// gram returns some bytes of a text as a number.
func gram(s string, size int) uint64 {
	switch size {
	case 8:
		return binary.LittleEndian.Uint64([]byte(s[:8]))
	case 4:
		return uint64(binary.LittleEndian.Uint32([]byte(s[:4])))
	}
	return uint64(s[0]) | uint64(s[1])<<8
}

func newGramIndex(n int) gramIndex {
	words := 1
	for words < n/4 { // 16 bits an expression
		words *= 2
	}
	return gramIndex{make(map[uint64]uint32, n), make([]uint64, words)}
}

// bit returns the place of a gram in the filter.
func (x *gramIndex) bit(g uint64) (word uint64, bit uint64) {
	h := mix(g)
	return h >> 6 & uint64(len(x.filter)-1), h & 63
}

func mix(g uint64) uint64 {
	g ^= g >> 32
	g *= 0xd6e8feb86659fd93
	g ^= g >> 32
	g *= 0xd6e8feb86659fd93
	return g ^ g>>32
}

// add puts an expression before those with the same gram, and returns the
// first of these.
func (x *gramIndex) add(g uint64, expr uint32) (next uint32) {
	next, ok := x.first[g]
	if !ok {
		next = noExpr
	}
	x.first[g] = expr
	word, bit := x.bit(g)
	x.filter[word] |= 1 << bit
	return next
}

// find returns the first expression with a gram.
func (x *gramIndex) find(g uint64) uint32 {
	if word, bit := x.bit(g); x.filter[word]>>bit&1 == 0 {
		return noExpr
	}
	if expr, ok := x.first[g]; ok {
		return expr
	}
	return noExpr
}

// A sketch knows roughly how often grams occur in literals.
type sketch []uint16

func newSketch(n int) sketch {
	size := 256
	for size < 16*n && size < 1<<24 {
		size *= 2
	}
	return make(sketch, size)
}

func (c sketch) at(g uint64) *uint16 { return &c[mix(g)&uint64(len(c)-1)] }

func (c sketch) add(literal string) {
	if literal == "" {
		return
	}
	size := gramSizes[sizeOf(literal)]
	for ; len(literal) >= size; literal = literal[1:] {
		if n := c.at(gram(literal, size)); *n < 1<<16-1 {
			*n++
		}
	}
}

// rarest returns the gram of a literal that the fewest others have.
func (c sketch) rarest(literal string) uint64 {
	size := gramSizes[sizeOf(literal)]
	best := gram(literal, size)
	for ; len(literal) >= size; literal = literal[1:] {
		if g := gram(literal, size); *c.at(g) < *c.at(best) {
			best = g
		}
	}
	return best
}

// Find returns the index of the first expression that is found in a text, or
// -1.
func (s *Set) Find(text string) int {
	best := noExpr
	for i, re := range s.kept {
		if re.MatchString(text) {
			best = s.always[i]
			break
		}
	}
	for i := range s.grams {
		x, size := &s.grams[i], gramSizes[i]
		if x.first == nil {
			continue
		}
		for at := 0; at+size <= len(text); at++ {
			for expr := x.find(gram(text[at:], size)); expr < best; expr = s.next[expr] {
				if s.compiled(expr).MatchString(text) {
					best = expr
				}
			}
		}
	}
	return int(int32(best))
}

// compiled returns an expression, which was parsed before.
func (s *Set) compiled(i uint32) *Regexp {
	s.mu.Lock()
	re := s.recent[i]
	s.mu.Unlock()
	if re != nil {
		return re
	}
	re, err := Compile(s.exprs[i])
	if err != nil { // it is too large
		re = nowhere
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) >= maxRecent {
		clear(s.recent)
	}
	s.recent[i] = re
	return re
}

// nowhere is an expression that is not found in any text.
var nowhere, _ = CompileAny()
