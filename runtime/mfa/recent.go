package mfa

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/runtime/envelope"
	"smtpd/runtime/imsg"
)

// maxRecent is how many decisions are remembered for who wants to know why.
const maxRecent = 64

// A recent is the last decisions. To write one down takes no more than a copy:
// what it came from is found out when somebody asks.
type recent struct {
	mu   sync.Mutex
	ring [maxRecent]made
	n    uint64 // decisions ever
}

// A made is a decision and what it was about.
type made struct {
	at       time.Time
	tx       engine.Transaction
	decision engine.Decision
}

func (r *recent) add(tx *engine.Transaction, d engine.Decision) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring[r.n%maxRecent] = made{now, *tx, d}
	r.n++
}

// get returns decision n, counted from 1.
func (r *recent) get(n uint64) (made, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n == 0 || n > r.n || n+maxRecent <= r.n {
		return made{}, false
	}
	return r.ring[(n-1)%maxRecent], true
}

// last returns the number of the last decision.
func (r *recent) last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// A Decided is a decision about a recipient, as it is shown.
type Decided struct {
	Number       uint64
	At           time.Time
	Source       string // of the client: local, an address, or internal
	Helo, Tag    string
	User         string
	Sender, Rcpt envelope.Address
	Outcome      engine.Outcome
	Rule         RuleName // that decided; zero if none did
	Error        string   // why it could not be decided
}

// maxShown bounds each text of a decision, and so a Decided.
const maxShown = 1 << 10

func clip(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "…"
}

func (d *Decided) texts() [11]*string {
	return [...]*string{
		&d.Source, &d.Helo, &d.Tag, &d.User, &d.Sender.User, &d.Sender.Domain, &d.Rcpt.User, &d.Rcpt.Domain,
		&d.Rule.Label, &d.Rule.Text, &d.Error,
	}
}

// Append appends the encoding of d.
func (d *Decided) Append(b []byte) []byte {
	b = append(imsg.AppendTime(imsg.AppendUint64(b, d.Number), d.At), byte(d.Outcome))
	for _, s := range d.texts() {
		b = imsg.AppendString(b, *s)
	}
	return b
}

// Read reads what Append has appended.
func (d *Decided) Read(r *imsg.Reader) {
	d.Number, d.At, d.Outcome = r.Uint64(), r.Time(), engine.Outcome(r.Byte())
	if d.Outcome < engine.Accept || d.Outcome > engine.TempFail {
		r.Fail()
	}
	for _, s := range d.texts() {
		*s = r.String()
	}
}

// decided returns decision n as it is shown.
func (a *agent) decided(n uint64) (d Decided, ok bool) {
	m, ok := a.recent.get(n)
	if !ok {
		return d, false
	}
	source := "internal"
	switch m.tx.Kind {
	case engine.FromSocket:
		source = "local"
	case engine.FromAddress:
		source = m.tx.Addr.String()
	}
	d = Decided{
		Number: n, At: m.at, Source: source, Helo: m.tx.Helo, Tag: m.tx.Tag, User: m.tx.User,
		Sender: envelope.Address(m.tx.Sender), Rcpt: envelope.Address(m.tx.Rcpt), Outcome: m.decision.Outcome,
	}
	if m.decision.Outcome != engine.TempFail {
		d.Rule = a.ruleName(m.decision.Rule)
	}
	if m.decision.Err != nil {
		d.Error = m.decision.Err.Error()
	}
	for _, s := range d.texts() {
		*s = clip(*s)
	}
	return d, true
}

// ruleName returns what a rule is called; zero if there is none.
func (a *agent) ruleName(i int) RuleName {
	if i < 0 || i >= len(a.names) {
		return RuleName{}
	}
	return a.names[i]
}

// A Passed is a rule that was passed over, and the first of its criteria that
// does not hold.
type Passed struct {
	Rule      RuleName
	Criterion string
	Value     string // it looked at
}

func (p *Passed) texts() [4]*string {
	return [...]*string{&p.Rule.Label, &p.Rule.Text, &p.Criterion, &p.Value}
}

// Append appends the encoding of p.
func (p *Passed) Append(b []byte) []byte {
	for _, s := range p.texts() {
		b = imsg.AppendString(b, *s)
	}
	return b
}

// Read reads what Append has appended.
func (p *Passed) Read(r *imsg.Reader) {
	for _, s := range p.texts() {
		*s = r.String()
	}
}

// An Explanation says why a decision was made.
type Explanation struct {
	Decided Decided
	Passed  []Passed // in the order of the rules
	More    uint32   // rules that were passed over besides
	Changed bool     // tables say something else by now, and it would be decided otherwise
}

// maxPassed bounds the rules of an Explanation.
const maxPassed = 500

// Append appends the encoding of e.
func (e *Explanation) Append(b []byte) []byte {
	b = imsg.AppendUint32(e.Decided.Append(b), e.More)
	b = imsg.AppendUint32(imsg.AppendBool(b, e.Changed), uint32(len(e.Passed)))
	for i := range e.Passed {
		b = e.Passed[i].Append(b)
	}
	return b
}

func (e *Explanation) parse(b []byte) error {
	r := imsg.NewReader(b)
	e.Decided.Read(r)
	e.More, e.Changed = r.Uint32(), r.Bool()
	e.Passed = make([]Passed, r.Count(16))
	for i := range e.Passed {
		e.Passed[i].Read(r)
	}
	return r.Close()
}

// explain says why decision n was made. The tables that it depends on are asked
// again; if they make it another decision now, it says so.
func (a *agent) explain(ctx context.Context, n uint64) (*Explanation, error) {
	d, ok := a.decided(n)
	m, still := a.recent.get(n)
	if !ok || !still {
		return nil, fmt.Errorf("decision %d is not remembered: only the last %d are", n, maxRecent)
	}
	x := analyze.NewExplainer(a.rules, engine.Intended).Explain(ctx, &m.tx, a.lookups)
	e := &Explanation{Decided: d, Changed: x.Decision.Outcome != m.decision.Outcome || x.Decision.Rule != m.decision.Rule}
	for i := range x.Passed {
		p := &x.Passed[i]
		if len(e.Passed) == maxPassed {
			e.More = uint32(len(x.Passed) - i)
			break
		}
		passed := Passed{Rule: a.ruleName(p.Rule)}
		if len(p.Failed) > 0 {
			rule, q := &a.rules.Rules[p.Rule], p.Failed[0]
			passed.Criterion, passed.Value = analyze.Criterion(a.rules, rule, q.Part), analyze.Value(&m.tx, rule, q)
		}
		for _, s := range passed.texts() {
			*s = clip(*s)
		}
		e.Passed = append(e.Passed, passed)
	}
	return e, nil
}

// The requests of control.
const (
	msgRecent  uint32 = iota + 1 // answered with the last decisions, the latest first
	msgExplain                   // answered with an Explanation of one
)

// handleControl answers control.
func (a *agent) handleControl(ctx context.Context, m imsg.Message) (imsg.Message, error) {
	if m.File != nil {
		m.File.Close()
	}
	r := imsg.NewReader(m.Data)
	switch m.Type {
	case msgRecent:
		var b []byte
		for n := a.recent.last(); n > 0; n-- {
			d, ok := a.decided(n)
			if !ok {
				break
			}
			b = d.Append(b)
		}
		return imsg.Message{Data: b}, r.Close()
	case msgExplain:
		n := r.Uint64()
		if err := r.Close(); err != nil {
			return imsg.Message{}, err
		}
		e, err := a.explain(ctx, n)
		if err != nil {
			return imsg.Message{}, err
		}
		return imsg.Message{Data: e.Append(nil)}, nil
	}
	return imsg.Message{}, fmt.Errorf("mfa: no requests of type %d of control", m.Type)
}

// Recent returns the last decisions, the latest first.
func (c *Client) Recent(ctx context.Context) ([]Decided, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgRecent})
	if err != nil {
		return nil, err
	}
	closeFile(m.File)
	var l []Decided
	r := imsg.NewReader(m.Data)
	for r.Len() > 0 {
		var d Decided
		d.Read(r)
		l = append(l, d)
	}
	return l, r.Close()
}

// Explain says why the decision of that number was made.
func (c *Client) Explain(ctx context.Context, n uint64) (*Explanation, error) {
	m, err := c.peer.Call(ctx, imsg.Message{Type: msgExplain, Data: imsg.AppendUint64(nil, n)})
	if err != nil {
		return nil, err
	}
	closeFile(m.File)
	e := new(Explanation)
	return e, e.parse(m.Data)
}
