package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"strings"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/diag/codes"
)

type diffCmd struct {
	source    `embed:""`
	snapshots `embed:""`

	Certificate string `placeholder:"FILE" help:"Write what smtpd-check verify checks to this file, if no decision changes."`

	Git    string `placeholder:"REV" help:"Compare the file with what it was at this revision; tables and included files that are in the repository are read there too."`
	Format string `enum:"text,json,sarif,markdown" default:"text" help:"How to print: ${enum}."`

	Old string `arg:"" help:"The configuration before; with --git the only one."`
	New string `arg:"" optional:"" help:"The configuration after."`
}

// Run says which transactions two configurations decide differently. The
// status is 0 if none, 1 if some, and 3 if that is not known.
func (c *diffCmd) Run(s *streams) error {
	var d comparison
	var err error
	switch {
	case c.Git == "" && c.New == "":
		return errors.New("one configuration is not compared with anything; name another one, or give --git REV")
	case c.Git != "" && c.New != "":
		return errors.New("--git compares one file with itself; name only that")
	case c.Git != "":
		d.before, d.after, err = c.revisions(s)
	default:
		d.before, d.after, err = c.files(s)
	}
	if err != nil {
		return answerable(err)
	}
	for _, rs := range []*compile.Ruleset{d.before, d.after} {
		if err := c.substitute(rs); err != nil {
			return err
		}
	}
	d.DiffReport = analyze.Diff(d.before, d.after)
	b := bufio.NewWriter(s.out)
	if err := errors.Join(d.print(b, c.Format), b.Flush()); err != nil {
		return err
	}
	if c.Certificate != "" && d.Certificate != nil {
		if err := writeCertificate(c.Certificate, d.Certificate); err != nil {
			return err
		}
	}
	return verdictStatus(d.Verdict)
}

func (c *diffCmd) files(s *streams) (before, after *compile.Ruleset, err error) {
	older, err := c.compiled(s, c.Old)
	if err != nil {
		return nil, nil, err
	}
	newer, err := c.compiled(s, c.New)
	if err != nil {
		return nil, nil, err
	}
	return older.rules, newer.rules, nil
}

// revisions reads the configuration at the revision, and as it is now.
func (c *diffCmd) revisions(s *streams) (before, after *compile.Ruleset, err error) {
	r, err := openRevision(c.Git, c.Old)
	if err != nil {
		return nil, nil, err
	}
	if before, err = c.loadFrom(s, r.read, c.Git+":"+c.Old); err != nil {
		return nil, nil, err
	}
	after, err = c.loadFrom(s, r.readNow, c.Old)
	return before, after, err
}

// loadFrom compiles the configuration with what read returns for its files.
func (c *diffCmd) loadFrom(s *streams, read func(string) ([]byte, error), name string) (*compile.Ruleset, error) {
	host, err := c.hostWith(read)
	if err != nil {
		return nil, err
	}
	text, err := read(c.Old)
	if err != nil {
		return nil, err
	}
	f, parsed := lang.Parse(name, lang.Options{Defines: c.defines(s), Open: read, Text: append([]byte{}, text...)})
	rules, compiled := compile.Draft(f, host)
	if parsed.Has(diag.Language) {
		rules = nil
	}
	l := loaded{&diag.Report{File: name, Set: f.Set, List: diag.Merge(f.Set, parsed, compiled)}, f, rules}
	return rules, l.usable(s)
}

// A comparison is what is printed.
type comparison struct {
	analyze.DiffReport
	before, after *compile.Ruleset
}

func (d *comparison) print(w io.Writer, format string) error {
	switch format {
	case "json":
		return d.json(w)
	case "sarif":
		return d.sarif(w)
	case "markdown":
		d.markdown(w)
	default:
		d.text(w)
	}
	return nil
}

// summary says how it stands on the whole.
func (d *comparison) summary() string {
	if d.Verdict == analyze.Proved {
		return "no decision changes"
	}
	text := "not known whether decisions change"
	if n := len(d.Changes); n > 0 {
		text = plural(n, "change") + " of decisions"
	}
	if d.Unproved != "" {
		text += ": " + d.Unproved
	}
	if d.Decided < d.Regions {
		text += fmt.Sprintf("; %d of %d regions decided", d.Decided, d.Regions)
	}
	return text
}

func (d *comparison) text(w io.Writer) {
	for i := range d.Changes {
		ch := &d.Changes[i]
		fmt.Fprintf(w, "%s: %s, was %s\n\t%s\n", ch.Danger, decisionText(d.after, ch.New), decisionText(d.before, ch.Old), example(ch))
		for _, text := range assumptions(ch) {
			fmt.Fprintf(w, "\tif %s\n", text)
		}
		if n := len(ch.Pairs) - 1; n > 0 {
			fmt.Fprintf(w, "\tand the same of %s\n", plural(n, "other pair")+" of rules")
		}
	}
	fmt.Fprintln(w, d.summary())
}

// example describes the witness of a change by what the rules look at.
func example(ch *analyze.Change) string {
	tx := &ch.Witness.Transaction
	sender := tx.Sender.String()
	if sender == "@" {
		sender = ""
	}
	from := "from " + tx.SourceKey()
	switch tx.Kind {
	case engine.FromSocket:
		from = "from the local socket"
	case engine.FromInternal:
		from = "out of an expansion"
	}
	words := []string{from, fmt.Sprintf("sender <%s>", sender), fmt.Sprintf("recipient <%s>", tx.Rcpt)}
	for _, p := range ch.Matters {
		switch p {
		case engine.PartTag:
			words = append(words, fmt.Sprintf("tag %q", tx.Tag))
		case engine.PartFrom:
			if tx.RDNS != "" && tx.Kind == engine.FromAddress {
				words = append(words, fmt.Sprintf("reverse name %q", tx.RDNS))
			}
		case engine.PartHelo:
			words = append(words, fmt.Sprintf("helo %q", tx.Helo))
		case engine.PartAuth:
			if tx.User != "" {
				words = append(words, fmt.Sprintf("authenticated as %q", tx.User))
			} else if !tx.Auth {
				words = append(words, "not authenticated")
			}
		case engine.PartTLS:
			words = append(words, map[bool]string{true: "TLS", false: "no TLS"}[tx.TLS])
		}
	}
	return strings.Join(words, ", ")
}

// assumptions says what tables must answer for the example.
func assumptions(ch *analyze.Change) []string {
	var list []string
	if ch.Down != "" {
		list = append(list, fmt.Sprintf("table %s does not answer", ch.Down))
	}
	return append(list, conditions(ch.Witness.Assumed)...)
}

// markdown prints a table for a comment on a change.
func (d *comparison) markdown(w io.Writer) {
	summary := d.summary()
	fmt.Fprintf(w, "**%s%s**\n", strings.ToUpper(summary[:1]), summary[1:])
	if len(d.Changes) == 0 {
		return
	}
	fmt.Fprint(w, "\n| | before | after | for example |\n|---|---|---|---|\n")
	for i := range d.Changes {
		ch := &d.Changes[i]
		text := cell(example(ch))
		for _, a := range assumptions(ch) {
			text += "<br>if " + cell(a)
		}
		if n := len(ch.Pairs) - 1; n > 0 {
			text += "<br>and the same of " + plural(n, "other pair") + " of rules"
		}
		fmt.Fprintf(w, "| **%s** | %s | %s | %s |\n", ch.Danger, cell(decisionText(d.before, ch.Old)), cell(decisionText(d.after, ch.New)), text)
	}
}

// cell makes text code in a Markdown table.
func cell(s string) string { return "<code>" + cellText(s) + "</code>" }

// cellText makes text harmless in Markdown, whatever characters are in it: a
// name in a configuration must not become a link, a mention or a column.
func cellText(s string) string {
	marks := strings.NewReplacer("|", "&#124;", "`", "&#96;", "*", "&#42;", "_", "&#95;", "[", "&#91;", "]", "&#93;",
		"~", "&#126;", `\`, "&#92;", "\n", " ", "\r", " ")
	return marks.Replace(html.EscapeString(s))
}

// sarif writes the changes for code scanners, where the new rule is or, if
// none decides any more, the old one.
func (d *comparison) sarif(w io.Writer) error {
	var report diag.Report
	for i := range d.Changes {
		ch := &d.Changes[i]
		f := &diag.Diagnostic{Class: diag.Warning, Code: "decision-changes",
			Message: fmt.Sprintf("%s: %s, was %s: %s", ch.Danger, decisionText(d.after, ch.New), decisionText(d.before, ch.Old), example(ch))}
		if ch.Danger == analyze.RelayAppears {
			f.Class = diag.Security
		}
		for _, text := range assumptions(ch) {
			f.Message += ", if " + text
		}
		switch {
		case ch.New.Rule >= 0:
			f.Span = spanOf(d.after, ch.New.Rule)
		case ch.Old.Rule >= 0:
			f.Span = spanOf(d.before, ch.Old.Rule)
		}
		report.List = append(report.List, f)
	}
	return diag.SARIF(w, []*diag.Report{&report}, "", codes.Page)
}

func (d *comparison) json(w io.Writer) error {
	type change struct {
		Danger      string               `json:"danger"`
		Old         verdict              `json:"old"`
		New         verdict              `json:"new"`
		Transaction described            `json:"transaction"`
		Assumed     []analyze.Assumption `json:"assumed"`
		Down        string               `json:"down"` // the table that does not answer
		Matters     []string             `json:"matters"`
		Pairs       [][2]int             `json:"pairs"` // rules from 1, 0: none
	}
	report := struct {
		Verdict  string   `json:"verdict"`
		Regions  int      `json:"regions"`
		Decided  int      `json:"decided"`
		Unproved string   `json:"unproved"`
		Changes  []change `json:"changes"`
	}{d.Verdict.String(), d.Regions, d.Decided, d.Unproved, []change{}}
	for i := range d.Changes {
		ch := &d.Changes[i]
		c := change{Danger: ch.Danger.String(), Old: verdictOf(d.before, ch.Old), New: verdictOf(d.after, ch.New),
			Transaction: describe(&ch.Witness.Transaction), Assumed: append([]analyze.Assumption{}, ch.Witness.Assumed...), Down: ch.Down, Matters: []string{}}
		for _, p := range ch.Matters {
			c.Matters = append(c.Matters, p.String())
		}
		for _, p := range ch.Pairs {
			c.Pairs = append(c.Pairs, [2]int{p.Old + 1, p.New + 1})
		}
		report.Changes = append(report.Changes, c)
	}
	return json.NewEncoder(w).Encode(report)
}

// describe returns a transaction in the form that explain --batch reads.
func describe(tx *engine.Transaction) described {
	d := described{Source: "socket", Tag: &tx.Tag, TLS: tx.TLS, Auth: tx.User, Helo: tx.Helo, RDNS: tx.RDNS, RcptTo: tx.Rcpt.String()}
	switch tx.Kind {
	case engine.FromAddress:
		d.Source = tx.Addr.String()
	case engine.FromInternal:
		d.Source, d.Internal = "local", true
	}
	if tx.Sender != (engine.Address{}) {
		d.MailFrom = tx.Sender.String()
	}
	return d
}

func decisionText(rs *compile.Ruleset, d engine.Decision) string {
	v := verdictOf(rs, d)
	switch {
	case v.Rule == 0:
		return "reject, no rule matches"
	case v.Host != "":
		return fmt.Sprintf("%s to %s by %s:%d", v.Outcome, v.Host, v.File, v.Line)
	}
	return fmt.Sprintf("%s by %s:%d", v.Outcome, v.File, v.Line)
}
