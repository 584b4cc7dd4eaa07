package lang_test

import (
	"slices"
	"strings"
	"testing"

	"smtpd/lang"
)

// TestExpected marks the place in each text with a bar.
func TestExpected(t *testing.T) {
	for _, c := range []struct {
		text string
		has  []string // all of them must be expected
		not  string
	}{
		{"|", []string{"match", "include", "<word>"}, "any"},
		{"match from |", []string{"any", "local", "src"}, "match"},
		{"match from any |\nmatch for any reject\n", []string{"for", "action", "reject", "!"}, ""},
		{"match from any for any action \"a\" |", []string{""}, "reject"},
		{"table t { a |", []string{"}", "<word>", "=", "<sep>"}, "match"},
		{"table t {\n\ta\n\t|", []string{"<word>"}, "match"},
		{"x = \"from any\"\nmatch $x |", []string{"for", "action"}, "from any"},
		{"include \"other\"\nlisten on |", []string{"socket", "<word>"}, "match"},
		{"match from any any |", nil, "for"},
	} {
		before, after, _ := strings.Cut(c.text, "|")
		got := lang.Expected("c", lang.Options{
			Text: []byte(before + after),
			Open: func(string) ([]byte, error) { return []byte("y = z\n"), nil },
		}, len(before))
		for _, w := range c.has {
			if !slices.Contains(got, w) {
				t.Errorf("%q: %q is not among %q", c.text, w, got)
			}
		}
		if c.not != "" && slices.Contains(got, c.not) || c.has == nil && len(got) > 0 {
			t.Errorf("%q: got %q", c.text, got)
		}
	}
}

func TestPieces(t *testing.T) {
	const text = "match from $x \"q # r\" {any, 5} # c\n\"open"
	var got []string
	for _, p := range lang.Pieces([]byte(text)) {
		got = append(got, text[p.Start:p.End])
	}
	want := []string{"match", "from", "$x", "\"q # r\"", "{", "any", ",", "5", "}", "# c", "\n", "\"open"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzEditor expects pieces to cover the text in order, and expectations
// at any place.
func FuzzEditor(f *testing.F) {
	f.Add("match from $x \"q # r\" {any, 5} # c\n", 3)
	f.Add("table t { a = b\n }\\\nlisten on", 12)
	f.Fuzz(func(t *testing.T, text string, at int) {
		end := 0
		for _, p := range lang.Pieces([]byte(text)) {
			if p.Start < end || p.End <= p.Start || p.End > len(text) {
				t.Fatalf("piece %+v after %d of %d", p, end, len(text))
			}
			end = p.End
		}
		lang.Expected("f", lang.Options{
			Text: []byte(text),
			Open: func(string) ([]byte, error) { return nil, nil },
		}, at)
	})
}
