package control

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"smtpd/runtime/imsg"
	"smtpd/runtime/stat"
)

var (
	sessionsOpen = stat.Gauge("smtpd_control_sessions", "Connections of local programs that are open.")
	sessions     = stat.Counter("smtpd_control_sessions_total", "Connections of local programs, by the socket that they came in on.", "socket")
	refusals     = stat.Counter("smtpd_control_refused_total", "Connections of local programs that were turned away.", "reason")
	requests     = stat.Counter("smtpd_control_requests_total", "Requests of local programs.")
	buildInfo    = stat.Gauge("smtpd_build_info", "Always 1; the labels say what runs.", "version", "go")
	started      = stat.Gauge("smtpd_start_timestamp_seconds", "When the daemon was started.")
)

// describe counts what does not change.
func (a *agent) describe() {
	buildInfo.WithLabelValues(a.version, runtime.Version()).Set(1)
	started.WithLabelValues().Set(float64(a.started.Unix()))
}

// total returns the sum of what all processes have counted.
func (a *agent) total(ctx context.Context) ([]*dto.MetricFamily, error) {
	processes, ended, err := a.parent.Counted(ctx)
	if err != nil {
		return nil, err
	}
	var t stat.Total
	for _, b := range processes {
		families, err := stat.Decode(b)
		if err != nil {
			return nil, err
		}
		t.Add(families)
	}
	families, err := stat.Decode(ended)
	if err != nil {
		return nil, err
	}
	t.AddLast(families)
	return t.Families(), nil
}

// stats sends the numbers under the keys that OpenSMTPD's statistics have.
func (a *agent) stats(ctx context.Context, r *request) error {
	families, err := a.total(ctx)
	if err != nil {
		return r.failed(err)
	}
	return r.text(statsText(families, time.Since(a.started)))
}

// metrics sends the numbers as Prometheus reads them.
func (a *agent) metrics(ctx context.Context, r *request) error {
	families, err := a.total(ctx)
	if err != nil {
		return r.failed(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return r.failed(err)
		}
	}
	return r.text(b.String())
}

// text sends a text in pieces, the last of which is empty.
func (r *request) text(text string) error {
	for text != "" {
		piece := text[:min(len(text), maxPiece)]
		text = text[len(piece):]
		if err := r.answered(imsg.AppendString(nil, piece), nil); err != nil {
			return err
		}
	}
	return r.answered(imsg.AppendString(nil, ""), nil)
}

// A statKey is a number as OpenSMTPD names it, and which of ours that is.
type statKey struct {
	key    string
	metric string
	label  string // name=value that a metric must have; "" for all
}

// statKeys are the numbers of OpenSMTPD that there is something to count for,
// and what smtpctl monitor needs besides.
var statKeys = []statKey{
	{"control.session", "smtpd_control_sessions", ""},
	{"mda.envelope", "smtpd_mda_envelopes", ""},
	{"mda.pending", "smtpd_mda_waiting", ""},
	{"mda.running", "smtpd_mda_running", ""},
	{"mda.user", "smtpd_mda_users", ""},
	{"mta.envelope", "smtpd_mta_envelopes", ""},
	{"mta.relay", "smtpd_mta_relays", ""},
	{"mta.route", "smtpd_mta_routes", ""},
	{"mta.session", "smtpd_mta_sessions", ""},
	{"mta.task", "smtpd_mta_tasks", ""},
	{"mta.task.running", "smtpd_mta_tasks_running", ""},
	{"queue.bounce", "smtpd_queue_reports_total", ""},
	{"scheduler.delivery.loop", "smtpd_queue_deliveries_total", "result=loop"},
	{"scheduler.delivery.ok", "smtpd_queue_deliveries_total", "result=ok"},
	{"scheduler.delivery.permfail", "smtpd_queue_deliveries_total", "result=permfail"},
	{"scheduler.delivery.tempfail", "smtpd_queue_deliveries_total", "result=tempfail"},
	{"scheduler.envelope", "smtpd_queue_envelopes", ""},
	{"scheduler.envelope.expired", "smtpd_queue_ended_total", "why=expired"},
	{"scheduler.envelope.incoming", "smtpd_queue_envelopes_total", ""},
	{"scheduler.envelope.inflight", "smtpd_queue_inflight_envelopes", ""},
	{"scheduler.envelope.removed", "smtpd_queue_ended_total", "why=removed"},
	{"scheduler.ramqueue.envelope", "smtpd_queue_memory_envelopes", ""},
	{"smtp.session", "smtpd_smtp_sessions", ""},
	{"smtp.session.inet4", "smtpd_smtp_sessions", "family=inet4"},
	{"smtp.session.inet6", "smtpd_smtp_sessions", "family=inet6"},
	{"smtp.session.local", "smtpd_smtp_sessions", "family=local"},
	{"smtp.session.total", "smtpd_smtp_sessions_total", ""},
	{"smtp.smtps", "smtpd_smtp_tls_sessions", "kind=smtps"},
	{"smtp.tls", "smtpd_smtp_tls_sessions", "kind=starttls"},
}

// statsText returns lines of key=value, sorted by their keys.
func statsText(families []*dto.MetricFamily, uptime time.Duration) string {
	byName := make(map[string]*dto.MetricFamily, len(families))
	for _, f := range families {
		byName[f.GetName()] = f
	}
	uptime = uptime.Truncate(time.Second)
	lines := map[string]string{
		"uptime": strconv.FormatInt(int64(uptime/time.Second), 10), "uptime.human": humanTime(uptime),
	}
	for _, k := range statKeys {
		var n float64
		if f := byName[k.metric]; f != nil { // one with labels is not there before it is counted
			n = sum(f, k.label)
		}
		lines[k.key] = strconv.FormatFloat(n, 'f', -1, 64)
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintf(&b, "%s=%s\n", key, lines[key])
	}
	return b.String()
}

// sum returns the sum of the metrics of f that have a label.
func sum(f *dto.MetricFamily, label string) float64 {
	var total float64
	for _, m := range f.Metric {
		if label == "" || slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName()+"="+l.GetValue() == label }) {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return total
}

// humanTime writes a duration in its largest units: 2d3h4m5s.
func humanTime(d time.Duration) string {
	days := d / (24 * time.Hour)
	d -= days * 24 * time.Hour
	s := d.String()
	if days > 0 {
		return fmt.Sprintf("%dd%s", days, s)
	}
	return s
}
