package web

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"smtpd/runtime/control"
	"smtpd/runtime/mfa"
	"smtpd/runtime/queue"
)

// A Daemon is what the pages ask of the daemon, and the few changes that they
// offer. A *control.Client is one; that it can do more is nothing that a
// request could reach.
type Daemon interface {
	Status() (control.Status, error)
	Metrics(w io.Writer) error
	Rules() ([]control.RuleCount, error)
	Recent() ([]mfa.Decided, error)
	Explain(n uint64) (*mfa.Explanation, error)
	List(sel queue.Selection) iter.Seq2[queue.Listed, error]
	ListSized(sel queue.Selection) iter.Seq2[queue.Listed, error]

	Manage(verb queue.Verb, sel queue.Selection) (int, error)
	Pause(s control.System, on bool) (bool, error)

	Close() error
}

// ask connects to the daemon, calls f, and hangs up, also in the middle of an
// answer when ctx ends.
func (s *server) ask(ctx context.Context, f func(Daemon) error) error {
	d, err := s.config.Dial()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { d.Close() })
	err = f(d)
	if stop() {
		d.Close()
	} else if err != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// numbers are what the daemon has counted, by the name of the metric.
type numbers map[string]*dto.MetricFamily

// count asks for the numbers.
func count(d Daemon) (numbers, error) {
	var text strings.Builder
	if err := d.Metrics(&text); err != nil {
		return nil, err
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	n, err := p.TextToMetricFamilies(strings.NewReader(text.String()))
	if err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	return n, nil
}

// sum returns the sum of the metrics of a name whose labels have these values.
func (n numbers) sum(name string, labels ...string) uint64 {
	var total float64
	for _, m := range n[name].GetMetric() {
		if has(m, labels) {
			total += value(m)
		}
	}
	if !(total >= 0 && total < math.MaxInt64) {
		return 0
	}
	return uint64(total)
}

// value returns a number; of a distribution, how many there are.
func value(m *dto.Metric) float64 {
	return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
}

// values returns what a label is in the metrics of a name.
func (n numbers) values(name, label string) []string {
	var all []string
	for _, m := range n[name].GetMetric() {
		all = append(all, labelOf(m, label))
	}
	return all
}

// mean returns the mean of a distribution of seconds, in seconds.
func (n numbers) mean(name string, labels ...string) float64 {
	var sum, count float64
	for _, m := range n[name].GetMetric() {
		if has(m, labels) {
			sum += m.GetHistogram().GetSampleSum()
			count += float64(m.GetHistogram().GetSampleCount())
		}
	}
	if count == 0 {
		return 0
	}
	return sum / count
}

// has reports whether a metric has labels, which are name, value, and so on.
func has(m *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		if labelOf(m, labels[i]) != labels[i+1] {
			return false
		}
	}
	return true
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
