package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smtpd/ast/old"
	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/compile/hostfacts"
	"smtpd/compile/tablefile"
	"smtpd/lang/diag"
)

// FuzzMigrate writes old configurations from their grammars and checks that
// the result of a conversion, the table that the old file is compiled to, and
// an engine that works as the old ones did decide any transaction alike.
func FuzzMigrate(f *testing.F) {
	for i := range 12 {
		f.Add([]byte(strings.Repeat(string(rune(7*i+1))+string(rune(3*i+2))+"\x05\x09"+string(rune(11*i)), 30)), []byte{byte(i), 3, byte(2 * i), 1, 4})
	}
	host := fuzzHost(f)
	f.Fuzz(func(t *testing.T, choices, mail []byte) {
		g := &generator{choices: choices}
		text, dialect := g.config()
		m := &migration{name: "old.conf", text: []byte(text), host: host, forced: dialect.Generation(), dialect: dialect}
		if err := m.convert(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if m.report.List.Has(diag.Language) {
			t.Fatalf("%v\n%s", m.report.List, text)
		}
		if m.diff.Verdict == analyze.Refuted || slices.ContainsFunc(m.report.List, func(d *diag.Diagnostic) bool { return d.Code == "migrate-setting" }) {
			t.Fatalf("%v: %v\n%s\n%s", dialect, m.report.List, text, m.texts[0].Data)
		}
		for i := range g.comments {
			if !strings.Contains(string(m.texts[0].Data), fmt.Sprintf("# remark %d\n", i)) {
				t.Fatalf("remark %d is lost\n%s\n%s", i, text, m.texts[0].Data)
			}
		}
		c := &generator{choices: mail}
		for range 40 {
			tx := m.possible(c.transaction())
			before := engine.NewLinear(m.before).Decide(context.Background(), tx, nil)
			after := engine.New(m.rules).Decide(context.Background(), tx, nil)
			oracle := (&oldEngine{file: m.old}).decide(tx)
			if a, b := definition(m.before, before), definition(m.rules, after); a != b {
				t.Fatalf("%v: %+v:\nold table: %s\nresult: %s\n%s\n%s", dialect, tx, a, b, text, m.texts[0].Data)
			}
			if got := lineOf(m.before, before); got != oracle && !m.knownDifference(tx) {
				t.Fatalf("%v: %+v: old table decides by line %d, the old engine by %d\n%s", dialect, tx, got, oracle, text)
			}
		}
	})
}

// fuzzHost is the machine of generated configurations.
func fuzzHost(t testing.TB) compile.Host {
	t.Helper()
	host, err := hostfacts.Parse("facts", recorded+"file /etc/mail/users users\n", func(string) ([]byte, error) {
		return []byte("example.org: x\nbob@example.org: bob\nexample.com: x\n"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// possible returns a transaction as it can be: nobody logs in where no
// listener offers it.
func (m *migration) possible(tx *engine.Transaction) *engine.Transaction {
	login := slices.ContainsFunc(m.old.Stmts, func(s *old.Stmt) bool { return s.Listen != nil && s.Listen.Auth != "" })
	if tx.Kind != engine.FromSocket && !login {
		tx.Auth, tx.User = false, ""
	}
	return tx
}

// knownDifference reports whether a transaction is one that the present
// engine cannot treat as the old one did: spec 7.2, of addresses that came out
// of an expansion in generation 1.
func (m *migration) knownDifference(tx *engine.Transaction) bool {
	return m.guess.Generation == 1 && tx.Kind == engine.FromInternal
}

// definition says what a decision does with the mail.
func definition(rs *compile.Ruleset, d engine.Decision) string {
	if d.Outcome != engine.Accept {
		return "reject"
	}
	a := *rs.Action(rs.Rules[d.Rule].Action)
	host := ""
	if a.Relay.Host != 0 {
		host = rs.Table(a.Relay.Host).Entries[0].Key
	}
	return fmt.Sprint(a.Method, a.TTL, a.Argument, a.RcptTo, a.User, a.Alias != 0, a.Virtual != 0, a.Userbase != 0, host,
		a.Relay.Helo, a.Relay.PKI, a.Relay.MailFrom, a.Relay.Backup, a.Relay.BackupMX, a.Relay.TLS, a.Relay.NoVerify, a.Relay.Auth != 0)
}

// lineOf returns the line of the rule that decided; 0 if mail is rejected by
// none.
func lineOf(rs *compile.Ruleset, d engine.Decision) int {
	if d.Rule < 0 {
		return 0
	}
	return rs.Rules[d.Rule].Origin.Line
}

// A generator makes choices from bytes, and the same ones again from the same
// bytes.
type generator struct {
	choices  []byte
	at       int
	b        strings.Builder
	comments int
	macros   bool // dom, nets and deliver are defined
}

func (g *generator) n(most int) int {
	if len(g.choices) == 0 {
		return 0
	}
	// The position is mixed in, so that few bytes give many choices.
	v := int(g.choices[g.at%len(g.choices)]) + 31*(g.at/len(g.choices))
	g.at++
	return v % most
}

func (g *generator) of(words ...string) string { return words[g.n(len(words))] }

func (g *generator) maybe(one int, text string) string {
	if g.n(one) == 0 {
		return text
	}
	return ""
}

// The values that configurations and transactions are made of.
var (
	fuzzNets    = []string{"192.0.2.0/24", "192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "198.51.100.7"}
	fuzzDomains = []string{"example.org", "*.example.org", "example.net", "Example.COM", "a.example", "*"}
	fuzzAddrs   = []string{"bob@example.org", "@example.net", "@*.example.org", "carol", "al+tag@a.example", "@", "Bob@a.example"}
	fuzzDialect = []old.Dialect{old.D1B, old.D1D, old.D1E, old.D53, old.D54, old.D541, old.D57, old.D603}
)

// addresses returns entries of lists of addresses. Up to 5.4.6 a plain one was
// not for its sub-addresses, and is now: that is a difference, and reported.
func addresses(d old.Dialect) []string {
	if d < old.D57 {
		return []string{"@example.net", "@*.example.org", "carol", "al+tag@a.example", "@"}
	}
	return fuzzAddrs
}

// config writes a configuration of some dialect.
func (g *generator) config() (string, old.Dialect) {
	d := fuzzDialect[g.n(len(fuzzDialect))]
	first := d.Generation() == 1
	g.remark()
	if g.n(2) == 0 {
		g.macros = true
		open, shut := "{ ", " }"
		if first {
			open, shut = "( ", " )"
		}
		g.b.WriteString("dom = \"example.org\"\nnets = '" + open + g.list(fuzzNets, "") + shut + "'\ndeliver = \"deliver to\"\nhost = \"h.example\"\n")
	}
	if first {
		g.b.WriteString("hostname mx.recorded.invalid\n" + g.maybe(2, "size 20M\n") + g.maybe(3, "queue compression gzip\n"))
		g.b.WriteString("map users { source plain \"/etc/mail/users\" }\nmap doms source db \"/etc/mail/doms.db\"\n")
	} else {
		g.tables(d)
		g.settings(d)
	}
	g.listeners(d)
	g.b.WriteString(g.maybe(4, "expire 2d\n"))
	for range 1 + g.n(5) {
		g.rule(d)
	}
	g.remark()
	return g.b.String(), d
}

// remark writes a comment, on a line of its own or at the end of one.
func (g *generator) remark() {
	if g.n(4) == 0 {
		fmt.Fprintf(&g.b, "%s# remark %d\n", g.maybe(2, "\n"), g.comments)
		g.comments++
	}
}

// endLine ends a statement.
func (g *generator) endLine() {
	if g.n(6) == 0 {
		fmt.Fprintf(&g.b, " # remark %d", g.comments)
		g.comments++
	}
	g.b.WriteString("\n")
	g.remark()
}

func (g *generator) settings(d old.Dialect) {
	g.b.WriteString(g.maybe(3, "max-message-size 10M\n") + g.maybe(4, "bounce-warn 1h, 2d\n") + g.maybe(4, "bounce-warn\n") + g.maybe(3, "queue compression\n"))
	if d < old.D541 {
		return
	}
	g.b.WriteString(g.maybe(3, "limit session max-rcpt 20\n") + g.maybe(3, "limit mta for domain \"x.example\" max-conn-per-host 3 inet4\n") +
		g.maybe(4, "limit mda max-session 3\n") + g.maybe(4, "max-mta-deferred 7\n") + g.maybe(4, "ciphers \"HIGH\"\n"))
}

func (g *generator) listeners(d old.Dialect) {
	g.b.WriteString("listen on lo " + g.maybe(3, "port 2525 "))
	secure := g.n(2) == 0
	switch {
	case !secure:
	case d.Generation() == 1 && d != old.D1E:
		g.b.WriteString("tls certificate mail.example.org enable auth")
	case d < old.D541:
		g.b.WriteString(g.of("tls", "smtps", "tls-require") + " certificate mail.example.org auth-optional")
	default:
		g.b.WriteString(g.of("tls", "smtps", "tls-require verify") + " pki mail.example.org " + g.of("auth", "auth-optional", "auth-optional <creds>"))
	}
	g.b.WriteString(g.maybe(3, " tag IN"))
	g.endLine()
	if d < old.D541 {
		return
	}
	g.b.WriteString(g.maybe(3, "listen on lo secure pki \"*\" hostname other.example mask-source no-dsn\npki \"*\" certificate \"/c\" key \"/k\"\n"))
}

func (g *generator) tables(d old.Dialect) {
	if d >= old.D541 {
		g.b.WriteString("pki mail.example.org certificate \"/c\" key \"/k\"\n")
	}
	fmt.Fprintf(&g.b, "table nets { %s }\n", g.list(fuzzNets, g.maybe(3, `"local"`)))
	fmt.Fprintf(&g.b, "table doms { %s }\n", g.list(fuzzDomains, ""))
	fmt.Fprintf(&g.b, "table addrs { %s }\n", g.list(addresses(d), ""))
	g.b.WriteString("table users { bob = carol, carol = dave }\n")
	g.b.WriteString("table base { dave = \"1:1:/home/dave\" }\ntable creds { carol = \"$6$x\" }\n")
}

func (g *generator) list(of []string, more string) string {
	var words []string
	for range 1 + g.n(3) {
		words = append(words, `"`+of[g.n(len(of))]+`"`)
	}
	if more != "" {
		words = append(words, more)
	}
	return strings.Join(words, ", ")
}

// arg is a table as an argument.
func (g *generator) arg(name string, of []string) string {
	if g.macros && g.n(3) == 0 {
		switch name {
		case "nets":
			return "$nets"
		case "doms":
			return g.of("$dom", "$dom.invalid", "{ $dom, \"b.example\" }")
		}
	}
	switch g.n(3) {
	case 0:
		return "<" + name + ">"
	case 1:
		return "{ " + g.list(of, "") + " }"
	}
	return `"` + of[g.n(len(of))] + `"`
}

func (g *generator) rule(d old.Dialect) {
	reject := g.n(4) == 0
	g.b.WriteString(map[bool]string{true: "reject", false: "accept"}[reject])
	if d.Generation() == 1 {
		g.rule1(d, reject)
	} else {
		g.rule2(d, reject)
	}
	g.endLine()
}

func (g *generator) rule1(d old.Dialect, reject bool) {
	all := map[bool]string{true: "any", false: "all"}[d == old.D1E]
	g.b.WriteString(g.maybe(4, " on IN"))
	switch g.n(4) {
	case 0:
		g.b.WriteString(" from " + all)
	case 1:
		g.b.WriteString(" from local")
	case 2:
		if g.macros && g.n(2) == 0 {
			g.b.WriteString(" from $nets")
		} else {
			g.b.WriteString(" from ( " + g.list(fuzzNets, "") + " )")
		}
	}
	virtual := map[bool]string{true: "virtual map users", false: "virtual users"}[d >= old.D1D]
	cond := func() string {
		if g.macros && g.n(3) == 0 {
			return "domain $dom"
		}
		return g.of(virtual, "local", all, `domain "`+fuzzDomains[g.n(5)]+`"`, "domain ( "+g.list(fuzzDomains, "")+" )")
	}
	if g.n(4) == 0 {
		g.b.WriteString(" for { " + cond() + ", " + cond() + " }")
	} else {
		g.b.WriteString(" for " + cond())
	}
	if reject && d >= old.D1E {
		return
	}
	if reject {
		// The word had no effect, and has one now: that is a difference.
		text := g.b.String()
		at := strings.LastIndex(text, "reject")
		g.b.Reset()
		g.b.WriteString(text[:at] + "accept" + text[at+6:])
	}
	to := "deliver to "
	if g.macros && g.n(2) == 0 {
		to = "$deliver "
	}
	g.b.WriteString(" " + g.of(to+"mbox", to+"maildir", to+`mda "/bin/x %u %a"`, "relay",
		`relay via "smtps://h.example"`, `relay via "tls+auth://h.example:26" auth users`, `relay via "ssl://h.example"`, "relay as \"@example.org\""))
	g.b.WriteString(g.maybe(5, " expire 3h"))
}

func (g *generator) rule2(d old.Dialect, reject bool) {
	not := func() string {
		if d < old.D541 {
			return ""
		}
		return g.maybe(4, "! ")
	}
	g.b.WriteString(g.maybe(4, " tagged "+not()+g.of("IN", `"local"`, "OUT")))
	if d == old.D603 {
		g.b.WriteString(g.maybe(5, " "+not()+"authenticated"))
	}
	source := map[bool]string{true: "source ", false: ""}[d >= old.D541]
	switch g.n(4) {
	case 0:
		g.b.WriteString(" from any")
	case 1:
		g.b.WriteString(" from " + not() + "local")
	case 2:
		g.b.WriteString(" from " + not() + source + g.arg("nets", fuzzNets))
	}
	g.b.WriteString(g.maybe(4, " sender "+not()+g.arg("addrs", addresses(d))))
	if d >= old.D541 {
		g.b.WriteString(g.maybe(4, " recipient "+not()+g.arg("addrs", addresses(d))))
	}
	g.b.WriteString(" for " + g.of("any", not()+"local", not()+"domain "+g.arg("doms", fuzzDomains)))
	if reject {
		return
	}
	g.action2(d)
	g.b.WriteString(g.maybe(5, " expire 3h"))
}

func (g *generator) action2(d old.Dialect) {
	switch g.n(3) {
	case 0:
		g.b.WriteString(" " + g.of("relay", "relay backup mx2.example", `relay via "lmtp://h.example:24"`, `relay via "smtp://h.example"`,
			`relay via "tls+auth://lab@h.example:26" auth <users>`, `relay via "smtps://h.example"`, `relay as "@example.org"`, `relay source "192.0.2.1"`))
		return
	case 1:
		g.b.WriteString(g.maybe(2, " "+g.of("alias", "virtual")+" <users>") + g.maybe(4, " userbase <base>"))
	}
	g.b.WriteString(" deliver to " + g.of("mbox", "maildir", `maildir "/m/%{dest.user}"`, `mda "/bin/x %{sender}"`, `lmtp "h.example:24"`))
}

// transaction makes a transaction of the values that configurations have.
func (g *generator) transaction() *engine.Transaction {
	addrs := []string{"127.0.0.1", "192.0.2.7", "192.0.2.9", "10.1.1.1", "2001:db8::1", "198.51.100.7", "203.0.113.1"}
	tx := &engine.Transaction{Kind: engine.FromAddress, Addr: netip.MustParseAddr(addrs[g.n(len(addrs))]), Tag: g.of("", "IN", "OUT")}
	if g.n(3) == 0 {
		tx.Auth, tx.User = true, "carol"
	}
	switch g.n(6) {
	case 0:
		tx.Kind, tx.Tag, tx.Auth, tx.User = engine.FromSocket, "local", true, ""
	case 1:
		tx.Kind = engine.FromInternal
	}
	mailbox := func() engine.Address {
		return engine.Address{User: g.of("bob", "carol", "al+tag", "bob+x", "Bob"),
			Domain: g.of("example.org", "www.example.org", "example.net", "example.com", "a.example", "localhost", "mx.recorded.invalid", "other.invalid")}
	}
	tx.Rcpt = mailbox()
	if g.n(4) > 0 {
		tx.Sender = mailbox()
	}
	return tx
}

// An oldEngine decides as the engines of the time did: spec 3.3, 4.4.
type oldEngine struct {
	file *old.File
}

// decide returns the line of the rule that decides; 0 for none.
func (e *oldEngine) decide(tx *engine.Transaction) int {
	for _, s := range e.file.Stmts {
		if s.Rule != nil && e.matches(s.Rule, tx) {
			return s.Start.Line
		}
	}
	return 0
}

func (e *oldEngine) matches(r *old.Rule, tx *engine.Transaction) bool {
	if r.Tag != nil && strings.EqualFold(r.Tag.Text, tx.Tag) == r.NotTag {
		return false
	}
	if r.Auth && tx.Auth == r.NotAuth {
		return false
	}
	if !e.source(r.From, tx) || !e.address(r.Sender, tx.Sender) || !e.address(r.Recipient, tx.Rcpt) {
		return false
	}
	if len(r.For) == 0 {
		return e.destination(&old.For{Local: true}, tx)
	}
	for _, f := range r.For {
		if e.destination(f, tx) {
			return true
		}
	}
	return false
}

func (e *oldEngine) source(f *old.From, tx *engine.Transaction) bool {
	first := e.file.Dialect.Generation() == 1
	local := tx.Kind != engine.FromAddress || tx.Auth
	switch {
	case first && (tx.Kind == engine.FromInternal || tx.Kind != engine.FromSocket && tx.Auth):
		return true
	case first && tx.Kind != engine.FromSocket:
		local = false
	}
	key := tx.SourceKey()
	if local {
		key = "local"
	}
	var holds bool
	switch {
	case f == nil || f.Local:
		holds = key == "local" || key == "127.0.0.1" || key == "[::1]"
	case f.Any:
		holds = true
	default:
		holds = e.in(f.Source, engine.NetAddr, key, nil)
	}
	return holds != (f != nil && f.Not)
}

func (e *oldEngine) destination(f *old.For, tx *engine.Transaction) bool {
	holds := f.Any
	switch {
	case f.Local:
		holds = tx.Rcpt.Domain == "localhost" || tx.Rcpt.Domain == "mx.recorded.invalid"
	case f.Virtual != nil:
		holds = slices.Contains([]string{"example.org", "example.com"}, tx.Rcpt.Domain)
	case f.Domain != nil:
		holds = e.in(f.Domain, engine.Domain, tx.Rcpt.Domain, nil)
	}
	return holds != f.Not
}

func (e *oldEngine) address(a *old.Addresses, addr engine.Address) bool {
	if a == nil {
		return true
	}
	d := e.file.Dialect
	drop := func(key string) bool {
		return !strings.Contains(key, "@") || d < old.D541 && strings.Contains(key, "*") ||
			d < old.D57 && key == "@" && addr != (engine.Address{})
	}
	return e.in(a.Table, engine.MailAddr, addr.String(), drop) != a.Not
}

// in looks a key up in a table without the entries that drop says.
func (e *oldEngine) in(t *old.TableArg, s engine.Service, key string, drop func(string) bool) bool {
	elems := t.Elems
	if t.Ref != nil {
		for _, st := range e.file.Stmts {
			if st.Table != nil && st.Table.Name.Text == t.Ref.Text {
				elems = st.Table.Elems.Elems
			}
		}
	}
	table := &compile.Table{}
	for _, el := range elems {
		if drop == nil || !drop(el.Key.Text) {
			table.Entries = append(table.Entries, compile.Entry{Key: el.Key.Text})
		}
	}
	table.Entries = tablefile.Normalize(table.Entries)
	ok, _ := engine.NewStatic(table, '+').Check(s, key)
	return ok
}

// FuzzMigrateText converts any text: it ends, it never fails, and what comes
// out without a finding that needs a person is of the present language.
func FuzzMigrateText(f *testing.F) {
	pairs, err := filepath.Glob("../../testdata/migration/*/old.conf")
	if err != nil || len(pairs) == 0 {
		f.Fatalf("no pairs: %v", err)
	}
	for _, path := range pairs {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, uint8(0))
	}
	f.Add([]byte("a = b\naccept for $a ( $a \"$a\n"), uint8(1))
	f.Add([]byte("nets='#000000'\n$nets 000(\n"), uint8(0))
	f.Add([]byte("map x { source\n db \"/y\"\n}\n\\\n#\\\nlisten on \\\"\n"), uint8(3))
	host := recordedHost(f)
	f.Fuzz(func(t *testing.T, text []byte, word uint8) {
		if len(text) > 4000 || bytes.Contains(text, []byte("include")) {
			return
		}
		m := &migration{name: "old.conf", text: text, host: host, noProof: true}
		if err := m.force([]string{"", "1", "2", "1A", "5.3", "5.4.1", "6.0.3", "6.5"}[word%8]); err != nil {
			t.Fatal(err)
		}
		if err := m.convert(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if m.old == nil || m.report.List.Has(diag.Language) {
			return
		}
		if _, err := layout("old.conf", m.texts[0].Data); err != nil {
			t.Fatalf("%v\n%s\n%s", err, text, m.texts[0].Data)
		}
	})
}
