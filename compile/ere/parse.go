package ere

import (
	"math/bits"
	"strings"
)

// An op is what a node does.
type op uint8

const (
	opEmpty  op = iota // matches the empty text
	opSet              // one byte out of set
	opAssert           // the empty text at a certain place
	opCat              // subs one after another
	opAlt              // one of subs
	opRepeat           // subs[0], min to max times
)

// A node is a parsed expression.
type node struct {
	op       op
	set      set
	assert   assert
	subs     []*node
	min, max int // max -1: no limit
}

// An assert is a place where the empty text matches.
type assert uint8

const (
	textStart assert = iota
	textEnd
	wordBoundary
	notWordBoundary
	wordStart
	wordEnd
)

// A set is a set of bytes.
type set [4]uint64

func (s *set) add(c byte) { s[c>>6] |= 1 << (c & 63) }

func (s *set) has(c byte) bool { return s[c>>6]>>(c&63)&1 == 1 }

func (s *set) addRange(lo, hi byte) {
	for c := int(lo); c <= int(hi); c++ {
		s.add(byte(c))
	}
}

func (s *set) negate() {
	for i := range s {
		s[i] = ^s[i]
	}
}

func (s *set) union(t set) {
	for i := range s {
		s[i] |= t[i]
	}
}

func (s *set) len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

func setOf(text string, ranges ...string) set {
	var s set
	for i := range len(text) {
		s.add(text[i])
	}
	for _, r := range ranges {
		s.addRange(r[0], r[1])
	}
	return s
}

var (
	anyByte = set{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
	word    = setOf("_", "az", "AZ", "09")
	space   = setOf(" \t\n\v\f\r")
)

var classes = map[string]set{
	"alnum":  setOf("", "az", "AZ", "09"),
	"alpha":  setOf("", "az", "AZ"),
	"blank":  setOf(" \t"),
	"cntrl":  setOf("\x7f", "\x00\x1f"),
	"digit":  setOf("", "09"),
	"graph":  setOf("", "!~"),
	"lower":  setOf("", "az"),
	"print":  setOf("", " ~"),
	"punct":  setOf("", "!/", ":@", "[`", "{~"),
	"space":  space,
	"upper":  setOf("", "AZ"),
	"xdigit": setOf("", "09", "AF", "af"),
}

const (
	maxRepeat = 32767 // RE_DUP_MAX
	maxDepth  = 500   // of nested groups
	maxName   = 32    // of a name in brackets
)

// A parser reads an expression. It panics with an *Error, which parse
// returns: expressions are short and errors rare, and the grammar stays
// readable.
type parser struct {
	text  string
	pos   int
	depth int
	notes []Note
}

func (p *parser) parse() (n *node, err error) {
	defer func() {
		if e, ok := recover().(*Error); ok {
			err = e
		}
	}()
	return p.alternatives(), nil
}

func (p *parser) fail(at int, text string) { panic(&Error{at, text}) }

func (p *parser) note(at int, text string) { p.notes = append(p.notes, Note{at, text}) }

func (p *parser) more() bool { return p.pos < len(p.text) }

// at reports whether the text goes on with s.
func (p *parser) at(s string) bool { return strings.HasPrefix(p.text[p.pos:], s) }

func (p *parser) accept(s string) bool {
	if p.at(s) {
		p.pos += len(s)
		return true
	}
	return false
}

func (p *parser) alternatives() *node {
	n := p.branch()
	if !p.at("|") {
		return n
	}
	n = &node{op: opAlt, subs: []*node{n}}
	for p.accept("|") {
		n.subs = append(n.subs, p.branch())
	}
	return n
}

func (p *parser) branch() *node {
	start := p.pos
	n := &node{op: opCat}
	for p.more() && !p.at("|") && (p.depth == 0 || !p.at(")")) {
		n.subs = append(n.subs, p.piece())
	}
	switch len(n.subs) {
	case 0:
		if p.text != "" {
			p.note(start, "an empty alternative or group is an error in POSIX")
		}
		return &node{op: opEmpty}
	case 1:
		return n.subs[0]
	}
	return n
}

// piece reads an atom and what repeats it.
func (p *parser) piece() *node {
	n := p.atom()
	if n.op == opAssert {
		return n // what follows would repeat nothing, and atom says so
	}
	for again := false; p.more(); again = true {
		at := p.pos
		lo, hi, ok := p.repetition()
		if !ok {
			break
		}
		if again {
			p.note(at, "a repetition of a repetition is undefined in POSIX")
		}
		n = &node{op: opRepeat, subs: []*node{n}, min: lo, max: hi}
	}
	return n
}

func (p *parser) repetition() (lo, hi int, ok bool) {
	switch {
	case p.accept("*"):
		return 0, -1, true
	case p.accept("+"):
		return 1, -1, true
	case p.accept("?"):
		return 0, 1, true
	case p.at("{"):
		lo, hi = p.interval()
		return lo, hi, true
	}
	return 0, 0, false
}

func (p *parser) interval() (lo, hi int) {
	start := p.pos
	p.pos++
	lo, given := p.number()
	hi = lo
	if p.accept(",") {
		hi = -1
		if n, ok := p.number(); ok {
			hi = n
		}
		if !given {
			p.note(start, "{,n} is not in POSIX: write {0,n}")
		}
	} else if !given {
		p.fail(start, "an interval needs a number")
	}
	switch {
	case !p.accept("}"):
		p.fail(start, "an interval is {n}, {n,} or {n,m}")
	case hi >= 0 && lo > hi:
		p.fail(start, "the interval ends before it begins")
	case lo > maxRepeat || hi > maxRepeat:
		p.fail(start, "an interval counts up to 32767")
	}
	return lo, hi
}

func (p *parser) number() (n int, ok bool) {
	for p.more() && '0' <= p.text[p.pos] && p.text[p.pos] <= '9' {
		n = min(10*n+int(p.text[p.pos]-'0'), maxRepeat+1)
		p.pos++
		ok = true
	}
	return n, ok
}

func (p *parser) atom() *node {
	c := p.text[p.pos]
	switch c {
	case '*', '+', '?', '{':
		p.fail(p.pos, "nothing stands before "+string(c)+" that could be repeated")
	case '(':
		return p.group()
	case '[':
		return p.bracket()
	case '\\':
		return p.escape()
	}
	p.pos++
	switch c {
	case '.':
		return &node{op: opSet, set: anyByte}
	case '^':
		return &node{op: opAssert, assert: textStart}
	case '$':
		return &node{op: opAssert, assert: textEnd}
	case ')':
		p.note(p.pos-1, "a ) without a ( is undefined in POSIX")
	}
	return literal(c)
}

func literal(c byte) *node {
	n := &node{op: opSet}
	n.set.add(c)
	return n
}

func (p *parser) group() *node {
	start := p.pos
	if p.depth++; p.depth > maxDepth {
		p.fail(start, "groups are nested too deeply")
	}
	p.pos++
	n := p.alternatives()
	if !p.accept(")") {
		p.fail(start, "the group is not closed")
	}
	p.depth--
	if n.op == opAssert {
		// A group can be repeated, what stands in it or not.
		return &node{op: opCat, subs: []*node{n}}
	}
	return n
}

func (p *parser) escape() *node {
	start := p.pos
	if p.pos += 2; p.pos > len(p.text) {
		p.fail(start, "a backslash ends the expression")
	}
	c := p.text[start+1]
	if '1' <= c && c <= '9' {
		p.fail(start, "back references are not supported")
	}
	n := gnuEscape(c)
	switch {
	case n != nil:
		p.note(start, "\\"+string(c)+" is a GNU extension")
	case strings.IndexByte(`^.[$()|*+?{\`, c) < 0:
		p.note(start, "a backslash before an ordinary character is undefined in POSIX")
		fallthrough
	default:
		n = literal(c)
	}
	return n
}

func gnuEscape(c byte) *node {
	negated := func(s set) *node { s.negate(); return &node{op: opSet, set: s} }
	switch c {
	case 'w':
		return &node{op: opSet, set: word}
	case 'W':
		return negated(word)
	case 's':
		return &node{op: opSet, set: space}
	case 'S':
		return negated(space)
	case 'b':
		return &node{op: opAssert, assert: wordBoundary}
	case 'B':
		return &node{op: opAssert, assert: notWordBoundary}
	case '<':
		return &node{op: opAssert, assert: wordStart}
	case '>':
		return &node{op: opAssert, assert: wordEnd}
	case '`':
		return &node{op: opAssert, assert: textStart}
	case '\'':
		return &node{op: opAssert, assert: textEnd}
	}
	return nil
}

func (p *parser) bracket() *node {
	start := p.pos
	p.pos++
	negated := p.accept("^")
	n := &node{op: opSet}
	for first := true; first || !p.accept("]"); first = false {
		if !p.more() {
			p.fail(start, "the bracket is not closed")
		}
		p.element(start, first, &n.set)
	}
	if negated {
		n.set.negate()
	}
	return n
}

// element reads a character, a class or a range.
func (p *parser) element(start int, first bool, s *set) {
	at := p.pos
	if p.at("-") && !first && !p.at("-]") {
		p.fail(at, "a - stands between two ends of a range, or first or last")
	}
	lo, class, ok := p.end(start)
	if ok {
		s.union(class)
	}
	if !p.at("-") || p.at("-]") {
		if !ok {
			s.add(lo)
		}
		return
	}
	p.pos++
	if !p.more() {
		p.fail(start, "the bracket is not closed")
	}
	hi, _, class2 := p.end(start)
	switch {
	case ok || class2:
		p.fail(at, "a class is no end of a range")
	case lo > hi:
		p.fail(at, "the range ends before it begins")
	}
	s.addRange(lo, hi)
}

// end reads what can be an end of a range, or a class.
func (p *parser) end(start int) (c byte, class set, isClass bool) {
	for _, kind := range []string{".", "=", ":"} {
		if p.at("[" + kind) {
			name := p.name(start, kind)
			if kind == ":" {
				class, isClass = classes[name]
				if !isClass {
					p.fail(p.pos, "no such class: "+name)
				}
				return 0, class, true
			}
			if len(name) != 1 {
				p.fail(p.pos, "the C locale knows no collating element "+name)
			}
			if kind == "=" {
				class.add(name[0])
				return 0, class, true
			}
			return name[0], class, false
		}
	}
	p.pos++
	return p.text[p.pos-1], class, false
}

// name reads [.name.], [=name=] or [:name:].
func (p *parser) name(start int, kind string) string {
	from := p.pos + 2
	length := strings.Index(p.text[from:], kind+"]")
	if length < 0 || length >= maxName {
		p.fail(start, "the bracket is not closed")
	}
	p.pos = from + length + 2
	return p.text[from : from+length]
}
