package lang

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"smtpd/ast"
	"smtpd/lang/token"
)

// Format returns the text of a configuration in its one canonical layout:
// one blank between tokens, a comma between the elements on a line, a tab
// before lines inside braces and after a line that goes on, at most one
// empty line in a row. Comments, macros, includes and the places where lines
// end stay as they are.
//
// It refuses text that does not parse, and the error is the first
// *diag.Diagnostic; what an included file may define does not count. Where a
// macro decides what the rest of its line is, the error is ErrUnclear. It
// opens no file.
func Format(name string, src []byte) ([]byte, error) {
	before, err := parseForFormat(name, src)
	if err != nil {
		return nil, err
	}
	f := newFormatter(name, unmarked(src))
	for f.statement() {
	}
	if f.err != nil {
		return nil, fmt.Errorf("format %s: %w", name, f.err)
	}
	out := []byte(f.out.String())
	// The layout is not worth the risk of another meaning: if the texts do
	// not read the same, the fault is here and the text stays as it was.
	after, err := parseForFormat(name, out)
	if err != nil || !sameStatements(before, after) {
		// What follows an undefined macro was not read as it stands here.
		if slices.ContainsFunc(before, func(s *ast.Stmt) bool { return s.Bad != nil }) {
			return nil, fmt.Errorf("format %s: %w", name, ErrUnclear)
		}
		return nil, fmt.Errorf("format %s: the result would not mean the same; please report this", name)
	}
	return out, nil
}

// unmarked drops the bytes that the lexer does not see: what they part is one.
func unmarked(src []byte) []byte {
	for _, mark := range []string{"\x01", "\x02"} {
		src = bytes.ReplaceAll(src, []byte(mark), nil)
	}
	return src
}

// ErrUnclear is about text that parses only because of a macro in it, which
// is not defined here or holds a mark of a comment: braces stay open, or there
// are characters that no token has.
var ErrUnclear = errors.New("a macro decides what the rest of its line is; the text cannot be laid out around it")

// parseForFormat parses the text without the files that it includes.
func parseForFormat(name string, src []byte) ([]*ast.Stmt, error) {
	if src == nil {
		src = []byte{}
	}
	file, diags := Parse(name, Options{
		Text: src,
		Open: func(string) ([]byte, error) { return nil, nil },
	})
	for _, d := range diags {
		if d.Code != "undefined-macro" {
			return nil, d
		}
	}
	return file.Stmts, nil
}

var posType = reflect.TypeFor[token.Pos]()

// sameStatements compares statements without their places.
func sameStatements(a, b []*ast.Stmt) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !sameNode(reflect.ValueOf(a[i]), reflect.ValueOf(b[i])) {
			return false
		}
	}
	return true
}

func sameNode(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return sameNode(a.Elem(), b.Elem())
	case reflect.Struct:
		for i := range a.NumField() {
			if a.Field(i).Type() != posType && !sameNode(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !sameNode(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	}
	return a.Equal(b)
}

// Kinds of items that the grammar does not know.
const (
	comment      kind = iota + 100
	macroUse          // $name, with the word that follows without a blank
	continuation      // a backslash and the newline after it
)

// An item is a piece of text between blanks. Its text is as it was written.
type item struct {
	kind  kind
	text  string
	near  bool // no blank before it
	first bool // in the first column
}

func (it *item) isElement() bool { return it.kind == word || it.kind == quoted }

// A formatter reads items and writes them anew.
type formatter struct {
	lex   lexer
	items []item // of the present statement

	out       strings.Builder
	fresh     bool  // nothing is on the present line of out
	emptyLine bool  // an empty line was read and not written
	depth     int   // of braces
	err       error // why the text cannot be formatted
	hang      int   // tabs more for the line that goes on the one before
}

func newFormatter(name string, src []byte) *formatter {
	f := &formatter{fresh: true}
	f.lex.cur = &source{name: name, text: string(src), line: 1}
	return f
}

// next reads one item.
func (f *formatter) next() item {
	l := &f.lex
	near := true
	for {
		start := l.cur.off
		if l.raw(0) == '\\' && l.raw(1) == '\n' {
			l.skip(2)
			return item{kind: continuation}
		}
		c, n := l.peek()
		start = min(start, l.cur.off)
		switch {
		case c == ' ' || c == '\t':
			l.skip(n)
			near = false
			continue
		case c == -1:
			return item{kind: endOfInput}
		case c == '\n':
			l.skip(n)
			return item{kind: newline}
		case c == '#':
			return item{kind: comment, text: f.comment(), near: near}
		case c == '$':
			l.skip(n)
			l.name()
			l.wordText(l.pos())
			return item{kind: macroUse, text: f.written(start, nil), near: near}
		}
		t := l.scan()
		return item{kind: t.kind, text: f.written(start, &t), near: near, first: t.pos.Column == 1}
	}
}

// comment reads a comment, without the blanks at its end.
func (f *formatter) comment() string {
	l := &f.lex
	start := l.cur.off
	c, n := l.peek()
	for c != '\n' && c != -1 {
		l.skip(n)
		c, n = l.peek()
	}
	text := l.cur.text[start:l.cur.off]
	if c == -1 {
		return strings.TrimRight(text, "\\ \t\r\n")
	}
	trimmed := strings.TrimRight(text, " \t\r")
	if strings.HasSuffix(trimmed, `\`) {
		return text // the blank keeps the comment from going on
	}
	return trimmed
}

// written returns the text from start to here as it should be written: as it
// was, but on one line if it is a word, and in double quotes if single ones
// make no difference.
func (f *formatter) written(start int, t *tok) string {
	text := f.lex.cur.text[start:f.lex.cur.off]
	if t != nil && t.kind == quoted {
		if text[0] == '\'' && !strings.ContainsAny(text, "\"\\") {
			return `"` + text[1:len(text)-1] + `"`
		}
		return text
	}
	text = strings.ReplaceAll(text, "\\\n", "")
	if rest := strings.TrimRight(text, `\`); (len(text)-len(rest))%2 == 1 {
		return text[:len(text)-1] // the last byte of the file, and nothing
	}
	return text
}

// statement formats the items up to the newline that ends a statement, and
// reports whether there are more.
func (f *formatter) statement() bool {
	f.items = f.items[:0]
	depth := 0
	for {
		it := f.next()
		switch {
		case it.kind == punct && it.text == "{":
			depth++
		case it.kind == punct && it.text == "}":
			depth = max(0, depth-1)
		case it.kind == endOfInput, it.kind == newline && depth == 0:
			if depth > 0 {
				f.err = ErrUnclear
			}
			f.write()
			return it.kind == newline
		}
		if it.kind == invalid || depth > 0 && it.first && it.kind == keyword && opensStatement(it.text) {
			f.err = ErrUnclear
		}
		f.add(it)
	}
}

// add adds an item of the present statement. A continuation at the begin or
// the end of a line says nothing.
func (f *formatter) add(it item) {
	n := len(f.items)
	if it.kind == continuation && (n == 0 || f.items[n-1].kind == newline) {
		return
	}
	for it.kind == newline && n > 0 && f.items[n-1].kind == continuation {
		n--
	}
	f.items = append(f.items[:n], it)
}

// write writes the items of a statement and ends the line.
func (f *formatter) write() {
	for n := len(f.items); n > 0 && (f.items[n-1].kind == continuation || f.items[n-1].kind == newline); n-- {
		f.items = f.items[:n-1]
	}
	if len(f.items) == 0 {
		f.emptyLine = f.out.Len() > 0
		return
	}
	f.flushEmptyLine()
	f.depth = 0
	list := 0 // items of a list that are still to be written
	for i := range f.items {
		if list--; list < 0 && f.items[i].text == "{" {
			list = f.listLength(i)
		}
		f.item(i, list > 0)
	}
	f.endLine()
}

func (f *formatter) flushEmptyLine() {
	if f.emptyLine {
		f.out.WriteByte('\n')
	}
	f.emptyLine = false
}

func (f *formatter) endLine() {
	f.out.WriteByte('\n')
	f.fresh = true
}

// listLength returns the number of items after the brace at i up to its
// closing brace, if what is between them is a list for certain: a macro
// might hold braces of its own. Otherwise it is 0, and commas stay.
func (f *formatter) listLength(i int) int {
	for j := i + 1; j < len(f.items); j++ {
		switch it := &f.items[j]; it.kind {
		case word, quoted, newline, comment, continuation:
		case punct:
			switch it.text {
			case "}":
				return j - i
			case ",", "=", "=>":
			default:
				return 0
			}
		default:
			return 0
		}
	}
	return 0
}

// item writes item i. inList says that it is part of a list in braces, so
// that commas may be added and taken away.
func (f *formatter) item(i int, inList bool) {
	it := &f.items[i]
	switch {
	case it.kind == newline:
		f.newlineInBraces(i)
		return
	case it.kind == continuation:
		f.continueLine(i, inList)
		return
	case inList && f.isIdleComma(i):
		return
	}
	if it.kind == punct && it.text == "}" {
		f.depth = max(0, f.depth-1)
	}
	prev := f.previous(i)
	switch {
	case f.fresh:
		f.out.WriteString(strings.Repeat("\t", f.depth+f.hang))
		f.hang = 0
	case inList && it.isElement() && prev.isElement():
		f.out.WriteString(", ")
	case blankBetween(prev, it):
		f.out.WriteByte(' ')
	}
	f.fresh = false
	f.out.WriteString(it.text)
	if it.kind == punct && it.text == "{" {
		f.depth++
	}
}

// previous returns the item before i that is on the same line of the output.
func (f *formatter) previous(i int) *item {
	for i--; i >= 0; i-- {
		if f.items[i].kind != continuation {
			return &f.items[i]
		}
	}
	return &item{kind: newline}
}

// endsLine reports whether after item i nothing but a comment is on its line.
func (f *formatter) endsLine(i int) bool {
	for i++; i < len(f.items); i++ {
		switch f.items[i].kind {
		case comment, continuation:
		case newline:
			return true
		default:
			return false
		}
	}
	return false
}

// newlineInBraces ends a line, or keeps one empty line between others.
func (f *formatter) newlineInBraces(i int) {
	if !f.fresh {
		f.endLine()
		return
	}
	if next := f.items[i+1:]; len(next) == 0 || next[0].kind == newline || next[0].text == "}" {
		return
	}
	for i > 0 && f.items[i].kind == newline {
		i--
	}
	if f.items[i].text != "{" {
		f.out.WriteByte('\n')
	}
}

// isIdleComma reports whether item i is a comma at the end of a line, which
// separates nothing that the newline does not.
func (f *formatter) isIdleComma(i int) bool {
	return f.items[i].kind == punct && f.items[i].text == "," && f.endsLine(i)
}

// continueLine keeps the place where a statement was broken with a backslash.
func (f *formatter) continueLine(i int, inList bool) {
	if f.fresh || i+1 >= len(f.items) || inList && f.isIdleComma(i+1) {
		return
	}
	switch f.items[i+1].kind {
	case continuation, newline, comment:
		return
	}
	f.out.WriteString(" \\\n")
	f.fresh = true
	f.hang = 1
}

// blankBetween reports whether there is a blank between two items of a line.
func blankBetween(prev, it *item) bool {
	// Text right after a macro may be part of its last word, and what looks
	// like a number is a word before some characters.
	if it.near && (prev.kind == macroUse || prev.kind == word && looksNumeric(prev.text)) &&
		(it.kind != punct || strings.Contains("{<!", it.text)) {
		return false
	}
	switch {
	case it.kind == comment:
		return true
	case prev.kind == punct && (prev.text == "<" || prev.text == "!"):
		return false
	}
	return it.kind != punct || it.text != "," && it.text != ">"
}

func looksNumeric(s string) bool { return strings.Trim(s, "0123456789-") == "" }
