package main

import (
	"encoding/json"
	"fmt"
	"os"

	"smtpd/compile/analyze"
)

type verifyCmd struct {
	source `embed:""`

	File        string `arg:"" help:"The configuration."`
	Certificate string `arg:"" help:"What relay --certificate wrote."`
}

// Run checks a certificate. The status is 0 if it is good and 1 if not.
func (c *verifyCmd) Run(s *streams) error {
	l, err := c.compiled(s, c.File)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(c.Certificate)
	if err != nil {
		return err
	}
	var cert analyze.Certificate
	if err = json.Unmarshal(text, &cert); err == nil {
		err = analyze.Verify(l.rules, &cert)
	}
	if err != nil {
		fmt.Fprintf(s.out, "%s: not proved: %v\n", c.Certificate, err)
		return outcome(bad)
	}
	fmt.Fprintf(s.out, "%s: good: no stranger can relay\n", c.Certificate)
	return nil
}
