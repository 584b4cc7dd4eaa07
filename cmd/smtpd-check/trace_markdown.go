package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// markdown writes a trace as a part of a page or of a comment.
func (t *trace) markdown(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "### %s\n\n**%s**\n", cell(t.subject()), cell(t.conclusion()))
	bullets(b, t.origins())
	if len(t.Passed) > 0 {
		fmt.Fprintf(b, "\n| rule | place | passed over, as this does not hold | for | would match if |\n|---|---|---|---|---|\n")
		for i := range t.Passed {
			p := &t.Passed[i]
			would := ""
			if p.Would != "" {
				would = cell(p.Would)
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", cell(strings.TrimPrefix(ruleName(p.Rule, p.Label), "rule ")),
				cell(fmt.Sprintf("%s:%d", p.File, p.Line)), cell(p.Criterion), cell(p.Value), would)
		}
	}
	var notes []string
	if t.Filter != "" {
		notes = append(notes, fmt.Sprintf("not looked at: filter %q of the listener", t.Filter))
	}
	for i := range t.Asked {
		notes = append(notes, t.Asked[i].text())
	}
	for i := range t.Cases {
		notes = append(notes, t.Cases[i].text())
	}
	bullets(b, notes)
	if t.Expansion != nil {
		fmt.Fprintln(b)
		t.Expansion.markdown(b, 0)
	}
	if t.Assumed != nil {
		fmt.Fprintf(b, "\nAssumed: %s.\n", cell(strings.Join(t.Assumed, "; ")))
	}
	if t.Reply != "" {
		fmt.Fprintf(b, "\nReply: %s\n", cell(t.Reply))
	}
	fmt.Fprintln(b)
	return b.Flush()
}

func bullets(w io.Writer, list []string) {
	if len(list) > 0 {
		fmt.Fprintln(w)
	}
	for _, line := range list {
		fmt.Fprintf(w, "- %s\n", cell(line))
	}
}

func (n *nodeTrace) markdown(w io.Writer, depth int) {
	text := n.title()
	if facts := n.facts(); len(facts) > 0 {
		text += ": " + strings.Join(facts, "; ")
	}
	fmt.Fprintf(w, "%s- %s\n", strings.Repeat("  ", depth), cell(text))
	for _, c := range n.Children {
		c.markdown(w, depth+1)
	}
}
