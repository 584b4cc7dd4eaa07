package lsp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
	"smtpd/lang/diag"
)

// A client calls a server without streams between them.
type client struct {
	t   *testing.T
	s   *server
	out bytes.Buffer
	n   int
}

func newClient(t *testing.T) *client {
	c := &client{t: t}
	c.s = newServer(&c.out, Config{Host: hostfacts.Unnamed()})
	c.call("initialize", `{}`)
	return c
}

// answers returns what the server has written since the last time.
func (c *client) answers() []map[string]any {
	c.t.Helper()
	var list []map[string]any
	r := bufio.NewReader(&c.out)
	for {
		body, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			return list
		}
		var m map[string]any
		if err != nil || json.Unmarshal(body, &m) != nil || m["jsonrpc"] != "2.0" {
			c.t.Fatalf("not an answer: %v %s", err, body)
		}
		list = append(list, m)
	}
}

// call returns the result, or the message of the error.
func (c *client) call(method, params string) (result, refused string) {
	c.t.Helper()
	c.n++
	c.s.message(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, c.n, method, params))
	for _, m := range c.answers() {
		if e, ok := m["error"].(map[string]any); ok {
			return "", e["message"].(string)
		}
		if m["id"] == float64(c.n) {
			text, _ := json.Marshal(m["result"])
			return string(text), ""
		}
	}
	c.t.Fatalf("no answer to %s", method)
	return "", ""
}

// open opens a document and returns what is published, by URI.
func (c *client) open(uri, text string) map[string]string {
	c.t.Helper()
	params, _ := json.Marshal(openParams{documentItem{URI: uri, Text: text}})
	return c.notify("textDocument/didOpen", string(params))
}

func (c *client) notify(method, params string) map[string]string {
	c.t.Helper()
	c.s.message(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%q,"params":%s}`, method, params))
	published := make(map[string]string)
	for _, m := range c.answers() {
		p := m["params"].(map[string]any)
		text, _ := json.Marshal(p["diagnostics"])
		published[p["uri"].(string)] = string(text)
	}
	return published
}

// cut takes the bar out of a text and returns parameters for its place.
func cut(uri, text string) (clean, params string) {
	before, after, _ := strings.Cut(text, "|")
	p := newLines(before).position(len(before))
	return before + after, fmt.Sprintf(`{"textDocument":{"uri":%q},"position":{"line":%d,"character":%d}`, uri, p.Line, p.Character)
}

const conf = "file:///etc/mail/smtpd.conf"

func TestDiagnostics(t *testing.T) {
	c := newClient(t)
	// The comment holds a character of two UTF-16 units.
	got := c.open(conf, "match from local for any action \"😀\" # 😀\nmatch \"😀\" x\n")[conf]
	for _, want := range []string{
		`"code":"undefined-action"`,
		`"range":{"end":{"character":36,"line":0},"start":{"character":32,"line":0}}`,
		`"code":"syntax"`,
		`"severity":1`, `"source":"smtpd-check"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	// Only the name changes: columns 32 to 36 count the pair as two.
	got = c.notify("textDocument/didChange", `{"textDocument":{"uri":"`+conf+`"},"contentChanges":[
		{"range":{"start":{"line":1,"character":0},"end":{"line":2,"character":0}},"text":""},
		{"range":{"start":{"line":0,"character":0},"end":{"line":0,"character":0}},"text":"action \"😀\" relay\n"}]}`)[conf]
	if got != "[]" {
		t.Errorf("after the changes: %s", got)
	}
	if got := c.notify("textDocument/didClose", `{"textDocument":{"uri":"`+conf+`"}}`)[conf]; got != "" && got != "[]" {
		t.Errorf("after closing: %s", got)
	}
}

func TestHover(t *testing.T) {
	for text, want := range map[string]string{
		"ma|tch from any reject\n":                                           "the first that matches",
		"listen on lo tl|s\n":                                                "STARTTLS",
		"match t|ls reject\n":                                                "sessions that use TLS",
		"table t { a,\n b }\nmatch from src <|t> reject\n":                   "table t { a,\\n b }",
		"action \"a\" relay\nmatch for any action \"a|\"\n":                  "action \\\"a\\\" relay",
		"# match| this\n":                                                    "null",
		"x = \"local\"\nmatch from $|x reject\n":                             "x = \\\"local\\\"",
		"filter f phase connect match fcrdns junk\nlisten on lo filter |f\n": "fcrdns junk",
	} {
		clean, at := cut(conf, text)
		c := newClient(t)
		c.open(conf, clean)
		if got, refused := c.call("textDocument/hover", at+"}"); !strings.Contains(got, want) {
			t.Errorf("%q: %s %s, want %s", text, got, refused, want)
		}
	}
}

// TestMeanings expects a text for every reserved word, and none for others.
func TestMeanings(t *testing.T) {
	for _, w := range lang.Keywords() {
		if len(meanings[w]) < 15 {
			t.Errorf("keyword %q is not explained", w)
		}
	}
	for key := range meanings {
		for _, w := range strings.Fields(key) {
			if !lang.Keyword(w) {
				t.Errorf("%q is explained and no keyword", w)
			}
		}
	}
}

func TestComplete(t *testing.T) {
	const names = "table tab { a }\naction \"act\" relay\nfilter fil phase connect match fcrdns junk\nmac = \"v\"\n"
	for _, c := range []struct{ text, has, not string }{
		{names + "|", `"label":"match"`, `"label":"any"`},
		{names + "match from |", `"label":"local"`, `"label":"match"`},
		{names + "match from s|", `"label":"src"`, `"label":"local"`},
		{names + "match from src |", `"label":"\u003ctab\u003e"`, `"label":"act"`},
		{names + "match from src <|", `"newText":"tab"`, `"label":"act"`},
		{names + "match for any action |", `"newText":"\"act\""`, `"label":"tab"`},
		{names + "match for any action \"a|\"\n", `"label":"act"`, `"label":"$mac"`},
		{names + "listen on lo filter |", `"label":"fil"`, `"label":"act"`},
		{names + "listen on lo filter { |", `"label":"fil"`, `"label":"act"`},
		{names + "match from src $|", `"label":"$mac"`, `"label":"\u003ctab\u003e"`},
		{"smtp limit |", `"label":"max-mails"`, `"label":"max-session"`},
		{"smtp |", `"label":"bare-lf-from"`, `"label":"max-mails"`},
		{"match from src |\n" + names, `"newText":"regex"`, `"label":"\u003ctab\u003e"`},
		{names + "# match |", `[]`, `"label"`},
	} {
		clean, at := cut(conf, c.text)
		cl := newClient(t)
		cl.open(conf, clean)
		got, refused := cl.call("textDocument/completion", at+"}")
		if !strings.Contains(got, c.has) || strings.Contains(got, c.not) {
			t.Errorf("%q: %s %s", c.text, got, refused)
		}
	}
}

// TestCompleteLimits expects the limits of each statement, all of them and no
// others, and none where no limit can stand.
func TestCompleteLimits(t *testing.T) {
	every := make(map[string]bool)
	for _, statement := range []string{"mda", "mta", "scheduler", "smtp"} {
		for _, name := range compile.LimitNames(statement) {
			every[name] = true
		}
	}
	for _, c := range []struct{ text, statement string }{
		{"smtp limit |", "smtp"},
		{"smtp limit max-mails 3 |", "smtp"},
		{"scheduler limit |", "scheduler"},
		{"scheduler limit max-|", "scheduler"},
		{"mda limit |", "mda"},
		{"mta limit |", "mta"},
		{"mta limit inet4 |", "mta"},
		{"mta limit for domain \"a\" |", "mta"},
		{"mta limit for domain \"a\" max-conn-per-host 1 |", "mta"},
		{"mta limit for domain |", ""},
		{"mta limit max-conn-per-host |", ""},
		{"mta |", ""},
		{"smtp ciphers |", ""},
		{"match for domain limit helo |", ""},
	} {
		clean, at := cut(conf, c.text)
		cl := newClient(t)
		cl.open(conf, clean)
		answer, refused := cl.call("textDocument/completion", at+"}")
		var items []completionItem
		if err := json.Unmarshal([]byte(answer), &items); err != nil {
			t.Errorf("%q: %v, %s", c.text, err, refused)
		}
		var got []string
		for _, i := range items {
			if every[i.Label] {
				got = append(got, i.Label)
			}
		}
		if want := compile.LimitNames(c.statement); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", c.text, got, want)
		}
	}
}

// TestOrigin expects a finding in a macro or an included file to lead to
// where that comes from.
func TestOrigin(t *testing.T) {
	dir := t.TempDir()
	part, main := filepath.Join(dir, "part.conf"), filepath.Join(dir, "smtpd.conf")
	if err := os.WriteFile(part, []byte("match for domain $where\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newClient(t)
	c.s.config.Defines = []lang.Define{{Name: "who", Value: "from nobody"}}
	text := fmt.Sprintf("where = \"<gone> reject\"\ninclude %q\nmatch $who reject\n", part)
	got := c.open(uriOf(main), text)
	for uri, wants := range map[string][]string{
		uriOf(part): {
			`"code":"undefined-table"`,
			`{"location":{"range":{"end":{"character":0,"line":0},"start":{"character":0,"line":0}},"uri":"` + uriOf(main) + `"},"message":"in the text of macro where, defined here"}`,
			`{"location":{"range":{"end":{"character":8,"line":1},"start":{"character":8,"line":1}},"uri":"` + uriOf(main) + `"},"message":"included from here"}`,
		},
		uriOf(main): {`note: in the text of macro who, defined on the command line`},
	} {
		for _, want := range wants {
			if !strings.Contains(got[uri], want) {
				t.Errorf("%s: %s is not in\n%s", uri, want, got[uri])
			}
		}
	}
}

func TestRename(t *testing.T) {
	for _, c := range []struct{ text, name, want, refused string }{
		{"table t|ab { a }\nmatch from src <tab> reject\nmatch tag <\"tab\"> reject\n", "new", "table new { a }\nmatch from src <new> reject\nmatch tag <\"new\"> reject\n", ""},
		{"action a relay\nmatch for any action a| # 😀 a\n", "local", "action \"local\" relay\nmatch for any action \"local\" # 😀 a\n", ""},
		{"x = \"local\"\nmatch from $x| reject\n", "y", "y = \"local\"\nmatch from $y reject\n", ""},
		{"filter f| phase connect match fcrdns junk\nfilter c chain { f }\nlisten on lo filter { f, c }\n", "g", "filter g phase connect match fcrdns junk\nfilter c chain { g }\nlisten on lo filter { g, c }\n", ""},
		{"table t| { a }\ntable u { a }\nmatch tag <t> reject\n", "u", "", "exists already"},
		{"table t| { a }\nmatch oops <t> reject\n", "u", "", "before this is mended"},
		{"x = \"t\"\ntable t| { a }\nmatch tag <$x> reject\n", "u", "", "help of a macro"},
		{"include \"/nowhere/at/all\"\ntable t| { a }\n", "u", "", "before this is mended"},
		{"table t| { a }\n", "a\"b", "", "holds what a name should not"},
		{"table t| { a }\n", "<localhost>", "", "built in"},
		{"filter f| proc-exec \"x\"\nlisten on lo filter f\n", "g", "", "also the process"},
		{"pki a|.example cert \"/c\"\n", "b", "", "is not changed"},
		{"x| = y\n", "a-b", "", "letters, digits"},
		{"ma|tch from any reject\n", "a", "", "no name here"},
	} {
		clean, at := cut(conf, c.text)
		cl := newClient(t)
		cl.open(conf, clean)
		name, _ := json.Marshal(c.name)
		got, refused := cl.call("textDocument/rename", at+`,"newName":`+string(name)+"}")
		if c.refused != "" {
			if !strings.Contains(refused, c.refused) {
				t.Errorf("%q: got %s %q, want %q", c.text, got, refused, c.refused)
			}
			continue
		}
		if after := apply(t, clean, got, conf); after != c.want {
			t.Errorf("%q: got\n%s%s\nwant\n%s", c.text, after, refused, c.want)
		}
	}
}

// apply makes the edits of an answer in a text.
func apply(t *testing.T, text, answer, uri string) string {
	t.Helper()
	var edit workspaceEdit
	if err := json.Unmarshal([]byte(answer), &edit); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	d := newDocument(uri, text)
	l := newLines(text)
	edits := edit.Changes[uri]
	for range edits { // the last one first, so that the others stay in place
		last := 0
		for i := range edits {
			if l.offset(edits[i].Range.Start) > l.offset(edits[last].Range.Start) {
				last = i
			}
		}
		d.change(&edits[last].Range, edits[last].NewText)
		edits = append(edits[:last:last], edits[last+1:]...)
	}
	return d.text
}

// TestIncluded renames over files, one of which is open and one on disk, and
// judges the open one as the part that it is.
func TestIncluded(t *testing.T) {
	dir := t.TempDir()
	// The client writes a URI as it likes, and gets it back like that.
	escaped := func(path string) string { return strings.Replace(uriOf(path), "edited", "edit%65d", 1) }
	disk, edited, main := filepath.Join(dir, "disk.conf"), filepath.Join(dir, "edited.conf"), filepath.Join(dir, "smtpd.conf")
	if err := os.WriteFile(disk, []byte("match tag <t> reject\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newClient(t)
	if got := c.open(escaped(edited), "match for domain <t> reject\n")[escaped(edited)]; !strings.Contains(got, "undefined-table") {
		t.Errorf("alone: %s", got)
	}
	text := fmt.Sprintf("table t { a }\ninclude %q\ninclude %q\n", disk, edited)
	for uri, got := range c.open(uriOf(main), text) {
		if got != "[]" {
			t.Errorf("%s: %s", uri, got)
		}
	}
	_, at := cut(escaped(edited), "match for domain <|t> reject\n")
	got, refused := c.call("textDocument/rename", at+`,"newName":"u"}`)
	for uri, want := range map[string]string{
		uriOf(disk):     "match tag <u> reject\n",
		escaped(edited): "match for domain <u> reject\n",
		uriOf(main):     strings.Replace(text, "table t", "table u", 1),
	} {
		before := map[string]string{
			uriOf(disk): "match tag <t> reject\n", escaped(edited): "match for domain <t> reject\n", uriOf(main): text,
		}[uri]
		if after := apply(t, before, got, uri); after != want {
			t.Errorf("%s: got %q, want %q (%s)", uri, after, want, refused)
		}
	}
	if got, _ := c.call("textDocument/definition", at+"}"); !strings.Contains(got, uriOf(main)) {
		t.Errorf("definition: %s", got)
	}
	if got, _ := c.call("textDocument/references", at+`,"context":{"includeDeclaration":true}}`); strings.Count(got, `"uri"`) != 3 {
		t.Errorf("references: %s", got)
	}
}

// TestIncludeOfNoFile includes what would never end, or take the words of the
// client away.
func TestIncludeOfNoFile(t *testing.T) {
	for _, name := range []string{"/dev/zero", "/dev/stdin", "/dev/tty", "/"} {
		got := newClient(t).open(conf, "include \""+name+"\"\n")[conf]
		if !strings.Contains(got, `"code":"include"`) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestSize expects a large document, full of names and macros, to be answered
// as readily as a small one.
func TestSize(t *testing.T) {
	var b strings.Builder
	b.WriteString("x = \"any\"\ntable t { a }\n")
	for i := range 20_000 {
		fmt.Fprintf(&b, "action \"a%d\" relay\nmatch from $x tag <t> action \"a%d\"\n", i, i)
	}
	c := newClient(t)
	c.open(conf, b.String())
	_, at := cut(conf, "\ntable |")
	if got, refused := c.call("textDocument/rename", at+`,"newName":"u"}`); strings.Count(got, `"newText":"u"`) != 20_001 {
		t.Errorf("rename: %.200s %s", got, refused)
	}
}

func TestFormatAndFix(t *testing.T) {
	c := newClient(t)
	const text = "table  t {a,b,}\nmatch tag <t> reject\n"
	c.open(conf, text)
	got, _ := c.call("textDocument/codeAction", `{"textDocument":{"uri":"`+conf+`"},"range":{"start":{"line":0,"character":14},"end":{"line":0,"character":14}},"context":{"diagnostics":[]}}`)
	for _, want := range []string{`"kind":"quickfix"`, `"isPreferred":true`, `"kind":"source.fixAll"`, `"newText":""`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	at := `{"textDocument":{"uri":"` + conf + `"}}`
	if _, refused := c.call("textDocument/formatting", at); refused == "" {
		t.Error("a wrong text was laid out")
	}
	c.notify("textDocument/didChange", `{"textDocument":{"uri":"`+conf+`"},"contentChanges":[{"text":"match   from any   reject"}]}`)
	if got, _ := c.call("textDocument/formatting", at); !strings.Contains(got, `"newText":"match from any reject\n"`) {
		t.Errorf("formatting: %s", got)
	}
}

// TestRefusals sends what is no proper message.
func TestRefusals(t *testing.T) {
	var out bytes.Buffer
	c := &client{t: t, s: newServer(&out, Config{Host: hostfacts.Unnamed()})}
	c.s.out = &c.out
	if _, refused := c.call("textDocument/hover", `{}`); !strings.Contains(refused, "before initialize") {
		t.Errorf("got %q", refused)
	}
	c.call("initialize", `{}`)
	for method, params := range map[string]string{
		"textDocument/hover":      `{"textDocument":{"uri":"file:///not/open"}}`,
		"textDocument/rename":     `5`,
		"textDocument/codeAction": `null`,
		"no/method":               `{}`,
	} {
		if got, refused := c.call(method, params); refused == "" {
			t.Errorf("%s %s: got %s", method, params, got)
		}
	}
	c.s.message([]byte("{"))
	c.s.message([]byte("5"))
	c.s.message([]byte("{}"))
	if n := len(c.answers()); n != 3 {
		t.Errorf("%d answers to what is no message, want 3", n)
	}
}

func TestServeErrors(t *testing.T) {
	frame := func(s string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(s), s) }
	for in, want := range map[string]string{
		"":                                   "input ended",
		"garbage\n":                          "not a header",
		strings.Repeat("x", 1<<20):           "a line of more than",
		"A: b\r\n\r\n":                       "no Content-Length",
		"Content-Length: -1\r\n\r\n":         "not a number",
		"Content-Length: 4000000000\r\n\r\n": "at most",
		"Content-Length: 9\r\n\r\n{}":        "2 of 9 bytes",
		"Content-Length: 9\r\n":              "unexpected EOF",
		strings.Repeat("A: b\r\n", 50):       "more than 16 lines",
		frame(`{"method":"exit"}`):           "before shutdown",
		frame(`{"id":1,"method":"initialize"}`) + frame(`{"id":2,"method":"shutdown"}`) + frame(`{"method":"exit"}`): "",
	} {
		err := Serve(strings.NewReader(in), io.Discard, Config{Host: hostfacts.Unnamed()})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", in, err, want)
		}
	}
}

// FuzzServe expects no input to make the server fail otherwise than with an
// error, and every answer to be a message.
func FuzzServe(f *testing.F) {
	f.Add([]byte("Content-Length: 30\r\n\r\n{\"id\":1,\"method\":\"initialize\"}"))
	f.Add([]byte("garbage\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		_ = Serve(bytes.NewReader(in), &out, Config{Host: hostfacts.Unnamed()})
		(&client{t: t, out: out}).answers()
	})
}

// FuzzCall makes every call at any place of any text, after any change.
func FuzzCall(f *testing.F) {
	f.Add("table t { a }\nmatch tag <t> reject # 😀\n", 1, 12, "x", "{}")
	f.Add("x = \"any\"\nmatch from $x reject", 1, 13, "\n", `{"textDocument":{"uri":5}}`)
	f.Fuzz(func(t *testing.T, text string, line, character int, insert, raw string) {
		c := newClient(t)
		c.open(conf, text)
		at := position{line, character}
		change, _ := json.Marshal(map[string]any{
			"textDocument":   documentID{conf},
			"contentChanges": []map[string]any{{"range": textRange{at, at}, "text": insert}},
		})
		c.notify("textDocument/didChange", string(change))
		params, _ := json.Marshal(map[string]any{
			"textDocument": documentID{conf}, "position": at, "range": textRange{at, at}, "newName": insert,
		})
		for _, m := range []string{"hover", "completion", "definition", "references", "prepareRename", "rename", "formatting", "codeAction"} {
			c.call("textDocument/"+m, string(params))
			if json.Valid([]byte(raw)) {
				c.call("textDocument/"+m, raw)
			}
		}
	})
}

// FuzzRename expects a text in which a name was changed to have the same
// names in the same order, but for the one.
func FuzzRename(f *testing.F) {
	f.Add("table t { a }\nmatch tag <t> reject # 😀\n", 0, 6, "x")
	f.Add("x = \"any\"\nmatch from $x reject", 1, 13, "y")
	f.Add("filter f phase connect match fcrdns junk\nfilter c chain { f}\nlisten on lo filter {'f'c}", 0, 7, "any")
	f.Add("x='any'\ny='a'\nmatch tag $y$x\nmatch from $x for any reject", 0, 0, "z")
	f.Fuzz(func(t *testing.T, text string, line, character int, name string) {
		if strings.Contains(text, "include") || !utf8.ValidString(text) || !utf8.ValidString(name) {
			return
		}
		c := newClient(t)
		c.open(conf, text)
		params, _ := json.Marshal(map[string]any{
			"textDocument": documentID{conf}, "position": position{line, character}, "newName": name,
		})
		answer, refused := c.call("textDocument/rename", string(params))
		if refused != "" {
			return
		}
		before := c.s.snapshots[0].names
		c = newClient(t)
		c.open(conf, apply(t, text, answer, conf))
		after := c.s.snapshots[0]
		if len(after.names) != len(before) || after.parsed.Has(diag.Language) {
			t.Fatalf("%q to %q:\n%s\n%v\n%v", text, name, after.root.text, after.names, after.parsed)
		}
		for i, o := range after.names {
			if was := before[i]; o.kind != was.kind || o.name != was.name && o.name != name {
				t.Fatalf("%q to %q:\n%s\n%v was %v", text, name, after.root.text, o, was)
			}
		}
	})
}
