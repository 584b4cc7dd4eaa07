package main

import (
	"bufio"
	"fmt"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/lang/diag"
)

type diffCmd struct {
	source `embed:""`

	Old string `arg:"" help:"The configuration before."`
	New string `arg:"" help:"The configuration after."`
}

// Run says which transactions two configurations decide differently. The
// status is 0 if none, 1 if some, and 3 if that is not known.
func (c *diffCmd) Run(s *streams) error {
	host, err := c.host()
	if err != nil {
		return err
	}
	var rules [2]*compile.Ruleset
	for i, path := range []string{c.Old, c.New} {
		l, err := c.load(s, path, host)
		if err != nil {
			return err
		}
		if rules[i] = l.rules; l.rules == nil {
			if err := diag.Text(s.err, []*diag.Report{l.report}, false); err != nil {
				return err
			}
			return fmt.Errorf("%s is bad, there is no rule table", path)
		}
	}
	r := analyze.Diff(rules[0], rules[1])
	b := bufio.NewWriter(s.out)
	for i := range r.Changes {
		ch := &r.Changes[i]
		tx := &ch.Witness.Transaction
		fmt.Fprintf(b, "from %s, sender %s, recipient %s, authenticated %v: %s, was %s\n",
			tx.SourceKey(), tx.Sender, tx.Rcpt, tx.Auth, decisionText(rules[1], ch.New), decisionText(rules[0], ch.Old))
		for _, a := range ch.Witness.Assumed {
			fmt.Fprintf(b, "\tif table %s holds %q: %v\n", a.Table, a.Key, a.Found)
		}
	}
	switch {
	case r.Verdict == analyze.Proved:
		fmt.Fprintln(b, "no decision changes")
	case len(r.Changes) == 0:
		fmt.Fprintln(b, "not known: the search was given up")
	}
	if err := b.Flush(); err != nil {
		return err
	}
	switch r.Verdict {
	case analyze.Proved:
		return nil
	case analyze.Refuted:
		return outcome(bad)
	}
	return outcome(remarks)
}

func decisionText(rs *compile.Ruleset, d engine.Decision) string {
	v := verdictOf(rs, d)
	if v.Rule == 0 {
		return "reject, no rule matches"
	}
	return fmt.Sprintf("%s by %s:%d", v.Outcome, v.File, v.Line)
}
