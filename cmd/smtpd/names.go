package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/compile/policy"
	"smtpd/lang"
	"smtpd/runtime/mfa"
)

// ruleNames returns what each rule is called where decisions are counted: by
// its label, or the place where it stands, and by its text.
func (d *daemon) ruleNames() []mfa.RuleName {
	f, _ := lang.Parse(d.cli.file(), lang.Options{Defines: d.cli.defines(io.Discard)})
	labels, _ := policy.Labels(f.Set, d.rules) // wrong ones are judged elsewhere
	names := make([]mfa.RuleName, len(d.rules.Rules))
	for i := range names {
		r := &d.rules.Rules[i]
		names[i] = mfa.RuleName{Label: labels[i], Text: ruleText(d.rules, r)}
		if names[i].Label == "" {
			names[i].Label = fmt.Sprintf("%s:%d", filepath.Base(r.Origin.File), r.Origin.Line)
		}
	}
	return names
}

// ruleParts are the parts of a rule in the order in which they are read best.
var ruleParts = []engine.Part{
	engine.PartTag, engine.PartFrom, engine.PartAuth, engine.PartTLS, engine.PartHelo, engine.PartMailFrom, engine.PartFor, engine.PartRcptTo,
}

// ruleText writes a rule as a statement.
func ruleText(rs *compile.Ruleset, r *compile.Rule) string {
	words := []string{"match"}
	for _, p := range ruleParts {
		if text := analyze.Criterion(rs, r, p); text != "" {
			words = append(words, text)
		}
	}
	if r.Action == 0 {
		words = append(words, "reject")
	} else {
		words = append(words, fmt.Sprintf("action %q", rs.Action(r.Action).Name))
	}
	return strings.Join(words, " ")
}
