package ctl

import (
	"bufio"
	"fmt"
	"time"

	"smtpd/runtime/control"
)

// showRules prints each rule and how often it has decided.
func showRules(t *terminal, o options, _ []string) error {
	return ask(t, func(c *control.Client) error {
		rules, err := c.Rules()
		if err != nil {
			return err
		}
		out := bufio.NewWriter(t.out)
		for i := range rules {
			r := &rules[i]
			if o.json {
				err = (&terminal{out: out}).printJSON(ruleJSON(i, r))
			} else {
				_, err = fmt.Fprintf(out, "@%d %s\n  [ Hits: %-10d Last: %-20s Rule: %s ]\n", i, oneLine(r.Text), r.Hits, lastHit(r), oneLine(r.Label))
			}
			if err != nil {
				return err
			}
		}
		return out.Flush()
	})
}

func lastHit(r *control.RuleCount) string {
	if r.Last.IsZero() {
		return "never"
	}
	return r.Last.UTC().Format(time.RFC3339)
}

// A jsonRule is a rule in JSON output.
type jsonRule struct {
	Index int        `json:"index"`
	Rule  string     `json:"rule"` // label, or file:line
	Text  string     `json:"text"`
	Hits  uint64     `json:"hits"`
	Last  *time.Time `json:"last_hit,omitempty"`
}

func ruleJSON(i int, r *control.RuleCount) jsonRule {
	return jsonRule{Index: i, Rule: r.Label, Text: r.Text, Hits: r.Hits, Last: moment(r.Last)}
}
