package token

import (
	"fmt"
	"strings"
	"testing"
)

// TestTrace follows a token through a macro that was used in an included
// file.
func TestTrace(t *testing.T) {
	s := NewFileSet()
	main := s.AddSource("main", []byte("include \"inc\"\n"), Pos{})
	use := Pos{Filename: "main", Offset: main + 8, Line: 1, Column: 9}
	inc := s.AddSource("inc", []byte("admd $m\n"), use)
	ref := Pos{Filename: "inc", Offset: inc + 5, Line: 1, Column: 6}
	exp := s.AddExpansion("m", 4, Pos{Filename: "main", Line: 7, Column: 1}, ref)

	for _, tt := range []struct {
		offset int
		want   string
	}{
		{main, ""},
		{main + 14, ""}, // the end of the file
		{inc, "inc@main:1:9"},
		{inc + 8, "inc@main:1:9"},
		{exp, "m@inc:1:6 inc@main:1:9"},
		{exp + 4, "m@inc:1:6 inc@main:1:9"},
		{exp + 5, ""}, // nothing is there
	} {
		var got []string
		for _, f := range s.Trace(Pos{Offset: tt.offset, Line: 1}) {
			got = append(got, fmt.Sprintf("%s@%v", f.Name, f.Use))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("offset %d came from %q, want %q", tt.offset, got, tt.want)
		}
	}
}

func TestLine(t *testing.T) {
	s := NewFileSet()
	s.AddSource("f", []byte("one\ntwo\n\nfour"), Pos{})
	for n, want := range []string{1: "one", 2: "two", 3: "", 4: "four"} {
		if got, ok := s.Line("f", n); got != want || ok != (n > 0) {
			t.Errorf("line %d is %q, %v", n, got, ok)
		}
	}
	if _, ok := s.Line("f", 5); ok {
		t.Error("there is a fifth line")
	}
	if text, ok := s.Source("f"); !ok || string(text) != s.Text("f") {
		t.Errorf("source is %q, %v", text, ok)
	}
}
