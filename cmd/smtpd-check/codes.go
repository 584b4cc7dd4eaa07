package main

import (
	"fmt"

	"smtpd/lang/diag"
	"smtpd/lang/diag/codes"
)

type codesCmd struct {
	Code string `arg:"" optional:"" help:"The code to explain; all are listed without one."`
}

// Run explains a code, or lists them all.
func (c *codesCmd) Run(s *streams) error {
	if c.Code != "" {
		title, text := codes.Page(diag.Code(c.Code))
		if title == "" {
			return fmt.Errorf("no finding has the code %q; smtpd-check codes lists all", c.Code)
		}
		fmt.Fprintf(s.out, "%s: %s\n\n%s\n", c.Code, title, text)
		return nil
	}
	for _, code := range codes.All() {
		title, _ := codes.Page(code)
		fmt.Fprintf(s.out, "%-24s %s\n", code, title)
	}
	return nil
}
