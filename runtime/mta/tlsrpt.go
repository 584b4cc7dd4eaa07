package mta

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpd/runtime/lka"
	"smtpd/runtime/memo"
)

// The kinds of policy that reports tell apart (RFC 8460, section 4.2).
const (
	kindTLSA = "tlsa"
	kindSTS  = "sts"
	kindNone = "no-policy-found"
)

// kind returns the word of reports for p.
func (p policy) kind() string {
	switch p {
	case policyDANE, policyDANEUnusable:
		return kindTLSA
	case policySTS, policyTesting:
		return kindSTS
	}
	return kindNone
}

// Bounds of what is counted: domains come from strangers.
const (
	reportDays   = 7
	maxReports   = 10_000 // a day
	maxDetails   = 50     // of one report
	reportPeriod = time.Minute
)

// A reportKey is what is counted together on a day: the sessions for a domain
// under one kind of policy.
type reportKey struct{ domain, kind string }

// A tlsFailure tells failures apart, in the words of RFC 8460, section 4.3.
type tlsFailure struct {
	Result string `json:"result-type"`
	Source string `json:"sending-mta-ip,omitempty"`
	MX     string `json:"receiving-mx-hostname,omitempty"`
	IP     string `json:"receiving-ip,omitempty"`
	Count  int    `json:"failed-session-count"`
	Reason string `json:"failure-reason-code,omitempty"`
}

// A tlsPolicy describes a policy.
type tlsPolicy struct {
	Type   string   `json:"policy-type"`
	Lines  []string `json:"policy-string,omitempty"`
	Domain string   `json:"policy-domain"`
	MX     []string `json:"mx-host,omitempty"`
}

// A tlsSummary is the counts and failures of one policy.
type tlsSummary struct {
	Policy tlsPolicy `json:"policy"`
	Counts struct {
		Success int `json:"total-successful-session-count"`
		Failure int `json:"total-failure-session-count"`
	} `json:"summary"`
	Failures []*tlsFailure `json:"failure-details,omitempty"`
}

// A TLSReport is what RFC 8460, section 4.4 has sent to a domain for a day.
type TLSReport struct {
	Organization string `json:"organization-name"`
	Range        struct {
		Start time.Time `json:"start-datetime"`
		End   time.Time `json:"end-datetime"`
	} `json:"date-range"`
	Contact  string        `json:"contact-info"`
	ID       string        `json:"report-id"`
	Policies []*tlsSummary `json:"policies"`
}

// reports counts how TLS went: for the reports that receivers ask for, and for
// whoever operates this host.
type reports struct {
	name string // of this host

	mu    sync.Mutex
	days  map[string]map[reportKey]*tlsSummary // by UTC date
	dirty bool
}

// add counts a session for domain, or a failure that kept it from being begun.
// The zero tlsFailure is a success.
func (rs *reports) add(domain string, p tlsPolicy, f tlsFailure) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.of(time.Now(), reportKey{domain, p.Type})
	if r == nil {
		return
	}
	rs.dirty = true
	p.Domain = domain
	r.Policy = p
	if f.Result == "" {
		r.Counts.Success++
		return
	}
	r.Counts.Failure++
	f.Count = 1
	for _, known := range r.Failures {
		if g := *known; g.Result == f.Result && g.Source == f.Source && g.MX == f.MX && g.IP == f.IP && g.Reason == f.Reason {
			known.Count++
			return
		}
	}
	if len(r.Failures) < maxDetails {
		r.Failures = append(r.Failures, &f)
	}
}

// of returns the counts of key on the day of now, nil if there are too many.
func (rs *reports) of(now time.Time, key reportKey) *tlsSummary {
	date := now.UTC().Format(time.DateOnly)
	day := rs.days[date]
	if day == nil {
		if rs.days == nil {
			rs.days = make(map[string]map[reportKey]*tlsSummary)
		}
		day = make(map[reportKey]*tlsSummary)
		rs.days[date] = day
		oldest := now.UTC().AddDate(0, 0, 1-reportDays).Format(time.DateOnly)
		maps.DeleteFunc(rs.days, func(d string, _ map[reportKey]*tlsSummary) bool { return d < oldest })
	}
	r := day[key]
	if r == nil && len(day) < maxReports {
		r = new(tlsSummary)
		day[key] = r
	}
	return r
}

// list returns the reports of the last days, by day and domain; domain "" is
// all of them.
func (rs *reports) list(domain string) []TLSReport {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var l []TLSReport
	for _, date := range slices.Sorted(maps.Keys(rs.days)) {
		day := rs.days[date]
		keys := slices.SortedFunc(maps.Keys(day), func(x, y reportKey) int { return strings.Compare(x.domain+" "+x.kind, y.domain+" "+y.kind) })
		for _, key := range keys {
			if domain != "" && key.domain != domain {
				continue
			}
			if n := len(l); n == 0 || l[n-1].ID != date+"_"+key.domain {
				l = append(l, rs.begin(date, key.domain))
			}
			r := &l[len(l)-1]
			r.Policies = append(r.Policies, day[key].clone())
		}
	}
	return l
}

// begin returns the head of a report.
func (rs *reports) begin(date, domain string) TLSReport {
	r := TLSReport{Organization: rs.name, Contact: "postmaster@" + rs.name, ID: date + "_" + domain}
	if start, err := time.Parse(time.DateOnly, date); err == nil {
		r.Range.Start, r.Range.End = start, start.AddDate(0, 0, 1).Add(-time.Second)
	}
	return r
}

// clone returns a copy that does not change any more.
func (s *tlsSummary) clone() *tlsSummary {
	c := *s
	c.Failures = nil
	for _, f := range s.Failures {
		g := *f
		c.Failures = append(c.Failures, &g)
	}
	return &c
}

// open takes what save wrote to files, and returns where to write it next.
func (rs *reports) open(files [2]*os.File, log *slog.Logger) *memo.Memo {
	m, data, err := memo.Open(files)
	var l []TLSReport
	if err == nil && len(data) > 0 {
		err = json.Unmarshal(data, &l)
	}
	if err != nil {
		log.Error("TLS reports could not be read", "error", err)
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range l {
		for _, p := range r.Policies {
			if p == nil || slices.Contains(p.Failures, nil) {
				continue
			}
			if known := rs.of(r.Range.Start, reportKey{p.Policy.Domain, p.Policy.Type}); known != nil {
				*known = *p
			}
		}
	}
	return m
}

// run saves what was counted to m now and then, until ctx is done.
func (rs *reports) run(ctx context.Context, m *memo.Memo, log *slog.Logger) {
	defer m.Close()
	every := time.NewTicker(reportPeriod)
	defer every.Stop()
	for ctx.Err() == nil {
		select {
		case <-every.C:
		case <-ctx.Done():
		}
		rs.mu.Lock()
		dirty := rs.dirty
		rs.dirty = false
		rs.mu.Unlock()
		if !dirty {
			continue
		}
		data, err := json.Marshal(rs.list(""))
		if err == nil {
			err = m.Save(data)
		}
		if err != nil {
			log.Error("TLS reports could not be saved", "error", err)
		}
	}
}

// describe returns what reports say of the policy behind d, for host c.
func (d demand) describe(c *candidate) tlsPolicy {
	p := tlsPolicy{Type: d.policy.kind()}
	switch {
	case d.dane != nil:
		p.MX = []string{d.dane.base}
		for _, t := range d.dane.usable {
			p.Lines = append(p.Lines, fmt.Sprintf("%d %d %d %s", t.Usage, t.Selector, t.Matching, hex.EncodeToString(t.Data)))
		}
	case p.Type == kindSTS && c.sts != nil:
		p = describeSTS(c.sts)
	}
	return p
}

// describeSTS returns what reports say of an MTA-STS policy.
func describeSTS(s *lka.STSPolicy) tlsPolicy {
	p := tlsPolicy{Type: kindSTS, MX: s.MX}
	if s.Mode == 0 {
		return p
	}
	p.Lines = []string{"version: STSv1", "mode: " + s.Mode.String()}
	for _, mx := range s.MX {
		p.Lines = append(p.Lines, "mx: "+mx)
	}
	p.Lines = append(p.Lines, fmt.Sprintf("max_age: %d", s.MaxAge/time.Second))
	return p
}
