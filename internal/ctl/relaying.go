package ctl

import (
	"strconv"
	"strings"

	"smtpd/runtime/control"
	"smtpd/runtime/mta"
)

// showRelaying prints what mta knows, a line each; as JSON, a list of lines.
func showRelaying(verb mta.Verb) func(*terminal, options, []string) error {
	return func(t *terminal, o options, names []string) error {
		order := mta.Order{Verb: verb}
		if len(names) > 0 {
			order.Domain = names[0]
		}
		return ask(t, func(c *control.Client) error {
			if !o.json || verb == mta.ShowTLSReports { // which are JSON as they are
				_, err := c.Relaying(order, t.out)
				return err
			}
			var text strings.Builder
			if _, err := c.Relaying(order, &text); err != nil {
				return err
			}
			lines := []string{}
			for line := range strings.Lines(text.String()) {
				lines = append(lines, strings.TrimSuffix(line, "\n"))
			}
			return t.printJSON(lines)
		})
	}
}

// pauseRelaying stops or resumes mail from an address for a domain.
func pauseRelaying(verb mta.Verb) func(*terminal, options, []string) error {
	return func(t *terminal, _ options, names []string) error {
		return orderMTA(t, mta.Order{Verb: verb, Source: names[0], Domain: names[1]})
	}
}

// resumeRoute ends the pause of a route.
func resumeRoute(t *terminal, _ options, names []string) error {
	n, err := strconv.ParseUint(names[0], 10, 32)
	if err != nil {
		return t.succeeded(err)
	}
	return orderMTA(t, mta.Order{Verb: mta.ResumeRoute, Number: uint32(n)})
}

func orderMTA(t *terminal, o mta.Order) error {
	return ask(t, func(c *control.Client) error {
		changed, err := c.Relaying(o, t.out)
		if err == nil && !changed {
			err = errUnchanged
		}
		return t.succeeded(err)
	})
}
