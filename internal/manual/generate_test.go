package manual

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
	"smtpd/lsp"
)

var update = flag.Bool("update", false, "write what is generated into smtpd.conf(5)")

// page returns the text of a manual page.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "man", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var generated = regexp.MustCompile(`(?ms)^(\.\\" begin ([^\n]*)\n)(.*?)^(\.\\" end\n)`)

// TestGenerated checks that smtpd.conf(5) says what the grammar does.
func TestGenerated(t *testing.T) {
	have := page(t, "smtpd.conf.5")
	want := generated.ReplaceAllStringFunc(have, func(block string) string {
		m := generated.FindStringSubmatch(block)
		return m[1] + generate(t, strings.Fields(m[2])) + m[4]
	})
	if *update {
		if err := os.WriteFile(filepath.Join("..", "..", "man", "smtpd.conf.5"), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want {
		t.Error("smtpd.conf(5) is not what the grammar says: go test ./internal/manual -update")
	}
}

// optionTypes are the nodes whose fields are words that the page lists.
var optionTypes = map[string]reflect.Type{
	"ListenOption": reflect.TypeFor[ast.ListenOption](), "SocketOption": reflect.TypeFor[ast.SocketOption](),
	"LocalOption": reflect.TypeFor[ast.LocalOption](), "RelayOption": reflect.TypeFor[ast.RelayOption](),
	"Criterion": reflect.TypeFor[ast.Criterion](), "From": reflect.TypeFor[ast.From](), "For": reflect.TypeFor[ast.For](),
	"Condition": reflect.TypeFor[ast.Condition](), "Decision": reflect.TypeFor[ast.Decision](), "ProcOption": reflect.TypeFor[ast.ProcOption](),
}

func generate(t *testing.T, what []string) string {
	t.Helper()
	switch what[0] {
	case "options":
		return options(t, optionTypes[what[1]], what[2])
	case "limits":
		return limits(what[1])
	case "extensions":
		return literal(func(yield func(string) bool) {
			for _, e := range ast.Extensions {
				yield(strings.ReplaceAll(e.Syntax, `"`, ""))
			}
		})
	case "keywords":
		words := lang.Keywords()
		slices.Sort(words)
		return ".Bd -filled -offset indent\n" + strings.Join(words, "\n") + "\n.Ed\n"
	}
	t.Fatalf("nothing to generate for %q", what)
	return ""
}

func literal(lines func(yield func(string) bool)) string {
	b := ".Bd -literal -offset indent\n"
	for line := range lines {
		b += strings.ReplaceAll(line, "…", "...") + "\n"
	}
	return b + ".Ed\n"
}

// arguments are what follows a word, by the type of its node.
var arguments = map[reflect.Type]string{
	reflect.TypeFor[bool]():            "",
	reflect.TypeFor[*ast.Str]():        "Ar value",
	reflect.TypeFor[*ast.TableArg]():   "Ar table",
	reflect.TypeFor[*ast.FilterRef]():  "Ar filter",
	reflect.TypeFor[*ast.Port]():       "Ar port",
	reflect.TypeFor[*ast.Verify]():     "Op Cm verify",
	reflect.TypeFor[*ast.OptTable]():   "Op Ar table",
	reflect.TypeFor[*ast.Senders]():    "Ar table",
	reflect.TypeFor[*ast.ProxyV2]():    "Op Cm only-from Ar table",
	reflect.TypeFor[*ast.Backup]():     "Op Cm mx Ar name",
	reflect.TypeFor[*ast.RelayTLS]():   "Op Cm no-verify",
	reflect.TypeFor[*ast.Pattern]():    "Ar table",
	reflect.TypeFor[*ast.OptPattern](): "Op Ar table",
	reflect.TypeFor[*ast.From]():       "Ar source",
	reflect.TypeFor[*ast.For]():        "Ar destination",
}

var keywordRx = regexp.MustCompile(`'([a-z0-9-]+)':Keyword`)

// options lists the words of a node and what they mean in a statement.
func options(t *testing.T, node reflect.Type, statement string) string {
	t.Helper()
	b := ".Bl -tag -width Ds\n"
	for i := range node.NumField() {
		f := node.Field(i)
		m := keywordRx.FindStringSubmatch(f.Tag.Get("parser"))
		if m == nil {
			continue
		}
		arg, ok := arguments[f.Type]
		if !ok {
			t.Fatalf("%v.%s: no words for %v", node, f.Name, f.Type)
		}
		b += strings.TrimSpace(".It Cm "+m[1]+" "+arg) + "\n" + mdoc(lsp.Meaning(statement, m[1]))
	}
	return b + ".El\n"
}

var quotedRx = regexp.MustCompile("`([^`]*)`")

// mdoc writes sentences of Markdown, one a line.
func mdoc(text string) string {
	text = strings.ReplaceAll(text, `\`, `\e`)
	text = quotedRx.ReplaceAllString(text, `\(oq$1\(cq`)
	var b strings.Builder
	for sentence := range strings.SplitSeq(strings.ReplaceAll(text, ". ", ".\n"), "\n") {
		b.WriteString(wrapped(sentence))
	}
	return b.String()
}

// maxLine is how long a line of a page may be.
const maxLine = 78

// wrapped breaks a sentence into lines, none of which is a request.
func wrapped(sentence string) string {
	var b strings.Builder
	width := 0
	for _, word := range strings.Fields(sentence) {
		switch {
		case width == 0:
		case width+1+len(word) > maxLine:
			b.WriteByte('\n')
			width = 0
		default:
			b.WriteByte(' ')
			width++
		}
		if width == 0 && strings.HasPrefix(word, ".") {
			word = `\&` + word
		}
		b.WriteString(word)
		width += len(word)
	}
	return b.String() + "\n"
}

// limits lists the limits of a statement and what they are if nothing is said.
func limits(statement string) string {
	f, _ := lang.Parse("conf", lang.Options{Text: []byte("match reject\n")})
	rs, _ := compile.Compile(f, hostfacts.Unnamed())
	values := rs.Limits(statement)
	b := ".Bl -column max-auth-failures-per-source default\n"
	for _, name := range compile.LimitNames(statement) {
		text := fmt.Sprint(values[name])
		if ast.Extends(name) && values[name] == 0 {
			text = "ours"
		}
		b += ".It Cm " + name + " Ta " + text + "\n"
	}
	return b + ".El\n"
}
