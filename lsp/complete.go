package lsp

import (
	"fmt"
	"slices"
	"strings"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/lang"
)

// Kinds of completion items of the protocol.
const (
	itemVariable = 6
	itemValue    = 12
	itemKeyword  = 14
	itemModule   = 9
)

// maxItems bounds an answer; whoever has more names types a letter of one.
const maxItems = 2000

// A completion collects what may stand at one place.
type completion struct {
	view   *view
	from   int    // where what is typed begins
	prefix string // what is typed
	items  []completionItem
	seen   map[string]bool
}

// complete lists what the grammar takes at the place, and the names in
// scope where it takes a name.
func (v *view) complete(*placeParams) ([]completionItem, error) {
	c := &completion{view: v, from: v.offset, items: []completionItem{}, seen: make(map[string]bool)}
	quoted := false
	for _, p := range v.pieces {
		if p.Start >= v.offset || p.End < v.offset {
			continue
		}
		switch p.Kind {
		case lang.CommentPiece:
			return c.items, nil
		case lang.PunctPiece, lang.NewlinePiece:
			continue
		case lang.StringPiece, lang.InvalidPiece:
			quoted = true
		}
		c.from = p.Start
		c.prefix = v.doc.text[p.Start:v.offset]
	}
	expected := v.expected(c.from)
	line := v.line(c.from)
	if !quoted && !strings.HasPrefix(c.prefix, "$") {
		c.keywords(expected, line)
	}
	if slices.Contains(expected, "<word>") {
		c.names(line, slices.Contains(expected, "<"))
		if !quoted {
			c.macros()
		}
	}
	return c.items, nil
}

// expected returns what the grammar takes at an offset of the document. One
// that is included is read as if it stood alone, which knows fewer macros.
func (v *view) expected(offset int) []string {
	return lang.Expected(v.doc.path, v.options([]byte(v.doc.text)), offset)
}

func (c *completion) add(kind int, label, insert, detail, doc string) {
	if c.seen[label] || len(c.items) == maxItems || !strings.HasPrefix(strings.TrimLeft(insert, "\"<"), strings.TrimLeft(c.prefix, "\"'<")) {
		return
	}
	c.seen[label] = true
	item := completionItem{
		Label:      label,
		Kind:       kind,
		Detail:     detail,
		SortText:   fmt.Sprintf("%04d", len(c.items)),
		FilterText: insert,
		TextEdit:   &textEdit{c.view.lines.stretch(c.from, c.view.offset), insert},
	}
	if strings.HasPrefix(c.prefix, "'") || strings.HasPrefix(c.prefix, `"`) {
		item.FilterText = c.prefix[:1] + strings.Trim(insert, `"`)
	}
	if doc != "" {
		item.Documentation = &markup{"markdown", doc}
	}
	c.items = append(c.items, item)
}

// keywords adds the words that the grammar takes, in the order in which it
// gives them: what must come is first.
func (c *completion) keywords(expected []string, line []lang.Piece) {
	statement := ""
	if len(line) > 0 {
		statement = line[0].Text
	}
	for _, w := range expected {
		if lang.Keyword(w) || ast.Extends(w) {
			c.add(itemKeyword, w, w, "", Meaning(statement, w))
		}
	}
	if slices.Contains(expected, "<word>") && len(line) > 1 {
		for _, w := range values[statement+" "+line[len(line)-1].Text] {
			c.add(itemValue, w, w, "", "")
		}
		if line[1].Text == "limit" && line[len(line)-1].Text != "domain" {
			for _, w := range compile.LimitNames(statement) {
				c.add(itemValue, w, w, statement+" limit", "")
			}
		}
	}
}

// values are words that are no keywords and have a meaning all the same.
var values = map[string][]string{
	"pki dhe": {"none", "auto", "legacy"},
}

// names adds the declared names of the kind that belongs at the end of line.
// tables says that a table in angle brackets may stand there.
func (c *completion) names(line []lang.Piece, tables bool) {
	if tables {
		c.namesOf(tableName, "<", ">")
		return
	}
	if k := kindAfter(line); k != "" {
		c.namesOf(k, "", "")
	}
}

// kindAfter returns the kind of name that comes after the pieces of a
// statement, if it is certain.
func kindAfter(line []lang.Piece) kind {
	n := len(line)
	if n < 2 {
		return ""
	}
	statement := line[0].Text
	if i := openBrace(line); i > 0 && (line[i-1].Text == "chain" || line[i-1].Text == "filter") {
		return filterName
	}
	switch w := line[n-1].Text; {
	case w == "<":
		return tableName
	case w == "action" && statement == "match":
		return actionName
	case w == "filter":
		return filterName
	case w == "proc" && statement == "filter":
		return procName
	case w == "wrapper" && statement == "action":
		return wrapperName
	case w == "pki":
		return pkiName
	case w == "ca":
		return caName
	}
	return ""
}

// openBrace returns the index of the brace that is open at the end of line,
// or -1.
func openBrace(line []lang.Piece) int {
	open := -1
	for i, p := range line {
		switch {
		case p.Kind != lang.PunctPiece:
		case p.Text == "{":
			open = i
		case p.Text == "}":
			open = -1
		}
	}
	return open
}

// namesOf adds the names of one kind that are declared before the place: a
// name must be declared before it is used.
func (c *completion) namesOf(k kind, before, after string) {
	v := c.view
	for i := range v.names {
		o := &v.names[i]
		if o.kind != k || o.stmt == nil {
			continue
		}
		if v.is(o.span.Start.Filename, v.doc) && v.lines.at(o.span.Start) >= c.from {
			continue
		}
		name := o.name
		if !bare(name) || before == "" && k != tableName {
			if strings.ContainsAny(name, "\"\\\n") {
				continue
			}
			name = `"` + name + `"`
		}
		c.add(itemModule, before+o.name+after, before+name+after, string(k), v.declaration(o))
	}
}

// macros adds the macros that are defined before the place.
func (c *completion) macros() {
	v := c.view
	for i := range v.names {
		o := &v.names[i]
		if o.kind == macroName && o.stmt != nil && !(v.is(o.span.Start.Filename, v.doc) && v.lines.at(o.span.Start) >= c.from) {
			c.add(itemVariable, "$"+o.name, "$"+o.name, "macro", v.declaration(o))
		}
	}
	for _, d := range v.server.config.Defines {
		c.add(itemVariable, "$"+d.Name, "$"+d.Name, "macro of the command line", "")
	}
}
