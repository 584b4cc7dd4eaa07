package compile_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/diag/codes"
)

// TestPageExamples checks that what a page calls wrong gives its code, and
// that what it calls right does not, nor any other mistake of the language.
func TestPageExamples(t *testing.T) {
	none := func(path string) ([]byte, error) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	shown := 0
	for _, code := range codes.All() {
		_, page := codes.Page(code)
		wrong, right := example(page, "Wrong:"), example(page, "Right:")
		if wrong == "" || slices.Contains(elsewhere, code) {
			continue
		}
		shown++
		judge := func(conf string) diag.List {
			f, list := parse("smtpd.conf", lang.Options{Text: []byte(conf), Open: none})
			rs, compiled := compile.Draft(f, hostfacts.Unnamed())
			if rs != nil {
				list = append(list, analyze.Lint(f, rs, hostfacts.Unnamed())...)
			}
			return append(list, compiled...)
		}
		if list := judge(wrong); !hasCode(list, code) {
			t.Errorf("%s: the wrong example gives %v:\n%s", code, list, wrong)
		}
		for _, d := range judge(right) {
			if d.Code == code || d.Class == diag.Language && !incomplete[d.Code] {
				t.Errorf("%s: the right example gives %v:\n%s", code, d, right)
			}
		}
	}
	if shown < 30 {
		t.Errorf("only %d pages have an example", shown)
	}
}

// elsewhere are the codes whose examples are files other than the
// configuration.
var elsewhere = []diag.Code{"table-content"}

// incomplete are what an example lacks because it is short.
var incomplete = map[diag.Code]bool{
	"no-rules": true, "undefined-action": true, "undefined-table": true, "undefined-filter": true, "undefined-pki": true,
}

// example returns the indented lines after a heading.
func example(page, heading string) string {
	_, rest, ok := strings.Cut(page, heading+"\n\n")
	if !ok {
		return ""
	}
	var lines []string
	for line := range strings.Lines(rest) {
		text, ok := strings.CutPrefix(line, "    ")
		if !ok {
			break
		}
		lines = append(lines, text)
	}
	return strings.Join(lines, "")
}

func hasCode(list diag.List, code diag.Code) bool {
	return slices.ContainsFunc(list, func(d *diag.Diagnostic) bool { return d.Code == code })
}
