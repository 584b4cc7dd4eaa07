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
// looking for errors.
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

// str takes a string.
func (d *descent) str(s *ast.Str) {
	t := d.peek()
	if !t.isString() {
		d.fail()
		return
	}
	s.Pos, s.Text, s.EndPos = t.pos, t.text, t.end
	d.take()
}

func (d *descent) newStr() *ast.Str {
	s := d.strs.new()
	d.str(s)
	return s
}

// optStr takes a string if there is one.
func (d *descent) optStr() *ast.Str {
	if d.peek().isString() {
		return d.newStr()
	}
	return nil
}

func (d *descent) num(n *ast.Num) {
	t := d.peek()
	if t.kind != number {
		d.fail()
		return
	}
	n.Pos, n.Text, n.EndPos = t.pos, t.text, t.end
	d.take()
}

func (d *descent) newNum() *ast.Num {
	n := new(ast.Num)
	d.num(n)
	return n
}

// statement parses one statement up to its newline, which it does not take.
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
		st.Include = new(ast.Include)
		d.str(&st.Include.Path)
	case "admd":
		st.ADMD = new(ast.ADMD)
		d.str(&st.ADMD.Name)
	case "bounce":
		st.Bounce = d.bounce()
	case "ca":
		st.CA = new(ast.CA)
		d.str(&st.CA.Name)
		d.wantKw("cert")
		d.str(&st.CA.Cert)
	case "pki":
		st.PKI = d.pki()
	case "proc":
		st.Proc = new(ast.Proc)
		d.str(&st.Proc.Name)
		d.str(&st.Proc.Command)
		st.Proc.Options = d.procOptions()
	default:
		d.dispatchSetting(st, w)
	}
}

func (d *descent) dispatchSetting(st *ast.Stmt, w string) {
	switch w {
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
	d.str(&m.Value)
	return m
}

func (d *descent) table() *ast.Table {
	t := new(ast.Table)
	d.str(&t.Name)
	if d.peek().is(punct, "{") {
		t.List = d.list()
	} else {
		t.Spec = d.newStr()
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
		a.List = d.list()
	default:
		d.wantOp("<")
		a.Ref = d.newStr()
		d.wantOp(">")
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

// list parses what stands in braces: strings or pairs, not both.
func (d *descent) list() *ast.List {
	l := &ast.List{Pos: d.peek().pos}
	d.wantOp("{")
	first := d.elem()
	d.elems.add(first)
	for !d.op("}") && !d.failed {
		if d.peek().kind == separator {
			d.take()
		}
		e := d.elem()
		if (e.Value != nil) != (first.Value != nil) && !d.failed {
			d.fail() // misfit has the words
		}
		d.elems.add(e)
	}
	l.Elems = d.elems.done()
	l.EndPos = d.end
	return l
}

// chain parses a list of filters, which has no pairs.
func (d *descent) chain() *ast.List {
	l := d.list()
	if !d.failed && l.Elems[0].Value != nil {
		d.fail() // misfit has the words
	}
	return l
}

func (d *descent) elem() *ast.Elem {
	e := d.elemSlab.new()
	d.str(&e.Key)
	if d.op("=") || d.op("=>") {
		e.Value = d.newStr()
	}
	return e
}
