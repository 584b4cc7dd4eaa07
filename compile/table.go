package compile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"

	"smtpd/ast"
	"smtpd/compile/tableconf"
	"smtpd/compile/tablefile"
	"smtpd/compile/tablefile/cdb"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// maxTableName is the longest name of a table in bytes.
const maxTableName = 2047

// maxPath is the longest path in bytes.
const maxPath = 4095

// addTable adds t to the Ruleset.
func (c *compiler) addTable(t Table) TableID {
	c.rs.Tables = append(c.rs.Tables, t)
	return TableID(len(c.rs.Tables))
}

// builtinTables declares the tables that are always there (language.md 5.5).
func (c *compiler) builtinTables() {
	server := c.rs.ServerName
	local := []Entry{{Key: "local"}}
	names := []Entry{{Key: "localhost"}, {Key: server}}
	for _, a := range c.host.Addrs() {
		local = append(local, Entry{Key: addrKey(a)})
		names = append(names, Entry{Key: addrKey(a)})
	}
	dest := []Entry{{Key: "*"}}
	if short, _, dotted := strings.Cut(server, "."); dotted && short != "" {
		dest = append(dest, Entry{Key: short})
	}
	c.rs.Local = c.builtin("<localhost>", local)
	c.rs.LocalNames = c.builtin("<localnames>", names)
	c.rs.AnyHost = c.builtin("<anyhost>", []Entry{{Key: "local"}, {Key: "0.0.0.0/0"}, {Key: "::/0"}})
	c.rs.AnyDest = c.builtin("<anydestination>", dest)
	id := c.addTable(Table{Name: "<getpwnam>", Kind: Dynamic, Backend: "getpwnam"})
	c.tables.names["<getpwnam>"] = decl[TableID]{id: id}
}

func (c *compiler) builtin(name string, entries []Entry) TableID {
	id := c.addTable(Table{Name: name, Kind: List, Backend: "static", Entries: tablefile.Normalize(entries)})
	c.tables.names[name] = decl[TableID]{id: id}
	return id
}

// addrKey returns the text by which an address is looked up.
func addrKey(a netip.Addr) string {
	if a.Unmap().Is4() {
		return a.Unmap().String()
	}
	return "[" + a.String() + "]"
}

// tableStmt declares a table.
func (c *compiler) tableStmt(t *ast.Table) {
	errors := c.errors
	var table Table
	if t.List != nil {
		c.tableName(&t.Name, t.Name.Pos)
		table = c.inline(t.List)
		table.Name, table.Origin = t.Name.Text, c.here()
	} else {
		table = c.tableSpec(t)
	}
	c.tables.declare(&t.Name, c.addTable(table), c.failed(errors))
}

// tableName checks that a table can have a name. Both mistakes end
// OpenSMTPD.
func (c *compiler) tableName(name *ast.Str, seen token.Pos) {
	if len(name.Text) > maxTableName {
		c.tooLong(name, "name of a table", maxTableName)
		return
	}
	if d := c.tables.taken(c, name, seen); d != nil {
		d.Fatal = true
	}
}

// tooLong reports a name over the length at which OpenSMTPD ends.
func (c *compiler) tooLong(s *ast.Str, what string, limit int) {
	d := c.errorf(span(s), s.Pos, "name-too-long", "%s is too long: %d bytes, the limit is %d", what, len(s.Text), limit)
	d.Fatal = true
}

// tableSpec makes the table that "table NAME SPEC" declares.
func (c *compiler) tableSpec(t *ast.Table) Table {
	name, spec := &t.Name, t.Spec
	table := Table{Name: name.Text, Origin: c.here()}
	hasPath := true
	if strings.HasPrefix(spec.Text, "/") {
		table.Backend, table.Path = "static", spec.Text
	} else {
		table.Backend, table.Path, hasPath = strings.Cut(spec.Text, ":")
	}
	if hasPath && !strings.HasPrefix(table.Path, "/") {
		d := c.errorf(span(spec), spec.Pos, "table-spec", "what follows %q is no absolute path: %q", table.Backend+":", table.Path)
		d.Label = "the path must begin with /"
		return table
	}
	if len(table.Path) > maxPath {
		c.tooLong(spec, "path of a table", maxPath)
		return table
	}
	c.tableName(name, spec.Pos)
	if table.Backend == "file" {
		table.Backend = "static"
	}
	switch table.Backend {
	case "static":
		c.fileTable(&table, spec)
	case "db":
		c.dbTable(&table, spec, hasPath)
	case "getpwnam":
		table.Kind = Dynamic
		if hasPath {
			c.errorf(span(spec), spec.Pos, "table-spec", "getpwnam takes no path")
		}
	case "passwd":
		c.configuredTable(&table, spec, hasPath)
	case "proc":
		table.Kind = Dynamic
		if !hasPath {
			c.errorf(span(spec), spec.Pos, "table-spec", "proc needs the path of a program: proc:/path")
		}
	default:
		table.Kind = Dynamic
		if tableconf.Serves(table.Backend) {
			c.configuredTable(&table, spec, hasPath)
		} else if !c.host.Helper(table.Backend) {
			d := c.lacks(span(spec), "unknown-backend", "tables of type %q need the program table-%s", table.Backend, table.Backend)
			d.Label = "not built in, and not installed"
			d.Fatal = true
		}
	}
	return table
}

// fileTable reads the file of a static table.
func (c *compiler) fileTable(t *Table, spec *ast.Str) {
	if t.Path == "" {
		t.Kind = Empty
		return
	}
	data, ok := c.read(t.Path, span(spec), "table-file", "table "+show("table", t.Name))
	if !ok {
		t.Kind = Dynamic
		return
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		line := bytes.Count(data[:i], []byte{'\n'}) + 1
		c.diags.Reportf(diag.Warning, span(spec), "table-nul", "table %s: line %d of %s holds a NUL byte, and what follows that is not read", show("table", t.Name), line, t.Path)
	}
	kind, entries, err := tablefile.Parse(t.Path, data)
	if err != nil {
		d := c.errorf(span(spec), spec.Pos, "table-content", "table %s: %v", show("table", t.Name), err)
		d.Label = "read by this statement"
		return
	}
	t.Kind, t.Entries = List, entries
	if kind == tablefile.Mapping {
		t.Kind = Mapping
	}
}

// read returns a file that the configuration needs. One that is not there
// is what the host lacks.
func (c *compiler) read(path string, at token.Span, code diag.Code, what string) ([]byte, bool) {
	f, err := c.host.ReadFile(path)
	if err == nil {
		return f.Data, true
	}
	if !errors.Is(err, ErrContent) {
		c.lacks(at, code, "%s %s", what, fileProblem(path, err))
	}
	return nil, false
}

// fileProblem returns the text for a file that cannot be read.
func fileProblem(path string, err error) string {
	if errors.Is(err, ErrUnknown) {
		return "needs the file " + path
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return "cannot be read: " + path + ": " + err.Error()
}

// dbTable checks the database of a table as far as it can be checked
// without reading it all.
func (c *compiler) dbTable(t *Table, spec *ast.Str, hasPath bool) {
	t.Kind = Dynamic
	if !hasPath {
		c.errorf(span(spec), spec.Pos, "table-spec", "db needs the path of a database: db:/path")
		return
	}
	data, ok := c.read(t.Path, span(spec), "table-file", "table "+show("table", t.Name))
	if ok && !isHashDB(data) && !isConstantDB(data) {
		c.errorf(span(spec), spec.Pos, "table-content", "table %s: %s is not a hash database", show("table", t.Name), t.Path)
	}
}

// configuredTable reads the file that configures a table of a backend which
// is built in. lka gets it with the table: it may not be allowed to read it.
// OpenSMTPD leaves that to a program which it starts later, so without the
// file a configuration is good, but the daemon does not start.
func (c *compiler) configuredTable(t *Table, spec *ast.Str, hasPath bool) {
	t.Kind = Dynamic
	if !hasPath {
		c.errorf(span(spec), spec.Pos, "table-spec", "%s needs the path of a file: %s:/path", t.Backend, t.Backend)
		return
	}
	f, err := c.host.ReadFile(t.Path)
	switch {
	case err == nil:
		t.Config = string(f.Data)
		c.checkConfig(t, spec)
	case t.Backend == "socketmap": // a socket, of a server that may not be there yet
	case !errors.Is(err, ErrContent) && !errors.Is(err, ErrUnknown):
		c.diags.Reportf(diag.Warning, span(spec), "table-file", "table %s %s: smtpd does not start without it", show("table", t.Name), fileProblem(t.Path, err))
	}
}

func (c *compiler) checkConfig(t *Table, spec *ast.Str) {
	var err error
	var unknown []tableconf.Unknown
	if t.Backend == "passwd" {
		_, err = tablefile.ParsePasswd(t.Path, t.Config)
	} else {
		var f *tableconf.File
		if f, err = tableconf.Parse(t.Backend, t.Path, t.Config); err == nil {
			unknown = f.Unknown()
		}
	}
	if err != nil {
		d := c.errorf(span(spec), spec.Pos, "table-content", "table %s: %v", show("table", t.Name), err)
		d.Label = "read by this statement"
		return
	}
	for _, u := range unknown {
		c.diags.Reportf(diag.Warning, span(spec), "no-effect", "table %s: %s:%d: there is no setting %q of %s tables, and it has no effect",
			show("table", t.Name), t.Path, u.Line, u.Key, t.Backend)
	}
}

// Program returns the program that serves a table, as a path or, without a
// slash, the name of one that is installed with others, and its argument; ok
// is false if none does.
func (t *Table) Program() (program, argument string, ok bool) {
	switch t.Backend {
	case "", "static", "db", "getpwnam", "passwd":
		return "", "", false
	case "proc":
		program, argument, _ = strings.Cut(t.Path, ":")
		return program, argument, true
	}
	if tableconf.Serves(t.Backend) {
		return "", "", false
	}
	return "table-" + t.Backend, t.Path, true
}

func isConstantDB(data []byte) bool {
	_, err := cdb.Open(data)
	return err == nil
}

// isHashDB reports whether data begins as a Berkeley DB hash does: the magic
// number stands first in version 1.85 and at byte 12 in the later ones, in
// either byte order.
func isHashDB(data []byte) bool {
	for _, at := range []int{0, 12} {
		if len(data) < at+4 {
			return false
		}
		switch string(data[at : at+4]) {
		case "\x00\x06\x15\x61", "\x61\x15\x06\x00":
			return true
		}
	}
	return false
}

// inline makes the table that a list in braces holds. Its name is up to the
// caller.
func (c *compiler) inline(l *ast.List) Table {
	t := Table{Kind: List, Backend: "static"}
	t.Entries = make([]Entry, 0, len(l.Elems))
	for _, e := range l.Elems {
		entry := Entry{Key: e.Key.Text}
		if e.Value != nil {
			t.Kind = Mapping
			entry.Value = e.Value.Text
		}
		if len(entry.Key) > tablefile.MaxKey {
			d := c.diags.Reportf(diag.Warning, span(&e.Key), "element-too-long", "element of %d bytes is left out of the table", len(entry.Key))
			d.Label = "the limit is " + strconv.Itoa(tablefile.MaxKey) + " bytes"
			continue
		}
		t.Entries = append(t.Entries, entry)
	}
	t.Entries = tablefile.Normalize(t.Entries)
	return t
}

// table returns the table that an argument means: a declared one, or a new
// one without a name. ok is false if it was reported or is a part of
// something that was; then nothing more is to be said about it.
func (c *compiler) table(arg *ast.TableArg) (id TableID, ok bool) {
	if arg.Ref != nil {
		return c.tables.find(c, arg.Ref, arg.EndPos)
	}
	var t Table
	if arg.Str != nil {
		t = Table{Kind: List, Backend: "static"}
		if len(arg.Str.Text) <= tablefile.MaxKey {
			t.Entries = []Entry{{Key: tablefile.Fold(arg.Str.Text)}}
		} else {
			c.diags.Reportf(diag.Warning, span(arg.Str), "element-too-long", "element of %d bytes is left out of the table", len(arg.Str.Text))
		}
	} else {
		t = c.inline(arg.List)
	}
	t.Name = "<dynamic:" + strconv.Itoa(c.dynTables) + ">"
	t.Origin = origin(arg.Pos)
	c.dynTables++
	return c.addTable(t), true
}

// A purpose is a place where a table is used, and what serves there
// (language.md 3.5).
type purpose struct {
	name     string // "alias", for messages
	mapping  bool   // a mapping serves
	list     bool   // a list serves
	userinfo bool   // getpwnam serves
}

// The places where a table is checked.
var (
	forAlias       = purpose{name: "alias", mapping: true}
	forVirtual     = purpose{name: "virtual", mapping: true}
	forUserbase    = purpose{name: "userbase", mapping: true, userinfo: true}
	forHeloSrc     = purpose{name: "helo-src", mapping: true}
	forSource      = purpose{name: "src", list: true, mapping: true}
	forRelayHost   = purpose{name: "host", list: true}
	forRelayDomain = purpose{name: "domain", mapping: true}
	forRelayAuth   = purpose{name: "auth", mapping: true}
	forHostnames   = purpose{name: "hostnames", mapping: true}
	forSenders     = purpose{name: "senders", mapping: true}
	forBareLF      = purpose{name: "bare-lf-from", list: true}
	forProxies     = purpose{name: "only-from", list: true}
	forTag         = purpose{name: "tag", list: true}
	forHelo        = purpose{name: "helo", list: true}
	forDomain      = purpose{name: "for domain", list: true}
	forRDNS        = purpose{name: "from rdns", list: true}
	forSrc         = purpose{name: "from src", list: true}
	forFromAuth    = purpose{name: "from auth", list: true}
	forAuth        = purpose{name: "auth", list: true, mapping: true}
	forMailFrom    = purpose{name: "mail-from", list: true, mapping: true}
	forRcptTo      = purpose{name: "rcpt-to", list: true, mapping: true}
)

// suits reports whether table id serves for p, and complains if not. A
// regular expression is always an element of a list.
func (c *compiler) suits(id TableID, arg *ast.TableArg, p purpose, regex bool) bool {
	t := c.rs.Table(id)
	if regex {
		p.list, p.mapping = true, false
		p.name += " regex"
	}
	at := token.Span{Start: arg.Pos, End: arg.EndPos}
	var d *diag.Diagnostic
	switch {
	case t.Kind == Dynamic && (t.Backend != "getpwnam" || p.userinfo),
		t.Kind == List && p.list, t.Kind == Mapping && p.mapping:
		return true
	case t.Kind == Dynamic:
		d = c.errorf(at, seenArg(arg), "table-service", "%s cannot use table %s, which knows system users alone", p.name, show("table", t.Name))
		d.Label = "getpwnam serves as userbase, and for nothing else"
	default:
		d = c.errorf(at, seenArg(arg), "table-kind", "%s needs %s, not %s", p.name, wants(p), kindText(t.Kind))
		d.Label = "this is " + kindText(t.Kind)
		if c.meantTable(d, arg) {
			return false
		}
		if p.mapping && !p.list && t.Kind == List {
			d.Help = append(d.Help, `a mapping is written { key = value, ... }, or as lines "key value" in a file`)
		}
	}
	if arg.Ref != nil && c.tables.names[arg.Ref.Text].at != nil {
		d.Notes = append(d.Notes, diag.Note{Span: span(c.tables.names[arg.Ref.Text].at), Message: "declared here"})
	}
	return false
}

// meantTable says how a table is named, if arg is a string that is the name
// of one, and reports whether it is.
func (c *compiler) meantTable(d *diag.Diagnostic, arg *ast.TableArg) bool {
	if arg.Str == nil {
		return false
	}
	d.Label = "this is a list of one element"
	if c.tables.names[arg.Str.Text].at == nil {
		return false
	}
	d.Help = append(d.Help, fmt.Sprintf("the table of that name is written <%s>", arg.Str.Text))
	if !c.fromMacro(arg.Str.Pos) {
		d.Fixes = append(d.Fixes, diag.Fix{
			Message: "name the table",
			Grade:   diag.Suggested,
			Edits:   []diag.Edit{{Span: span(arg.Str), New: "<" + arg.Str.Text + ">"}},
		})
	}
	return true
}

func wants(p purpose) string {
	switch {
	case p.list && p.mapping:
		return "a table with content"
	case p.list:
		return "a list"
	}
	return "a mapping of keys to values"
}

func kindText(k Kind) string {
	switch k {
	case List:
		return "a list"
	case Mapping:
		return "a mapping"
	}
	return "a table declared without content"
}

// seenArg returns where OpenSMTPD has read all of an argument: at the begin
// of its last token, which may go on over lines.
func seenArg(arg *ast.TableArg) token.Pos {
	if arg.Str != nil {
		return arg.Str.Pos
	}
	return arg.EndPos
}

// use returns the table that an argument means if it serves for p.
func (c *compiler) use(arg *ast.TableArg, p purpose, regex bool) TableID {
	id, ok := c.table(arg)
	if !ok || !c.suits(id, arg, p, regex) {
		return 0
	}
	return id
}
