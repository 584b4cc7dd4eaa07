// Package gen2 is the grammar of generation 2 of the language: table, and
// rules that begin with accept or reject, as OpenSMTPD 5.3 to 6.0 and OpenBSD
// up to 6.3 read them.
//
// It reads a superset: the clauses of a rule in any order, and what published
// files have of the generations before and after. Where no release would have
// read that, it says so.
package gen2

import (
	"smtpd/ast/old"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/generation"
)

// Read makes the tree of a text of generation 2. Statements that could not
// be read are left out of it, and each is explained in the list.
func Read(s *lang.Scanned, d old.Dialect) (*old.File, diag.List) {
	f := generation.File(s, d)
	var diags diag.List
	g := grammar{Reader: generation.Reader{Dialect: d, Diags: &diags}, scanned: s, tables: make(map[string]bool)}
	for _, toks := range s.Statements {
		g.Begin(toks)
		st := g.statement()
		g.Finish()
		if !g.Failed() {
			st.Start, st.End = g.Start(), g.End()
			f.Stmts = append(f.Stmts, st)
		}
	}
	return f, diags
}

type grammar struct {
	generation.Reader
	scanned *lang.Scanned
	tables  map[string]bool // declared so far
}

// statement takes one statement.
func (g *grammar) statement() *old.Stmt {
	if m := g.Macro(); m != nil {
		return &old.Stmt{Macro: m}
	}
	if p := g.Present(g.scanned); p != nil {
		return &old.Stmt{Present: p}
	}
	switch g.TakeOneOf("accept", "reject", "listen", "table", "pki", "ca", "include", "map") {
	case "accept":
		return &old.Stmt{Rule: g.rule(false)}
	case "reject":
		return &old.Stmt{Rule: g.rule(true)}
	case "listen":
		return &old.Stmt{Listen: g.listen()}
	case "table":
		return &old.Stmt{Table: g.table()}
	case "map":
		g.Note("`map` is of generation 1, read as `table`")
		return &old.Stmt{Table: g.oldMap()}
	case "pki":
		return &old.Stmt{PKI: g.pki()}
	case "ca":
		ca := &old.CA{Name: *g.Str()}
		g.Want("certificate")
		ca.Cert = *g.Str()
		return &old.Stmt{CA: ca}
	case "include":
		return &old.Stmt{Include: g.Str()}
	}
	if f := g.filter(); f != nil {
		return &old.Stmt{Filter: f}
	}
	return &old.Stmt{Setting: g.setting()}
}

func (g *grammar) table() *old.Table {
	t := &old.Table{Name: *g.Str()}
	if g.Next("{") {
		t.Elems = g.TableArg()
	} else {
		t.Spec = g.Str()
	}
	g.tables[t.Name.Text] = true
	return t
}

// oldMap takes a map of generation 1 as a table.
func (g *grammar) oldMap() *old.Table {
	t := &old.Table{Name: *g.Str()}
	braces := g.Take("{")
	if g.Take("source") {
		if t.Source = g.TakeOneOf("db", "plain", "file"); t.Source == "" {
			g.Want("db")
		}
		t.Path = g.Str()
	} else {
		t.Spec = g.Str()
	}
	if braces {
		g.Want("}")
	}
	g.tables[t.Name.Text] = true
	return t
}

func (g *grammar) pki() *old.PKI {
	p := &old.PKI{Name: *g.Str()}
	for {
		w := g.TakeOneOf("certificate", "key", "ca", "dhparams", "dhe")
		if w == "" {
			return p
		}
		p.Options = append(p.Options, old.PKIOption{Word: w, Value: *g.Str()})
	}
}

func (g *grammar) filter() *old.Filter {
	text := g.Written(g.scanned)
	switch g.TakeOneOf("filter", "filterchain", "enqueuer") {
	case "filter":
		f := &old.Filter{Name: g.Str().Text, Text: text}
		if !g.Ended() && !g.Next("chain") {
			f.Prog = g.Str().Text
		}
		g.Rest()
		return f
	case "filterchain", "enqueuer":
		g.Rest()
		return &old.Filter{Text: text}
	}
	return nil
}

func (g *grammar) setting() *old.Setting {
	s := &old.Setting{}
	switch s.Word = g.TakeOneOf("expire", "max-message-size", "bounce-warn", "queue", "limit", "max-mta-deferred",
		"subaddressing-delimiter", "ciphers", "curve", "hostname", "size"); s.Word {
	case "expire", "subaddressing-delimiter", "ciphers", "curve":
		s.Args = append(s.Args, g.Str())
	case "hostname":
		g.Note("`hostname` is of generation 1")
		s.Args = append(s.Args, g.Str())
	case "size":
		g.Note("`size` is of generation 1, read as `max-message-size`")
		s.Word = "max-message-size"
		s.Args = append(s.Args, g.StrOrNumber())
	case "max-message-size":
		s.Args = append(s.Args, g.StrOrNumber())
	case "max-mta-deferred":
		s.Args = append(s.Args, g.Number())
	case "bounce-warn":
		for !g.Ended() && (len(s.Args) == 0 || g.Comma()) {
			s.Args = append(s.Args, g.Str())
		}
	case "queue":
		g.queue(s)
	case "limit":
		g.limit(s)
	default:
		g.Want("accept")
	}
	return s
}

func (g *grammar) queue(s *old.Setting) {
	w := g.TakeOneOf("compression", "encryption")
	if w == "" {
		g.Want("compression")
	}
	s.Word += " " + w
	if w == "encryption" && g.Take("key") {
		s.Args = append(s.Args, g.Str())
	}
}

func (g *grammar) limit(s *old.Setting) {
	w := g.TakeOneOf("session", "mda", "mta", "scheduler")
	if w == "" {
		g.Want("session")
	}
	s.Word += " " + w
	if w == "mta" && g.Take("for") {
		g.Want("domain")
		s.Domain = g.Str()
	}
	for !g.Ended() {
		name := g.Str()
		s.Args = append(s.Args, name)
		if w != "mta" || name.Text != "inet4" && name.Text != "inet6" {
			s.Args = append(s.Args, g.Number())
		}
	}
}
