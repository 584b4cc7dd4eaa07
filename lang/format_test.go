package lang

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkFormat fails if text parses and its format is not stable. That the
// format means the same Format checks itself.
func checkFormat(t *testing.T, text []byte) {
	t.Helper()
	if _, err := parseForFormat("f", text); err != nil {
		return
	}
	once, err := Format("f", text)
	if errors.Is(err, ErrUnclear) {
		return
	}
	if err != nil {
		t.Errorf("%q: %v", text, err)
		return
	}
	twice, err := Format("f", once)
	if err != nil || !bytes.Equal(once, twice) {
		t.Errorf("%q: formatted twice: %v\n%s", text, err, cmp.Diff(string(once), string(twice)))
	}
}

func TestFormatSamples(t *testing.T) {
	for _, text := range samples(t) {
		checkFormat(t, text)
	}
}

// TestFormatCorpus formats what people have published.
func TestFormatCorpus(t *testing.T) {
	for _, name := range corpus(t, "gen3") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		checkFormat(t, text)
	}
}

// TestFormatSentences writes sentences of the grammar with odd blanks, and
// expects the layout that they have with single ones.
func TestFormatSentences(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	blanks := []string{" ", "  ", "\t", " \t "}
	sentences(t, func(words []string) {
		plain := strings.Join(words, " ") + "\n"
		var odd strings.Builder
		for _, w := range words {
			odd.WriteString(w + blanks[rnd.IntN(len(blanks))])
		}
		want, err := Format("f", []byte(plain))
		if err != nil {
			return // white space in the name of a macro
		}
		checkFormat(t, []byte(plain))
		got, err := Format("f", []byte(odd.String()))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %v\n%s", odd.String(), err, cmp.Diff(string(want), string(got)))
		}
	})
}

// FuzzFormat checks that a file that parses has one layout.
func FuzzFormat(f *testing.F) {
	for _, text := range samples(f) {
		f.Add(text)
	}
	for _, text := range []string{
		"a = \"b\"\nadmd $a#c\nadmd $a$a\n", "admd 25#c\n", "admd a \\\n# c\\\nd\n", "table t{a b,\n\n\n c}#\\",
		"x=\"{ a }\"\ntable t $x", "table t {# c\n\n# d\n\na \\\n b\n}", "match!from<\"a\">reject", "admd '\\a'\nadmd a\\\\\\\nb\n",
		"table t {\na\n\n\\\n\nb\n}", "table t {\na \\\n\\\n\n\\\n\\\n\nb\n}", "table t {\na \\\n,\n\nb \\\n\\\n, # c\nd\n}", "$\"  00\"0", "admd 2\x01#c\n", "match $x\"\nadmd a !b\"\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) < 1<<14 {
			checkFormat(t, text)
		}
	})
}
