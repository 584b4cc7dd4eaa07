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
	Name     string
	Set      *token.FileSet
	Tables   []Table
	Accounts *Table            // the users of the system; nil: everybody is one
	Forwards map[string]string // the .forward of users
	Tests    []Test
}

// A Table is the content that a suite or a test gives to a table.
type Table struct {
	Name    string
	Mapping bool
	Entries []compile.Entry // as written
	Fails   bool            // every lookup does
	Span    token.Span      // of the name
}

// A Test is a transaction and how it is to be decided.
type Test struct {
	Name   string
	Span   token.Span // of the name
	Tables []Table    // for this test alone
	Expect Expectation

	// What the test says of the transaction. Bind fills in the rest.
	tx     engine.Transaction
	tagged bool
}

// NewTest returns a test of a transaction.
func NewTest(name string, tx engine.Transaction, e Expectation) *Test {
	return &Test{Name: name, Expect: e, tx: tx, tagged: tx.Kind == engine.FromAddress}
}

// An Expectation is how a transaction is to be decided. Exactly one field is
// set, beside Rule of a Label.
type Expectation struct {
	Outcome engine.Outcome // Reject, by a rule or for want of one, or TempFail
	Action  string
	Method  compile.Method
	Rule    int        // from 1
	Label   string     // of a rule; Bind sets Rule too
	Reply   string     // how the reply to RCPT begins
	Span    token.Span // of the words after expect
}

// String returns the expectation as it would be written.
func (e *Expectation) String() string {
	switch {
	case e.Action != "":
		return "action " + quote(e.Action)
	case e.Method != 0:
		return e.Method.String()
	case e.Reply != "":
		return "reply " + quote(e.Reply)
	case e.Label != "":
		return "rule " + quote(e.Label)
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
	r.duplicates()
	return s, r.list
}

// duplicates reports tests with one name: a report could not tell them apart.
func (r *reader) duplicates() {
	first := make(map[string]token.Span)
	for i := range r.suite.Tests {
		t := &r.suite.Tests[i]
		if at, ok := first[t.Name]; ok {
			d := r.list.Errorf(t.Span, "duplicate-test", "two tests have the name %q", t.Name)
			d.Notes = append(d.Notes, diag.Note{Span: at, Message: "the first is here"})
			continue
		}
		first[t.Name] = t.Span
	}
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

// statements are the words that a statement begins with.
var statements = map[string]func(*reader) bool{
	"test": (*reader).test, "table": (*reader).suiteTable, "accounts": (*reader).accounts, "forward": (*reader).forward,
}

func (r *reader) statement() {
	read := statements[r.tok.text]
	if r.tok.kind != word || read == nil {
		r.expected("test, table, accounts or forward")
		r.recover()
		return
	}
	r.advance()
	if !read(r) {
		r.recover()
	}
}

// recover passes over the rest of a statement: to a line that begins with
// one.
func (r *reader) recover() {
	r.advance()
	for r.tok.kind != endOfInput && !(r.tok.fresh && r.tok.kind == word && statements[r.tok.text] != nil) {
		r.advance()
	}
}

func (r *reader) suiteTable() bool {
	t, ok := r.table()
	if ok {
		r.suite.Tables = append(r.suite.Tables, t)
	}
	return ok
}

// accounts reads: { name [= uid:gid:home], ... }
func (r *reader) accounts() bool {
	t := Table{Name: "accounts", Span: r.tok.span}
	if r.suite.Accounts != nil {
		r.list.Errorf(r.tok.span, "repeated-option", "accounts are given twice").Label = "again"
		return false
	}
	if !r.entries(&t) {
		return false
	}
	r.suite.Accounts = &t
	return true
}

// forward reads: name { item, ... }
func (r *reader) forward() bool {
	user, ok := r.value("the name of a user")
	t := Table{Span: user.span}
	if !ok || !r.entries(&t) {
		return false
	}
	if t.Mapping {
		r.list.Errorf(user.span, "mixed-list", "a .forward holds no pairs")
		return true
	}
	var b strings.Builder
	for _, e := range t.Entries {
		b.WriteString(e.Key + "\n")
	}
	if r.suite.Forwards == nil {
		r.suite.Forwards = make(map[string]string)
	}
	r.suite.Forwards[strings.ToLower(user.text)] = b.String()
	return true
}

// table reads: <name> { key [= value], ... }, or <name> fails
func (r *reader) table() (t Table, ok bool) {
	if !r.punct("<") {
		return t, false
	}
	name, ok := r.value("the name of a table")
	if !ok || !r.punct(">") {
		return t, false
	}
	t.Name, t.Span = name.text, name.span
	if r.is(word, "fails") {
		r.advance()
		t.Fails = true
		return t, true
	}
	return t, r.entries(&t)
}

// entries reads: { key [= value], ... }
func (r *reader) entries(t *Table) bool {
	if !r.punct("{") {
		return false
	}
	for separated := true; !r.is(punct, "}"); {
		if !separated && !r.tok.fresh {
			r.expected(`a comma, a new line or "}"`)
			return false
		}
		if !r.entry(t) {
			return false
		}
		separated = r.is(punct, ",")
		if separated {
			r.advance()
		}
	}
	r.advance()
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
var fields = []string{"table", "from", "tag", "auth", "tls", "helo", "rdns", "mail-from", "rcpt-to", "expect"}

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
	if f.text == "table" {
		r.advance()
		table, ok := r.table()
		if ok {
			t.Tables = append(t.Tables, table)
		}
		return ok
	}
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

// expectations are the words after expect.
const expectations = "reject, tempfail, action, rule, reply or a delivery method"

func (r *reader) expect(e *Expectation) bool {
	w := r.tok
	if w.kind != word {
		r.expected(expectations)
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
		return r.expectRule(e)
	case "reply":
		v, ok := r.value("how a reply begins")
		if ok && !isReply(v.text) {
			r.list.Errorf(v.span, "syntax", "%q begins no reply", v.text).Label = "expected a code of three digits, and a text"
			return false
		}
		e.Reply, e.Span = v.text, v.span
		return ok
	}
	for m := compile.MBox; m <= compile.Relay; m++ {
		if m.String() == w.text {
			e.Method = m
			return true
		}
	}
	r.list.Errorf(w.span, "syntax", "%s cannot stand here", strconv.Quote(w.text)).Label =
		"expected " + expectations
	return false
}

// expectRule reads the number of a rule, or its label; what is in quotes is a
// label.
func (r *reader) expectRule(e *Expectation) bool {
	v, ok := r.value("the number or the label of a rule")
	if !ok {
		return false
	}
	e.Span = v.span
	n, err := strconv.Atoi(v.text)
	if v.kind == quoted || err != nil {
		e.Label = v.text
	} else {
		e.Rule = n
	}
	if ok = e.Label != "" || e.Rule > 0; !ok {
		r.list.Errorf(v.span, "number-range", "%q is no number of a rule", v.text).Label = "the first rule is 1"
	}
	return ok
}

// isReply reports whether s begins as a reply does.
func isReply(s string) bool {
	if len(s) < 3 || s[0] < '2' || s[0] > '5' || len(s) > 3 && s[3] != ' ' {
		return false
	}
	_, err := strconv.ParseUint(s[:3], 10, 16)
	return err == nil
}

// String returns the test as a file would hold it.
func (t *Test) String() string {
	var b strings.Builder
	b.WriteString("test " + quote(t.Name) + " {")
	for i := range t.Tables {
		b.WriteString("\n\t" + t.Tables[i].String())
	}
	b.WriteString("\n\tfrom " + source(&t.tx))
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

// String returns the table as a file would hold it.
func (t *Table) String() string {
	if t.Fails {
		return "table <" + quote(t.Name) + "> fails"
	}
	var entries []string
	for _, e := range t.Entries {
		text := quote(e.Key)
		if t.Mapping {
			text += " = " + quote(e.Value)
		}
		entries = append(entries, text)
	}
	return "table <" + quote(t.Name) + "> { " + strings.Join(entries, ", ") + " }"
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
