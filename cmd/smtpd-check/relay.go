package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/analyze/certificate"
	"smtpd/compile/engine"
	"smtpd/compile/policy"
	"smtpd/lang/diag"
	"smtpd/lang/diag/codes"
)

type relayCmd struct {
	source    `embed:""`
	snapshots `embed:""`

	Trust       []string `placeholder:"TABLE" help:"A table that holds whom this host sends mail out for, however many they are."`
	Certificate string   `placeholder:"FILE" help:"Write what smtpd-check verify checks to this file, if closed is proved."`
	Format      string   `enum:"text,json,sarif,markdown" default:"text" help:"How to print: ${enum}."`

	File string `arg:"" help:"The configuration."`
}

// Run says who can send mail out through the host. The status is 0 if that
// it is closed was proved, 1 if it is open, and 3 if it depends on tables
// that have to be asked or is not known.
func (c *relayCmd) Run(s *streams) error {
	l, err := c.compiled(s, c.File)
	if err != nil {
		return answerable(err)
	}
	if err := c.substitute(l.rules); err != nil {
		return err
	}
	o := analyze.RelayOptions{}
	for _, name := range c.Trust {
		name = strings.Trim(name, "<>")
		if tableNamed(l.rules, name) == nil {
			return fmt.Errorf("--trust %s: the configuration has no table of this name", name)
		}
		o.Trusted = append(o.Trusted, name)
	}
	r := relayed{loaded: l, RelayReport: analyze.Relay(l.rules, o), command: c}
	b := bufio.NewWriter(s.out)
	if err := errors.Join(r.print(b, c.Format), b.Flush()); err != nil {
		return err
	}
	if c.Certificate != "" && r.Certificate != nil {
		if err := writeCertificate(c.Certificate, r.Certificate); err != nil {
			return err
		}
	}
	return verdictStatus(r.Verdict)
}

// verdictStatus returns what a command ends with.
func verdictStatus(v analyze.Verdict) error {
	switch v {
	case analyze.Proved:
		return nil
	case analyze.Refuted:
		return outcome(bad)
	}
	return outcome(remarks)
}

func writeCertificate(name string, c *certificate.Certificate) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}

// A relayed is what is printed.
type relayed struct {
	*loaded
	analyze.RelayReport
	command *relayCmd
}

func (r *relayed) print(w io.Writer, format string) error {
	switch format {
	case "json":
		return r.json(w)
	case "sarif":
		return r.sarif(w)
	case "markdown":
		r.markdown(w)
	default:
		r.text(w)
	}
	return nil
}

var relayVerdicts = map[analyze.Verdict]string{
	analyze.Proved:      "closed: proved that no stranger can relay",
	analyze.Unknown:     "not known: ",
	analyze.Conditional: "conditional: strangers can relay if tables say so",
	analyze.Refuted:     "open: strangers can relay",
}

func (r *relayed) verdict() string {
	text := relayVerdicts[r.Verdict]
	if r.Verdict == analyze.Unknown {
		text += r.Unproved
	}
	return text
}

// place returns where a rule is, as file:line.
func (r *relayed) place(rule int) string {
	at := r.rules.Rules[rule].Origin
	return fmt.Sprintf("%s:%d", at.File, at.Line)
}

func (r *relayed) text(w io.Writer) {
	for i := range r.Open {
		o := &r.Open[i]
		if i > 0 && r.Open[i-1].Rule == o.Rule && r.code(&r.Open[i-1]) == r.code(o) {
			fmt.Fprintf(w, "\talso %s\n", r.listener(o))
			continue
		}
		fmt.Fprintf(w, "%s: %s: %s\n", r.place(o.Rule), r.code(o), r.describeOpen(o))
		for _, text := range conditions(o.Witness.Assumed) {
			fmt.Fprintf(w, "\tif %s\n", text)
		}
		fmt.Fprintf(w, "%s\t%s\n", o.Witness.Dialogue(), r.explain(&o.Witness.Transaction))
		for line := range strings.Lines(r.test(o)) {
			fmt.Fprintf(w, "\t%s", line)
		}
	}
	for _, i := range r.Declared {
		fmt.Fprintf(w, "%s: rule %d relays for anyone to the domains that it names\n", r.place(i), i+1)
	}
	for _, s := range r.Senders {
		fmt.Fprintf(w, "%s: rule %d relays without a login for %s\n", r.place(s.Rule), s.Rule+1, r.count(s.Count))
	}
	if len(r.Senders) > 1 {
		fmt.Fprintf(w, "together these are %s\n", r.count(r.Total))
	}
	for _, text := range r.limits() {
		fmt.Fprintf(w, "not looked at: %s\n", text)
	}
	fmt.Fprintln(w, r.verdict())
}

func (r *relayed) code(o *analyze.Open) diag.Code { return openRelayBy(r.rules, o).Code }

// describeOpen says who can relay, and through which listener.
func (r *relayed) describeOpen(o *analyze.Open) string {
	tx := &o.Witness.Transaction
	text := fmt.Sprintf("rule %d relays for %v", o.Rule+1, tx.Addr)
	if tx.RDNS != "" {
		text += fmt.Sprintf(", reverse name %q", tx.RDNS)
	}
	text += ", " + r.listener(o)
	if o.Gate == analyze.ForgedGate {
		text += "; whoever connects chooses " + strings.Join(forged(&r.rules.Rules[o.Rule]), ", ")
	}
	return text
}

// listener says through which listener a stranger relays, and how.
func (r *relayed) listener(o *analyze.Open) string {
	l := &r.rules.Listeners[o.Listener]
	text := fmt.Sprintf("through the listener of line %d", l.Origin.Line)
	switch {
	case l.TLS == compile.SMTPS:
		text += ", over TLS"
	case o.Witness.Transaction.TLS:
		text += ", after STARTTLS"
	}
	if l.ProxyV2 {
		text += ", which believes the address in a PROXY header"
	}
	return text
}

// count says how many addresses these are.
func (r *relayed) count(c analyze.Count) string {
	var list []string
	switch {
	case r.IsEverybody(c):
		return "every address"
	case c.V4.Sign() > 0 || c.V6.Sign() == 0:
		list = append(list, number(c.V4, "IPv4 address"))
	}
	if c.V6.Sign() > 0 {
		list = append(list, number(c.V6, "IPv6 address"))
	}
	text := strings.Join(list, " and ")
	if !r.Counted {
		text = "at least " + text
	}
	return text
}

func number(n *big.Int, what string) string {
	if n.IsInt64() && n.Int64() == 1 {
		return "1 " + what
	}
	return n.String() + " " + what + "es"
}

// explain returns the command that explains a transaction.
func (r *relayed) explain(tx *engine.Transaction) string {
	words := []string{"smtpd-check", "explain", "--from", tx.Addr.String(), "--tag", tx.Tag, "--helo", tx.Helo}
	if tx.TLS {
		words = append(words, "--tls")
	}
	if tx.RDNS != "" {
		words = append(words, "--rdns", tx.RDNS)
	}
	if tx.Sender != (engine.Address{}) {
		words = append(words, "--mail-from", tx.Sender.String())
	}
	words = append(words, "--rcpt-to", tx.Rcpt.String())
	if c := r.command; c.Host != "" {
		words = append(words, "--host", c.Host)
	}
	for _, d := range r.command.Define {
		words = append(words, "-D", d)
	}
	words = append(words, r.command.File)
	for i, w := range words {
		words[i] = shellQuote(w)
	}
	return strings.Join(words, " ")
}

// shellQuote returns a word as a shell takes it for one.
func shellQuote(w string) string {
	plain := func(c rune) bool {
		return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.ContainsRune("-_./:@+,=%", c)
	}
	if w != "" && strings.IndexFunc(w, func(c rune) bool { return !plain(c) }) < 0 {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

// test returns the test that fails as long as the way is open.
func (r *relayed) test(o *analyze.Open) string {
	t := policy.NewTest("stranger cannot relay", o.Witness.Transaction, policy.Expectation{Outcome: engine.Reject})
	return t.String()
}

// limits says what the answer leaves out.
func (r *relayed) limits() []string {
	list := []string{}
	for _, id := range r.Rewriters {
		f := r.rules.Filter(id)
		list = append(list, fmt.Sprintf("filter %q (%s:%d) may give mail another recipient before the rules see it", f.Name, f.Origin.File, f.Origin.Line))
	}
	for i := range r.rules.Rules {
		if a := r.rules.Rules[i].Action; a != 0 && r.rules.Action(a).Method != compile.Relay {
			return append(list, "where aliases and forward files send mail on to")
		}
	}
	return list
}

// sarif writes the findings for code scanners. What is meant is noted.
func (r *relayed) sarif(w io.Writer) error {
	report := &diag.Report{File: r.report.File, Set: r.report.Set, List: relayFindings(r.rules, &r.RelayReport)}
	for _, i := range r.Declared {
		report.List = append(report.List, &diag.Diagnostic{
			Span: spanOf(r.rules, i), Class: diag.Style, Code: "relay-declared",
			Message: "the rule relays for anyone to the domains that it names",
		})
	}
	return diag.SARIF(w, []*diag.Report{report}, "", codes.Page)
}

// markdown writes a part of a page or of a comment.
func (r *relayed) markdown(w io.Writer) {
	verdict := r.verdict()
	fmt.Fprintf(w, "**%s%s**\n", strings.ToUpper(verdict[:1]), cellText(verdict[1:]))
	for i := range r.Open {
		o := &r.Open[i]
		fmt.Fprintf(w, "\n%s %s: %s\n", cell(r.place(o.Rule)), r.code(o), cell(r.describeOpen(o)))
		for _, text := range conditions(o.Witness.Assumed) {
			fmt.Fprintf(w, "- if %s\n", cell(text))
		}
		fmt.Fprintln(w)
		for line := range strings.Lines(o.Witness.Dialogue()) {
			fmt.Fprintf(w, "    %s", line)
		}
	}
	if len(r.Declared)+len(r.Senders) > 0 {
		fmt.Fprint(w, "\n| rule | relays without a login |\n|---|---|\n")
	}
	for _, i := range r.Declared {
		fmt.Fprintf(w, "| %s | for anyone to the domains that it names |\n", cell(r.place(i)))
	}
	for _, s := range r.Senders {
		fmt.Fprintf(w, "| %s | for %s |\n", cell(r.place(s.Rule)), r.count(s.Count))
	}
	for _, text := range r.limits() {
		fmt.Fprintf(w, "\nNot looked at: %s\n", cellText(text))
	}
}

func (r *relayed) json(w io.Writer) error {
	type listener struct {
		Line int    `json:"line"`
		Tag  string `json:"tag"`
	}
	type open struct {
		Code        diag.Code            `json:"code"`
		Rule        int                  `json:"rule"` // from 1
		File        string               `json:"file"`
		Line        int                  `json:"line"`
		Listener    listener             `json:"listener"`
		Transaction described            `json:"transaction"`
		Assumed     []analyze.Assumption `json:"assumed"`
		Dialogue    []string             `json:"dialogue"`
	}
	type sender struct {
		Rule int    `json:"rule,omitempty"`
		IPv4 string `json:"ipv4"` // numbers of addresses, too large for some readers of numbers
		IPv6 string `json:"ipv6"`
	}
	count := func(rule int, c analyze.Count) sender { return sender{rule, c.V4.String(), c.V6.String()} }
	report := struct {
		Verdict  string   `json:"verdict"`
		Open     []open   `json:"open"`
		Declared []int    `json:"declared"`
		Senders  []sender `json:"senders"`
		Total    sender   `json:"total"`
		Counted  bool     `json:"counted"`
		Unproved string   `json:"unproved"`
		Limits   []string `json:"not_looked_at"`
	}{r.Verdict.String(), []open{}, []int{}, []sender{}, count(0, r.Total), r.Counted, r.Unproved, r.limits()}
	for i := range r.Open {
		o := &r.Open[i]
		at, l := r.rules.Rules[o.Rule].Origin, &r.rules.Listeners[o.Listener]
		report.Open = append(report.Open, open{
			r.code(o), o.Rule + 1, at.File, at.Line, listener{l.Origin.Line, l.Tag},
			describe(&o.Witness.Transaction), append([]analyze.Assumption{}, o.Witness.Assumed...),
			strings.Split(strings.TrimSuffix(o.Witness.Dialogue(), "\n"), "\n"),
		})
	}
	for _, i := range r.Declared {
		report.Declared = append(report.Declared, i+1)
	}
	for _, s := range r.Senders {
		report.Senders = append(report.Senders, count(s.Rule+1, s.Count))
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(report)
}
