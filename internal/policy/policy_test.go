// Package policy holds the tree to the rules of ARCHITECTURE.md: who may
// import whom. It has no code of its own.
package policy

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows lists, for each package, what of ours it may import; a package that
// is missing may import anything, an entry that ends in / allows a subtree.
var arrows = map[string][]string{
	"lang/token":               {},
	"lang/diag":                {"lang/token"},
	"lang/directive":           {"lang/token"},
	"ast":                      {"lang/token"},
	"ast/old":                  {"lang/token"},
	"lang":                     {"ast", "lang/token", "lang/diag"},
	"lang/generation":          {"ast/old", "lang", "lang/token", "lang/diag"},
	"lang/gen1":                {"ast/old", "lang", "lang/token", "lang/diag", "lang/generation"},
	"lang/gen2":                {"ast/old", "lang", "lang/token", "lang/diag", "lang/generation"},
	"lang/gen3":                {"lang", "lang/token", "lang/diag"},
	"compile":                  {"ast", "lang/token", "lang/diag", "compile/tableconf", "compile/tablefile", "compile/tablefile/cdb"},
	"compile/tableconf":        {"compile/tablefile"},
	"compile/tablefile":        {},
	"compile/tablefile/cdb":    {"compile/tablefile"},
	"compile/tablefile/hashdb": {"compile/tablefile", "compile/tablefile/cdb"},
	"compile/ere":              {},
	"compile/engine":           {"compile", "compile/ere"},
	"compile/expand":           {"compile", "compile/engine"},
	"lsp":                      {"ast", "compile", "lang", "lang/token", "lang/diag"},
	"compile/analyze":          {"ast", "compile", "compile/analyze/certificate", "compile/engine", "compile/ere", "compile/expand", "compile/tableconf", "compile/tablefile", "lang/token", "lang/diag"},
	"compile/migrate":          {"ast/old", "compile", "compile/tablefile", "compile/tablefile/hashdb", "lang/token", "lang/diag"},
	"compile/postfix":          {"compile", "compile/tablefile", "lang/token", "lang/diag"},
	"compile/legacy":           {"ast", "ast/old", "compile", "compile/tablefile", "compile/tablefile/hashdb"},
	// The checker of proofs knows nothing of what finds them.
	"compile/analyze/certificate": {"compile", "compile/engine"},
	"compile/policy":              {"compile", "compile/engine", "compile/expand", "compile/tablefile", "lang/token", "lang/diag", "lang/directive"},
	"runtime/envelope":            {},
	"runtime/imsg":                {},
	"runtime/rfc5321":             {},
	"runtime/rfc5322":             {},
	"runtime/cipher":              {},
	"runtime/memo":                {},
	"runtime/dsn":                 {"runtime/envelope", "runtime/rfc5321", "runtime/rfc5322"},
}

// order is the components, low to high: each may import only lower ones.
var order = []string{"crypto", "parent", "lka", "queue", "mfa", "smtp", "mda", "mta", "control"}

// peers are the components of which neither may import the other although
// both stand in order.
var peers = [][2]string{{"smtp", "mda"}, {"smtp", "mta"}, {"mda", "mta"}}

// imports maps each package of the tree to what of ours it imports, without
// its tests.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	root := filepath.Join("..", "..")
	got := make(map[string][]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if ours, ok := strings.CutPrefix(name, "smtpd/"); ok {
				got[pkg] = append(got[pkg], ours)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) == 0 {
		t.Fatal("no package imports another: the walk is broken")
	}
	return got
}

func rank(pkg string) int {
	name, ok := strings.CutPrefix(pkg, "runtime/")
	if !ok {
		return -1
	}
	return slices.Index(order, name)
}

func TestArrows(t *testing.T) {
	for pkg, list := range imports(t) {
		allowed, limited := arrows[pkg]
		for _, dep := range list {
			if limited && !slices.Contains(allowed, dep) {
				t.Errorf("%s imports %s", pkg, dep)
			}
			if strings.HasPrefix(dep, "cmd/") {
				t.Errorf("%s imports a command, %s", pkg, dep)
			}
			if strings.HasPrefix(dep, "runtime/") && (strings.HasPrefix(pkg, "compile") || pkg == "lang" || pkg == "ast") {
				t.Errorf("%s imports the runtime: %s", pkg, dep)
			}
			if dep == "lang" && (strings.HasPrefix(pkg, "compile") || strings.HasPrefix(pkg, "runtime/")) {
				t.Errorf("%s imports the parser", pkg)
			}
			if high, low := rank(pkg), rank(dep); high >= 0 && low > high {
				t.Errorf("%s imports %s, which is higher", pkg, dep)
			}
			for _, p := range peers {
				if pkg == "runtime/"+p[0] && dep == "runtime/"+p[1] || pkg == "runtime/"+p[1] && dep == "runtime/"+p[0] {
					t.Errorf("%s imports its peer %s", pkg, dep)
				}
			}
		}
	}
}

// TestNoGoroutineInInit keeps the start of the program free of work that
// nobody waits for.
func TestNoGoroutineInInit(t *testing.T) {
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if goInInit(file) {
			t.Errorf("%s starts a goroutine in init", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
