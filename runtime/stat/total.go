package stat

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
)

// MaxEncoded bounds what one process has to say.
const MaxEncoded = 512 << 10

// Encode returns what this process has counted as bytes.
func Encode() ([]byte, error) {
	families, err := Gather()
	if err != nil {
		return nil, err
	}
	return encode(families)
}

// Encode returns the sum as bytes.
func (t *Total) Encode() ([]byte, error) { return encode(t.Families()) }

func encode(families []*dto.MetricFamily) ([]byte, error) {
	var b bytes.Buffer
	for _, f := range families {
		if _, err := protodelim.MarshalTo(&b, f); err != nil {
			return nil, fmt.Errorf("metric %s: %w", f.GetName(), err)
		}
	}
	if b.Len() > MaxEncoded {
		return nil, fmt.Errorf("metrics of %d bytes", b.Len())
	}
	return b.Bytes(), nil
}

// Decode is the reverse of Encode.
func Decode(b []byte) ([]*dto.MetricFamily, error) {
	if len(b) > MaxEncoded {
		return nil, fmt.Errorf("metrics of %d bytes", len(b))
	}
	var all []*dto.MetricFamily
	for r := bytes.NewReader(b); ; {
		f := new(dto.MetricFamily)
		err := protodelim.UnmarshalFrom(r, f)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		all = append(all, f)
	}
}

// A Total is the sum of what several processes have counted. Its zero value is
// that of none.
type Total struct {
	families map[string]*family
}

// A family is the sum of the metrics of one name.
type family struct {
	*dto.MetricFamily
	metrics map[string]*dto.Metric // by their labels
}

// Add adds what a process has counted. The Total owns families from then on.
func (t *Total) Add(families []*dto.MetricFamily) {
	t.add(families, func(*dto.MetricFamily) bool { return true })
}

// AddLast adds what a process had counted that has ended: what it had at that
// moment, as its open sessions, is not there any more.
func (t *Total) AddLast(families []*dto.MetricFamily) {
	t.add(families, func(f *dto.MetricFamily) bool {
		return f.GetType() != dto.MetricType_GAUGE || isMoment(f) && f.GetName() != startName
	})
}

func (t *Total) add(families []*dto.MetricFamily, wanted func(*dto.MetricFamily) bool) {
	if t.families == nil {
		t.families = make(map[string]*family)
	}
	for _, f := range families {
		if !wanted(f) {
			continue
		}
		sum := t.families[f.GetName()]
		if sum == nil {
			sum = &family{f, make(map[string]*dto.Metric)}
			t.families[f.GetName()] = sum
		}
		if sum.GetType() != f.GetType() {
			continue
		}
		for _, m := range f.Metric {
			key := labelsOf(m)
			if have := sum.metrics[key]; have != nil {
				merge(have, m, isMoment(f))
			} else {
				sum.metrics[key] = m
			}
		}
	}
}

// isMoment reports whether the numbers of f are times, the latest of which
// counts.
func isMoment(f *dto.MetricFamily) bool { return strings.HasSuffix(f.GetName(), "_timestamp_seconds") }

func labelsOf(m *dto.Metric) string {
	var b strings.Builder
	for _, l := range m.Label {
		fmt.Fprintf(&b, "%s=%q,", l.GetName(), l.GetValue())
	}
	return b.String()
}

// merge adds m to sum, which has the same labels.
func merge(sum, m *dto.Metric, latest bool) {
	switch {
	case sum.Counter != nil && m.Counter != nil:
		*sum.Counter.Value += m.Counter.GetValue()
	case sum.Gauge != nil && m.Gauge != nil && latest:
		*sum.Gauge.Value = max(sum.Gauge.GetValue(), m.Gauge.GetValue())
	case sum.Gauge != nil && m.Gauge != nil:
		*sum.Gauge.Value += m.Gauge.GetValue()
	case sum.Histogram != nil && m.Histogram != nil:
		mergeHistogram(sum.Histogram, m.Histogram)
	}
}

// mergeHistogram adds one histogram to another. Their buckets are the same:
// all processes run one program.
func mergeHistogram(sum, h *dto.Histogram) {
	if len(sum.Bucket) != len(h.Bucket) || sum.SampleCount == nil || sum.SampleSum == nil {
		return
	}
	*sum.SampleCount += h.GetSampleCount()
	*sum.SampleSum += h.GetSampleSum()
	for i, b := range h.Bucket {
		if own := sum.Bucket[i]; own.CumulativeCount != nil {
			*own.CumulativeCount += b.GetCumulativeCount()
		}
	}
}

// Families returns the sum, sorted by name and labels. It shares the memory of
// the Total.
func (t *Total) Families() []*dto.MetricFamily {
	all := make([]*dto.MetricFamily, 0, len(t.families))
	for _, f := range t.families {
		f.Metric = f.Metric[:0]
		keys := make([]string, 0, len(f.metrics))
		for key := range f.metrics {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			f.Metric = append(f.Metric, f.metrics[key])
		}
		all = append(all, f.MetricFamily)
	}
	slices.SortFunc(all, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}
