package mfa

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"smtpd/compile/engine"
	"smtpd/runtime/stat"
)

// The metrics of rules, whose labels are "rule" and "text".
const (
	HitsMetric    = "smtpd_mfa_rule_hits_total"
	LastHitMetric = "smtpd_mfa_rule_last_hit_timestamp_seconds"
)

var (
	ruleHits  = stat.Counter(HitsMetric, "Decisions that a rule has made about a recipient.", "rule", "text")
	ruleLast  = stat.Gauge(LastHitMetric, "When a rule made its last decision.", "rule", "text")
	decisions = stat.Counter("smtpd_mfa_decisions_total", "Decisions about recipients, by how they ended.", "outcome")
)

// A RuleName says which rule is meant: by the label or the place that it has in
// the configuration, and by its text.
type RuleName struct{ Label, Text string }

// A tally counts the decisions of one rule. Both numbers are written in the
// path of each recipient, so they are found beforehand.
type tally struct {
	hits prometheus.Counter
	last prometheus.Gauge
	when atomic.Int64
}

// newTallies returns one for each of the rules that have these names.
func newTallies(names []RuleName) []*tally {
	all := make([]*tally, len(names))
	for i, n := range names {
		text := strings.ToValidUTF8(n.Text, "\ufffd") // a label must be
		label := strings.ToValidUTF8(n.Label, "\ufffd")
		all[i] = &tally{hits: ruleHits.WithLabelValues(label, text), last: ruleLast.WithLabelValues(label, text)}
	}
	return all
}

var outcomes = [...]prometheus.Counter{
	engine.Accept:   decisions.WithLabelValues("accept"),
	engine.Reject:   decisions.WithLabelValues("reject"),
	engine.NoRule:   decisions.WithLabelValues("no-rule"),
	engine.TempFail: decisions.WithLabelValues("tempfail"),
}

// count counts a decision. A failed lookup is nobody's.
func (a *agent) count(d engine.Decision) {
	outcomes[d.Outcome].Inc()
	if d.Outcome == engine.TempFail || d.Rule < 0 || d.Rule >= len(a.tallies) {
		return
	}
	t := a.tallies[d.Rule]
	t.hits.Inc()
	if now := time.Now().Unix(); t.when.Swap(now) != now {
		t.last.Set(float64(now))
	}
}
