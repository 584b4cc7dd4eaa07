package compile_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/exp/ebnf"

	"smtpd/compile"
	"smtpd/compile/oshost"
	"smtpd/lang"
	"smtpd/lang/diag"
)

var (
	originalRuns = flag.Int("original.runs", 150, "how many configurations to compare with the installed OpenSMTPD")
	originalSeed = flag.Uint64("original.seed", 1, "which ones")
)

// original is OpenSMTPD as Debian installs it.
const original = "/usr/sbin/smtpd"

// TestAgainstOriginal compares the verdict and the line of the first error
// with those of the OpenSMTPD on this machine, on configurations that are
// recorded, real, generated from the grammar, and all of these with something
// changed. It knows what differs between the release that it was written
// against, 6.8, and 7.8, which is ours.
func TestAgainstOriginal(t *testing.T) {
	version, err := exec.Command(original, "-h").CombinedOutput()
	if !strings.Contains(string(version), "OpenSMTPD 6.8") {
		t.Skipf("%s is not OpenSMTPD 6.8: %v", original, err)
	}
	m := newMutator(t, rand.New(rand.NewPCG(*originalSeed, 68)))
	t.Chdir("../testdata/language")
	c := &comparison{t: t, host: onceNamed{oshost.New(), oshost.New().ServerName()}, file: filepath.Join(t.TempDir(), "c")}
	for range *originalRuns {
		text := m.next()
		if !c.differs(text) {
			continue
		}
		text = c.shrink(text)
		t.Errorf("%s\nhere: %v\noriginal: %s", quoteLines(text), c.here, c.there)
	}
	t.Logf("%d configurations, of them %d valid; %d not compared because 7.8 differs from 6.8", c.n, c.valid, c.skipped)
}

func quoteLines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		fmt.Fprintf(&b, "  %q\n", line)
	}
	return b.String()
}

// onceNamed is this machine, asked for its name once.
type onceNamed struct {
	*oshost.Host
	name string
}

func (h onceNamed) ServerName() string { return h.name }

// A comparison judges configurations by both programs.
type comparison struct {
	t                 *testing.T
	host              compile.Host
	file              string
	here              diag.List
	there             string
	n, valid, skipped int
}

var located = regexp.MustCompile(`(?m)^\S*?:([0-9]+): `)

// differs reports whether the programs differ in the verdict or the line of
// the first error.
func (c *comparison) differs(text string) bool {
	c.t.Helper()
	main := text
	if strings.HasPrefix(text, included) {
		c.write(c.file+".inc", text)
		main = "include \"" + c.file + ".inc\"\nmatch reject\n"
	}
	c.write(c.file, main)
	out, err := exec.Command(original, "-n", "-f", c.file).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	c.there = string(out)
	f, parsed := lang.Parse(c.file, lang.Options{})
	rs, compiled := compile.Compile(f, c.host)
	c.here = diag.Merge(f.Set, parsed, compiled)
	good := rs != nil && !c.here.Has(diag.Language) && !rs.Queue.KeyFromInput()
	c.n++
	if good {
		c.valid++
	}
	if good != (err == nil) {
		return c.counts(text)
	}
	if m := located.FindStringSubmatch(c.there); !good && m != nil {
		line := firstLine(c.here)
		if line[strings.LastIndexByte(line, ':')+1:] != m[1] {
			return c.counts(text)
		}
	}
	return false
}

// included marks a text that is not the main file but is included there.
const included = "# included\n"

func (c *comparison) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// counts reports whether a difference is one from 7.8 too.
func (c *comparison) counts(text string) bool {
	if since68(text, c.here, c.there) {
		c.skipped++
		return false
	}
	return true
}

// The text of what 7.8 has learnt since 6.8 (language.md, appendix B).
var (
	newWords   = regexp.MustCompile(`\b(protocols|ciphers|no-dsn)\b`)
	newLines   = regexp.MustCompile(`[{,][ \t\\]*(#[^\n]*)?(\n|$)|\n[ \t\n]*(#[^\n]*\n[ \t\n]*)*\}`)
	newMapping = regexp.MustCompile(`^\S*: table "[^"]*" may not be used for (for|from|mail-from|rcpt-to|auth|source) lookups`)
)

// since68 reports whether a difference comes of what has changed from 6.8 to
// 7.8, may come of a resolver that answers one program and not the other, or
// is one that nobody will ever meet.
func since68(text string, here diag.List, there string) bool {
	if strings.HasSuffix(text, "\\") { // nothing follows to be continued, and after include it counts
		return true
	}
	if newWords.MatchString(text) || newLines.MatchString(text) || newMapping.MatchString(there) || strings.Count(text, "pki") > 2 {
		return true
	}
	return slices.ContainsFunc(here, func(d *diag.Diagnostic) bool {
		return d.Code == "tls-without-pki" || d.Code == "undefined-pki" || d.Code == "unknown-address"
	})
}

// shrink takes away lines and then words as long as the programs differ.
func (c *comparison) shrink(text string) string {
	skipped, n, valid := c.skipped, c.n, c.valid
	for _, split := range []*regexp.Regexp{regexp.MustCompile(`[^\n]*\n|[^\n]+$`), regexp.MustCompile(`"[^"\n]*"|\s|[\w.-]+|.`)} {
		parts := split.FindAllString(text, -1)
		for size := len(parts) / 2; size > 0; size /= 2 {
			for i := 0; i+size <= len(parts); {
				less := slices.Concat(parts[:i], parts[i+size:])
				if c.differs(strings.Join(less, "")) {
					parts = less
				} else {
					i += size
				}
			}
		}
		text = strings.Join(parts, "")
	}
	c.differs(text)
	c.skipped, c.n, c.valid = skipped, n, valid
	return text
}

// A mutator makes configurations.
type mutator struct {
	*rand.Rand
	seeds []string
	words []string // of all seeds
	rules ebnf.Grammar
}

func newMutator(t *testing.T, rnd *rand.Rand) *mutator {
	m := &mutator{Rand: rnd}
	valid := make(map[string]bool)
	for _, row := range table(t, "../testdata/language/verdicts.tsv") {
		valid[row[0]] = row[1] == "valid"
	}
	for _, pattern := range []string{"../testdata/language/*.conf", "../../shared/corpus/*/*.conf"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if len(text) > 1<<13 {
				continue
			}
			// Valid ones more often: most changes make a file invalid, few
			// make it valid.
			m.seeds = append(m.seeds, string(text))
			for range 6 {
				if valid[filepath.Base(f)] {
					m.seeds = append(m.seeds, string(text))
				}
			}
		}
	}
	seen := make(map[string]bool)
	for _, s := range m.seeds {
		for _, w := range pieces.FindAllString(s, -1) {
			if !seen[w] && len(w) < 60 {
				seen[w] = true
				m.words = append(m.words, w)
			}
		}
	}
	for _, w := range lang.Keywords() {
		for range 4 {
			m.words = append(m.words, w)
		}
	}
	var err error
	if m.rules, err = ebnf.Parse("grammar", strings.NewReader(lang.Grammar())); err != nil {
		t.Fatal(err)
	}
	return m
}

// pieces takes a text apart: strings, comments, words, numbers, blanks,
// newlines, marks.
var pieces = regexp.MustCompile(`"(?:\\.|[^"\n])*"|'[^'\n]*'|#[^\n]*|\$\w+|[\w.:/@*+-]+|[ \t]+|\n|.`)

// prelude declares what generated statements may name: things of each kind
// under the same names.
var prelude = func() string {
	text := "srs key k\ntable m { a = b }\n"
	for _, n := range names {
		for _, s := range []string{"table %s { x }", "proc %s c", "filter %s phase connect match rdns junk", "mda wrapper %s c", "action %s mbox"} {
			text += fmt.Sprintf(s+"\n", n)
		}
	}
	return text
}()

var names = []string{"a", "b", "c"}

// next returns a configuration.
func (m *mutator) next() string {
	text := m.seeds[m.IntN(len(m.seeds))]
	if m.IntN(3) == 0 {
		text = prelude
		for range 1 + m.IntN(4) {
			text += m.sentence(m.rules["Stmt"].Expr) + "\n"
		}
		text += "match reject\n"
	}
	if m.IntN(4) == 0 {
		text = m.spread(text)
	}
	for range m.IntN(3) {
		text = m.change(text)
	}
	if m.IntN(10) == 0 {
		text = included + text
	}
	return text
}

// spread puts tokens on lines of their own.
func (m *mutator) spread(text string) string {
	parts := pieces.FindAllString(text, -1)
	for i, p := range parts {
		if strings.Trim(p, " \t") == "" && m.IntN(3) > 0 {
			parts[i] = " \\\n"
		}
	}
	return strings.Join(parts, "")
}

// strange are bytes that mean something to the lexer.
var strange = []string{"\\", "\\\n", "\"", "'", "#", "$", "{", "}", "<", ">", ",", "=", "=>", "!", "(", "\t", " ", "\n", "\r", "\v", "\f", "-", "1", "0", ":", "_", "\x80", "*", "@", "/", ";", "[", ".", "+", "%"}

// change makes one change somewhere.
func (m *mutator) change(text string) string {
	parts := pieces.FindAllString(text, -1)
	if len(parts) == 0 {
		return m.words[m.IntN(len(m.words))] + "\n"
	}
	i := m.IntN(len(parts))
	j := min(len(parts), i+1+m.IntN(3))
	word := m.words[m.IntN(len(m.words))]
	switch m.IntN(10) {
	case 0:
		parts = slices.Delete(parts, i, j)
	case 1:
		parts = slices.Insert(parts, i, parts[i:j]...)
	case 2:
		parts = slices.Insert(parts, i, " ", word, " ")
	case 3:
		parts[i] = word
	case 4:
		parts[i] = parts[m.IntN(len(parts))]
	case 5:
		k := m.IntN(len(parts))
		parts[i], parts[k] = parts[k], parts[i]
	case 6, 7:
		at := m.IntN(len(text) + 1)
		return text[:at] + strange[m.IntN(len(strange))] + text[at:]
	case 8:
		at := m.IntN(len(text))
		return text[:at] + text[at+1:]
	case 9:
		lines := strings.SplitAfter(text, "\n")
		a, b := m.IntN(len(lines)), m.IntN(len(lines))
		switch m.IntN(3) {
		case 0:
			lines = slices.Insert(lines, a, lines[b])
		case 1:
			lines[a], lines[b] = lines[b], lines[a]
		case 2:
			other := strings.SplitAfter(m.seeds[m.IntN(len(m.seeds))], "\n")
			lines = slices.Insert(lines, a, other[m.IntN(len(other))])
		}
		return strings.Join(lines, "")
	}
	return strings.Join(parts, "")
}

// sentence returns a sentence of the grammar, with the names of the prelude
// where there is a choice.
func (m *mutator) sentence(e ebnf.Expression) string {
	switch e := e.(type) {
	case ebnf.Alternative:
		return m.sentence(e[m.IntN(len(e))])
	case ebnf.Sequence:
		words := make([]string, len(e))
		for i, s := range e {
			words[i] = m.sentence(s)
		}
		return strings.Join(words, " ")
	case *ebnf.Group:
		return m.sentence(e.Body)
	case *ebnf.Option:
		if m.IntN(2) == 0 {
			return m.sentence(e.Body)
		}
	case *ebnf.Repetition:
		text := ""
		for range m.IntN(4) {
			text += m.sentence(e.Body) + " "
		}
		return text
	case *ebnf.Token:
		return e.String
	case *ebnf.Name:
		return m.name(e.String)
	}
	return ""
}

var (
	someWords   = []string{"a", "b", "c", "m", "n1", "n2", "n3", "n4", "lo", "127.0.0.1", "5m", "2d", "x.example", "smtp", "1M", "auto", "max-mails", "max-session", "conn-delay-host", "max-inflight", "getpwnam"}
	someStrings = []string{`"a"`, `"b"`, `"c"`, `"m"`, `"n5"`, `"n6"`, `"lo"`, `"::1"`, `"+"`, `"/etc/passwd"`, `"file:/etc/passwd"`, `"550 no"`, `"4h"`, `"smtp"`, `"x y"`, `""`, `'*'`, `"10K"`}
)

func (m *mutator) name(production string) string {
	switch production {
	case "word":
		if m.IntN(2) == 0 {
			return names[m.IntN(len(names))]
		}
		return someWords[m.IntN(len(someWords))]
	case "string":
		return someStrings[m.IntN(len(someStrings))]
	case "number":
		return []string{"1", "25", "0", "-1", "100000", "465"}[m.IntN(6)]
	case "sep":
		return []string{",", " ", "\n", ", "}[m.IntN(4)]
	case "Include":
		return `include "fixtures/good.inc"`
	}
	return m.sentence(m.rules[production].Expr)
}
