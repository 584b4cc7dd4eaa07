package codes_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smtpd/lang/diag"
	"smtpd/lang/diag/codes"
)

// built are the codes that the program puts together, by what of them stands
// in the source.
var built = map[string][]string{
	"undefined-*":     {"table", "action", "filter", "proc", "wrapper", "pki", "ca"},
	"duplicate-*":     {"table", "action", "filter", "proc", "wrapper"},
	"bad-*-name":      {"pki", "ca"},
	"relay-without-*": {"pki", "ca"},
}

// TestEveryCodeHasAPage finds every code that the program can report, by its
// type, and every page that no code leads to.
func TestEveryCodeHasAPage(t *testing.T) {
	found := make(map[string]string) // the place by the code
	fset := token.NewFileSet()
	packages, export := list(t)
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(export[path]) })
	for path, files := range packages {
		info := &types.Info{Types: make(map[ast.Expr]types.TypeAndValue)}
		var parsed []*ast.File
		for _, name := range files {
			f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, f)
		}
		if _, err := (&types.Config{Importer: imports}).Check(path, fset, parsed, info); err != nil {
			t.Fatal(err)
		}
		for _, f := range parsed {
			ast.Inspect(f, func(n ast.Node) bool {
				e, ok := n.(ast.Expr)
				if !ok || !isCode(info.Types[e].Type) {
					return true
				}
				text, ok := pattern(info, e)
				if ok && text != "" && text != "*" {
					found[text] = fset.Position(e.Pos()).String()
				}
				return !ok // the parts of a code are none
			})
		}
	}
	if len(found) < 100 {
		t.Errorf("only %d codes found", len(found))
	}
	reported := make(map[diag.Code]bool)
	for text, at := range found {
		words := []string{""}
		if strings.Contains(text, "*") {
			if words, ok := built[text]; !ok || len(words) == 0 {
				t.Errorf("%s: codes %s are put together and not listed in this test", at, text)
			}
			words = built[text]
		}
		for _, w := range words {
			code := diag.Code(strings.Replace(text, "*", w, 1))
			reported[code] = true
			if title, _ := codes.Page(code); title == "" {
				t.Errorf("%s: code %s has no page", at, code)
			}
		}
	}
	for _, code := range codes.All() {
		if !reported[code] {
			t.Errorf("nothing reports the code %s of page %s.md", code, code)
		}
	}
	for text := range built {
		if _, ok := found[text]; !ok {
			t.Errorf("no codes %s are put together", text)
		}
	}
}

// list returns the files of the packages that report, and where the compiled
// form of every package is that they import.
func list(t *testing.T) (files map[string][]string, export map[string]string) {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,GoFiles,Export,Imports,Module", "smtpd/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	files, export = make(map[string][]string), make(map[string]string)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir, Export string
			GoFiles, Imports        []string
			Module                  *struct{ Main bool }
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return files, export
		} else if err != nil {
			t.Fatal(err)
		}
		export[p.ImportPath] = p.Export
		if p.Module != nil && p.Module.Main && slices.Contains(p.Imports, "smtpd/lang/diag") {
			for _, f := range p.GoFiles {
				files[p.ImportPath] = append(files[p.ImportPath], filepath.Join(p.Dir, f))
			}
		}
	}
}

func isCode(t types.Type) bool {
	n, ok := t.(*types.Named)
	return ok && n.Obj().Name() == "Code" && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == "smtpd/lang/diag"
}

// pattern returns what is known of the value of an expression, * for what is
// not. It is false for a mere variable.
func pattern(info *types.Info, e ast.Expr) (string, bool) {
	if v := info.Types[e].Value; v != nil && v.Kind() == constant.String {
		return constant.StringVal(v), true
	}
	switch e := e.(type) {
	case *ast.ParenExpr:
		return pattern(info, e.X)
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		parts := []string{part(info, e.X), part(info, e.Y)}
		return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ""), true
	case *ast.CallExpr: // a conversion
		if len(e.Args) == 1 && info.Types[e.Fun].IsType() {
			return pattern(info, e.Args[0])
		}
	}
	return "", false
}

// part is pattern for an operand: a variable is a star.
func part(info *types.Info, e ast.Expr) string {
	if text, ok := pattern(info, e); ok {
		return text
	}
	return "*"
}
