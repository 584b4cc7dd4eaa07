package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"smtpd/runtime/imsg"
	"smtpd/runtime/mfa"
)

// A RuleCount is a rule of the configuration and how often it has decided.
type RuleCount struct {
	mfa.RuleName
	Hits uint64
	Last time.Time // zero: never
}

func (r RuleCount) append(b []byte) []byte {
	b = imsg.AppendString(imsg.AppendString(b, r.Label), r.Text)
	return imsg.AppendTime(imsg.AppendUint64(b, r.Hits), r.Last)
}

func (r *RuleCount) parse(b []byte) error {
	d := imsg.NewReader(b)
	*r = RuleCount{mfa.RuleName{Label: d.String(), Text: d.String()}, d.Uint64(), d.Time()}
	return d.Close()
}

// rules sends a frame for each rule in force, and at the end one without.
func (a *agent) rules(ctx context.Context, r *request) error {
	families, err := a.total(ctx)
	if err != nil {
		return r.failed(err)
	}
	for _, c := range countRules(*a.names.Load(), families) {
		if err := r.answered(c.append(nil), nil); err != nil {
			return err
		}
	}
	return r.answered(nil, nil)
}

// countRules returns how often each rule has decided. A rule keeps its numbers
// when the configuration is read anew, wherever it stands then, as long as its
// text is the same. Of rules with one text only the first decides anything.
func countRules(names []mfa.RuleName, families []*dto.MetricFamily) []RuleCount {
	counts := make([]RuleCount, len(names))
	first := make(map[string]*RuleCount)
	for i, n := range names {
		n.Text = strings.ToValidUTF8(n.Text, "\ufffd")
		counts[i].RuleName = n
		if first[n.Text] == nil {
			first[n.Text] = &counts[i]
		}
	}
	for _, f := range families {
		for _, m := range f.Metric {
			c := first[labelOf(m, "text")]
			switch {
			case c == nil:
			case f.GetName() == mfa.HitsMetric:
				c.Hits += uint64(m.GetCounter().GetValue())
			case f.GetName() == mfa.LastHitMetric:
				if last := time.Unix(int64(m.GetGauge().GetValue()), 0); last.After(c.Last) {
					c.Last = last
				}
			}
		}
	}
	return counts
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// Rules returns the rules in force and how often each has decided.
func (c *Client) Rules() ([]RuleCount, error) {
	var all []RuleCount
	f, err := c.call(typeRules, nil)
	for ; err == nil && len(f.Data) > 0; f, err = c.recv(typeRules) {
		var r RuleCount
		if err = r.parse(f.Data); err != nil {
			break
		}
		all = append(all, r)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the rules: %w", err)
	}
	return all, nil
}
