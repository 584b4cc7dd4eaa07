package compile_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
)

// origin is the place at the end of a line of a dump.
var origin = regexp.MustCompile(`(?m) # \S+:\d+:\d+$`)

// TestFormatKeepsMeaning checks that a configuration and its canonical
// layout compile to the same rule table, places aside.
func TestFormatKeepsMeaning(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../testdata/language/*.conf", "../testdata/decisions/*.conf", "../../shared/corpus/gen3/*.conf"} {
		some, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, some...)
	}
	compared := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		laid, err := lang.Format(name, text)
		if err != nil {
			continue // it does not parse
		}
		table := func(text []byte) string {
			f, _ := parse(name, lang.Options{Text: text})
			rs, _ := compile.Draft(f, hostfacts.Unnamed())
			if rs == nil {
				return ""
			}
			return origin.ReplaceAllString(string(dump(t, rs)), "")
		}
		if before := table(text); before != table(laid) {
			t.Errorf("%s: the layout changed what it means:\n%s", name, laid)
		} else if before != "" {
			compared++
		}
	}
	if compared < 150 {
		t.Errorf("only %d rule tables compared", compared)
	}
}
