package main

import (
	"smtpd/ast"
	"smtpd/compile"
	"smtpd/lang/diag"
	"smtpd/lsp"
)

// maxAnalysed is the number of rules up to which the analysis is quick enough
// to be done at every key that is pressed.
const maxAnalysed = 500

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
		Review: func(_ *ast.File, rules *compile.Ruleset, r *diag.Report) {
			if rules != nil {
				r.List = append(r.List, remarksOn(rules)...)
				if len(rules.Rules) <= maxAnalysed {
					r.List = append(r.List, openRelay(rules)...)
				}
			}
			allow(r)
		},
	})
}
