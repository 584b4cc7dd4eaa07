package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"smtpd/internal/where"
	"smtpd/runtime/control"
	"smtpd/runtime/envelope"
	"smtpd/runtime/mfa"
	"smtpd/runtime/queue"
)

// An overview is the first page.
type overview struct {
	Queued, InFlight, Clients uint64
	Hour                      period // the sum
	Deliveries, Queue         *plot
	Attention                 []string
}

// plotParts is how many bars a plot has.
const plotParts = 60

func (s *server) overview(_ context.Context, d Daemon, _ *http.Request) (string, any, error) {
	n, err := count(d)
	if err != nil {
		return "", nil, err
	}
	now := sampleOf(n, time.Now())
	l := periods(s.history.since(now.at.Add(-2*time.Hour)), now.at, time.Hour, plotParts)
	o := &overview{Queued: now.queued, InFlight: now.inFlight, Clients: now.clients, Attention: attention(n, now.at)}
	for i := range l {
		o.Hour.merge(&l[i])
	}
	o.Deliveries, o.Queue = deliveryPlot(l), queuePlot(l)
	return "Overview", o, nil
}

func (p *period) merge(o *period) {
	p.OK, p.TempFail, p.PermFail = p.OK+o.OK, p.TempFail+o.TempFail, p.PermFail+o.PermFail
	p.Accepted, p.Refused = p.Accepted+o.Accepted, p.Refused+o.Refused
	p.Queued, p.Known = max(p.Queued, o.Queued), p.Known || o.Known
}

// soon is how long before its end a certificate is spoken of.
const soon = 21 * 24 * time.Hour

// attention returns what somebody should look at.
func attention(n numbers, now time.Time) []string {
	var l []string
	if n.sum("smtpd_queue_disk_full") > 0 {
		l = append(l, "The disk is nearly full: no mail is taken.")
	}
	for _, c := range certificatesOf(n) {
		switch left := c.Expires.Sub(now); {
		case left <= 0:
			l = append(l, fmt.Sprintf("The certificate of pki %s has expired.", c.Name))
		case left < soon:
			l = append(l, fmt.Sprintf("The certificate of pki %s expires in %s.", c.Name, span(left)))
		}
	}
	for _, f := range filtersOf(n) {
		if f.Failures > 0 || f.Restarts > 0 {
			l = append(l, fmt.Sprintf("Filter %s: %d questions without an answer, %d restarts.", f.Name, f.Failures, f.Restarts))
		}
	}
	for _, t := range tablesOf(n) {
		if t.Errors > 0 {
			l = append(l, fmt.Sprintf("Table %s could not answer %d of %d questions.", t.Name, t.Errors, t.Lookups))
		}
	}
	return l
}

func (s *server) queue(_ context.Context, d Daemon, _ *http.Request) (string, any, error) {
	l, err := s.surveyor.get(time.Now(), func() (*survey, error) { return look(d) })
	return "Queue", l, err
}

// An excerpt is the envelopes for which an expression holds.
type excerpt struct {
	Where string
	Wrong string // with the expression
	Found []queue.Listed
	More  bool // there may be others
}

// shownEnvelopes is how many a page has.
const shownEnvelopes = 200

func (s *server) envelopes(ctx context.Context, d Daemon, r *http.Request) (string, any, error) {
	e := &excerpt{Where: r.URL.Query().Get("where")}
	list, match := d.List, func(*queue.Listed, time.Time) bool { return true }
	if e.Where != "" {
		q, err := where.Parse(e.Where)
		if err != nil {
			e.Wrong = err.Error()
			return "Envelopes", e, nil
		}
		match = q.Match
		if q.NeedsSizes() {
			list = d.ListSized
		}
	}
	now := time.Now()
	for l, err := range list(queue.Selection{}) {
		if err != nil {
			return "", nil, err
		}
		if !match(&l, now) {
			continue
		}
		if len(e.Found) == shownEnvelopes {
			e.More = true
			break
		}
		e.Found = append(e.Found, l)
	}
	return "Envelopes", e, ctx.Err()
}

// selection returns what an id names: 8 digits a message, 16 an envelope.
func selection(id string) (queue.Selection, error) {
	if e, err := envelope.ParseID(id); err == nil && e != 0 {
		return queue.Selection{Envelope: e}, nil
	}
	if m, err := envelope.ParseMessageID(id); err == nil && m != 0 {
		return queue.Selection{Message: m}, nil
	}
	return queue.Selection{}, &problem{http.StatusNotFound, "This is no id of a message or of an envelope."}
}

// A message is its envelopes.
type message struct {
	ID        string
	First     *envelope.Envelope
	Envelopes []queue.Listed
	More      bool
}

func (s *server) message(_ context.Context, d Daemon, r *http.Request) (string, any, error) {
	id := r.PathValue("id")
	sel, err := selection(id)
	if err != nil {
		return "", nil, err
	}
	m := new(message)
	for l, err := range d.List(sel) {
		if err != nil {
			return "", nil, err
		}
		if len(m.Envelopes) == shownEnvelopes {
			m.More = true
			break
		}
		m.Envelopes = append(m.Envelopes, l)
	}
	if len(m.Envelopes) == 0 {
		return "", nil, &problem{http.StatusNotFound, id + " is not in the queue: it was delivered, returned or removed. The log says which."}
	}
	m.First = &m.Envelopes[0].Envelope
	m.ID = m.First.ID.Message().String()
	return "Message " + m.ID, m, nil
}

// A timeline is the page of deliveries.
type timeline struct {
	Span                     string
	Deliveries, Rcpts, Queue *plot
	Periods                  []period // of which something is known, the latest first
	Agents                   []agentTotal
}

// An agentTotal is what the tries of mda or mta came to.
type agentTotal struct {
	Name                   string
	OK, TempFail, PermFail uint64
}

func (s *server) deliveries(_ context.Context, d Daemon, r *http.Request) (string, any, error) {
	t := &timeline{Span: "1h"}
	length := time.Hour
	if r.URL.Query().Get("span") == "6h" {
		t.Span, length = "6h", 6*time.Hour
	}
	n, err := count(d)
	if err != nil {
		return "", nil, err
	}
	now := time.Now()
	l := periods(s.history.since(now.Add(-length-time.Hour)), now, length, plotParts)
	t.Deliveries, t.Rcpts, t.Queue = deliveryPlot(l), rcptPlot(l), queuePlot(l)
	for _, p := range slices.Backward(l) {
		if p.Known && p.OK+p.TempFail+p.PermFail+p.Accepted+p.Refused > 0 {
			t.Periods = append(t.Periods, p)
		}
	}
	const tries = "smtpd_queue_deliveries_total"
	for _, agent := range []string{"mda", "mta"} {
		t.Agents = append(t.Agents, agentTotal{
			agent, n.sum(tries, "agent", agent, "result", "ok"), n.sum(tries, "agent", agent, "result", "tempfail"),
			n.sum(tries, "agent", agent, "result", "permfail") + n.sum(tries, "agent", agent, "result", "loop"),
		})
	}
	return "Deliveries", t, nil
}

// A ruleList is the rules in force.
type ruleList struct {
	Rules []control.RuleCount
	Most  uint64 // hits of one
	None  uint64 // decisions for which no rule was
	Last  []mfa.Decided
}

func (s *server) rules(_ context.Context, d Daemon, _ *http.Request) (string, any, error) {
	l := new(ruleList)
	var err error
	if l.Rules, err = d.Rules(); err != nil {
		return "", nil, err
	}
	for i := range l.Rules {
		l.Most = max(l.Most, l.Rules[i].Hits)
	}
	if l.Last, err = d.Recent(); err != nil {
		return "", nil, err
	}
	n, err := count(d)
	l.None = n.sum("smtpd_mfa_decisions_total", "outcome", "no-rule")
	return "Rules", l, err
}

func (s *server) decision(_ context.Context, d Daemon, r *http.Request) (string, any, error) {
	n, err := strconv.ParseUint(r.PathValue("n"), 10, 64)
	if err != nil {
		return "", nil, &problem{http.StatusNotFound, "Decisions have numbers."}
	}
	e, err := d.Explain(n)
	if refusal := control.Refusal(""); errors.As(err, &refusal) {
		err = &problem{http.StatusNotFound, "This decision is not remembered: only the last ones are."}
	}
	return "Decision", e, err
}

// A table is one that was asked.
type table struct {
	Name                  string
	Lookups, Hits, Errors uint64
	Cached                uint64
	Mean                  time.Duration
}

func tablesOf(n numbers) []table {
	var l []table
	for _, name := range n.values("smtpd_table_lookups_total", "table") {
		l = append(l, table{
			name, n.sum("smtpd_table_lookups_total", "table", name), n.sum("smtpd_table_hits_total", "table", name),
			n.sum("smtpd_table_errors_total", "table", name), n.sum("smtpd_table_cache_hits_total", "table", name),
			seconds(n.mean("smtpd_table_seconds", "table", name)),
		})
	}
	return l
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (s *server) tables(_ context.Context, d Daemon, _ *http.Request) (string, any, error) {
	n, err := count(d)
	return "Tables", tablesOf(n), err
}

// A filter is one that was asked.
type filter struct {
	Name                         string
	Requests, Failures, Restarts uint64
	Decisions                    []decided
}

// A decided is an answer of a filter and how often it gave it.
type decided struct {
	Word  string
	Count uint64
}

func filtersOf(n numbers) []filter {
	const decisions = "smtpd_mfa_filter_decisions_total"
	var l []filter
	for _, name := range n.values("smtpd_mfa_filter_requests_total", "filter") {
		f := filter{
			Name: name, Requests: n.sum("smtpd_mfa_filter_requests_total", "filter", name),
			Failures: n.sum("smtpd_mfa_filter_failures_total", "filter", name), Restarts: n.sum("smtpd_mfa_filter_restarts_total", "filter", name),
		}
		words := n.values(decisions, "decision")
		slices.Sort(words)
		for _, word := range slices.Compact(words) {
			if k := n.sum(decisions, "filter", name, "decision", word); k > 0 {
				f.Decisions = append(f.Decisions, decided{word, k})
			}
		}
		l = append(l, f)
	}
	return l
}

func (s *server) filters(_ context.Context, d Daemon, _ *http.Request) (string, any, error) {
	n, err := count(d)
	return "Filters", filtersOf(n), err
}

// A certificate is one that the configuration names.
type certificate struct {
	Name, Subject string
	Expires       time.Time
}

// Left returns how long it is valid from a moment on.
func (c certificate) Left(now time.Time) time.Duration { return c.Expires.Sub(now) }

func certificatesOf(n numbers) []certificate {
	var l []certificate
	for _, m := range n["smtpd_certificate_expiry_timestamp_seconds"].GetMetric() {
		l = append(l, certificate{labelOf(m, "pki"), labelOf(m, "subject"), time.Unix(int64(value(m)), 0)})
	}
	slices.SortFunc(l, func(a, b certificate) int {
		return cmp.Or(a.Expires.Compare(b.Expires), strings.Compare(a.Name, b.Name))
	})
	return l
}

func (s *server) certificates(_ context.Context, d Daemon, _ *http.Request) (string, any, error) {
	n, err := count(d)
	return "Certificates", certificatesOf(n), err
}

// query returns the address of the envelopes of a route.
func query(r route) string {
	w := fmt.Sprintf("type = %s", r.Type)
	if r.Domain != "" {
		w += fmt.Sprintf(" and domain = %q", r.Domain)
	}
	return "/envelopes?where=" + url.QueryEscape(w)
}
