package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"smtpd/ast/old"
	"smtpd/compile"
	"smtpd/compile/migrate"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/gen1"
	"smtpd/lang/gen2"
	"smtpd/lang/gen3"
	"smtpd/lang/generation"
)

type migrateCmd struct {
	source `embed:""`

	Generation string `placeholder:"RELEASE" help:"What the file was written for, if that is known: 1, 2, 3 or a release (5.2, 5.3, 5.4, 5.7, 5.9, 6.0, 6.4)."`

	File string `arg:"" help:"The configuration; - is standard input."`
}

// Run converts a configuration to the present language. The status is 0 if
// the result is exact, 3 if there is something to say of it, and 1 if it
// cannot be converted.
func (c *migrateCmd) Run(s *streams) error {
	host, err := c.host()
	if err != nil {
		return err
	}
	name, text, err := s.read(c.File)
	if err != nil {
		return err
	}
	m, err := c.convert(s, name, text, host)
	if err != nil {
		return err
	}
	if err := diag.Text(s.err, []*diag.Report{m.report}, false); err != nil {
		return err
	}
	if m.report.List.Has(diag.Language) {
		return outcome(bad)
	}
	if _, err := s.out.Write(m.texts[0].Data); err != nil {
		return err
	}
	if len(m.report.List) > 0 {
		return outcome(remarks)
	}
	return nil
}

// A migration is a configuration and what it was converted to.
type migration struct {
	guess  generation.Guess
	old    *old.File
	report *diag.Report
	texts  []migrate.Text
	rules  *compile.Ruleset // of the result
}

// convert converts the text of a configuration.
func (c *migrateCmd) convert(s *streams, name string, text []byte, host compile.Host) (*migration, error) {
	if text == nil {
		text = []byte{}
	}
	opts := lang.Options{Defines: c.defines(s), Text: text}
	scanned, list := lang.Scan(name, opts)
	m := &migration{report: &diag.Report{File: name, Set: scanned.Set, List: list}}
	if list.Has(diag.Language) {
		return m, nil
	}
	var d *diag.Diagnostic
	m.guess, d = generation.Recognise(scanned)
	if d != nil {
		m.report.List = append(m.report.List, d)
		return m, nil
	}
	switch m.guess.Generation {
	case 1:
		m.old, list = gen1.Read(scanned, m.guess.Dialect)
	case 2:
		m.old, list = gen2.Read(scanned, m.guess.Dialect)
	default:
		return m, m.modernize(scanned, opts, host)
	}
	m.report.List = append(m.report.List, list...)
	if list.Has(diag.Language) {
		return m, nil
	}
	return m, m.present(opts, host)
}

// modernize brings a text of the present generation up to date.
func (m *migration) modernize(scanned *lang.Scanned, opts lang.Options, host compile.Host) error {
	edits, notes := gen3.Modernize(scanned, gen3.Options{ServerName: serverName(host)})
	m.report.List = append(m.report.List, notes...)
	text, err := diag.Apply(opts.Text, edits)
	if err != nil {
		return err
	}
	m.texts = []migrate.Text{{Name: scanned.Name, Data: text}}
	return layOut(m.texts)
}

// present makes the present form of an old tree, with macros if they read the
// same now.
func (m *migration) present(opts lang.Options, host compile.Host) error {
	var notes diag.List
	for _, inline := range []bool{false, true} {
		var texts []migrate.Text
		texts, notes = migrate.Convert(m.old, migrate.Options{Host: host, ServerName: serverName(host), Inline: inline})
		err := layOut(texts)
		if err != nil && inline {
			fmt.Fprintf(os.Stderr, "%s\n", texts[0].Data)
			return fmt.Errorf("the conversion is not in the present language: %w", err)
		}
		m.texts = texts
		if err != nil {
			continue
		}
		f, parsed := lang.Parse(m.old.Name, lang.Options{Defines: opts.Defines, Text: texts[0].Data})
		rules, _ := compile.Draft(f, host)
		if !parsed.Has(diag.Language) && rules != nil {
			m.rules = rules
			break
		}
	}
	m.report.List = append(m.report.List, notes...)
	return nil
}

// layOut brings texts into the canonical layout.
func layOut(texts []migrate.Text) error {
	for i, t := range texts {
		laid, err := lang.Format(t.Name, t.Data)
		if err != nil {
			var d *diag.Diagnostic
			if errors.As(err, &d) {
				lines := bytes.Split(t.Data, []byte("\n"))
				if n := d.Span.Start.Line; n > 0 && n <= len(lines) {
					return fmt.Errorf("%w: %s", err, lines[n-1])
				}
			}
			return err
		}
		texts[i].Data = laid
	}
	return nil
}

// serverName returns the name of a host that is known.
func serverName(host compile.Host) string {
	if name := host.ServerName(); name != "localhost" {
		return name
	}
	return ""
}
