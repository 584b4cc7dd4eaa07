package main

import (
	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/lang/diag"
	"smtpd/lsp"
)

type lspCmd struct {
	source `embed:""`
}

// Run serves an editor over standard input and output.
func (c *lspCmd) Run(s *streams) error {
	host, err := c.host()
	if err != nil {
		return err
	}
	return lsp.Serve(s.in, s.out, lsp.Config{
		Host:    host,
		Defines: c.defines(s),
		Review: func(f *ast.File, rules *compile.Ruleset, r *diag.Report) {
			if rules != nil {
				r.List = append(r.List, remarksOn(rules)...)
				r.List = append(r.List, analyze.Lint(f, rules, host)...)
				r.List = append(r.List, openRelay(rules)...)
			}
			allow(r)
		},
	})
}
