package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/lang"
)

// TestCorpus runs all of the analysis over public configurations: nothing
// fails, explanations agree with decisions, and every test that --mutate
// proposes passes. Then it holds docs/analysis.md to what was found.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("../../../shared/corpus/gen*/*.conf")
	if err != nil || len(files) == 0 {
		t.Skip("the corpus of public configurations, ../shared/corpus beside the tree, is not here")
	}
	c := &census{counts: make(map[string]int)}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { c.file(t, file) })
	}
	if c.counts["configurations"] < 100 || c.explained < 1000 {
		t.Errorf("%d configurations, %d transactions", c.counts["configurations"], c.explained)
	}
	c.compare(t)
}

// A census counts what is found, by the words of the page.
type census struct {
	counts    map[string]int
	explained int // transactions
}

// command runs smtpd-check; its status must be one of those that a
// configuration can have.
func command(t *testing.T, in string, args ...string) (status int, out string) {
	t.Helper()
	var o, e bytes.Buffer
	status = run(args, &streams{in: strings.NewReader(in), out: &o, err: &e})
	if status == broken {
		t.Errorf("%v: %s", args, &e)
	}
	return status, o.String()
}

func (c *census) file(t *testing.T, file string) {
	c.counts["configurations"]++
	f, parsed := lang.Parse(file, lang.Options{})
	rs, _ := compile.Draft(f, hostfacts.Unnamed())
	c.findings(t, file)
	if rs == nil || len(parsed) > 0 {
		return
	}
	c.counts["of the present language"]++
	c.relay(t, file)
	if status, out := command(t, "", "diff", file, file); status != good && status != remarks {
		t.Errorf("it differs from itself: %s", out)
	}
	txs := samples(rs)
	c.explain(t, file, txs)
	c.mutate(t, file, rs, txs[0])
}

// findings counts in how many configurations each finding is.
func (c *census) findings(t *testing.T, file string) {
	_, out := command(t, "", "--format", "json", file)
	var reports struct {
		Files []struct {
			Findings []struct {
				Code  string `json:"code"`
				Class string `json:"class"`
			} `json:"findings"`
		} `json:"files"`
	}
	if err := json.Unmarshal([]byte(out), &reports); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, r := range reports.Files {
		for _, f := range r.Findings {
			if (f.Class == "security" || f.Class == "warning") && !seen[f.Code] {
				seen[f.Code] = true
				c.counts["`"+f.Code+"`"]++
			}
		}
	}
}

func (c *census) relay(t *testing.T, file string) {
	status, _ := command(t, "", "relay", file)
	c.counts[map[int]string{good: "proved closed", bad: "open, with a witness", remarks: "conditional or not known"}[status]]++
}

// samples returns transactions that the rules of rs tell apart, as JSON
// lines.
func samples(rs *compile.Ruleset) []string {
	domains := []string{"elsewhere.example", "localhost"}
	for i := range rs.Rules {
		if r := &rs.Rules[i]; r.For.Kind == compile.ForDomain && !r.For.Regex {
			for _, e := range rs.Table(r.For.Table).Entries[:min(3, len(rs.Table(r.For.Table).Entries))] {
				domains = append(domains, strings.ReplaceAll(e.Key, "*", "x"))
			}
		}
	}
	users := []string{"someone", "root+tag"}
	for i := range rs.Actions {
		a := &rs.Actions[i]
		for _, id := range []compile.TableID{a.Alias, a.Virtual} {
			if id == 0 {
				continue
			}
			for _, e := range rs.Table(id).Entries[:min(3, len(rs.Table(id).Entries))] {
				user, _, _ := strings.Cut(e.Key, "@")
				users = append(users, user)
			}
		}
	}
	slices.Sort(domains)
	slices.Sort(users)
	var lines []string
	for _, source := range []string{"203.0.113.9", "2001:db8::1", "local", "socket"} {
		for _, auth := range []string{"", "carol"} {
			for _, domain := range slices.Compact(domains) {
				for _, user := range slices.Compact(users) {
					text, err := json.Marshal(described{
						Source: source, Auth: auth, TLS: auth != "", Helo: "client.invalid", RDNS: "client.invalid",
						MailFrom: "a@b.example", RcptTo: cmp.Or(user, "someone") + "@" + domain,
					})
					if err != nil {
						panic(err) // text is always encodable
					}
					lines = append(lines, string(text))
				}
			}
		}
	}
	return lines[:min(len(lines), 200)]
}

// explain explains transactions in every form; the decision is that of the
// batch.
func (c *census) explain(t *testing.T, file string, txs []string) {
	in := strings.Join(txs, "\n")
	c.explained += len(txs)
	command(t, in, "explain", file, "-")
	command(t, in, "explain", "--format", "markdown", file, "-")
	command(t, in, "explain", "--semantics", "opensmtpd-7.8", file, "-")
	_, traces := command(t, in, "explain", "--format", "json", file, "-")
	_, verdicts := command(t, in, "explain", "--batch", file)
	var want, got []verdict
	for line := range strings.Lines(verdicts) {
		want = append(want, decode[verdict](t, line))
	}
	for line := range strings.Lines(traces) {
		got = append(got, decode[trace](t, line).verdict)
	}
	if len(want) != len(txs) || !slices.Equal(got, want) {
		t.Errorf("%d transactions: explained and decided are not the same", len(txs))
	}
}

func decode[T any](t *testing.T, line string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return v
}

// mutate writes a test that passes, takes those that --mutate proposes, and
// runs them all.
func (c *census) mutate(t *testing.T, file string, rs *compile.Ruleset, tx string) {
	if len(rs.Rules) == 0 {
		return
	}
	_, out := command(t, tx, "explain", "--batch", file)
	v := decode[verdict](t, out)
	expect := v.Outcome
	if v.Action != "" {
		expect = fmt.Sprintf("action %q", v.Action)
	}
	d := decode[described](t, tx)
	tests := filepath.Join(t.TempDir(), "a.smtptest")
	write := func(text string) {
		if err := os.WriteFile(tests, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf("test \"as it is\" { from %s helo %s rdns %s mail-from %q rcpt-to %q expect %s }\n",
		d.Source, d.Helo, d.RDNS, d.MailFrom, d.RcptTo, expect)
	if d.Auth != "" {
		t.Fatal("the first transaction logs in")
	}
	write(text)
	status, out := command(t, "", "test", "--mutate", "--coverage", "--format", "json", file, tests)
	if status == bad {
		t.Fatalf("the test fails: %s\n%s", text, out)
	}
	result := decode[testJSON](t, out)
	named := make(map[string]int)
	for _, m := range result.Mutants {
		// Changes of two rules may have one description.
		named[m.Test]++
		if m.Test != "" && named[m.Test] == 1 {
			text += m.Test
		}
	}
	c.counts["changes of the rules that were tried"] += result.Changes
	c.counts["changes for which no test was found, as none may be"] += named[""]
	write(text)
	_, out = command(t, "", "test", "--mutate", "--format", "json", file, tests)
	again := decode[testJSON](t, out)
	if again.Failed > 0 {
		t.Errorf("%d proposed tests fail", again.Failed)
	}
	for _, m := range again.Mutants {
		if m.Test != "" {
			t.Errorf("with all proposed tests there is one more: %s", m.Test)
		}
	}
}

// table writes the counts as the page has them: the plain ones first, then
// the findings by their number.
func (c *census) table() string {
	plain := []string{"configurations", "of the present language", "proved closed", "conditional or not known", "open, with a witness",
		"changes of the rules that were tried", "changes for which no test was found, as none may be"}
	var b strings.Builder
	fmt.Fprintf(&b, "| | |\n|---|---|\n")
	for _, name := range plain {
		fmt.Fprintf(&b, "| %s | %d |\n", name, c.counts[name])
	}
	fmt.Fprintf(&b, "\n| finding | configurations |\n|---|---|\n")
	var codes []string
	for name := range maps.Keys(c.counts) {
		if strings.HasPrefix(name, "`") {
			codes = append(codes, name)
		}
	}
	slices.SortFunc(codes, func(x, y string) int { return cmp.Or(cmp.Compare(c.counts[y], c.counts[x]), strings.Compare(x, y)) })
	for _, name := range codes {
		fmt.Fprintf(&b, "| %s | %d |\n", name, c.counts[name])
	}
	return b.String()
}

// compare holds the page to the counts. UPDATE=1 writes them into it.
func (c *census) compare(t *testing.T) {
	const begin, end = "<!-- corpus -->\n", "<!-- /corpus -->"
	name := filepath.Join("..", "..", "docs", "analysis.md")
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", name)
	}
	table := c.table()
	switch {
	case old == table:
	case os.Getenv("UPDATE") == "":
		t.Errorf("docs/analysis.md says\n%sbut it is\n%sUPDATE=1 go test -run TestCorpus ./cmd/smtpd-check writes it", old, table)
	default:
		if err := os.WriteFile(name, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
