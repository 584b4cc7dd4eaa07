package ast_test

import (
	"reflect"
	"strings"
	"testing"

	"smtpd/ast"
	"smtpd/lang"
)

const sample = `action a relay host <t> backup mx "m" ttl 1d
match !from src regex { x, y } for any action a
smtp limit max-mails 5
bad statement
`

func parse(t *testing.T) *ast.File {
	t.Helper()
	file, _ := lang.Parse("f", lang.Options{Text: []byte(sample)})
	return file
}

// TestInspect expects every string of the text once, in the order of the
// text, and nothing below a node that was refused.
func TestInspect(t *testing.T) {
	var all, above []string
	ast.Inspect(parse(t), func(n any) bool {
		if s, ok := n.(*ast.Str); ok {
			all = append(all, s.Text)
		}
		return true
	})
	if got, want := strings.Join(all, " "), "a t m 1d x y a max-mails"; got != want {
		t.Errorf("strings %q, want %q", got, want)
	}
	ast.Inspect(parse(t), func(n any) bool {
		if s, ok := n.(*ast.Str); ok {
			above = append(above, s.Text)
		}
		_, match := n.(*ast.Match)
		return !match
	})
	if got, want := strings.Join(above, " "), "a t m 1d max-mails"; got != want {
		t.Errorf("strings outside rules %q, want %q", got, want)
	}
}

func TestFprint(t *testing.T) {
	var b strings.Builder
	if err := ast.Fprint(&b, parse(t)); err != nil {
		t.Fatal(err)
	}
	const want = `Stmt @1:1
  Action
    Name "a"
    Relay
      Options @1:16
        Host @1:21
          Ref "t"
      Options @1:25
        Backup
          MX "m"
    TTL "1d"
Stmt @2:1
  Match
    Criteria @2:7 Not
      From
        Src Regex
          Table @2:23
            List @2:23
              Elems
                Key "x"
              Elems
                Key "y"
    Criteria @2:32
      For Any
    Action "a"
Stmt @3:1
  SMTP
    Limit @3:12
      Limits
        Name "max-mails"
        Value 5
Stmt @4:1
  Bad Strings=["bad" "statement"]
`
	if b.String() != want {
		t.Errorf("got:\n%swant:\n%s", b.String(), want)
	}
}

// TestPlaces expects the span of every node to begin before it ends.
func TestPlaces(t *testing.T) {
	ast.Inspect(parse(t), func(n any) bool {
		v := reflect.ValueOf(n).Elem()
		if start, end := v.FieldByName("Pos"), v.FieldByName("EndPos"); start.IsValid() {
			if start.FieldByName("Offset").Int() > end.FieldByName("Offset").Int() {
				t.Errorf("%T begins at %v and ends at %v", n, start, end)
			}
		}
		return true
	})
}
