package ere

import (
	"encoding/binary"
	"slices"
)

// A Clause is what a text has to be like: an expression is found in it, or
// is not.
type Clause struct {
	Expr *Regexp
	Not  bool
	// After is 0, or a byte: the expression then looks only at what stands
	// behind the last one of it in the text, and is not found without one.
	After byte
}

// A Finding is what is known of the texts that clauses describe.
type Finding uint8

// The findings.
const (
	None    Finding = iota + 1 // there is no such text
	Some                       // there is one
	Unknown                    // the search was given up
)

// perState is how long programs may be in all before a state counts for more
// than one.
const perState = 1000

// Find looks for a text, made of bytes of the alphabet, for which all
// clauses hold. It walks the product of their automata: so it decides
// whether expressions have anything in common, or one holds all that another
// one does, as long as no more than budget states are reached. The text is a
// shortest one, with bytes that come early in the alphabet; beyond the budget
// one that going ahead blindly comes upon.
func Find(clauses []Clause, alphabet string, budget int) (string, Finding) {
	size := 0
	for _, c := range clauses {
		size += len(c.Expr.prog.insts)
	}
	budget = max(1, budget*perState/(perState+size)) // a step costs what the programs are long
	text, f := find(clauses, alphabet, budget, false)
	if f == Unknown {
		text, f = find(clauses, alphabet, budget, true)
	}
	return text, f
}

// find goes from a place to all that follow it, and to those that were
// reached first or, deep, last.
func find(clauses []Clause, alphabet string, budget int, deep bool) (string, Finding) {
	p := product{clauses: clauses, seen: make(map[string]bool), numbers: make(map[*State]uint32)}
	bytes := p.distinct(alphabet)
	if deep {
		slices.Reverse(bytes) // the first one is reached last
	}
	start := make([]*State, len(clauses))
	for i, c := range clauses {
		if c.After == 0 {
			start[i] = c.Expr.Start()
		}
	}
	p.visit(start, -1, 0)
	for open := []int{0}; len(open) > 0; {
		at := open[0]
		if deep {
			at = open[len(open)-1]
			open = open[:len(open)-1]
		} else {
			open = open[1:]
		}
		states := p.steps[at].states
		switch {
		case p.accepts(states):
			return p.text(at), Some
		case len(p.steps) > budget:
			return "", Unknown
		}
		p.steps[at].states = nil
		for _, b := range bytes {
			if p.visit(p.next(states, b), at, b) {
				open = append(open, len(p.steps)-1)
			}
		}
	}
	return "", None
}

// A product is the states that clauses were led to together.
type product struct {
	clauses []Clause
	steps   []step
	seen    map[string]bool
	numbers map[*State]uint32
	key     []byte
}

// A step is where a text leads: the text of the step before, and one byte.
type step struct {
	states []*State // nil: the byte of After has not come yet
	before int
	last   byte
}

// distinct returns those bytes of the alphabet that some clause tells apart.
func (p *product) distinct(alphabet string) []byte {
	var list []byte
	seen := make(map[string]bool)
	for i := range len(alphabet) {
		b := alphabet[i]
		p.key = p.key[:0]
		for _, c := range p.clauses {
			after := byte(0)
			if c.After != 0 && b == c.After {
				after = 1
			}
			p.key = append(p.key, c.Expr.prog.class[b], after)
		}
		if !seen[string(p.key)] {
			seen[string(p.key)] = true
			list = append(list, b)
		}
	}
	return list
}

func (p *product) next(states []*State, b byte) []*State {
	next := slices.Clone(states)
	for i, c := range p.clauses {
		switch {
		case c.After != 0 && b == c.After:
			next[i] = c.Expr.Start()
		case next[i] != nil:
			next[i] = next[i].Next(b)
		}
	}
	return next
}

// visit notes a place, and reports whether it was not reached before.
func (p *product) visit(states []*State, before int, last byte) bool {
	p.key = p.key[:0]
	for _, s := range states {
		n, ok := p.numbers[s]
		if !ok {
			n = uint32(len(p.numbers))
			p.numbers[s] = n
		}
		p.key = binary.LittleEndian.AppendUint32(p.key, n)
	}
	if p.seen[string(p.key)] {
		return false
	}
	p.seen[string(p.key)] = true
	p.steps = append(p.steps, step{states, before, last})
	return true
}

func (p *product) accepts(states []*State) bool {
	for i, s := range states {
		if found := s != nil && s.Accepts(); found == p.clauses[i].Not {
			return false
		}
	}
	return true
}

func (p *product) text(at int) string {
	var b []byte
	for ; p.steps[at].before >= 0; at = p.steps[at].before {
		b = append(b, p.steps[at].last)
	}
	slices.Reverse(b)
	return string(b)
}
