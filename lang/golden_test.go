package lang

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"

	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

var update = flag.Bool("update", false, "rewrite the golden sections of testdata")

// TestGolden parses the file conf of every archive in testdata, with the
// other files for its includes, and compares the sections tokens, tree,
// diagnostics and format that the archive has.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			ar, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			changed := false
			for i := range ar.Files {
				f := &ar.Files[i]
				got, ok := goldenSection(ar, f.Name)
				if !ok || bytes.Equal(got, f.Data) {
					continue
				}
				if *update {
					f.Data, changed = got, true
					continue
				}
				t.Errorf("%s: got:\n%s\nwant:\n%s", f.Name, got, f.Data)
			}
			if changed {
				if err := os.WriteFile(name, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// goldenSection makes the named section anew, and reports whether it is one.
func goldenSection(ar *txtar.Archive, section string) ([]byte, bool) {
	open := func(name string) ([]byte, error) {
		for _, f := range ar.Files {
			if f.Name == name {
				return f.Data, nil
			}
		}
		return nil, os.ErrNotExist
	}
	text, _ := open("conf")
	opts := Options{Text: text, Open: open, Defines: []Define{{"cmdline", "from the command line"}}}
	var b bytes.Buffer
	switch section {
	case "tokens":
		dumpTokens(&b, opts)
	case "tree":
		file, _ := Parse("conf", opts)
		ast.Fprint(&b, file)
	case "diagnostics":
		file, diags := Parse("conf", opts)
		for _, d := range diags {
			dumpDiagnostic(&b, file.Set, d)
		}
	case "format":
		out, err := Format("conf", text)
		if err != nil {
			fmt.Fprintf(&b, "error: %v\n", err)
		}
		b.Write(out)
	default:
		return nil, false
	}
	return b.Bytes(), true
}

var kindNames = [...]string{"end", "newline", "word", "string", "number", "keyword", "punct", "separator", "unclosed", "invalid"}

func dumpTokens(b *bytes.Buffer, opts Options) {
	p := newParser("conf", opts)
	p.enter("conf", opts.Text, token.Pos{})
	for {
		t := p.next()
		fmt.Fprintf(b, "%d:%d-%d:%d %s %q\n", t.pos.Line, t.pos.Column, t.end.Line, t.end.Column, kindNames[t.kind], clip(t.text))
		if t.kind == endOfInput {
			return
		}
	}
}

func dumpDiagnostic(b *bytes.Buffer, set *token.FileSet, d *diag.Diagnostic) {
	fmt.Fprintf(b, "%v [%s]\n", d, d.Code)
	if d.Label != "" {
		fmt.Fprintf(b, "\t^ %s\n", d.Label)
	}
	for _, n := range d.Notes {
		fmt.Fprintf(b, "\tnote %v: %s\n", n.Span, n.Message)
	}
	for _, h := range d.Help {
		fmt.Fprintf(b, "\thelp: %s\n", h)
	}
	for _, f := range d.Fixes {
		fmt.Fprintf(b, "\tfix %d: %s\n", f.Grade, f.Message)
	}
	for _, f := range set.Trace(d.Span.Start) {
		fmt.Fprintf(b, "\tfrom %s, used at %v, defined at %v\n", f.Name, f.Use, f.Def)
	}
}
