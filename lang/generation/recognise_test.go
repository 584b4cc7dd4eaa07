package generation_test

import (
	"strings"
	"testing"

	"smtpd/ast/old"
	"smtpd/lang"
	"smtpd/lang/generation"
)

func TestRecognise(t *testing.T) {
	tests := []struct {
		name, text string
		generation int
		dialect    old.Dialect
		why        string
	}{
		{"nothing", "listen on lo\n", 3, 0, ""},
		{"present", "action \"a\" mbox\nmatch for local action \"a\"\n", 3, 0, "action"},
		{"ssmtp", "ssmtp listen on lo enable auth\naccept for all relay\n", 1, old.D1A, "ssmtp"},
		{"braces", "map a { source db \"/a\" }\naccept for local alias a deliver to mbox\n", 1, old.D1B, "map"},
		{"as", "accept for all relay as \"@a.example\"\n", 1, old.D1C, "for all"},
		{"url", "map s source db \"/s\"\naccept for all relay via tls+auth://h auth s\n", 1, old.D1D, "map"},
		{"5.2", "map s source db \"/s\"\nlisten on lo tls auth\naccept for any relay\n", 1, old.D1E, "map"},
		{"enable auth is not auth", "listen on lo tls enable auth\naccept for all relay\n", 1, old.D1B, "enable auth"},
		{"parentheses in a macro", "l = \"( 127.0.0.1 )\"\naccept from $l for local deliver to mbox\n", 1, old.D1B, "a list in parentheses"},
		{"old expansion", "accept for local deliver to mda \"/x %u\"\n", 1, old.D1B, "%u"},
		{"5.3", "table t { a }\naccept from <t> for any relay\n", 2, old.D53, "table"},
		{"5.3 certificate", "table t { a }\nlisten on lo tls certificate x\naccept for any relay\n", 2, old.D53, "table"},
		{"5.4", "listen on lo inet4 tls certificate x\naccept tagged X for any relay\n", 2, old.D54, "listen … inet4"},
		{"5.4.1", "pki x certificate \"/c\" ca \"/a\"\naccept for any relay\n", 2, old.D541, "pki NAME certificate"},
		{"5.7", "accept from source 10.0.0.0/8 for any relay\n", 2, old.D57, "from source"},
		{"6.0", "pki x certificate \"/c\" dhe auto\naccept for any relay\n", 2, old.D60, "pki NAME certificate"},
		{"6.0.3", "accept authenticated for any relay\n", 2, old.D603, "authenticated"},
		{"no mark", "accept for any relay\n", 2, old.D57, ""},
		{"both", "table a { b }\naccept for all relay\n", 2, old.D57, "table"},
		{"quotes are no keywords", "accept for domain \"all\" deliver to mbox\n", 2, old.D57, ""},
		{"macro called like a statement", "table = \"x\"\naccept for any relay\n", 2, old.D57, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, list := lang.Scan("f", lang.Options{Text: []byte(tt.text)})
			if len(list) > 0 {
				t.Fatal(list)
			}
			g, d := generation.Recognise(s)
			if d != nil {
				t.Fatal(d)
			}
			if g.Generation != tt.generation || g.Dialect != tt.dialect || g.Why != tt.why {
				t.Errorf("generation %d, %v, by %q; want %d, %v, %q", g.Generation, g.Dialect, g.Why, tt.generation, tt.dialect, tt.why)
			}
		})
	}
}

func TestRecogniseMixed(t *testing.T) {
	s, _ := lang.Scan("f", lang.Options{Text: []byte("action \"a\" mbox\n\naccept for any relay\n")})
	_, d := generation.Recognise(s)
	if d == nil || d.Span.Start.Line != 3 || len(d.Notes) != 1 || d.Notes[0].Span.Start.Line != 1 {
		t.Errorf("got %+v, want a finding about lines 3 and 1", d)
	}
}

func TestRelease(t *testing.T) {
	for word, want := range map[string]old.Dialect{"1e": old.D1E, "2A": old.D53, "5.4.6": old.D541, "5.9": old.D57, "6.2": old.D603} {
		if d, gen, ok := generation.Release(word); !ok || d != want || gen != want.Generation() {
			t.Errorf("%s is %v, %d, %v; want %v", word, d, gen, ok, want)
		}
	}
	for _, word := range []string{"3", "6.4", "7.8"} {
		if d, gen, ok := generation.Release(word); !ok || d != 0 || gen != 3 {
			t.Errorf("%s is %v, %d, %v; want generation 3", word, d, gen, ok)
		}
	}
	for _, word := range []string{"", "4", "7.9", "6", "x"} {
		if _, _, ok := generation.Release(word); ok {
			t.Errorf("%q is a release", word)
		}
	}
}

func TestRefuse(t *testing.T) {
	for text, want := range map[string]string{
		"accept for all relay\n":                               "generation 1",
		"table a { b }\naccept for any relay\nexpire 4d\n":     "generation 2",
		"match for any reject\naccept for any relay\n":         "different generations",
		"action \"a\" mbox\nmatch for any reject\nexpire 4d\n": "",
		"match for any reject\n":                               "",
	} {
		opts := lang.Options{Text: []byte(text)}
		_, list := lang.Parse("f", opts)
		d := generation.Refuse(list, "f", opts)
		switch {
		case d == nil && want != "":
			t.Errorf("%q is not refused", text)
		case d != nil && (want == "" || !strings.Contains(d.Message, want)):
			t.Errorf("%q: %v, want %q", text, d, want)
		}
	}
}
