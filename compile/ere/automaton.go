package ere

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
)

// maxStates is how many states of the automaton are kept. Few expressions
// need more than a hundred; a text that leads to more makes it start anew,
// so that neither memory nor time can be had by a hostile one.
const maxStates = 2000

// A State is where a text has led the automaton of an expression. States of
// one Regexp that were reached from each other are the same if and only if
// they are the same pointer, unless the Regexp had to forget some.
type State struct {
	re    *Regexp
	owner *states
	// insts are the instructions to go on from, ascending, before splits
	// and asserts are followed: what these do depends on the next byte.
	insts   []uint32
	before  context
	matched bool // whatever follows

	next []atomic.Pointer[State] // by class of byte
	end  atomic.Uint32           // unknown, or whether the text may end here
}

const (
	endUnknown = iota
	endNo
	endYes
)

// A context is what stands before the next byte, as far as the asserts of
// the program need it.
type context uint8

const (
	beforeOther context = iota
	beforeStart         // nothing
	beforeWord          // a letter, a digit or _
)

// A cache holds the states found so far.
type cache struct {
	current atomic.Pointer[states]
	// followed counts the instructions that were followed to find states:
	// what a text costs beyond one look into the cache a byte.
	followed atomic.Uint64
}

type states struct {
	mu    sync.Mutex
	byKey map[string]*State
	start *State
}

// matchedState is the state in which nothing matters any more. One is
// enough: it is never left.
var matchedState = &State{matched: true}

// Start returns the state of the empty text.
func (r *Regexp) Start() *State {
	for {
		if all := r.cache.current.Load(); all != nil {
			return all.start
		}
		r.forget(nil)
	}
}

// forget replaces the states by a new start.
func (r *Regexp) forget(old *states) {
	all := &states{byKey: make(map[string]*State)}
	before := beforeOther
	if r.prog.anchors || r.prog.words {
		before = beforeStart
	}
	all.start = all.intern(r, []uint32{r.prog.start}, before)
	r.cache.current.CompareAndSwap(old, all)
}

// intern returns the state of the given instructions. It takes insts.
func (all *states) intern(r *Regexp, insts []uint32, before context) *State {
	key := make([]byte, 0, 4*len(insts)+1)
	for _, i := range insts {
		key = binary.LittleEndian.AppendUint32(key, i)
	}
	key = append(key, byte(before))
	all.mu.Lock()
	defer all.mu.Unlock()
	if s := all.byKey[string(key)]; s != nil {
		return s
	}
	s := &State{re: r, owner: all, insts: insts, before: before, next: make([]atomic.Pointer[State], len(r.prog.reps))}
	all.byKey[string(key)] = s
	return s
}

func (all *states) full() bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	return len(all.byKey) >= maxStates
}

// Accepts reports whether the expression is found if the text ends here.
func (s *State) Accepts() bool {
	if s.matched {
		return true
	}
	if s.end.Load() == endUnknown {
		s.end.Store(endNo)
		if w := s.follow(true, false); w.matched {
			s.end.Store(endYes)
		}
	}
	return s.end.Load() == endYes
}

// Next returns the state after one more byte.
func (s *State) Next(c byte) *State {
	if s.matched {
		return s
	}
	class := s.re.prog.class[c]
	if next := s.next[class].Load(); next != nil {
		return next
	}
	next := s.step(c)
	s.next[class].Store(next)
	return next
}

func (s *State) step(c byte) *State {
	p := s.re.prog
	isWord := p.words && word.has(c)
	w := s.follow(false, isWord)
	if w.matched {
		return matchedState
	}
	// An expression is found wherever it begins.
	insts := []uint32{p.start}
	for _, i := range w.found {
		if in := &p.insts[i]; in.op == instSet && p.sets[in.set].has(c) {
			insts = append(insts, in.out)
		}
	}
	slices.Sort(insts)
	insts = slices.Compact(insts)
	before := beforeOther
	if isWord {
		before = beforeWord
	}
	if s.owner.full() {
		s.re.forget(s.owner)
		return s.re.cache.current.Load().intern(s.re, insts, before)
	}
	return s.owner.intern(s.re, insts, before)
}

// A walk follows splits and asserts from a state.
type walk struct {
	seen    []bool
	found   []uint32
	matched bool
}

// follow finds the instructions that can take the next byte, or that the
// expression was found, when the text ends here or the next byte is of a
// word or not.
func (s *State) follow(atEnd, wordAfter bool) *walk {
	p := s.re.prog
	w := &walk{seen: make([]bool, len(p.insts))}
	stack := slices.Clone(s.insts)
	steps := uint64(0)
	defer func() { s.re.cache.followed.Add(steps) }()
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		steps++
		if w.seen[i] {
			continue
		}
		w.seen[i] = true
		switch in := &p.insts[i]; in.op {
		case instMatch:
			w.matched = true
			return w
		case instSet:
			w.found = append(w.found, i)
		case instSplit:
			stack = append(stack, in.alt, in.out)
		case instAssert:
			if in.assert.holds(s.before, atEnd, wordAfter) {
				stack = append(stack, in.out)
			}
		}
	}
	return w
}

func (a assert) holds(before context, atEnd, wordAfter bool) bool {
	wordBefore := before == beforeWord
	switch a {
	case textStart:
		return before == beforeStart
	case textEnd:
		return atEnd
	case wordBoundary:
		return wordBefore != wordAfter
	case notWordBoundary:
		return wordBefore == wordAfter
	case wordStart:
		return !wordBefore && wordAfter
	}
	return wordBefore && !wordAfter
}
