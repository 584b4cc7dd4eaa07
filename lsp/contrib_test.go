package lsp

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smtpd/lang"
)

var update = flag.Bool("update", false, "rewrite the grammar for VS Code")

// TestTextMate expects the grammar for VS Code to colour the keywords of the
// language and no other words.
func TestTextMate(t *testing.T) {
	name := filepath.Join("..", "contrib", "vscode", "syntaxes", "smtpd.tmLanguage.json")
	want := textMate()
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not as generated; run go test ./lsp -update (%v)", name, err)
	}
}

func textMate() []byte {
	words := lang.Keywords()
	slices.SortStableFunc(words, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	// A keyword is a whole word: not in a longer one, and not $word.
	const inside = `A-Za-z0-9_:/*@.\[\]+\-~%$'";|&?^` + "`"
	rule := func(scope, match string) map[string]any {
		return map[string]any{"name": scope, "match": match}
	}
	quoted := func(scope, mark string) map[string]any {
		return map[string]any{
			"name": scope, "begin": mark, "end": mark,
			"patterns": []any{rule("constant.character.escape.smtpd", `\\[\\"' \t]`), rule("constant.other.placeholder.smtpd", `%\{[^}]*\}`)},
		}
	}
	out, _ := json.MarshalIndent(map[string]any{
		"name":      "smtpd.conf",
		"scopeName": "source.smtpd",
		"patterns": []any{
			rule("comment.line.number-sign.smtpd", `#.*$`),
			quoted("string.quoted.double.smtpd", `"`),
			quoted("string.quoted.single.smtpd", `'`),
			rule("variable.other.smtpd", `\$[A-Za-z0-9_]+`),
			rule("entity.name.type.table.smtpd", `(?<=<)[^<>\s"']+(?=>)`),
			rule("keyword.control.smtpd", `(?<![`+inside+`])(?:`+strings.Join(words, "|")+`)(?![`+inside+`])`),
			rule("constant.numeric.smtpd", `(?<![`+inside+`])-?[0-9]+(?![`+inside+`])`),
			rule("keyword.operator.smtpd", `=>|[=!{},<>]`),
		},
	}, "", "  ")
	return append(out, '\n')
}

// TestVSCode expects the parts of the extension to be where it says.
func TestVSCode(t *testing.T) {
	dir := filepath.Join("..", "contrib", "vscode")
	text, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Main        string
		Contributes struct {
			Languages []struct{ Configuration string }
			Grammars  []struct{ Path, ScopeName string }
		}
	}
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	files := []string{p.Main}
	for _, l := range p.Contributes.Languages {
		files = append(files, l.Configuration)
	}
	for _, g := range p.Contributes.Grammars {
		files = append(files, g.Path)
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil || filepath.Ext(f) == ".json" && !json.Valid(content) {
			t.Errorf("%s: missing or not JSON (%v)", f, err)
		}
	}
}
