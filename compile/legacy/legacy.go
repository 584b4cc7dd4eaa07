// Package legacy compiles a configuration of an older generation of the
// language to the rule table of the present engine, by the rules of its own
// time and straight from its tree. It is the other side of a migration: the
// table of the converted text is compared with this one. So it shares nothing
// with package migrate but the tree, and says nothing of how the present
// language would write what it finds.
//
// Where the present engine has no way of doing what an old server did, the
// table has the nearest that there is: an address that came out of an
// expansion, a relay in clear text to an exchanger, a sender replaced for good.
// Package migrate reports each of these.
package legacy

import (
	"fmt"
	"strings"
	"time"

	"smtpd/ast"
	"smtpd/ast/old"
	"smtpd/compile"
	"smtpd/compile/tablefile"
	"smtpd/compile/tablefile/hashdb"
)

// Compile returns the rule table of f on host h. What the host does not know
// of tables is left open in it, as compile.Draft leaves it. The error is a
// name that no statement declares, or a lifetime that is none.
func Compile(f *old.File, h compile.Host) (*compile.Ruleset, error) {
	c := &compiler{file: f, host: h, rs: blank(h), tables: make(map[string]compile.TableID), pki: make(map[string]bool)}
	c.lifetime, c.err = 4*24*time.Hour, nil
	c.server()
	for _, s := range f.Stmts {
		switch {
		case s.Table != nil:
			c.declare(s.Table)
		case s.Setting != nil:
			c.setting(s.Setting)
		case s.Listen != nil:
			c.listen(s)
		case s.Rule != nil:
			c.origin = compile.Origin{File: s.Start.Filename, Line: s.Start.Line, Column: s.Start.Column}
			c.rule(s.Rule)
		}
	}
	return c.rs, c.err
}

// blank returns a rule table without rules.
func blank(h compile.Host) *compile.Ruleset {
	reject := &ast.File{Stmts: []*ast.Stmt{{Match: &ast.Match{Reject: true}}}}
	rs, _ := compile.Draft(reject, h)
	rs.Rules = nil
	return rs
}

type compiler struct {
	file   *old.File
	host   compile.Host
	rs     *compile.Ruleset
	err    error
	origin compile.Origin // of the rule in hand

	tables   map[string]compile.TableID
	pki      map[string]bool // those that are declared
	lifetime time.Duration   // of mail in the queue
	login    bool            // some listener offers authentication
	ownNames bool            // some listener has a name of its own
	helo     string          // hostname of generation 1
}

// server looks at the statements that hold for the whole file.
func (c *compiler) server() {
	for _, s := range c.file.Stmts {
		switch {
		case s.Listen != nil:
			c.login = c.login || s.Listen.Auth != ""
			c.ownNames = c.ownNames || s.Listen.Hostname != nil
		case s.PKI != nil:
			c.pki[strings.ToLower(s.PKI.Name.Text)] = true
		case s.Setting != nil && s.Setting.Word == "expire":
			c.lifetime = c.duration(s.Setting.Args[0])
		case s.Setting != nil && s.Setting.Word == "hostname":
			c.helo = s.Setting.Args[0].Text
		case s.Setting != nil && s.Setting.Word == "subaddressing-delimiter" && len(s.Setting.Args[0].Text) == 1:
			c.rs.SMTP.SubAddrDelim = s.Setting.Args[0].Text[0]
		}
	}
}

func (c *compiler) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// duration reads a delay such as 4d.
func (c *compiler) duration(s *old.Str) time.Duration {
	var n int64
	var unit string
	if _, err := fmt.Sscanf(s.Text, "%d%1s", &n, &unit); err == nil && n > 0 && n < 1<<31 {
		switch unit {
		case "s":
			return time.Duration(n) * time.Second
		case "m":
			return time.Duration(n) * time.Minute
		case "h":
			return time.Duration(n) * time.Hour
		case "d":
			return time.Duration(n) * 24 * time.Hour
		}
	}
	c.fail("%s: %q is no delay", s.Pos, s.Text)
	return c.lifetime
}

// declare adds a table that has a name.
func (c *compiler) declare(t *old.Table) {
	table := compile.Table{Name: t.Name.Text}
	switch {
	case t.Elems != nil:
		table.Kind, table.Backend, table.Entries = entries(t.Elems.Elems)
	case t.Spec != nil && strings.HasPrefix(t.Spec.Text, "/"):
		c.text(&table, t.Spec.Text)
	case t.Spec != nil:
		backend, path, _ := strings.Cut(t.Spec.Text, ":")
		c.backend(&table, backend, path)
	case t.Source == "db":
		c.backend(&table, "db", t.Path.Text)
	case t.Source == "plain" || t.Source == "file":
		c.text(&table, t.Path.Text)
	default:
		table.Kind = compile.Empty // declared, and never had anything in it
	}
	c.tables[t.Name.Text] = c.add(table)
}

func (c *compiler) backend(t *compile.Table, backend, path string) {
	switch backend {
	case "file", "static":
		c.text(t, path)
	default:
		t.Kind, t.Backend, t.Path = compile.Dynamic, backend, path
	}
}

// text reads the file of a table.
func (c *compiler) text(t *compile.Table, path string) {
	t.Backend, t.Path, t.Kind = "static", path, compile.Dynamic
	file, err := c.host.ReadFile(path)
	if err != nil {
		return
	}
	kind, list, err := tablefile.Parse(path, file.Data)
	if err != nil {
		c.fail("table %s: %w", t.Name, err)
		return
	}
	t.Kind, t.Entries = compile.List, list
	if kind == tablefile.Mapping {
		t.Kind = compile.Mapping
	}
}

func entries(elems []*old.Elem) (compile.Kind, string, []compile.Entry) {
	kind := compile.List
	var list []compile.Entry
	for _, e := range elems {
		entry := compile.Entry{Key: e.Key.Text}
		if e.Value != nil {
			kind, entry.Value = compile.Mapping, e.Value.Text
		}
		list = append(list, entry)
	}
	return kind, "static", tablefile.Normalize(list)
}

func (c *compiler) add(t compile.Table) compile.TableID {
	if t.Name == "" {
		t.Name = fmt.Sprintf("<old:%d>", len(c.rs.Tables))
	}
	c.rs.Tables = append(c.rs.Tables, t)
	return compile.TableID(len(c.rs.Tables))
}

// keys adds a list of keys.
func (c *compiler) keys(keys ...string) compile.TableID {
	var list []compile.Entry
	for _, k := range keys {
		list = append(list, compile.Entry{Key: k})
	}
	return c.add(compile.Table{Kind: compile.List, Backend: "static", Entries: tablefile.Normalize(list)})
}

// table returns the table that an argument means; 0 for none.
func (c *compiler) table(a *old.TableArg) compile.TableID {
	switch {
	case a == nil:
		return 0
	case a.Ref == nil:
		kind, backend, list := entries(a.Elems)
		return c.add(compile.Table{Kind: kind, Backend: backend, Entries: list})
	}
	id, ok := c.tables[a.Ref.Text]
	if !ok {
		c.fail("%s: no such table: %s", a.Ref.Pos, a.Ref.Text)
		id = c.keys()
		c.tables[a.Ref.Text] = id
	}
	return id
}

// known returns the keys of a table, if they are known here.
func (c *compiler) known(id compile.TableID) ([]string, bool) {
	t := c.rs.Table(id)
	if t.Kind == compile.Dynamic {
		return nil, false
	}
	var keys []string
	for _, e := range t.Entries {
		keys = append(keys, e.Key)
	}
	return keys, true
}

// listed returns the keys of a table, those of a database included if it can
// be read here.
func (c *compiler) listed(id compile.TableID) []string {
	keys, ok := c.known(id)
	t := c.rs.Table(id)
	if ok || t.Backend != "db" {
		return keys
	}
	file, err := c.host.ReadFile(t.Path)
	if err != nil {
		return nil
	}
	list, _ := hashdb.Parse(file.Data)
	for _, e := range list {
		keys = append(keys, e.Key)
	}
	return keys
}
