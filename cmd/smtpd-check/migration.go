package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"smtpd/ast/old"
	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/analyze/certificate"
	"smtpd/compile/engine"
	"smtpd/compile/legacy"
	"smtpd/compile/migrate"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/gen1"
	"smtpd/lang/gen2"
	"smtpd/lang/gen3"
	"smtpd/lang/generation"
	"smtpd/lang/token"
)

// A migration is a configuration on its way into the present language.
type migration struct {
	name     string
	text     []byte
	defines  []lang.Define
	host     compile.Host
	separate bool // each file has a result of its own
	noProof  bool
	against  string // a configuration to compare with in place of the result
	verify   string // a certificate that proves them equal

	forced  int         // the generation that was said; 0: none
	dialect old.Dialect // the same, closer; 0: not said
	release string      // of generation 3

	guess  generation.Guess
	set    *token.FileSet
	old    *old.File // nil for generation 3
	report *diag.Report
	texts  []migrate.Text
	rules  *compile.Ruleset    // of the result
	before *compile.Ruleset    // of the old file
	diff   *analyze.DiffReport // between them
}

// force reads what the user says of the release.
func (m *migration) force(word string) error {
	if word == "" {
		return nil
	}
	d, gen, ok := generation.Release(word)
	if !ok {
		return fmt.Errorf("--generation %s: no such generation or release; 1, 2, 3, 5.2, 5.3, 5.4, 5.4.1, 5.7, 5.9, 6.0, 6.0.3, and 6.4 to 7.8 are known", word)
	}
	m.forced, m.dialect = gen, d
	if gen == 3 && word != "3" {
		m.release = word
	}
	return nil
}

// convert converts the text. The error is one of the conversion itself; what
// is wrong with the text is in the report.
func (m *migration) convert() error {
	scanned, list := lang.Scan(m.name, lang.Options{Defines: m.defines, Text: m.text})
	m.set = scanned.Set
	m.report = &diag.Report{File: m.name, Set: scanned.Set, List: list}
	if list.Has(diag.Language) {
		return nil
	}
	if d := m.recognise(scanned); d != nil {
		m.report.List = append(m.report.List, d)
		return nil
	}
	switch {
	case m.guess.Generation == 3 && m.against != "":
		return fmt.Errorf("%s is in the present generation of the language: smtpd-check diff compares it with another", m.name)
	case m.guess.Generation == 3:
		return m.modernize(scanned)
	}
	m.old, list = read(scanned, &m.guess)
	if len(m.guess.Mixed) > 0 && list.Has(diag.Language) {
		// What has marks of both is read as generation 2, unless that makes
		// no sense and generation 1 does.
		other := generation.Guess{Generation: 1, Dialect: m.guess.First, Mark: m.guess.Mixed[0].Span, Why: m.guess.Mixed[0].Text}
		if f, said := read(scanned, &other); !said.Has(diag.Language) {
			m.old, list, m.guess = f, said, other
		}
	}
	m.report.List = append(m.report.List, list...)
	if list.Has(diag.Language) {
		return nil
	}
	if m.against != "" {
		return m.compare()
	}
	return m.present()
}

// compare compares the old file with one that somebody made of it.
func (m *migration) compare() error {
	text, err := os.ReadFile(m.against)
	if err != nil {
		return err
	}
	f, list := lang.Parse(m.against, lang.Options{Defines: m.defines, Text: append([]byte{}, text...)})
	rules, more := compile.Draft(f, m.host)
	for _, d := range append(list, more...) {
		if d.Class == diag.Language {
			return fmt.Errorf("%s is bad: %w", m.against, d)
		}
	}
	m.rules = rules
	return m.prove()
}

// certified checks the certificate that was given.
func (m *migration) certified() error {
	f, err := os.Open(m.verify)
	if err != nil {
		return err
	}
	defer f.Close()
	cert, err := certificate.Read(f)
	if err == nil {
		err = certificate.VerifyEqual(m.before, m.rules, cert)
	}
	if err != nil {
		m.report.List.Errorf(token.Span{}, "migrate-unproved", "%s proves nothing: %v", m.verify, err)
		return nil
	}
	m.diff = &analyze.DiffReport{Verdict: analyze.Proved}
	return nil
}

// read makes the tree of a text of the generation that it is taken for.
func read(scanned *lang.Scanned, g *generation.Guess) (*old.File, diag.List) {
	if g.Generation == 1 {
		return gen1.Read(scanned, g.Dialect)
	}
	return gen2.Read(scanned, g.Dialect)
}

// recognise finds out of which generation the text is, unless that was said.
func (m *migration) recognise(scanned *lang.Scanned) *diag.Diagnostic {
	g, d := generation.Recognise(scanned)
	m.guess = g
	if m.forced != 0 {
		m.guess = generation.Guess{Generation: m.forced, Dialect: m.dialect}
		if m.dialect == 0 && m.forced == g.Generation {
			m.guess.Dialect = g.Dialect
		} else if m.dialect == 0 {
			m.guess.Dialect = map[int]old.Dialect{1: old.D1E, 2: old.D57}[m.forced]
		}
		return nil
	}
	if d == nil && g.Generation == 2 && g.Why == "" {
		m.report.List.Reportf(diag.Portability, token.Span{}, "migrate-generation",
			"nothing in the text tells generation 1 from generation 2: it is read as generation 2, as of release %s", g.Dialect).
			Help = []string{"if it was written for 5.2 or before, say --generation 1"}
	}
	return d
}

// modernize brings a text of the present generation up to date.
func (m *migration) modernize(scanned *lang.Scanned) error {
	edits, notes := gen3.Modernize(scanned, gen3.Options{Release: m.release, ServerName: serverName(m.host)})
	m.report.List = append(m.report.List, notes...)
	for i, name := range scanned.Files {
		before, _ := scanned.Set.Source(name)
		var its []diag.Edit
		for _, e := range edits {
			if e.Span.Start.Filename == name {
				its = append(its, e)
			}
		}
		if i > 0 && !m.separate {
			if len(its) > 0 {
				m.report.List.Reportf(diag.Warning, token.Span{Start: its[0].Span.Start, End: its[0].Span.Start}, "migrate-included",
					"%s is included and has to change too; it is written with -w and with -o DIRECTORY", name)
			}
			continue
		}
		text, err := diag.Apply(before, its)
		if err != nil {
			return err
		}
		m.texts = append(m.texts, migrate.Text{Name: name, Data: text})
	}
	err := layOut(m.texts)
	var d *diag.Diagnostic
	if errors.As(err, &d) {
		m.report.List = append(m.report.List, d)
		m.texts = nil
		return nil
	}
	return err
}

// present makes the present form of an old tree, with macros if they read the
// same now.
func (m *migration) present() error {
	var notes diag.List
	for _, inline := range []bool{false, true} {
		var err error
		m.texts, notes = migrate.Convert(m.old, migrate.Options{
			Host: m.host, ServerName: serverName(m.host), Guessed: m.forced == 0, Reserved: lang.Keyword, Inline: inline, Separate: m.separate,
		})
		if err = layOut(m.texts); err == nil {
			if err = m.compile(); err == nil {
				break
			}
		}
		if inline {
			notes.Reportf(diag.Language, token.Span{}, "migrate-result", "the result needs a person: %v", err)
		}
	}
	m.report.List = append(m.report.List, notes...)
	return m.prove()
}

// compile compiles the result.
func (m *migration) compile() error {
	f, parsed := lang.Parse(m.name+" (converted)", lang.Options{Defines: m.defines, Text: m.texts[0].Data, Open: m.open})
	rules, compiled := compile.Draft(f, m.host)
	for _, d := range append(parsed, compiled...) {
		if d.Class == diag.Language && d.Code != "no-rules" {
			return fmt.Errorf("line %d of it: %s", d.Span.Start.Line, d.Message)
		}
	}
	m.rules = rules
	return nil
}

// open returns the result for an included file.
func (m *migration) open(name string) ([]byte, error) {
	for _, t := range m.texts {
		if t.Name == name {
			return t.Data, nil
		}
	}
	return lang.ReadFile(name)
}

// prove compares the result with what the old file meant.
func (m *migration) prove() error {
	var err error
	if m.before, err = legacy.Compile(m.old, m.host); err != nil {
		m.report.List.Errorf(token.Span{}, "migrate-old", "the old configuration is wrong: %v", err)
		return nil
	}
	if m.rules == nil && len(m.before.Rules) == 0 {
		return nil // a part of a configuration, or none
	}
	if m.rules == nil || m.noProof {
		m.report.List.Reportf(diag.Warning, token.Span{}, "migrate-unproved", "that the result decides the same is not proved")
		return nil
	}
	if m.verify != "" {
		return m.certified()
	}
	d := analyze.Diff(m.before, m.rules)
	m.diff = &d
	for i := range d.Changes {
		ch := &d.Changes[i]
		n := m.report.List.Reportf(diag.Warning, originSpan(m.before, ch.Old), "migrate-differs", "%s: %s, was %s", ch.Danger,
			decisionText(m.rules, ch.New), decisionText(m.before, ch.Old))
		n.Help = append(n.Help, "for example "+example(ch))
		for _, text := range assumptions(ch) {
			n.Help = append(n.Help, "if "+text)
		}
	}
	for _, text := range legacy.Settings(m.old, m.before, m.rules) {
		m.report.List.Reportf(diag.Warning, token.Span{}, "migrate-setting", "%s", text)
	}
	if d.Decided < d.Regions {
		m.report.List.Reportf(diag.Warning, token.Span{}, "migrate-unproved",
			"whether all decisions stay is not known: of %d pairs of rules that might differ %d were decided", d.Regions, d.Decided)
	}
	return nil
}

// proof says what is proved of the result.
func (m *migration) proof() string {
	switch {
	case m.old == nil:
		return "not proved"
	case m.rules == nil && m.before != nil && len(m.before.Rules) == 0:
		return "no rules, nothing to prove"
	case m.diff == nil:
		return "not proved"
	case m.diff.Verdict == analyze.Proved:
		return "proved: the result decides the same for every transaction"
	case m.diff.Verdict == analyze.Refuted:
		return "the result decides differently for " + plural(len(m.diff.Changes), "kind") + " of transactions"
	}
	return "not known whether the result decides the same"
}

// originSpan returns the place of the rule that decided.
func originSpan(rs *compile.Ruleset, d engine.Decision) token.Span {
	if d.Rule < 0 {
		return token.Span{}
	}
	o := rs.Rules[d.Rule].Origin
	return token.At(token.Pos{Filename: o.File, Line: o.Line, Column: o.Column})
}

// layOut brings texts into the canonical layout.
func layOut(texts []migrate.Text) error {
	for i, t := range texts {
		laid, err := layout(t.Name, t.Data)
		if err != nil {
			return err
		}
		texts[i].Data = laid
	}
	return nil
}

// layout returns a text in its canonical layout, or as it is where only a
// macro says what a line is.
func layout(name string, text []byte) ([]byte, error) {
	laid, err := lang.Format(name, text)
	if errors.Is(err, lang.ErrUnclear) {
		return text, nil
	}
	return laid, err
}

// serverName returns the name of a host that is known.
func serverName(host compile.Host) string {
	if name := host.ServerName(); name != "localhost" {
		return strings.TrimSuffix(name, ".")
	}
	return ""
}
