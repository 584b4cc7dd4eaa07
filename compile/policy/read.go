package policy

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"

	"smtpd/compile"
	"smtpd/compile/engine"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// A Suite is the content of one file of tests.
type Suite struct {
	Name   string
	Set    *token.FileSet
	Tables []Table
	Tests  []Test
}

// A Table is the content that a suite gives to a table.
type Table struct {
	Name    string
	Mapping bool
	Entries []compile.Entry // as written
	Span    token.Span      // of the name
}

// A Test is a transaction and how it is to be decided.
type Test struct {
	Name   string
	Span   token.Span // of the name
	Expect Expectation

	// What the test says of the transaction. Bind fills in the rest.
	tx     engine.Transaction
	tagged bool
}

// An Expectation is how a transaction is to be decided. Exactly one field is
// set.
type Expectation struct {
	Outcome engine.Outcome // Reject, by a rule or for want of one, or TempFail
	Action  string
	Method  compile.Method
	Rule    int        // from 1
	Span    token.Span // of the words after expect
}

// String returns the expectation as it would be written.
func (e *Expectation) String() string {
	switch {
	case e.Action != "":
		return "action " + quote(e.Action)
	case e.Method != 0:
		return e.Method.String()
	case e.Rule != 0:
		return "rule " + strconv.Itoa(e.Rule)
	case e.Outcome == engine.TempFail:
		return "tempfail"
	}
	return "reject"
}

// defaultHelo is what a client calls itself unless a test says so.
const defaultHelo = "client.invalid"

// Limits of a file. Nobody comes near them with tests that were meant.
const (
	maxText   = 16 << 20
	maxErrors = 100
)

// Read reads a file of tests. What is wrong is in the list; the suite holds
// what could be read.
func Read(name string, text []byte) (*Suite, diag.List) {
	s := &Suite{Name: name, Set: token.NewFileSet()}
	if len(text) > maxText {
		var list diag.List
		list.Errorf(token.Span{}, "too-large", "%s is larger than %d MiB", name, maxText>>20)
		return s, list
	}
	base := s.Set.AddSource(name, text, token.Pos{})
	r := &reader{lexer: lexer{name: name, text: string(text), base: base, line: 1}, suite: s}
	r.advance()
	for r.tok.kind != endOfInput && len(r.list) < maxErrors {
		r.statement()
	}
	return s, r.list
}

type reader struct {
	lexer
	tok   tok
	suite *Suite
	list  diag.List
}

func (r *reader) advance() { r.tok = r.next() }

func (r *reader) is(k kind, text string) bool { return r.tok.kind == k && r.tok.text == text }

// expected reports that the token is not what could stand there.
func (r *reader) expected(what string) {
	if r.tok.kind == invalid {
		r.list.Errorf(r.tok.span, "unterminated-string", "string without an end").Label = "begins here"
		return
	}
	found := strconv.Quote(r.tok.text)
	if r.tok.kind == endOfInput {
		found = "the end of the file"
	}
	r.list.Errorf(r.tok.span, "syntax", "%s cannot stand here", found).Label = "expected " + what
}

func (r *reader) punct(text string) bool {
	if !r.is(punct, text) {
		r.expected(strconv.Quote(text))
		return false
	}
	r.advance()
	return true
}

// value reads a string, quoted or bare.
func (r *reader) value(what string) (tok, bool) {
	t := r.tok
	if t.kind != quoted && t.kind != word {
		r.expected(what)
		return t, false
	}
	r.advance()
	return t, true
}

func (r *reader) statement() {
	ok := false
	switch {
	case r.is(word, "test"):
		r.advance()
		ok = r.test()
	case r.is(word, "table"):
		r.advance()
		ok = r.table()
	default:
		r.expected("test or table")
	}
	if !ok {
		r.recover()
	}
}

// recover passes over the rest of a statement: to a line that begins with
// one.
func (r *reader) recover() {
	r.advance()
	for r.tok.kind != endOfInput && !(r.tok.fresh && (r.is(word, "test") || r.is(word, "table"))) {
		r.advance()
	}
}

// table reads: <name> { key [= value], ... }
func (r *reader) table() bool {
	if !r.punct("<") {
		return false
	}
	name, ok := r.value("the name of a table")
	if !ok || !r.punct(">") || !r.punct("{") {
		return false
	}
	t := Table{Name: name.text, Span: name.span}
	for separated := true; !r.is(punct, "}"); {
		if !separated && !r.tok.fresh {
			r.expected(`a comma, a new line or "}"`)
			return false
		}
		if !r.entry(&t) {
			return false
		}
		separated = r.is(punct, ",")
		if separated {
			r.advance()
		}
	}
	r.advance()
	r.suite.Tables = append(r.suite.Tables, t)
	return true
}

func (r *reader) entry(t *Table) bool {
	first := len(t.Entries) == 0
	key, ok := r.value(`an entry or "}"`)
	if !ok {
		return false
	}
	e := compile.Entry{Key: key.text}
	mapping := r.is(punct, "=")
	if mapping {
		r.advance()
		value, ok := r.value("a value")
		if !ok {
			return false
		}
		e.Value = value.text
	}
	if first {
		t.Mapping = mapping
	} else if t.Mapping != mapping {
		r.list.Errorf(key.span, "mixed-list", "a table holds keys or pairs, not both").Label = "unlike the first entry"
		return false
	}
	t.Entries = append(t.Entries, e)
	return true
}

// fields are the words of a test.
var fields = []string{"from", "tag", "auth", "tls", "helo", "rdns", "mail-from", "rcpt-to", "expect"}

// test reads: "name" { field ... }
func (r *reader) test() bool {
	if r.tok.kind != quoted {
		r.expected("the name of the test in quotes")
		return false
	}
	t := Test{Name: r.tok.text, Span: r.tok.span}
	r.advance()
	if !r.punct("{") {
		return false
	}
	seen := make(map[string]bool)
	for !r.is(punct, "}") {
		field := r.tok
		if field.kind != word || !r.field(&t, seen) {
			if field.kind != word {
				r.expected(`a field or "}"`)
			}
			return false
		}
	}
	r.advance()
	for _, f := range []string{"from", "rcpt-to", "expect"} {
		if !seen[f] {
			r.list.Errorf(t.Span, "syntax", "test %q has no %s", t.Name, f)
			return true
		}
	}
	if t.tx.Kind == engine.FromSocket && seen["auth"] {
		r.list.Errorf(t.Span, "conflicting-options", "test %q: mail from the socket is authenticated, without a name", t.Name)
		return true
	}
	if t.tx.Kind == engine.FromSocket {
		t.tx.Auth = true
	}
	if !seen["helo"] {
		t.tx.Helo = defaultHelo
	}
	t.tagged = seen["tag"]
	r.suite.Tests = append(r.suite.Tests, t)
	return true
}

func (r *reader) field(t *Test, seen map[string]bool) bool {
	f := r.tok
	if seen[f.text] {
		r.list.Errorf(f.span, "repeated-option", "%s stands twice in test %q", f.text, t.Name).Label = "again"
		return false
	}
	switch f.text {
	case "tls":
		t.tx.TLS = true
		r.advance()
	case "expect":
		r.advance()
		if !r.expect(&t.Expect) {
			return false
		}
	case "from", "tag", "auth", "helo", "rdns", "mail-from", "rcpt-to":
		r.advance()
		v, ok := r.value("a value of " + f.text)
		if !ok || !r.set(t, f.text, v) {
			return false
		}
	default:
		r.expected("one of " + strings.Join(fields, ", ") + `, or "}"`)
		return false
	}
	seen[f.text] = true
	return true
}

func (r *reader) set(t *Test, field string, v tok) bool {
	tx := &t.tx
	switch field {
	case "from":
		return r.from(tx, v)
	case "tag":
		tx.Tag = v.text
	case "auth":
		tx.Auth, tx.User = true, v.text
	case "helo":
		tx.Helo = v.text
	case "rdns":
		tx.RDNS = v.text
	case "mail-from":
		tx.Sender = address(v.text)
	case "rcpt-to":
		tx.Rcpt = address(v.text)
	}
	return true
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func (r *reader) from(tx *engine.Transaction, v tok) bool {
	tx.Kind = engine.FromAddress
	switch v.text {
	case "local":
		tx.Addr = loopback
	case "socket":
		tx.Kind = engine.FromSocket
	case "internal":
		tx.Kind = engine.FromInternal
	default:
		addr, err := netip.ParseAddr(strings.Trim(v.text, "[]"))
		if err != nil {
			r.list.Errorf(v.span, "syntax", "%q is no source", v.text).Label = "expected an address, local, socket or internal"
			return false
		}
		tx.Addr = addr
	}
	return true
}

func address(s string) engine.Address {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">")
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		return engine.Address{User: s[:at], Domain: s[at+1:]}
	}
	return engine.Address{User: s}
}

func (r *reader) expect(e *Expectation) bool {
	w := r.tok
	if w.kind != word {
		r.expected("reject, tempfail, action, rule or a delivery method")
		return false
	}
	r.advance()
	e.Span = w.span
	switch w.text {
	case "reject":
		e.Outcome = engine.Reject
		return true
	case "tempfail":
		e.Outcome = engine.TempFail
		return true
	case "action":
		v, ok := r.value("the name of an action")
		if ok && v.text == "" {
			r.list.Errorf(v.span, "syntax", "an action has a name").Label = "it is empty"
			return false
		}
		e.Action, e.Span = v.text, v.span
		return ok
	case "rule":
		v, ok := r.value("the number of a rule")
		n, err := strconv.Atoi(v.text)
		if ok && (err != nil || n < 1) {
			r.list.Errorf(v.span, "number-range", "%q is no number of a rule", v.text).Label = "the first rule is 1"
			return false
		}
		e.Rule, e.Span = n, v.span
		return ok
	}
	for m := compile.MBox; m <= compile.Relay; m++ {
		if m.String() == w.text {
			e.Method = m
			return true
		}
	}
	r.list.Errorf(w.span, "syntax", "%s cannot stand here", strconv.Quote(w.text)).Label =
		"expected reject, tempfail, action, rule or a delivery method"
	return false
}

// String returns the test as a file would hold it.
func (t *Test) String() string {
	var b strings.Builder
	b.WriteString("test " + quote(t.Name) + " {\n\tfrom " + source(&t.tx))
	text := func(field, value string) {
		if value != "" {
			b.WriteString("\n\t" + field + " " + quote(value))
		}
	}
	if t.tagged {
		b.WriteString("\n\ttag " + quote(t.tx.Tag))
	}
	if t.tx.Auth && t.tx.Kind != engine.FromSocket {
		b.WriteString("\n\tauth " + quote(t.tx.User))
	}
	if t.tx.TLS {
		b.WriteString("\n\ttls")
	}
	if t.tx.Helo != defaultHelo {
		b.WriteString("\n\thelo " + quote(t.tx.Helo))
	}
	text("rdns", t.tx.RDNS)
	text("mail-from", addressText(t.tx.Sender))
	b.WriteString("\n\trcpt-to " + quote(addressText(t.tx.Rcpt)))
	b.WriteString("\n\texpect " + t.Expect.String() + "\n}\n")
	return b.String()
}

func source(tx *engine.Transaction) string {
	switch tx.Kind {
	case engine.FromSocket:
		return "socket"
	case engine.FromInternal:
		return "internal"
	}
	return cmp.Or(map[netip.Addr]string{loopback: "local"}[tx.Addr], tx.Addr.String())
}

func addressText(a engine.Address) string {
	if a.Domain == "" {
		return a.User
	}
	return a.String()
}
