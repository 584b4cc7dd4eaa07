package lang

import (
	"smtpd/ast"
	"smtpd/lang/token"
)

// A descent is the parser written by hand: one method for each production of
// the grammar, over tokens as they are read, so that a list of a million
// elements is never held twice. It takes exactly what the reference parser
// and misfit take together, and fills the same tree.
//
// It reports nothing. At the first token that does not fit it stops; from
// then on no token fits anything, so that every method returns without
// looking for errors. What such a method was to make is nil, or is left out
// of its list: of a statement that fails the tree holds what was complete
// before.
type descent struct {
	lex    *lexer
	t      tok // the next token, if have
	have   bool
	n      int // tokens read of this statement
	failed bool
	bad    int       // index of the token that did not fit
	end    token.Pos // of the token taken last

	nodes
}

// begin forgets the statement before.
func (d *descent) begin() {
	d.have, d.failed, d.n = false, false, 0
	d.nodes.forget()
}

// peek returns the next token without taking it. Nothing is read before it
// is needed: after an include statement the next token is in another file.
func (d *descent) peek() *tok {
	if !d.have {
		d.t = d.lex.next()
		d.have = true
		d.n++
	}
	return &d.t
}

func (d *descent) take() {
	d.end = d.t.end
	d.have = false
}

// fail makes the next token the one that does not fit.
func (d *descent) fail() {
	if t := d.peek(); !d.failed {
		d.failed = true
		d.bad = d.n - 1
		d.t = tok{kind: invalid, pos: t.pos, end: t.end}
	}
}

// refuse makes the token taken last the one that does not fit.
func (d *descent) refuse() {
	d.failed, d.have = true, true
	d.bad = d.n - 1
	d.t = tok{kind: invalid, pos: d.t.pos, end: d.t.end}
}

// own takes w, a word of ours, and reports whether it was there.
func (d *descent) own(w string) bool {
	if t := d.peek(); t.kind == word && t.text == w {
		d.take()
		return true
	}
	return false
}

// kw takes keyword w and reports whether it was there.
func (d *descent) kw(w string) bool {
	if t := d.peek(); t.kind == keyword && t.text == w {
		d.take()
		return true
	}
	return false
}

// op takes punctuation s and reports whether it was there.
func (d *descent) op(s string) bool {
	if t := d.peek(); t.kind == punct && t.text == s {
		d.take()
		return true
	}
	return false
}

func (d *descent) wantKw(w string) {
	if !d.kw(w) {
		d.fail()
	}
}

func (d *descent) wantOp(s string) {
	if !d.op(s) {
		d.fail()
	}
}

// word returns the next token if it is a keyword, and else the empty string.
func (d *descent) word() string {
	if t := d.peek(); t.kind == keyword {
		return t.text
	}
	return ""
}

// str takes a string and reports whether there was one.
func (d *descent) str(s *ast.Str) bool {
	t := d.peek()
	if !t.isString() {
		d.fail()
		return false
	}
	s.Pos, s.Text, s.EndPos = t.pos, t.text, t.end
	d.take()
	return true
}

func (d *descent) newStr() *ast.Str {
	if s := d.strs.new(); d.str(s) {
		return s
	}
	return nil
}

// optStr takes a string if there is one.
func (d *descent) optStr() *ast.Str {
	if d.peek().isString() {
		return d.newStr()
	}
	return nil
}

func (d *descent) num(n *ast.Num) bool {
	t := d.peek()
	if t.kind != number {
		d.fail()
		return false
	}
	n.Pos, n.Text, n.EndPos = t.pos, t.text, t.end
	d.take()
	return true
}

func (d *descent) newNum() *ast.Num {
	if n := new(ast.Num); d.num(n) {
		return n
	}
	return nil
}

// statement parses one statement up to its newline, which it does not take.
// If it fails the statement ends at the token that does not fit.
func (d *descent) statement() *ast.Stmt {
	st := d.stmts.new()
	st.Pos = d.peek().pos
	d.dispatch(st)
	if st.Include != nil {
		st.EndPos = d.end
		return st
	}
	t := d.peek()
	if t.kind != newline && t.kind != endOfInput {
		d.fail()
	}
	st.EndPos = t.pos
	return st
}

func (d *descent) dispatch(st *ast.Stmt) {
	if d.peek().isString() {
		st.Macro = d.macro()
		return
	}
	w := d.word()
	if !opensStatement(w) {
		d.fail()
		return
	}
	d.take()
	switch w {
	case "action":
		st.Action = d.action()
	case "match":
		st.Match = d.match()
	case "table":
		st.Table = d.table()
	case "listen":
		st.Listen = d.listen()
	case "filter":
		st.Filter = d.filter()
	case "include":
		if n := new(ast.Include); d.str(&n.Path) {
			st.Include = n
		}
	case "proc":
		st.Proc = d.proc()
	default:
		d.dispatchSetting(st, w)
	}
}

func (d *descent) dispatchSetting(st *ast.Stmt, w string) {
	switch w {
	case "admd":
		if n := new(ast.ADMD); d.str(&n.Name) {
			st.ADMD = n
		}
	case "bounce":
		st.Bounce = d.bounce()
	case "ca":
		st.CA = d.ca()
	case "pki":
		st.PKI = d.pki()
	case "mda":
		st.MDA = d.mda()
	case "mta":
		st.MTA = d.mta()
	case "queue":
		st.Queue = d.queue()
	case "scheduler":
		st.Scheduler = new(ast.Scheduler)
		d.wantKw("limit")
		st.Scheduler.Limit = d.limits()
	case "smtp":
		st.SMTP = d.smtp()
	case "srs":
		st.SRS = d.srs()
	}
}

func (d *descent) macro() *ast.Macro {
	m := new(ast.Macro)
	d.str(&m.Name)
	d.wantOp("=")
	if !d.str(&m.Value) {
		return nil
	}
	return m
}

func (d *descent) table() *ast.Table {
	t := new(ast.Table)
	d.str(&t.Name)
	if d.peek().is(punct, "{") {
		t.List = d.list(false)
	} else {
		t.Spec = d.newStr()
	}
	if d.failed {
		return nil
	}
	return t
}

// tableArg parses a table as an argument.
func (d *descent) tableArg() *ast.TableArg {
	a := d.tableArgs.new()
	t := d.peek()
	a.Pos = t.pos
	switch {
	case t.isString():
		a.Str = d.newStr()
	case t.is(punct, "{"):
		a.List = d.list(false)
	default:
		d.wantOp("<")
		a.Ref = d.newStr()
		d.wantOp(">")
	}
	if d.failed {
		return nil
	}
	a.EndPos = d.end
	return a
}

// optTableArg parses a table if there is one.
func (d *descent) optTableArg() *ast.TableArg {
	if t := d.peek(); t.isString() || t.is(punct, "{") || t.is(punct, "<") {
		return d.tableArg()
	}
	return nil
}

// list parses what stands in braces: strings or pairs, not both, and strings
// alone in a chain of filters. Where a list is neither, misfit has the words.
func (d *descent) list(chain bool) *ast.List {
	l := &ast.List{Pos: d.peek().pos}
	d.wantOp("{")
	strings, pairs := chain, false
	for {
		e := d.elem(strings, pairs)
		if d.failed && (!chain || !e.Key.Pos.IsValid()) {
			break
		}
		d.elems.add(e)
		if d.failed {
			break
		}
		pairs = e.Value != nil
		strings = !pairs
		if d.op("}") {
			break
		}
		if d.peek().kind == separator {
			d.take()
		}
	}
	l.Elems = d.elems.done()
	l.EndPos = d.end
	return l
}

// elem parses an element of a list that so far has been one of strings, or
// one of pairs, or neither.
func (d *descent) elem(strings, pairs bool) *ast.Elem {
	e := d.elemSlab.new()
	d.str(&e.Key)
	switch t := d.peek(); {
	case t.is(punct, "=") || t.is(punct, "=>"):
		if strings {
			d.fail()
			break
		}
		d.take()
		e.Value = d.newStr()
	case pairs:
		d.fail()
	}
	return e
}
