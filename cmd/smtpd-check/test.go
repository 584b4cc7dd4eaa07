package main

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/compile/policy"
	"smtpd/lang/diag"
)

type testCmd struct {
	source    `embed:""`
	snapshots `embed:""`

	Format   string `enum:"text,json,junit" default:"text" help:"How to print: ${enum}."`
	Coverage bool   `help:"Say which rules decided no test and which criteria never kept a rule from deciding one."`
	Mutate   bool   `help:"Say which changes of the rules no test notices, with tests that would."`

	File  string   `arg:"" help:"The configuration."`
	Tests []string `arg:"" optional:"" name:"tests" help:"Files of tests; *.smtptest beside the configuration unless given."`
}

// Run runs the tests. The status is 0 if all pass, 1 if some fail, and 3 if
// all pass and --coverage or --mutate finds what they leave untested.
func (c *testCmd) Run(s *streams) error {
	l, err := c.compiled(s, c.File)
	if err != nil {
		return err
	}
	if err := c.substitute(l.rules); err != nil {
		return err
	}
	bound, err := c.bind(s, l)
	if err != nil {
		return err
	}
	t := tested{rules: l.rules, Report: policy.Run(bound, len(l.rules.Rules)), cmd: c}
	if c.Mutate && t.Failed == 0 {
		t.mutants, t.tried = policy.Mutate(bound)
	}
	if err := t.print(s.out); err != nil {
		return err
	}
	if status := t.status(); status != good {
		return outcome(status)
	}
	return nil
}

// bind reads the files of tests and joins them to the configuration. What is
// wrong in them is printed.
func (c *testCmd) bind(s *streams, l *loaded) ([]*policy.Bound, error) {
	labels, err := l.labels(s)
	if err != nil {
		return nil, err
	}
	names := c.Tests
	if len(names) == 0 {
		// The folder may have any name, so that the pattern is joined to it
		// with its special characters escaped.
		if names, err = filepath.Glob(filepath.Join(globQuote(filepath.Dir(c.File)), "*.smtptest")); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no *.smtptest beside %s: name the files of tests", c.File)
	}
	var bound []*policy.Bound
	var wrong []*diag.Report
	for _, name := range names {
		name, text, err := s.read(name)
		if err != nil {
			return nil, err
		}
		suite, list := policy.Read(name, text)
		tests, unbound := suite.Bind(l.rules, labels)
		if list = diag.Merge(suite.Set, list, unbound); len(list) > 0 {
			wrong = append(wrong, &diag.Report{File: name, Set: suite.Set, List: list})
		}
		bound = append(bound, tests...)
	}
	if wrong == nil {
		return bound, nil
	}
	if err := diag.Text(s.err, wrong, false); err != nil {
		return nil, err
	}
	return nil, errors.New("no test was run")
}

// globQuote returns the pattern that only name matches.
func globQuote(name string) string {
	var b []byte
	for i := range len(name) {
		switch name[i] {
		case '*', '?', '[', '\\':
			b = append(b, '\\')
		}
		b = append(b, name[i])
	}
	return string(b)
}

// A tested is what a run of tests has found.
type tested struct {
	*policy.Report
	rules   *compile.Ruleset
	cmd     *testCmd
	mutants []policy.Mutant
	tried   int
}

func (t *tested) status() int {
	if t.Failed > 0 {
		return bad
	}
	for _, c := range t.Coverage {
		if t.cmd.Coverage && (c.Tests == 0 || len(c.Untried) > 0) {
			return remarks
		}
	}
	// A change that nothing was found to tell from the original may well
	// decide the same; it is said but is no fault of the tests.
	for _, m := range t.mutants {
		if m.Test != "" {
			return remarks
		}
	}
	return good
}

func (t *tested) print(w io.Writer) error {
	switch t.cmd.Format {
	case "json":
		return t.json(w)
	case "junit":
		return t.junit(w)
	}
	return t.text(w)
}

func (t *tested) text(w io.Writer) error {
	b := bufio.NewWriter(w)
	for i := range t.Results {
		if r := &t.Results[i]; !r.Passed {
			fmt.Fprintf(b, "%s: test %q: expected %s, got %s\n", r.Test.Span, r.Test.Name, &r.Test.Expect, r.Got)
		}
	}
	if t.cmd.Coverage {
		t.coverage(b)
	}
	for _, m := range t.mutants {
		at := t.rules.Rules[m.Rule].Origin
		fmt.Fprintf(b, "%s:%d: no test notices rule %d %s\n", at.File, at.Line, m.Rule+1, m.Change)
		if m.Test == "" {
			fmt.Fprintf(b, "# no transaction was found that is decided otherwise\n")
		}
		fmt.Fprint(b, m.Test)
	}
	fmt.Fprintf(b, "%s, %d failed", plural(len(t.Results), "test"), t.Failed)
	if t.cmd.Coverage {
		rules, criteria, all := t.covered()
		fmt.Fprintf(b, "; %d of %s and %d of %s covered", rules, plural(len(t.Coverage), "rule"), criteria, countCriteria(all))
	}
	if t.cmd.Mutate && t.Failed == 0 {
		fmt.Fprintf(b, "; %s, %d unnoticed", plural(t.tried, "change"), len(t.mutants))
	}
	fmt.Fprintln(b)
	return b.Flush()
}

// covered counts the rules that decide a test, and the criteria that were
// alone in keeping their rule from it.
func (t *tested) covered() (rules, criteria, all int) {
	for _, c := range t.Coverage {
		if c.Tests > 0 {
			rules++
		}
		all += c.Criteria
		criteria += c.Criteria - len(c.Untried)
	}
	return rules, criteria, all
}

func countCriteria(n int) string {
	if n == 1 {
		return "1 criterion"
	}
	return fmt.Sprintf("%d criteria", n)
}

func (t *tested) coverage(w io.Writer) {
	for i, c := range t.Coverage {
		r := &t.rules.Rules[i]
		if c.Tests == 0 {
			fmt.Fprintf(w, "%s:%d: rule %d decides no test\n", r.Origin.File, r.Origin.Line, i+1)
		}
		for _, p := range c.Untried {
			fmt.Fprintf(w, "%s:%d: rule %d: %s never decides\n", r.Origin.File, r.Origin.Line, i+1, criterion(t.rules, r, p))
		}
	}
}

func criterion(rs *compile.Ruleset, r *compile.Rule, p engine.Part) string {
	return analyze.Criterion(rs, r, p)
}

type testJSON struct {
	Version int            `json:"version"`
	Failed  int            `json:"failed"`
	Tests   []testCaseJSON `json:"tests"`
	Rules   []testRuleJSON `json:"rules"`
	Changes int            `json:"changes,omitempty"`
	Mutants []mutantJSON   `json:"unnoticed,omitempty"`
}

type testCaseJSON struct {
	Name     string `json:"name"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Passed   bool   `json:"passed"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

type testRuleJSON struct {
	Rule     int      `json:"rule"` // from 1
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Tests    int      `json:"tests"`
	Criteria int      `json:"criteria"` // that can say no
	Untried  []string `json:"undecided_criteria,omitempty"`
}

type mutantJSON struct {
	Rule   int    `json:"rule"`
	Change string `json:"change"`
	Test   string `json:"test,omitempty"`
}

func (t *tested) json(w io.Writer) error {
	out := testJSON{Version: 1, Failed: t.Failed, Tests: []testCaseJSON{}, Rules: []testRuleJSON{}, Changes: t.tried}
	for _, r := range t.Results {
		at := r.Test.Span.Start
		out.Tests = append(out.Tests, testCaseJSON{r.Test.Name, at.Filename, at.Line, r.Passed, r.Test.Expect.String(), r.Got})
	}
	for i, c := range t.Coverage {
		r := &t.rules.Rules[i]
		j := testRuleJSON{Rule: i + 1, File: r.Origin.File, Line: r.Origin.Line, Tests: c.Tests, Criteria: c.Criteria}
		for _, p := range c.Untried {
			j.Untried = append(j.Untried, criterion(t.rules, r, p))
		}
		out.Rules = append(out.Rules, j)
	}
	for _, m := range t.mutants {
		out.Mutants = append(out.Mutants, mutantJSON{m.Rule + 1, m.Change, m.Test})
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(out)
}

type junitTests struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitTest `xml:"testcase"`
}

type junitTest struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// junit writes the tests; what --coverage and --mutate remark is no failure
// and has no place there.
func (t *tested) junit(w io.Writer) error {
	out := junitTests{Name: t.cmd.File, Tests: len(t.Results), Failures: t.Failed}
	for _, r := range t.Results {
		c := junitTest{Class: r.Suite.Name, Name: r.Test.Name}
		if !r.Passed {
			message := fmt.Sprintf("expected %s, got %s", &r.Test.Expect, r.Got)
			c.Failure = &junitFailure{message, fmt.Sprintf("%s: %s", r.Test.Span, message)}
		}
		out.Cases = append(out.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
