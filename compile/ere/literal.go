package ere

import "math/bits"

// maxLiteral is how long a literal is collected.
const maxLiteral = 64

// required returns a text that occurs in every text in which the expression
// is found, the longest one that is easily seen. Without one it is "".
func required(n *node) string {
	var l literals
	l.node(n)
	l.flush()
	return string(l.best)
}

// A literals collects runs of bytes that must follow each other.
type literals struct {
	run, best []byte
}

func (l *literals) flush() {
	if len(l.run) > len(l.best) {
		l.best = l.run
	}
	l.run = nil
}

func (l *literals) add(c byte) {
	if len(l.run) < maxLiteral {
		l.run = append(l.run, c)
		return
	}
	l.flush()
	l.run = append(l.run, c)
}

func (l *literals) node(n *node) {
	switch n.op {
	case opSet:
		if c, ok := n.set.single(); ok {
			l.add(c)
			return
		}
		l.flush()
	case opCat:
		for _, sub := range n.subs {
			l.node(sub)
		}
	case opAlt:
		l.flush()
	case opRepeat:
		l.repeat(n)
	}
}

// repeat takes what is there at least once. After a repetition a new run
// begins with its last round.
func (l *literals) repeat(n *node) {
	if n.min == 0 {
		l.flush()
		return
	}
	l.node(n.subs[0])
	if n.min == 1 && n.max == 1 {
		return
	}
	l.flush()
	l.node(n.subs[0])
}

// single returns the only byte of a set.
func (s *set) single() (c byte, ok bool) {
	if s.len() != 1 {
		return 0, false
	}
	for i, w := range s {
		if w != 0 {
			return byte(64*i + bits.TrailingZeros64(w)), true
		}
	}
	return 0, false
}
