package ere

// maxProgram is how many instructions an expression may take. The longest
// entry of a table is 1023 bytes, so that only counts written out come near.
const maxProgram = 50_000

// An instOp is what an instruction does.
type instOp uint8

const (
	instSet    instOp = iota // takes a byte out of set, goes on at out
	instSplit                // goes on at out and at alt
	instAssert               // goes on at out if the place is right
	instMatch
)

type inst struct {
	op       instOp
	assert   assert
	set      uint16 // index into program.sets
	out, alt uint32
}

// A program is a nondeterministic automaton.
type program struct {
	insts []inst
	sets  []set
	start uint32

	// class maps a byte to its class: bytes of one class are in the same
	// sets. reps holds a byte of each class.
	class [256]uint8
	reps  []byte

	anchors bool // there are asserts that look for the start
	words   bool // there are asserts that look at words
}

// A builder makes a program back to front: every node is given what follows.
type builder struct {
	*program
	index map[set]uint16
}

func newProgram(n *node) (*program, error) {
	b := builder{program: new(program), index: make(map[set]uint16)}
	match := b.emit(inst{op: instMatch})
	start, ok := b.node(n, match)
	if !ok {
		return nil, &Error{0, "the expression is too large when its counts are written out"}
	}
	b.start = start
	b.classify()
	return b.program, nil
}

func (b *builder) emit(i inst) uint32 {
	b.insts = append(b.insts, i)
	return uint32(len(b.insts) - 1)
}

// node adds n, after which next follows. It gives up when the program grows
// too large.
func (b *builder) node(n *node, next uint32) (start uint32, ok bool) {
	if len(b.insts) > maxProgram {
		return 0, false
	}
	switch n.op {
	case opSet:
		return b.emit(inst{op: instSet, set: b.set(n.set), out: next}), true
	case opAssert:
		b.anchors = b.anchors || n.assert == textStart
		b.words = b.words || n.assert >= wordBoundary
		return b.emit(inst{op: instAssert, assert: n.assert, out: next}), true
	case opCat:
		for i := len(n.subs) - 1; i >= 0; i-- {
			if next, ok = b.node(n.subs[i], next); !ok {
				return 0, false
			}
		}
		return next, true
	case opAlt:
		return b.alt(n, next)
	case opRepeat:
		return b.repeat(n, next)
	}
	return next, true
}

func (b *builder) alt(n *node, next uint32) (start uint32, ok bool) {
	if len(n.subs) == 0 { // one of none
		return b.emit(inst{op: instSet, set: b.set(set{}), out: next}), true
	}
	for i := len(n.subs) - 1; i >= 0; i-- {
		sub, ok := b.node(n.subs[i], next)
		if !ok {
			return 0, false
		}
		if i == len(n.subs)-1 {
			start = sub
		} else {
			start = b.emit(inst{op: instSplit, out: sub, alt: start})
		}
	}
	return start, true
}

func (b *builder) repeat(n *node, next uint32) (start uint32, ok bool) {
	sub := n.subs[0]
	ok = true
	if n.max < 0 {
		loop := b.emit(inst{op: instSplit, alt: next})
		body, ok := b.node(sub, loop)
		if !ok {
			return 0, false
		}
		b.insts[loop].out = body
		next = loop
	}
	for exit, i := next, n.min; i < n.max && ok; i++ {
		var body uint32
		body, ok = b.node(sub, next)
		next = b.emit(inst{op: instSplit, out: body, alt: exit})
	}
	for i := 0; i < n.min && ok; i++ {
		next, ok = b.node(sub, next)
	}
	return next, ok
}

func (b *builder) set(s set) uint16 {
	i, ok := b.index[s]
	if !ok {
		i = uint16(len(b.sets))
		b.index[s] = i
		b.sets = append(b.sets, s)
	}
	return i
}

// classify finds the classes of bytes.
func (b *builder) classify() {
	sets := b.sets
	if b.words {
		sets = append(sets[:len(sets):len(sets)], word)
	}
	class := make(map[string]uint8)
	for c := range 256 {
		in := make([]byte, (len(sets)+7)/8)
		for i := range sets {
			if sets[i].has(byte(c)) {
				in[i/8] |= 1 << (i % 8)
			}
		}
		id, ok := class[string(in)]
		if !ok {
			id = uint8(len(b.reps))
			class[string(in)] = id
			b.reps = append(b.reps, byte(c))
		}
		b.class[c] = id
	}
}
