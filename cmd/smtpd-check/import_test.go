package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpd/compile/hostfacts"
)

// TestImportGuide imports what the guide shows, which must come out as it
// shows it.
func TestImportGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/migrate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n## From Postfix\n")
	if !ok {
		t.Fatal("no section about Postfix")
	}
	var blocks []string
	for range 4 {
		_, code, ok := strings.Cut(rest, "\n\n    ")
		if !ok {
			t.Fatalf("only %d blocks", len(blocks))
		}
		block, after := indentedParagraphs("    " + code)
		blocks, rest = append(blocks, block), after
	}
	files := map[string]string{"main.cf": blocks[0], "master.cf": blocks[1]}
	read := func(name string) ([]byte, error) {
		if text, ok := files[filepath.Base(name)]; ok {
			return []byte(text), nil
		}
		return nil, fs.ErrNotExist
	}
	im, err := importPostfix("postfix", read, hostfacts.Unnamed())
	if err != nil {
		t.Fatal(err)
	}
	if got := string(im.text); got != blocks[2] {
		t.Errorf("the guide shows another result than this:\n%s", got)
	}
	var said strings.Builder
	for _, d := range im.report.List {
		fmt.Fprintf(&said, "%s:%d: %s: %s\n", filepath.Base(d.Span.Start.Filename), d.Span.Start.Line, d.Code, d.Message)
	}
	said.WriteString(im.summary() + "\n")
	if said.String() != blocks[3] {
		t.Errorf("the guide shows other remarks than these:\n%s", said.String())
	}
}

// indentedParagraphs is indented for a block that has empty lines.
func indentedParagraphs(text string) (block, rest string) {
	for {
		more, after := indented(text)
		block += more
		if !strings.HasPrefix(after, "\n    ") {
			return block, after
		}
		block, text = block+"\n", after[1:]
	}
}
