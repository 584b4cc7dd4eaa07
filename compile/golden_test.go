package compile_test

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/diag/codes"
)

var update = flag.Bool("update", false, "rewrite the wanted parts of the archives in testdata/golden")

// TestGolden compiles every archive. Its first file is the configuration;
// the file facts describes the host; those under etc/ are what includes and
// tables name with a slash in front. The last two, made by -update, hold the
// findings of the compiler (those of the parser are its own affair) and the
// rule table.
func TestGolden(t *testing.T) {
	archives, err := filepath.Glob("testdata/golden/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			findings, table := judge(t, ar)
			if *update {
				set(ar, "findings", findings)
				set(ar, "ruleset", table)
				if err := os.WriteFile(name, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			compare(t, "findings", findings, get(ar, "findings"))
			compare(t, "ruleset", table, get(ar, "ruleset"))
		})
	}
}

// judge returns the findings and the dump for an archive.
func judge(t *testing.T, ar *txtar.Archive) (findings, table []byte) {
	t.Helper()
	open := func(path string) ([]byte, error) {
		if data := get(ar, strings.TrimPrefix(path, "/")); data != nil {
			return data, nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	host, err := hostfacts.Parse("facts", string(get(ar, "facts")), open)
	if err != nil {
		t.Fatal(err)
	}
	conf := ar.Files[0]
	f, _ := parse(conf.Name, lang.Options{Text: conf.Data, Open: open})
	rs, list := compile.Draft(f, host)
	checkFindings(t, list)
	var text, dump bytes.Buffer
	if err := diag.Text(&text, []*diag.Report{{File: conf.Name, Set: f.Set, List: list}}, false); err != nil {
		t.Fatal(err)
	}
	if rs != nil {
		if err := rs.Dump(&dump); err != nil {
			t.Fatal(err)
		}
	}
	return text.Bytes(), dump.Bytes()
}

// checkFindings checks what every message must be: one line that begins in
// lower case or with a name, without a final period, about a code that has a
// page.
func checkFindings(t *testing.T, list diag.List) {
	t.Helper()
	for _, d := range list {
		if d.Message == "" || strings.ContainsAny(d.Message, "\n") || strings.HasSuffix(d.Message, ".") {
			t.Errorf("message %q", d.Message)
		}
		if title, _ := codes.Page(d.Code); title == "" {
			t.Errorf("code %s has no page", d.Code)
		}
	}
}

// parse is lang.Parse; a Text that is nil would be opened.
func parse(name string, o lang.Options) (*ast.File, diag.List) {
	if o.Text == nil {
		o.Text = []byte{}
	}
	return lang.Parse(name, o)
}

func get(ar *txtar.Archive, name string) []byte {
	for _, f := range ar.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func set(ar *txtar.Archive, name string, data []byte) {
	for i := range ar.Files {
		if ar.Files[i].Name == name {
			ar.Files[i].Data = data
			return
		}
	}
	ar.Files = append(ar.Files, txtar.File{Name: name, Data: data})
}

func compare(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}
