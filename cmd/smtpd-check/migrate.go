package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"smtpd/compile/analyze"
	"smtpd/lang/diag"
)

type migrateCmd struct {
	source `embed:""`

	Generation string `placeholder:"RELEASE" help:"What the files were written for, if that is known: generation 1, 2 or 3, or a release such as 5.2, 5.3, 5.7, 6.0 or 6.5."`
	Diff       bool   `short:"d" xor:"what" help:"Show what would change."`
	Write      bool   `short:"w" xor:"what" help:"Write the results into the files, and into those that they include."`
	Output     string `short:"o" xor:"what" placeholder:"PATH" help:"Write the result into a file, or into a directory with the files that are included."`
	NoProof    bool   `xor:"proof" help:"Do not prove that the result decides the same."`

	Against     string `placeholder:"FILE" xor:"what" help:"Convert nothing: say what this configuration decides otherwise than the old one that it was made of."`
	Certificate string `placeholder:"FILE" xor:"proof" help:"Write the proof to this file, if there is one."`
	Verify      string `placeholder:"FILE" xor:"proof" help:"With --against: check this certificate, and search for nothing."`

	Files []string `arg:"" name:"file" help:"Configurations; - is standard input."`
}

// Run converts configurations to the present language. The status is 0 if
// the result means exactly the same, 3 if there is something to say of it, and
// 1 if there is something that only a person can decide.
func (c *migrateCmd) Run(s *streams) error {
	switch {
	case c.Verify != "" && c.Against == "":
		return errors.New("a certificate is about two configurations: name the new one with --against")
	case len(c.Files) > 1 && c.Certificate+c.Output+c.Against != "" && !c.intoDirectory():
		return errors.New("one configuration at a time, please, with -o FILE, --against and --certificate")
	}
	status := good
	for _, path := range c.Files {
		one, err := c.file(s, path)
		if err != nil {
			fmt.Fprintf(s.err, "smtpd-check: %v\n", err)
			one = broken
		}
		status = worse(status, one)
	}
	if status == good {
		return nil
	}
	return outcome(status)
}

// file converts one configuration and returns the exit status for it.
func (c *migrateCmd) file(s *streams, path string) (int, error) {
	m, err := c.migrate(s, path)
	if err != nil {
		return broken, err
	}
	if err := diag.Text(s.err, []*diag.Report{m.report}, false); err != nil {
		return broken, err
	}
	fmt.Fprintf(s.err, "%s: %s\n", m.report.File, m.summary())
	status := good
	switch {
	case m.report.List.Has(diag.Language):
		status = bad
	case len(m.report.List) > 0:
		status = remarks
	}
	if c.Certificate != "" && m.diff != nil && m.diff.Certificate != nil {
		if err := writeCertificate(c.Certificate, m.diff.Certificate); err != nil {
			return broken, err
		}
	}
	switch {
	case c.Against != "" && m.diff != nil && m.diff.Verdict == analyze.Refuted:
		return bad, nil
	case c.Against != "":
		return status, nil
	case len(m.texts) == 0:
		return bad, nil
	}
	return status, c.put(s, m, status)
}

// put writes the result to where it is wanted. What only a person can finish
// takes the place of nothing.
func (c *migrateCmd) put(s *streams, m *migration, status int) error {
	switch {
	case c.Diff:
		for _, t := range m.texts {
			before, _ := m.set.Source(t.Name)
			if _, err := s.out.Write(diff.Diff(t.Name, before, t.Name+" (converted)", t.Data)); err != nil {
				return err
			}
		}
		return nil
	case c.Write && m.report.File == stdinName:
		return errors.New("standard input is no file that could be written")
	case status == bad && (c.Write || c.Output != ""):
		fmt.Fprintf(s.err, "%s: nothing is written before that is settled\n", m.report.File)
		return nil
	case c.Write:
		for _, t := range m.texts {
			if before, _ := m.set.Source(t.Name); bytes.Equal(before, t.Data) {
				continue
			}
			if err := replaceFile(t.Name, t.Data); err != nil {
				return err
			}
		}
		return nil
	case c.Output != "":
		return c.output(m)
	}
	_, err := s.out.Write(m.texts[0].Data)
	return err
}

// output writes the result into the file or the directory that is asked for.
func (c *migrateCmd) output(m *migration) error {
	for _, t := range m.texts {
		name := c.Output
		if c.intoDirectory() {
			name = filepath.Join(c.Output, filepath.Base(t.Name))
		}
		if err := createFile(name, t.Data); err != nil {
			return err
		}
	}
	return nil
}

func (c *migrateCmd) intoDirectory() bool {
	info, err := os.Stat(c.Output)
	return c.Output != "" && (err == nil && info.IsDir() || strings.HasSuffix(c.Output, "/"))
}

// migrate reads and converts one configuration.
func (c *migrateCmd) migrate(s *streams, path string) (*migration, error) {
	host, err := c.host()
	if err != nil {
		return nil, err
	}
	name, text, err := s.read(path)
	if err != nil {
		return nil, err
	}
	if text == nil {
		text = []byte{}
	}
	m := &migration{name: name, text: text, defines: c.defines(s), host: host, noProof: c.NoProof,
		separate: c.Write || c.Diff || c.intoDirectory(), against: c.Against, verify: c.Verify}
	if err := m.force(c.Generation); err != nil {
		return nil, err
	}
	if err := m.convert(); err != nil {
		return nil, err
	}
	if c.intoDirectory() {
		m.redirect(c.Output)
	}
	return m, nil
}

// summary says how a conversion went.
func (m *migration) summary() string {
	text := "generation 3"
	if d := m.guess.Dialect; d != 0 {
		text = fmt.Sprintf("generation %d, as of release %s", m.guess.Generation, d)
	}
	if m.guess.Why != "" && m.guess.Dialect != 0 {
		text += fmt.Sprintf(" (line %d: %s)", m.guess.Mark.Start.Line, m.guess.Why)
	}
	switch n := len(m.report.List); {
	case m.against != "" && m.old != nil:
		return text + ": compared with " + m.against + ", " + m.proof()
	case m.guess.Generation == 3 && n == 0 && m.unchanged():
		return "in the present language already"
	case m.report.List.Has(diag.Language):
		return text + ": not converted, " + plural(n, "finding")
	default:
		text += ": " + m.extent()
		if n > 0 {
			text += ", with " + plural(n, "remark")
		}
	}
	if p := m.proof(); p != "" {
		text += "; " + p
	}
	return text
}

// extent says how much was converted.
func (m *migration) extent() string {
	if m.old == nil {
		return "brought up to date"
	}
	rules := 0
	for _, s := range m.old.Stmts {
		if s.Rule != nil {
			rules++
		}
	}
	return "converted " + plural(len(m.old.Stmts), "statement") + ", " + plural(rules, "rule") + " among them"
}

// unchanged reports whether nothing but the layout is another one.
func (m *migration) unchanged() bool {
	for _, t := range m.texts {
		before, _ := m.set.Source(t.Name)
		if laid, err := layout(t.Name, before); err != nil || !bytes.Equal(laid, t.Data) {
			return false
		}
	}
	return true
}

// redirect makes include statements name the files that are written into a
// directory.
func (m *migration) redirect(dir string) {
	if m.old == nil {
		return
	}
	for i := range m.texts {
		for _, name := range m.old.Files[1:] {
			before := []byte("include \"" + name + "\"")
			after := []byte("include \"" + filepath.Join(dir, filepath.Base(name)) + "\"")
			m.texts[i].Data = bytes.ReplaceAll(m.texts[i].Data, before, after)
		}
	}
}
