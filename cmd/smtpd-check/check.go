package main

import (
	"fmt"

	"smtpd/compile/analyze"
	"smtpd/lang/diag"
	"smtpd/lang/diag/codes"
)

type checkCmd struct {
	source `embed:""`

	Files  []string `arg:"" name:"file" help:"Configurations; - is standard input."`
	FailOn string   `enum:",language,security,warning,none" default:"" placeholder:"CLASS" help:"The least grave class that makes a configuration bad: language, security (the default), warning or none."`
	Format string   `enum:"text,classic,json,sarif,github,junit" default:"text" help:"How to print: ${enum}."`
	Color  string   `enum:"auto,always,never" default:"auto" help:"When to use colour: ${enum}."`
	Max    int      `default:"-1" placeholder:"N" help:"Print at most N findings a file; 0 is all. Text is cut at 20 if nothing is said."`
	Fix    bool     `help:"Make the changes that are safe, in the files."`
}

// Run judges every file.
func (c *checkCmd) Run(s *streams) error {
	host, err := c.host()
	if err != nil {
		return err
	}
	status := good
	var reports []*diag.Report
	for _, path := range c.Files {
		load := c.load
		if c.Fix {
			load = c.fixed
		}
		l, err := load(s, path, host)
		if err != nil {
			fmt.Fprintf(s.err, "smtpd-check: %v\n", err)
			status = broken
			continue
		}
		if l.rules != nil {
			l.report.List = append(l.report.List, analyze.Lint(l.file, l.rules, host)...)
			l.report.List = append(l.report.List, openRelay(l.rules)...)
		}
		allow(l.report)
		l.report.Sort()
		status = worse(status, c.status(l.report.List))
		reports = append(reports, l.report)
	}
	if err := c.print(s, reports); err != nil {
		return err
	}
	if status == good {
		return nil
	}
	return outcome(status)
}

// fails reports whether a finding of class k makes a configuration bad.
func (c *checkCmd) fails(k diag.Class) bool {
	switch k {
	case diag.Language:
		return c.FailOn != "none"
	case diag.Security:
		return c.FailOn == "" || c.FailOn == "security" || c.FailOn == "warning"
	case diag.Warning:
		return c.FailOn == "warning"
	}
	return false
}

// status returns the exit status for one configuration.
func (c *checkCmd) status(list diag.List) int {
	for _, d := range list {
		if c.fails(d.Class) {
			return bad
		}
	}
	if len(list) > 0 && c.FailOn == "" {
		return remarks
	}
	return good
}

// worse returns the graver of two statuses.
func worse(a, b int) int {
	rank := map[int]int{good: 0, remarks: 1, bad: 2, broken: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// maxShown is how many findings a person reads.
const maxShown = 20

func (c *checkCmd) print(s *streams, reports []*diag.Report) error {
	limit := c.Max
	if limit < 0 && (c.Format == "text" || c.Format == "classic") {
		limit = maxShown
	}
	for _, r := range reports {
		r.Cap(limit)
	}
	switch c.Format {
	case "classic":
		return diag.Classic(s.out, reports)
	case "json":
		return diag.JSON(s.out, reports)
	case "sarif":
		return diag.SARIF(s.out, reports, "", codes.Page)
	case "github":
		return diag.GitHub(s.out, reports)
	case "junit":
		return diag.JUnit(s.out, reports, c.fails)
	}
	if err := diag.Text(s.out, reports, c.Color == "always" || c.Color == "auto" && s.color); err != nil {
		return err
	}
	for _, r := range reports {
		fmt.Fprintf(s.out, "%s: %s\n", diag.Printable(r.File), c.verdict(r))
	}
	return nil
}

// verdict returns the last line on a file.
func (c *checkCmd) verdict(r *diag.Report) string {
	var failing, other int
	for _, d := range r.List {
		if c.fails(d.Class) {
			failing++
		} else {
			other++
		}
	}
	switch n := len(r.List) + r.Hidden; {
	case failing > 0:
		return fmt.Sprintf("bad, %s", plural(n, "finding"))
	case other > 0:
		return fmt.Sprintf("good, with %s", plural(n, "condition or remark"))
	}
	return "good"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if what == "condition or remark" {
		return fmt.Sprintf("%d conditions or remarks", n)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
