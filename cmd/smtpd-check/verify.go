package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/compile/analyze/certificate"
)

type verifyCmd struct {
	source    `embed:""`
	snapshots `embed:""`

	Trust []string `placeholder:"TABLE" help:"A table that holds whom this host sends mail out for: what relay was told."`

	Files []string `arg:"" name:"file" help:"The configuration and what relay --certificate wrote for it, or two configurations and what diff --certificate wrote for them."`
}

// Run checks a certificate. The status is 0 if it is good and 1 if not.
func (c *verifyCmd) Run(s *streams) error {
	if len(c.Files) != 2 && len(c.Files) != 3 {
		return errors.New("name one or two configurations, and a certificate after them")
	}
	last := len(c.Files) - 1
	var rules []*compile.Ruleset
	for _, path := range c.Files[:last] {
		l, err := c.compiled(s, path)
		if err != nil {
			return answerable(err)
		}
		if err := c.substitute(l.rules); err != nil {
			return err
		}
		rules = append(rules, l.rules)
	}
	f, err := os.Open(c.Files[last])
	if err != nil {
		return err
	}
	defer f.Close()
	cert, err := certificate.Read(f)
	switch {
	case err != nil:
	case len(rules) == 1:
		if err = c.trusts(cert.Trusted); err == nil {
			err = certificate.VerifyClosed(rules[0], cert)
		}
	default:
		err = certificate.VerifyEqual(rules[0], rules[1], cert)
	}
	if err != nil {
		fmt.Fprintf(s.out, "%s: not proved: %v\n", c.Files[last], err)
		return outcome(bad)
	}
	fmt.Fprintf(s.out, "%s: good: %s\n", c.Files[last], cert.Claim)
	for _, r := range cert.Sources {
		fmt.Fprintf(s.out, "\tbut whoever has an address from %v to %v\n", r.First, r.Last)
	}
	if len(cert.Trusted) > 0 {
		fmt.Fprintf(s.out, "\tbut whoever is in %s\n", strings.Join(cert.Trusted, ", "))
	}
	return nil
}

// trusts returns an error unless the user, too, trusts what a certificate
// does: it must not exempt whom it likes.
func (c *verifyCmd) trusts(tables []string) error {
	for _, name := range tables {
		if !slices.ContainsFunc(c.Trust, func(t string) bool { return strings.Trim(t, "<>") == name }) {
			return fmt.Errorf("it trusts table %s, which --trust does not name", name)
		}
	}
	return nil
}
