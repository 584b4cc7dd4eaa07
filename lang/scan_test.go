package lang

import (
	"fmt"
	"strings"
	"testing"
)

// TestScan checks what a reader of an older generation is given: words for
// keywords, parentheses, and how macros are written.
func TestScan(t *testing.T) {
	text := `x = "a b"
y = '{ c, d }'
h = mail
accept ( "e", f ) $x <g> $y 25 # one
# two
table $h.example \
	# three
include "other"
map m {
	source db "/m"
}
`
	s, list := Scan("main", Options{Text: []byte(text), Open: func(string) ([]byte, error) { return []byte("reject # four\n"), nil }})
	if len(list) > 0 {
		t.Fatal(list)
	}
	var got strings.Builder
	for _, toks := range s.Statements[3:] {
		for _, tok := range toks[:len(toks)-1] {
			fmt.Fprintf(&got, "%s ", strings.ReplaceAll(tok.Text, "\n", "NL"))
			if tok.Written != "" {
				fmt.Fprintf(&got, "[%s] ", tok.Written)
			}
		}
		got.WriteString("\n")
	}
	want := `accept ( e , f ) a b < g > { c , d } 25 
table mail.example [$h.example] 
include other 
reject 
map m { source db /m } 
`
	if got.String() != want {
		t.Errorf("got:\n%swant:\n%s", got.String(), want)
	}
	var comments []string
	for _, c := range s.Comments {
		comments = append(comments, fmt.Sprintf("%s:%d:%v:%s", c.Pos.Filename, c.Pos.Line, c.Alone, c.Text))
	}
	if got, want := strings.Join(comments, " "), "main:4:false:# one main:5:true:# two main:7:false:# three other:1:false:# four"; got != want {
		t.Errorf("comments %s, want %s", got, want)
	}
}

func TestScanRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"accept $nowhere\n":              "undefined-macro",
		"accept \"open\n":                "unterminated-string",
		"accept \xff\n":                  "syntax",
		"table a {\nb\naccept for any x": "unclosed-brace",
		"include \"gone\"\n":             "include",
	} {
		s, list := Scan("f", Options{Text: []byte(text), Open: func(string) ([]byte, error) { return nil, errTooLarge }})
		if len(list) != 1 || string(list[0].Code) != want {
			t.Errorf("%q: %v, want %s", text, list, want)
		}
		if len(s.Statements) > 1 {
			t.Errorf("%q: %d statements", text, len(s.Statements))
		}
	}
}
