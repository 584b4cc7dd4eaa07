package lka

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"sync"
	"time"

	"smtpd/runtime/memo"
)

// Bounds of what is known of policies.
const (
	maxPolicies   = 10_000
	maxFetches    = 32               // at once
	fetchTime     = 30 * time.Second // of one
	retryFetch    = 5 * time.Minute  // RFC 8461, section 3.3
	refreshAfter  = 24 * time.Hour   // or half of what is left, if that is less
	refreshPeriod = time.Hour        // how often policies in use are looked at
	policyInUse   = 7 * 24 * time.Hour
)

// Problems with a policy, in the words of reports (RFC 8460, section 4.3.2.2).
const (
	problemFetch   = "sts-policy-fetch-error"
	problemInvalid = "sts-policy-invalid"
	problemWebPKI  = "sts-webpki-invalid"
)

// A known is what is known of the policy of a domain.
type known struct {
	ID      string
	Text    string // the policy file; "" if none has ever been fetched
	Fetched time.Time
	Used    time.Time

	policy  STSPolicy
	problem string    // of the last fetch
	tried   time.Time // the last fetch, if there was a problem
	flight  chan struct{}
}

// valid reports whether a policy is there and not too old.
func (k *known) valid(now time.Time) bool {
	return k.Text != "" && now.Before(k.Fetched.Add(k.policy.MaxAge))
}

// stale reports whether a valid policy should be fetched anew, so that it does
// not become too old just when its host cannot be reached.
func (k *known) stale(now time.Time) bool {
	return now.After(k.Fetched.Add(min(refreshAfter, k.policy.MaxAge/2)))
}

// policies keeps the policies of domains (RFC 8461), also from one start to
// the next: who can keep this host from the DNS must not make it forget them.
type policies struct {
	log   *slog.Logger
	txt   func(ctx context.Context, name string) ([]string, *DNSError)
	fetch func(ctx context.Context, domain string) (text, problem string, err error)
	ctx   context.Context // of fetches
	work  sync.WaitGroup
	slots chan struct{}
	dirty chan struct{} // capacity 1: something is to be saved

	mu    sync.Mutex
	known map[string]*known
}

func newPolicies(ctx context.Context, d *directory, log *slog.Logger) *policies {
	return &policies{
		log: log, txt: d.txt, fetch: newFetcher(d).fetch, ctx: ctx,
		slots: make(chan struct{}, maxFetches), dirty: make(chan struct{}, 1), known: make(map[string]*known),
	}
}

// get returns what is known of the policy of domain, fetching it if it is new.
func (p *policies) get(ctx context.Context, domain string) STS {
	if !isHostName(domain) {
		return STS{}
	}
	texts, derr := p.txt(ctx, "_mta-sts."+domain)
	id := ""
	if derr == nil {
		id = policyID(texts)
	}
	now := time.Now()
	p.mu.Lock()
	k := p.known[domain]
	if k == nil && id == "" {
		p.mu.Unlock()
		return STS{}
	}
	if k == nil {
		k = p.add(domain, now)
	}
	k.Used = now
	wanted := id != "" && (id != k.ID || !k.valid(now) || k.stale(now))
	if !wanted || k.problem != "" && now.Sub(k.tried) < retryFetch {
		defer p.mu.Unlock()
		return k.sts(now)
	}
	flight := p.start(domain, k, id)
	if k.valid(now) && id == k.ID { // what is known is good enough to go on with
		defer p.mu.Unlock()
		return k.sts(now)
	}
	p.mu.Unlock()
	select {
	case <-flight:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return k.sts(time.Now())
}

// sts returns k as it is told to others.
func (k *known) sts(now time.Time) STS {
	s := STS{Problem: k.problem}
	if k.valid(now) && k.policy.Mode != STSNone {
		s.Found, s.Policy = true, k.policy
	}
	return s
}

// add makes room for a domain. The mutex is held, as for start.
func (p *policies) add(domain string, now time.Time) *known {
	if len(p.known) >= maxPolicies {
		for d, k := range p.known {
			if !k.valid(now) && k.flight == nil {
				delete(p.known, d)
			}
		}
	}
	k := new(known)
	if len(p.known) < maxPolicies { // else it is fetched each time
		p.known[domain] = k
	}
	return k
}

// start has the policy of domain fetched, unless it is being so already, and
// returns what is closed when that is done.
func (p *policies) start(domain string, k *known, id string) <-chan struct{} {
	if k.flight != nil {
		return k.flight
	}
	flight := make(chan struct{})
	k.flight = flight
	p.work.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, fetchTime)
		defer cancel()
		var text, problem string
		var err error
		select {
		case p.slots <- struct{}{}:
			text, problem, err = p.fetch(ctx, domain)
			<-p.slots
		case <-ctx.Done():
			problem, err = problemFetch, ctx.Err()
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		k.took(id, text, problem, err)
		k.flight = nil
		close(flight)
		if k.problem != "" {
			p.log.Warn("mta-sts policy", "domain", domain, "problem", k.problem, "error", err)
			return
		}
		p.log.Info("mta-sts policy", "domain", domain, "mode", k.policy.Mode.String(), "id", id)
		p.changed()
	})
	return flight
}

// took notes what came of a fetch. A policy that is known stays if the new one
// is no good.
func (k *known) took(id, text, problem string, err error) {
	now := time.Now()
	policy := STSPolicy{}
	if err == nil {
		if policy, err = parsePolicy(text); err != nil {
			problem = problemInvalid
		}
	}
	if err != nil {
		k.problem, k.tried = problem, now
		return
	}
	k.ID, k.Text, k.Fetched, k.policy, k.problem = id, text, now, policy, ""
}

func (p *policies) changed() {
	select {
	case p.dirty <- struct{}{}:
	default:
	}
}

// run saves what changes and keeps fresh what is in use, until ctx is done.
func (p *policies) run(ctx context.Context, m *memo.Memo) {
	defer m.Close()
	refresh := time.NewTicker(refreshPeriod)
	defer refresh.Stop()
	for {
		select {
		case <-p.dirty:
			p.save(m)
		case <-refresh.C:
			p.refresh(ctx)
		case <-ctx.Done():
			p.work.Wait()
			select {
			case <-p.dirty:
				p.save(m)
			default:
			}
			return
		}
	}
}

// refresh asks for the policies in use as those do who use them.
func (p *policies) refresh(ctx context.Context) {
	now := time.Now()
	due := make(map[string]time.Time)
	p.mu.Lock()
	for d, k := range p.known {
		if k.valid(now) && k.stale(now) && now.Sub(k.Used) < policyInUse {
			due[d] = k.Used
		}
	}
	p.mu.Unlock()
	for d, used := range due {
		p.get(ctx, d)
		p.mu.Lock()
		if k := p.known[d]; k != nil && !k.Used.After(time.Now()) {
			k.Used = used // this was no use
		}
		p.mu.Unlock()
	}
}

// save writes the policies to m.
func (p *policies) save(m *memo.Memo) {
	p.mu.Lock()
	all := make(map[string]known)
	for d, k := range p.known {
		if k.valid(time.Now()) {
			all[d] = known{ID: k.ID, Text: k.Text, Fetched: k.Fetched, Used: k.Used}
		}
	}
	p.mu.Unlock()
	data, err := json.Marshal(all)
	if err == nil {
		err = m.Save(data)
	}
	if err != nil {
		p.log.Error("mta-sts policies could not be saved", "error", err)
	}
}

// open takes what save wrote to files, and returns where to write it next. What
// cannot be read is fetched anew.
func (p *policies) open(files [2]*os.File) *memo.Memo {
	m, data, err := memo.Open(files)
	var all map[string]*known
	if err == nil && len(data) > 0 {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		p.log.Error("mta-sts policies could not be read", "error", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for d, k := range all {
		if k == nil || !isHostName(d) || len(p.known) >= maxPolicies {
			continue
		}
		if policy, err := parsePolicy(k.Text); err == nil {
			k.policy = policy
			p.known[d] = k
		}
	}
	return m
}
