package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"smtpd/compile"
	"smtpd/compile/analyze"
)

type relayCmd struct {
	source `embed:""`

	Certificate string `placeholder:"FILE" help:"Write what smtpd-check verify checks to this file, if closed is proved."`

	File string `arg:"" help:"The configuration."`
}

// Run says who can send mail out through the host. The status is 0 if that
// it is closed was proved, 1 if it is open, and 3 if it depends on tables
// that have to be asked or is not known.
func (c *relayCmd) Run(s *streams) error {
	l, err := c.compiled(s, c.File)
	if err != nil {
		return err
	}
	r := analyze.Relay(l.rules)
	if err := printRelay(s.out, l.rules, &r); err != nil {
		return err
	}
	if c.Certificate != "" && r.Certificate != nil {
		text, err := json.Marshal(r.Certificate)
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.Certificate, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	switch r.Verdict {
	case analyze.Refuted:
		return outcome(bad)
	case analyze.Proved:
		return nil
	}
	return outcome(remarks)
}

var relayVerdicts = map[analyze.Verdict]string{
	analyze.Proved:      "closed: proved that no stranger can relay",
	analyze.Unknown:     "not known: the search was given up",
	analyze.Conditional: "conditional: strangers can relay if tables say so",
	analyze.Refuted:     "open: strangers can relay",
}

func printRelay(w io.Writer, rs *compile.Ruleset, r *analyze.RelayReport) error {
	b := bufio.NewWriter(w)
	for i := range r.Open {
		o := &r.Open[i]
		at, l := rs.Rules[o.Rule].Origin, &rs.Listeners[o.Listener]
		fmt.Fprintf(b, "%s:%d: rule %d relays for %v, reverse name %q, through the listener of line %d\n",
			at.File, at.Line, o.Rule+1, o.Witness.Transaction.Addr, o.Witness.Transaction.RDNS, l.Origin.Line)
		for _, a := range o.Witness.Assumed {
			fmt.Fprintf(b, "\tif table %s %s %q\n", a.Table, holds(a.Found), a.Key)
		}
		for line := range strings.Lines(analyze.Dialogue(&o.Witness)) {
			fmt.Fprintf(b, "\tC: %s", line)
		}
	}
	for _, i := range r.Declared {
		at := rs.Rules[i].Origin
		fmt.Fprintf(b, "%s:%d: rule %d relays for anyone to the domains that it names\n", at.File, at.Line, i+1)
	}
	fmt.Fprintln(b, relayVerdicts[r.Verdict])
	return b.Flush()
}
