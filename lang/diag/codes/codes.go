// Package codes owns the pages that explain the codes of diagnostics: what
// each one means, what follows from it, and what to do. They are shown by
// smtpd-check codes and the language server, and go into SARIF.
package codes

import (
	"embed"
	"slices"
	"strings"

	"smtpd/lang/diag"
)

//go:embed *.md
var pages embed.FS

// Page returns the title and the text of the page on a code, and "" if there
// is none.
func Page(code diag.Code) (title, text string) {
	if strings.ContainsAny(string(code), "/\\.") {
		return "", ""
	}
	page, err := pages.ReadFile(string(code) + ".md")
	if err != nil {
		return "", ""
	}
	title, text, _ = strings.Cut(string(page), "\n")
	return strings.TrimPrefix(title, "# "), strings.TrimSpace(text)
}

// All lists every code that has a page, in byte order.
func All() []diag.Code {
	entries, err := pages.ReadDir(".")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	var all []diag.Code
	for _, e := range entries {
		all = append(all, diag.Code(strings.TrimSuffix(e.Name(), ".md")))
	}
	slices.Sort(all)
	return all
}
