package lang

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpd/lang/diag"
)

// TestOneMessage gives the parser what no one should, and expects one clear
// message for it.
func TestOneMessage(t *testing.T) {
	files := map[string]string{
		"self":   "include \"self\"\n",
		"a":      "include \"b\"\n",
		"b":      "include \"a\"\n",
		"large":  strings.Repeat("# nothing\n", maxInput/10) + "match reject\n",
		"double": "",
	}
	for i := range 40 {
		next := fmt.Sprintf("include \"n%d\"\n", i+1)
		files[fmt.Sprintf("n%d", i)] = next + next
	}
	files["n40"] = ""
	for i := range 300 {
		files[fmt.Sprintf("deep%d", i)] = fmt.Sprintf("include \"deep%d\"\n", i+1)
	}
	open := func(name string) ([]byte, error) {
		if text, ok := files[name]; ok {
			return []byte(text), nil
		}
		return nil, fmt.Errorf("no such file")
	}
	for _, tt := range []struct {
		name, text string
		code       diag.Code
	}{
		{"include loop", "include \"self\"\n", "include-loop"},
		{"include circle", "include \"a\"\n", "include-loop"},
		{"includes that double", "include \"n0\"\n", "include-limit"},
		{"includes too deep", "include \"deep0\"\n", "include-limit"},
		{"large file", files["large"] + files["large"], "too-large"},
		{"large includes", "include large\ninclude large\ninclude large\n", "too-large"},
		{"macro bomb", "x = \"" + strings.Repeat("max-session 1 ", 570) + "\"\n" + strings.Repeat("mda limit $x\n", 10_000), "macro-size"},
		{"byte order mark", "\xef\xbb\xbfmatch reject\nmatch reject\n", "byte-order-mark"},
		{"carriage returns", "match reject\r\n# c\r\nmatch reject\r\nadmd \"a\"\r\n", "crlf"},
		{"carriage returns in comments", "# c\r\nmatch reject\n", ""},
		{"NUL in a string", "admd \"a\x00b\"\nmatch reject\n", "nul-byte"},
		{"NUL outside", "admd a\n\x00\nmatch reject\n", "nul-byte"},
		{"NULs all over", strings.Repeat("admd \"\x00\"\n\x00\x00\n", 4), "nul-byte"},
		{"NULs alone", strings.Repeat("\x00", 1<<20), "nul-byte"},
		{"dollars alone", strings.Repeat("$", 1<<20), "macro-name"},
		{"UTF-16", "\xff\xfem\x00a\x00t\x00c\x00h\x00\n\x00\n\x00", "byte-order-mark"},
		{"UTF-16, the other way round", "\xfe\xff\x00m\x00\n", "byte-order-mark"},
		{"NUL in a comment", "# \x00\nmatch reject\n", ""},
		{"expansion marks", "adm\x01d\x02 a\n\x01\nmatch reject\n", ""},
		{"no text", "", ""},
		{"a macro used often", strings.Repeat("admd $x\n", 1000), "undefined-macro"},
		{"older language", "map a { source plain }\naccept for all deliver to mbox\nreject for any\n", "old-generation"},
		{"file that ends in a brace", "table t {\n" + strings.Repeat("a\n", 1000), "unclosed-brace"},
		{"file that ends in a quote", "admd \"a\nmatch reject\n", "unterminated-string"},
		{"macro named like a keyword", "host = x\nadmd $host\n", "syntax"},
		{"a macro of an undefined one", "y = $x\nadmd $y\nadmd $y\n", "undefined-macro"},
		{"ten macros in a chain", "a = x\nb = $a\nc = $b\nd = $c\ne = $d\nf = $e\ng = $f\nh = $g\ni = $h\nj = $i\nadmd $j\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, diags := Parse("main", Options{Text: []byte(tt.text), Open: open})
			counts := make(map[diag.Code]int)
			for _, d := range diags {
				counts[d.Code]++
			}
			switch {
			case tt.code == "" && len(diags) > 0:
				t.Errorf("%v", diags[0])
			case tt.code != "" && (len(diags) != 1 || counts[tt.code] != 1):
				t.Errorf("found %v, want one %s: %v", counts, tt.code, diags[:min(3, len(diags))])
			}
		})
	}
}

// TestLimits holds the sizes of tokens to those of the original.
func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		format string
		most   int
	}{
		{"admd %s\n", maxWord},
		{"admd \"%s\"\n", maxQuoted},
		{"admd '%s'\n", maxQuoted},
		{"x = y\nadmd \"%s\\\n\"\n", maxQuoted},
		{"\"%[1]s\" = y\nadmd $%[1]s\n", maxName},
	} {
		for _, n := range []int{tt.most, tt.most + 1} {
			text := fmt.Sprintf(tt.format, strings.Repeat("a", n))
			_, diags := Parse("f", Options{Text: []byte(text)})
			if tooLong := len(diags) > 0 && diags[0].Code == "too-long"; tooLong != (n > tt.most) {
				t.Errorf("%s with %d bytes: %v", clip(text), n, diags)
			}
		}
	}
}

// TestFiles reads what is not an ordinary file: a directory counts as an
// empty one, as in the original, and a large file is not read.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxInput+1); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		code diag.Code
	}{
		{dir, ""},
		{large, "unreadable-file"},
		{filepath.Join(dir, "absent"), "unreadable-file"},
	} {
		_, diags := Parse(tt.name, Options{})
		if tt.code == "" && len(diags) > 0 || tt.code != "" && (len(diags) != 1 || diags[0].Code != tt.code) {
			t.Errorf("%s: %v, want %s", tt.name, diags, tt.code)
		}
	}
	_, diags := Parse("main", Options{Text: []byte("include \"" + dir + "\"\ninclude \"" + large + "\"\n")})
	if len(diags) != 1 || diags[0].Code != "include" || diags[0].Span.Start.Line != 2 {
		t.Errorf("includes: %v", diags)
	}
}

// TestGivesUp gives the parser a file that is something else.
func TestGivesUp(t *testing.T) {
	for _, line := range []string{"mtach for any reject\n", "match action x y\n", "\x00\n", "$\n", "{\n", "admd \"a\nb\" c\n"} {
		f, diags := Parse("f", Options{Text: []byte(strings.Repeat(line, 3*maxErrors))})
		last := diags[len(diags)-1]
		if len(diags) > maxErrors+2 || len(diags) > 1 && last.Code != "too-many-errors" || !f.Lost && len(diags) > 1 {
			t.Errorf("%q: %d findings, the last is %v", line, len(diags), last)
		}
	}
}

// TestBinary gives the parser bytes that are no text at all.
func TestBinary(t *testing.T) {
	text := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(text)
	if _, diags := Parse("f", Options{Text: text}); len(diags) > 50 || diags[len(diags)-1].Code != "too-many-errors" {
		t.Errorf("%d findings, the last is %v", len(diags), diags[len(diags)-1])
	}
}
