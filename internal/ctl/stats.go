package ctl

import (
	"encoding/json"
	"strings"

	"smtpd/runtime/control"
)

// showStats prints what the daemon has counted, a number a line.
func showStats(t *terminal, o options, _ []string) error {
	return ask(t, func(c *control.Client) error {
		if !o.json {
			return c.Stats(t.out)
		}
		var text strings.Builder
		if err := c.Stats(&text); err != nil {
			return err
		}
		return t.printJSON(statsJSON(text.String()))
	})
}

// statsJSON returns lines of key=value as an object; what is no number is a
// string.
func statsJSON(text string) map[string]any {
	all := make(map[string]any)
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if n := json.Number(value); json.Valid([]byte(value)) {
			all[key] = n
		} else {
			all[key] = value
		}
	}
	return all
}

// showMetrics prints the same numbers, and all others, as Prometheus reads
// them.
func showMetrics(t *terminal, _ options, _ []string) error {
	return ask(t, func(c *control.Client) error { return c.Metrics(t.out) })
}
