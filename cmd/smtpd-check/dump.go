package main

import (
	"fmt"

	"smtpd/lang/diag"
)

type dumpCmd struct {
	source `embed:""`

	File   string `arg:"" help:"The configuration; - is standard input."`
	Format string `enum:"text,json" default:"text" help:"How to print: ${enum}."`
}

// Run shows the rule table of a file. What the host lacks is said on
// standard error and left open in the table.
func (c *dumpCmd) Run(s *streams) error {
	host, err := c.host()
	if err != nil {
		return err
	}
	l, err := c.load(s, c.File, host)
	if err != nil {
		return err
	}
	l.report.Cap(maxShown)
	if err := diag.Text(s.err, []*diag.Report{l.report}, false); err != nil {
		return err
	}
	if l.rules == nil {
		fmt.Fprintf(s.err, "%s: bad, there is no rule table\n", l.report.File)
		return outcome(bad)
	}
	if c.Format == "json" {
		err = l.rules.DumpJSON(s.out)
	} else {
		err = l.rules.Dump(s.out)
	}
	if err == nil && len(l.report.List) > 0 {
		err = outcome(remarks)
	}
	return err
}
