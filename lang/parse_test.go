package lang

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smtpd/lang/diag"
)

const verdictDir = "../testdata/language"

// syntaxClasses are the reasons in verdicts.tsv that the parser must find;
// all others are the compiler's.
var syntaxClasses = map[string]bool{
	"syntax": true, "lex": true, "macro-undefined": true, "macro-name": true, "include": true,
}

// TestVerdicts holds the parser to what the real program said of each case:
// it finds what is wrong with the text, in the same line, and nothing else.
func TestVerdicts(t *testing.T) {
	t.Chdir(verdictDir)
	f, err := os.Open("verdicts.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for rows := bufio.NewScanner(f); rows.Scan(); n++ {
		cols := strings.Split(rows.Text(), "\t")
		name, line, reason := cols[0], cols[2], cols[3]
		t.Run(name, func(t *testing.T) {
			_, diags := Parse(name, Options{})
			if !syntaxClasses[reason] {
				for _, d := range diags {
					t.Errorf("%v: the original finds no fault in the text", d)
				}
				return
			}
			if !strings.Contains(line, ":") {
				line = name + ":" + line
			}
			if got := firstLine(diags); got != line {
				t.Errorf("first error at %q, want %q: %v", got, line, diags)
			}
		})
	}
	if n < 200 {
		t.Errorf("only %d cases", n)
	}
}

// firstLine returns file:line of the first complaint.
func firstLine(diags diag.List) string {
	if len(diags) == 0 {
		return "none"
	}
	pos := diags[0].Span.String()
	return pos[:strings.LastIndexByte(pos, ':')]
}

// TestCorpus parses configurations that people have published, and finds
// fault with the text of those with which the original does.
func TestCorpus(t *testing.T) {
	corpus(t, "gen3")
	index, err := os.ReadFile("../../shared/corpus/INDEX.tsv")
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(string(index)), "\n")
	columns := strings.Split(rows[0], "\t")
	for _, row := range rows[1:] {
		cols := strings.Split(row, "\t")
		get := func(name string) string { return cols[slices.Index(columns, name)] }
		if get("generation") != "3" {
			continue
		}
		name := "../../shared/corpus/" + get("file")
		_, diags := Parse(name, Options{})
		var text diag.List // faults of the text, not of the machine
		for _, d := range diags {
			if d.Code != "include" {
				text = append(text, d)
			}
		}
		line, syntax := strings.CutSuffix(get("first_error_7.8.0p1"), ": syntax error")
		want := name + ":" + strings.TrimPrefix(line, "line ")
		switch accepted := strings.Contains(get("accepted_by_with_stubbed_environment"), "7.8"); {
		case accepted && len(text) > 0:
			t.Errorf("%v: the original finds no fault", text[0])
		case syntax && firstLine(text) != want:
			t.Errorf("first error at %s, want %s", firstLine(text), want)
		}
	}
}

// TestOldCorpus expects one finding that names the generation, not one for
// each line.
func TestOldCorpus(t *testing.T) {
	for _, name := range append(corpus(t, "gen1"), corpus(t, "gen2")...) {
		_, diags := Parse(name, Options{Open: func(path string) ([]byte, error) {
			if path == name {
				return os.ReadFile(path)
			}
			return nil, nil
		}})
		n := 0
		for _, d := range diags {
			if d.Code == "old-generation" {
				n++
			}
		}
		if n > 1 {
			t.Errorf("%s: said %d times", name, n)
		}
		if n == 0 {
			t.Logf("%s: not recognised: %v", name, diags)
		}
	}
}

// corpus returns the files of one generation of the corpus.
func corpus(t testing.TB, generation string) []string {
	t.Helper()
	files, err := filepath.Glob("../../shared/corpus/" + generation + "/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("the corpus is not beside this repository")
	}
	return files
}
