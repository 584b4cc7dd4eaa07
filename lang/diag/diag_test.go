package diag

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/xeipuuv/gojsonschema"

	"smtpd/lang/token"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

// span returns the first place of text in the source that fileSet has under
// name.
func span(t testing.TB, set *token.FileSet, name, text string) token.Span {
	t.Helper()
	src, ok := set.Source(name)
	at := bytes.Index(src, []byte(text))
	if !ok || at < 0 {
		t.Fatalf("no %q in %s", text, name)
	}
	pos := func(off int) token.Pos {
		line := 1 + bytes.Count(src[:off], []byte("\n"))
		return token.Pos{Filename: name, Line: line, Column: off - bytes.LastIndexByte(src[:off], '\n'), Offset: off + 1}
	}
	return token.Span{Start: pos(at), End: pos(at + len(text))}
}

// reports returns a report with one finding of each shape.
func reports(t testing.TB) []*Report {
	set := token.NewFileSet()
	text := "nic = \"lo\"\n" +
		"table d { \"né\", \"😀\" } extra\n" +
		"listen on $nic tls\t# \x1b[31mred\n" +
		"match for domain <doms> action \"a\"\n" +
		"include \"part.conf\"\n" +
		"match for local action \"" + strings.Repeat("x", 300) + "\" !\n"
	set.AddSource("dir/smtpd.conf", []byte(text), token.Pos{})
	use := span(t, set, "dir/smtpd.conf", `"part.conf"`).Start
	base := set.AddSource("part.conf", []byte("relay 100%\n"), use)
	def := span(t, set, "dir/smtpd.conf", "nic")
	ref := span(t, set, "dir/smtpd.conf", "$nic")
	ref.Start.Offset = set.AddExpansion("nic", 2, def.Start, ref.Start)
	ref.End = ref.Start
	inside := span(t, set, "part.conf", "100%")
	inside.Start.Offset = base + 6

	var list List
	d := list.Errorf(span(t, set, "dir/smtpd.conf", "extra"), "syntax", "unknown word `extra`")
	d.Label = "expected the end of the line"
	d.Help = []string{"one statement a line"}
	d.Fixes = []Fix{
		{"remove it", Safe, []Edit{{d.Span, ""}}},
		{"quote it", Suggested, []Edit{{d.Span, `"extra"`}}},
	}
	d = list.Reportf(Host, ref, "unknown-address", "listen on %q needs an interface", "lo")
	d.Fatal = true
	d = list.Errorf(span(t, set, "dir/smtpd.conf", "doms"), "undefined-table", "undefined table <doms>")
	d.Notes = []Note{{span(t, set, "dir/smtpd.conf", "d {"), "declared here"}, {Message: "names are compared byte for byte"}}
	list.Reportf(Security, inside, "open-relay", "50%% of:this,\x07 text")
	list.Reportf(Warning, span(t, set, "dir/smtpd.conf", "!"), "odd", "after a long word")
	list.Reportf(Portability, span(t, set, "dir/smtpd.conf", "tls"), "odd", "a tab follows")
	list.Reportf(Style, token.Span{}, "no-rules", "no place at all")
	return []*Report{{File: "dir/smtpd.conf", Set: set, List: list, Hidden: 2}, {File: "good.conf"}}
}

// TestPrinters holds every format against its file in testdata.
func TestPrinters(t *testing.T) {
	fails := func(c Class) bool { return c == Language || c == Security }
	page := func(c Code) (string, string) {
		if c == "syntax" {
			return "Title of syntax", "Text of syntax."
		}
		return "", ""
	}
	printers := map[string]func(*bytes.Buffer) error{
		"text":    func(b *bytes.Buffer) error { return Text(b, reports(t), false) },
		"color":   func(b *bytes.Buffer) error { return Text(b, reports(t), true) },
		"classic": func(b *bytes.Buffer) error { return Classic(b, reports(t)) },
		"github":  func(b *bytes.Buffer) error { return GitHub(b, reports(t)) },
		"json":    func(b *bytes.Buffer) error { return JSON(b, reports(t)) },
		"sarif":   func(b *bytes.Buffer) error { return SARIF(b, reports(t), "1.0", page) },
		"junit":   func(b *bytes.Buffer) error { return JUnit(b, reports(t), fails) },
	}
	for name, print := range printers {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := print(&b); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), b.String()); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if bytes.Contains(b.Bytes(), []byte("\x1b[31mred")) || bytes.ContainsRune(b.Bytes(), 0x07) {
				t.Error("a control character of the source got through")
			}
		})
	}
}

// TestSARIFSchema validates the output against the schema of SARIF 2.1.0.
func TestSARIFSchema(t *testing.T) {
	var b bytes.Buffer
	if err := SARIF(&b, reports(t), "1.0", func(Code) (string, string) { return "t", "x" }); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b.Bytes()))
	d.DisallowUnknownFields()
	if err := d.Decode(new(sarif.Report)); err != nil {
		t.Fatal(err)
	}
	report, err := sarif.FromBytes(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	// The library writes out what is absent. These are the defaults that the
	// standard gives for it.
	for _, run := range report.Runs {
		run.Language, run.Tool.Driver.Language = "en-US", "en-US"
		run.NewlineSequences = []string{"\r\n", "\n"}
	}
	if err := report.Validate(); err != nil {
		t.Error(err)
	}
	report.Version = "3"
	if report.Validate() == nil {
		t.Error("the schema takes anything")
	}
}

// TestJSONSchema holds the JSON to the schema that is published, and the
// schema to the JSON: it describes every member.
func TestJSONSchema(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "findings.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	schema["additionalProperties"] = false
	for _, d := range schema["definitions"].(map[string]any) {
		d.(map[string]any)["additionalProperties"] = false
	}
	check := func(r []*Report) *gojsonschema.Result {
		t.Helper()
		var b bytes.Buffer
		if err := JSON(&b, r); err != nil {
			t.Fatal(err)
		}
		result, err := gojsonschema.Validate(gojsonschema.NewGoLoader(schema), gojsonschema.NewBytesLoader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	all := append(reports(t), &Report{File: "none"}, hostile())
	if result := check(all); !result.Valid() {
		t.Error(result.Errors())
	}
	all[0].List[0].Code = "No Code"
	if check(all).Valid() {
		t.Error("the schema takes anything")
	}
}

// hostile returns a report whose texts hold what could end a line, a value or
// an element in any format.
func hostile() *Report {
	const text = "a\r\n::error::b\x00\x1b[31m]]>&<\"'%0A\xff\u202e,:"
	r := &Report{File: "f\n::x", Set: token.NewFileSet(), Hidden: 1}
	r.Set.AddSource(r.File, []byte(text+"\n"), token.Pos{})
	at := token.Span{Start: token.Pos{Filename: r.File, Line: 1, Column: 2, Offset: 2}, End: token.Pos{Filename: r.File, Line: 1, Column: 3, Offset: 3}}
	d := r.List.Errorf(at, "code", "%s", text)
	d.Label = text
	d.Help = []string{text}
	d.Notes = []Note{{Span: at, Message: text}, {Message: text}}
	d.Fixes = []Fix{{Message: text, Grade: Safe, Edits: []Edit{{at, text}}}}
	return r
}

// TestHostileText checks that no text of a finding is taken for the form of
// the format that it is printed in.
func TestHostileText(t *testing.T) {
	r := []*Report{hostile()}
	show := func(f func(w io.Writer) error) string {
		t.Helper()
		var b bytes.Buffer
		if err := f(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	plain := func(name, out string) {
		t.Helper()
		if i := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%s prints %q", name, out[i:])
		}
	}
	classic := show(func(w io.Writer) error { return Classic(w, r) })
	if plain("classic", classic); strings.Count(classic, "\n") != 2 {
		t.Errorf("classic: %q", classic)
	}
	plain("text", show(func(w io.Writer) error { return Text(w, r, false) }))
	github := show(func(w io.Writer) error { return GitHub(w, r) })
	if plain("github", github); strings.Count(github, "\n") != 2 || strings.Count("\n"+github, "\n::") != 2 {
		t.Errorf("github: %q", github)
	}
	if out := show(func(w io.Writer) error { return JSON(w, r) }); !json.Valid([]byte(out)) || !utf8.ValidString(out) {
		t.Errorf("json: %s", out)
	}
	if out := show(func(w io.Writer) error { return SARIF(w, r, "", func(Code) (string, string) { return "", "" }) }); !json.Valid([]byte(out)) || !utf8.ValidString(out) {
		t.Errorf("sarif: %s", out)
	}
	junit := show(func(w io.Writer) error { return JUnit(w, r, func(Class) bool { return true }) })
	var suites junitSuites
	if err := xml.Unmarshal([]byte(junit), &suites); err != nil || len(suites.Suites) != 1 || len(suites.Suites[0].Cases) != 1 {
		t.Errorf("junit: %v\n%s", err, junit)
	}
}

func TestJUnitIsXML(t *testing.T) {
	var b bytes.Buffer
	if err := JUnit(&b, reports(t), func(Class) bool { return true }); err != nil {
		t.Fatal(err)
	}
	var out junitSuites
	if err := xml.Unmarshal(b.Bytes(), &out); err != nil || len(out.Suites) != 2 || out.Suites[0].Failures != 7 || out.Suites[1].Tests != 1 {
		t.Errorf("%v: %+v", err, out)
	}
}

// TestColumns checks the three ways of counting on a line with characters of
// two and four bytes.
func TestColumns(t *testing.T) {
	r := reports(t)[0]
	at := span(t, r.Set, r.File, "extra").Start
	if got, want := r.columnsOf(at), (columns{bytes: 27, runes: 23, utf16: 24}); got != want {
		t.Errorf("columns %+v, want %+v", got, want)
	}
}

func TestCap(t *testing.T) {
	for _, tt := range []struct {
		list string // a letter a finding: e error, w warning
		n    int
		kept string
	}{
		{"wewe", 0, "wewe"}, {"wewe", 4, "wewe"}, {"wewe", 3, "wee"}, {"wewe", 2, "ee"}, {"wewe", 1, "e"}, {"www", 2, "ww"}, {"eee", 2, "ee"},
	} {
		var r Report
		for _, c := range tt.list {
			class := Warning
			if c == 'e' {
				class = Language
			}
			r.List.Reportf(class, token.Span{}, "c", "m")
		}
		r.Cap(tt.n)
		var kept string
		for _, d := range r.List {
			kept += string("ew"[min(int(d.Class)-1, 1)])
		}
		if kept != tt.kept || r.Hidden != len(tt.list)-len(tt.kept) {
			t.Errorf("%s capped to %d is %s and %d hidden, want %s", tt.list, tt.n, kept, r.Hidden, tt.kept)
		}
	}
}

func TestMerge(t *testing.T) {
	r := reports(t)[0]
	at := func(text string) token.Span { return span(t, r.Set, r.File, text) }
	inside := span(t, r.Set, "part.conf", "relay")
	for _, f := range r.List {
		if f.Code == "open-relay" {
			inside = f.Span
		}
	}
	var parser, compiler List
	parser.Errorf(at("extra"), "1", "")
	parser.Errorf(inside, "3", "")
	parser.Errorf(at("!"), "5", "")
	compiler.Errorf(at("doms"), "2", "")
	compiler.Errorf(at(`"xxx`), "4", "")
	compiler.Errorf(at("nic"), "6", "").AtEnd = true
	var order string
	for _, d := range Merge(r.Set, parser, compiler) {
		order += string(d.Code)
	}
	if order != "123456" {
		t.Errorf("order %s", order)
	}
}

func TestApply(t *testing.T) {
	at := func(l1, c1, l2, c2 int) token.Span {
		return token.Span{Start: token.Pos{Line: l1, Column: c1}, End: token.Pos{Line: l2, Column: c2}}
	}
	text := "one two\nthree\n"
	tests := []struct {
		edits []Edit
		want  string
	}{
		{nil, text},
		{[]Edit{{at(1, 5, 1, 8), "2"}}, "one 2\nthree\n"},
		{[]Edit{{at(2, 1, 2, 6), "3"}, {at(1, 1, 1, 4), "1"}}, "1 two\n3\n"},
		{[]Edit{{at(1, 8, 2, 1), " "}}, "one two three\n"},
		{[]Edit{{at(1, 1, 1, 8), "x"}, {at(1, 5, 1, 8), "overlaps"}}, "x\nthree\n"},
		{[]Edit{{at(3, 1, 3, 1), "end"}}, text + "end"},
	}
	for _, tt := range tests {
		got, err := Apply([]byte(text), tt.edits)
		if err != nil || string(got) != tt.want {
			t.Errorf("Apply(%v) = %q, %v, want %q", tt.edits, got, err, tt.want)
		}
	}
	for _, s := range []token.Span{at(0, 1, 1, 1), at(9, 1, 9, 1), at(1, 0, 1, 1), at(3, 5, 3, 5)} {
		if got, err := Apply([]byte(text), []Edit{{s, "x"}}); err == nil {
			t.Errorf("an edit at %v gave %q", s, got)
		}
	}
}
