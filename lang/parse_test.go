package lang

import (
	"bufio"
	"os"
	"path/filepath"
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

// TestCorpus parses configurations that people have published. The original
// finds fault with the text of some.
func TestCorpus(t *testing.T) {
	for _, name := range corpus(t, "gen3") {
		_, diags := Parse(name, Options{})
		for _, d := range diags {
			t.Logf("%v", d)
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
