package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A block is what stands between two fences of a page.
type block struct {
	kind string // the words after the fence
	text string
}

func fenced(page string) []block {
	var blocks []block
	var open *block
	for line := range strings.Lines(page) {
		kind, ok := strings.CutPrefix(line, "```")
		switch {
		case ok && open == nil:
			open = &block{kind: strings.TrimSpace(kind)}
		case ok:
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.text += line
		}
	}
	return blocks
}

// TestAnalysisPage runs the commands of docs/analysis.md on its files and
// compares what they print. UPDATE=1 writes it instead.
func TestAnalysisPage(t *testing.T) {
	name, err := filepath.Abs(filepath.Join("..", "..", "docs", "analysis.md"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	updated := string(page)
	commands := 0
	for _, b := range fenced(string(page)) {
		if b.kind != "console" {
			if err := os.WriteFile(b.kind, []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, b := range fenced(string(page)) {
		if b.kind != "console" {
			continue
		}
		n, got := session(t, b.text)
		commands += n
		if got != b.text && os.Getenv("UPDATE") == "" {
			t.Errorf("the page says\n%s\nbut it is\n%s", b.text, got)
		}
		updated = strings.Replace(updated, "```console\n"+b.text, "```console\n"+got, 1)
	}
	if commands < 10 {
		t.Errorf("the page has %d commands", commands)
	}
	if updated != string(page) && os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(name, []byte(updated), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// session runs the commands of a text and returns it as a terminal would show
// it.
func session(t *testing.T, text string) (commands int, shown string) {
	t.Helper()
	var b strings.Builder
	status := 0
	for line := range strings.Lines(text) {
		command, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "$ ")
		if !ok {
			continue
		}
		commands++
		b.WriteString(line)
		if command == "echo $?" {
			fmt.Fprintln(&b, status)
			continue
		}
		command, input, _ := strings.Cut(command, " < ")
		var in []byte
		if input != "" {
			var err error
			if in, err = os.ReadFile(input); err != nil {
				t.Fatal(err)
			}
		}
		args := strings.Fields(command)
		if args[0] != "smtpd-check" {
			t.Fatalf("%s is no command of the page", args[0])
		}
		var out bytes.Buffer
		status = run(args[1:], &streams{in: bytes.NewReader(in), out: &out, err: &out})
		b.Write(out.Bytes())
	}
	return commands, b.String()
}
