package main

import (
	"io/fs"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/generation"
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
			if old := refused(r); old != nil {
				r.List = diag.List{old}
				return
			}
			if rules != nil {
				r.List = append(r.List, remarksOn(rules)...)
				r.List = append(r.List, analyze.Lint(f, rules, host)...)
				r.List = append(r.List, openRelay(rules)...)
			}
			allow(r)
		},
	})
}

// refused returns the one finding about a configuration of an older
// generation. Files are those that were read already.
func refused(r *diag.Report) *diag.Diagnostic {
	open := func(name string) ([]byte, error) {
		if text, ok := r.Set.Source(name); ok {
			return text, nil
		}
		return nil, fs.ErrNotExist
	}
	text, err := open(r.File)
	if err != nil {
		return nil
	}
	return generation.Refuse(r.List, r.File, lang.Options{Text: text, Open: open})
}
