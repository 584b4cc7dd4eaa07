package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/compile/expand"
	"smtpd/lang/token"
)

// traceVersion is the version of what explain --format json writes. A field
// may be added without a new version; one that goes or changes its meaning
// needs it. docs/analysis.md describes them.
const traceVersion = 1

// A trace is all that there is to say of the decision about a transaction.
type trace struct {
	Version int `json:"version"`
	verdict
	Label       string       `json:"label,omitempty"` // of the rule
	Error       string       `json:"error,omitempty"` // why it is a temporary failure, or the recipient is refused
	Reply       string       `json:"reply,omitempty"` // to RCPT; absent if that is not known
	Transaction described    `json:"transaction"`
	Filter      string       `json:"filter,omitempty"`   // of the session, which is not asked
	Decoded     string       `json:"decoded,omitempty"`  // what the recipient is without sender rewriting
	Includes    []placeTrace `json:"includes,omitempty"` // that led to the rule, innermost first
	Macros      []macroTrace `json:"macros,omitempty"`   // that the rule was written with
	Tables      []tableTrace `json:"tables,omitempty"`   // that the rule names, and those asked
	Passed      []passTrace  `json:"passed"`             // the rules before, in order
	Asked       []askTrace   `json:"lookups"`            // that the decision makes
	Cases       []caseTrace  `json:"cases,omitempty"`    // what it is if they are answered
	Expansion   *nodeTrace   `json:"expansion,omitempty"`
	Assumed     []string     `json:"assumed,omitempty"`
}

type placeTrace struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

type macroTrace struct {
	Name string `json:"name"`
	File string `json:"file,omitempty"` // absent: defined on the command line
	Line int    `json:"line,omitempty"`
}

type tableTrace struct {
	Name     string `json:"name"`
	Backend  string `json:"backend"`
	Path     string `json:"path,omitempty"`
	File     string `json:"file,omitempty"` // where it is declared
	Line     int    `json:"line,omitempty"`
	Known    bool   `json:"known"` // its content
	Entries  int    `json:"entries"`
	Snapshot string `json:"snapshot,omitempty"` // the file of --table
}

type passTrace struct {
	Rule      int    `json:"rule"`
	File      string `json:"file"`
	Line      int    `json:"line"`
	Label     string `json:"label,omitempty"`
	Criterion string `json:"criterion"` // the first that said no
	Value     string `json:"value"`     // what it looked at
	// Would is what the rule lacks, if that is one thing: it would match if …
	Would string `json:"would_match_if,omitempty"`
}

type askTrace struct {
	Table   string `json:"table"`
	Service string `json:"service"`
	Key     string `json:"key"`
	Known   bool   `json:"known"` // the answer
	Found   bool   `json:"found"`
	Error   string `json:"error,omitempty"`
	probeTrace
}

// A caseTrace is the decision under assumptions about tables.
type caseTrace struct {
	If []assumeTrace `json:"if"`
	verdict
}

type assumeTrace struct {
	Table string `json:"table"`
	Key   string `json:"key"`
	Found bool   `json:"found"`
}

// A nodeTrace is one thing that the recipient stands for.
type nodeTrace struct {
	Kind     string         `json:"kind"` // address, user, command, file or error
	Item     string         `json:"item"`
	Internal bool           `json:"internal,omitempty"`
	Encoded  string         `json:"encoded,omitempty"` // as sender rewriting had it
	Rule     int            `json:"rule,omitempty"`
	File     string         `json:"file,omitempty"`
	Line     int            `json:"line,omitempty"`
	Action   string         `json:"action,omitempty"`
	Lookups  []expandTrace  `json:"lookups,omitempty"`
	Delivery *deliveryTrace `json:"delivery,omitempty"`
	Same     bool           `json:"same,omitempty"` // as one met before, and not followed again
	Loop     string         `json:"loop,omitempty"`
	Skipped  bool           `json:"skipped,omitempty"` // not followed: the recipient is refused already
	Reply    string         `json:"reply,omitempty"`
	Error    string         `json:"error,omitempty"`
	Children []*nodeTrace   `json:"children,omitempty"`
}

type expandTrace struct {
	What  string `json:"what"` // alias, account, forward or include
	Table string `json:"table,omitempty"`
	Key   string `json:"key"`
	Known bool   `json:"known"` // false: Found is assumed, or nothing is
	Found bool   `json:"found"`
	Value string `json:"value,omitempty"`
	probeTrace
}

type deliveryTrace struct {
	Method  string   `json:"method"`
	Target  string   `json:"target,omitempty"`
	User    string   `json:"user,omitempty"`
	Sub     string   `json:"sub_address,omitempty"`
	As      string   `json:"as,omitempty"`
	NextHop []string `json:"next_hop,omitempty"`
	MX      string   `json:"mx,omitempty"`
	Below   string   `json:"better_than,omitempty"`
	Open    string   `json:"not_known,omitempty"`

	text string
}

// trace decides a transaction and collects why.
func (x *explainer) trace(ctx context.Context, tx *engine.Transaction) *trace {
	decided, decoded := x.decoded(tx)
	e := x.Explain(ctx, decided, x.lookups())
	d := e.Decision
	t := &trace{Version: traceVersion, verdict: verdictOf(x.rules, d), Transaction: describe(tx), Decoded: decoded, Passed: []passTrace{}, Asked: []askTrace{}}
	if f := sessionFilter(x.rules, tx); f != 0 {
		t.Filter = x.rules.Filter(f).Name
	}
	for i := range e.Passed {
		t.Passed = append(t.Passed, x.passed(decided, &e.Passed[i]))
	}
	for _, q := range e.Asked {
		t.Asked = append(t.Asked, x.asked(&q))
	}
	if d.Rule >= 0 {
		t.Label = x.labels[d.Rule]
		x.origin(t, d.Rule)
	}
	switch d.Outcome {
	case engine.TempFail:
		t.Error = d.Err.Error()
		t.Reply = expand.ReplyTemporary
		if errors.Is(d.Err, analyze.ErrNotAsked) {
			t.Reply = ""
			x.cases(ctx, t, decided)
		}
	case engine.Accept:
		x.expand(ctx, t, tx)
	default:
		t.Reply = expand.ReplyInvalid
	}
	return t
}

// decoded returns what the rules see of a transaction: a report that comes
// back to an address which sender rewriting made goes to the address that
// this stands for, as if an expansion had led there.
func (x *explainer) decoded(tx *engine.Transaction) (seen *engine.Transaction, decoded string) {
	if tx.Sender != (engine.Address{}) {
		return tx, ""
	}
	a, ok, err := expand.NewSRSDecoder(x.rules.SRS).Recipient(tx.Rcpt, time.Now())
	if !ok || err != nil {
		return tx, ""
	}
	internal := *tx
	internal.Kind, internal.Rcpt = engine.FromInternal, a
	return &internal, a.String()
}

// sessionFilter returns the filter of the listener that a transaction comes
// through, 0 if it has none.
func sessionFilter(rs *compile.Ruleset, tx *engine.Transaction) compile.FilterID {
	if tx.Kind == engine.FromSocket {
		return rs.Socket.Filter
	}
	if l := engine.ListenerOf(rs, tx.Tag); l != nil {
		return l.Filter
	}
	return 0
}

func (x *explainer) passed(tx *engine.Transaction, p *analyze.Passed) passTrace {
	r := &x.rules.Rules[p.Rule]
	t := passTrace{Rule: p.Rule + 1, File: r.Origin.File, Line: r.Origin.Line, Label: x.labels[p.Rule]}
	if len(p.Failed) == 0 {
		return t
	}
	q := p.Failed[0]
	t.Criterion, t.Value = analyze.Criterion(x.rules, r, q.Part), analyze.Value(tx, r, q)
	if p.Near() {
		t.Would = analyze.Would(x.rules, r, q)
	}
	return t
}

func (x *explainer) asked(q *analyze.Asked) askTrace {
	t := askTrace{Table: x.rules.Table(q.Table).Name, Service: q.Service.String(), Key: q.Key, Known: q.Err == nil, Found: q.Found}
	t.probeTrace = x.live.probed(q.Question)
	if q.Err != nil && !errors.Is(q.Err, analyze.ErrNotAsked) {
		t.Error = q.Err.Error()
	}
	return t
}

// cases says what the decision is when the tables that are not known have
// answered.
func (x *explainer) cases(ctx context.Context, t *trace, tx *engine.Transaction) {
	for _, c := range x.Cases(ctx, tx, nil) {
		ct := caseTrace{verdict: verdictOf(x.rules, c.Decision)}
		for _, a := range c.If {
			ct.If = append(ct.If, assumeTrace{x.rules.Table(a.Table).Name, a.Key, a.Found})
		}
		t.Cases = append(t.Cases, ct)
	}
}

// origin says where the rule that decides and its tables come from.
func (x *explainer) origin(t *trace, rule int) {
	r := &x.rules.Rules[rule]
	if s := x.statement(r.Origin); s != nil {
		x.written(t, s)
	}
	seen := make(map[compile.TableID]bool)
	add := func(id compile.TableID) {
		if id == 0 || seen[id] {
			return
		}
		seen[id] = true
		// An anonymous table is part of the rule, a built-in one of the program.
		if table := x.rules.Table(id); table.Origin.Line > 0 && !strings.HasPrefix(table.Name, "<") {
			t.Tables = append(t.Tables, x.table(table))
		}
	}
	for p := engine.PartTag; p <= engine.PartRcptTo; p++ {
		add(analyze.CriterionOf(r, p).Table)
	}
	if r.Action != 0 {
		a := x.rules.Action(r.Action)
		for _, id := range []compile.TableID{a.Alias, a.Virtual, a.Userbase, a.Relay.Host, a.Relay.Domain} {
			add(id)
		}
	}
}

func (x *explainer) table(table *compile.Table) tableTrace {
	return tableTrace{
		Name: table.Name, Backend: table.Backend, Path: table.Path, File: table.Origin.File, Line: table.Origin.Line,
		Known: table.Kind != compile.Dynamic, Entries: len(table.Entries), Snapshot: x.cmd.snapshot(table.Name),
	}
}

// statement returns the statement that begins at o.
func (x *explainer) statement(o compile.Origin) *ast.Stmt {
	if x.statements == nil {
		x.statements = make(map[compile.Origin]*ast.Stmt)
		for _, s := range x.file.Stmts {
			if s.Match != nil {
				x.statements[compile.Origin{File: s.Pos.Filename, Line: s.Pos.Line, Column: s.Pos.Column}] = s
			}
		}
	}
	return x.statements[o]
}

// written says by which includes and macros a statement came to be what it is.
func (x *explainer) written(t *trace, s *ast.Stmt) {
	for _, frame := range x.file.Set.Trace(s.Pos) {
		if frame.Kind == token.Include {
			t.Includes = append(t.Includes, placeTrace{frame.Use.Filename, frame.Use.Line})
		}
	}
	seen := make(map[macroTrace]bool)
	for _, frame := range x.file.Set.Expansions() {
		if frame.Use.Offset < s.Pos.Offset || frame.Use.Offset > s.EndPos.Offset {
			continue
		}
		m := macroTrace{Name: frame.Name}
		if frame.Def.IsValid() {
			m.File, m.Line = frame.Def.Filename, frame.Def.Line
		}
		if !seen[m] {
			seen[m] = true
			t.Macros = append(t.Macros, m)
		}
	}
}

// expand follows the recipient to its deliveries.
func (x *explainer) expand(ctx context.Context, t *trace, tx *engine.Transaction) {
	w := &expand.AtHand{
		Rules: x.rules, Transaction: tx, Decider: x.Engine(), Accounts: x.accounts, Forwards: x.forwards, File: x.include,
		Lookups: analyze.NotAsked{},
	}
	if x.live != nil {
		w.Ask, w.Lookups = x.live.ask, x.live
	}
	e := analyze.Expand(ctx, w, time.Now())
	switch {
	case e.Open():
	case e.Err == nil:
		t.Reply = expand.ReplyAccepted
	default:
		t.Reply, t.Error = e.Reply(), cause(e.Err)
	}
	for _, a := range e.Assumed {
		t.Assumed = append(t.Assumed, a.String())
	}
	if e.Root == nil { // the recipient is no address
		t.Expansion = &nodeTrace{Kind: expand.Address.String(), Item: tx.Rcpt.String(), Reply: t.Reply, Error: cause(e.Err)}
		return
	}
	t.Expansion = x.node(e.Root, e.Assumed)
}

// cause returns the text of an error without the reply that it leads to.
func cause(err error) string {
	if r := (*expand.Refusal)(nil); errors.As(err, &r) {
		return r.Cause.Error()
	}
	return err.Error()
}

var subjects = [...]string{expand.AliasOf: "alias", expand.AccountOf: "account", expand.ForwardOf: "forward", expand.ContentOf: "include"}

// node says what was done about a node and what is below it.
func (x *explainer) node(n *expand.Node, assumed []expand.Assumption) *nodeTrace {
	t := &nodeTrace{Kind: n.Kind.String(), Item: n.Item.String(), Internal: n.Internal}
	if n.Encoded != nil {
		t.Encoded = n.Encoded.String()
	}
	if d := n.Decision; d != nil && d.Rule >= 0 {
		v := verdictOf(x.rules, *d)
		t.Rule, t.File, t.Line, t.Action = v.Rule, v.File, v.Line, v.Action
	}
	for _, q := range n.Questions {
		known := q.Err == nil && !slices.Contains(assumed, expand.Assumption{Subject: q.Subject, User: q.Key})
		l := expandTrace{What: subjects[q.Subject], Key: q.Key, Known: known, Found: q.Found, Value: q.Value}
		if q.Table != 0 {
			l.Table = x.rules.Table(q.Table).Name
		}
		switch q.Subject {
		case expand.AliasOf:
			l.probeTrace = x.live.probed(engine.Question{Table: q.Table, Service: engine.Alias, Key: q.Key})
		case expand.AccountOf:
			l.probeTrace = x.live.probed(engine.Question{Table: q.Table, Service: engine.UserInfo, Key: q.Key})
		}
		t.Lookups = append(t.Lookups, l)
	}
	if n.Delivery != nil {
		w := analyze.WayOf(x.rules, n.Delivery)
		t.Delivery = &deliveryTrace{w.Method, w.Target, w.User, w.Sub, w.As, w.Hosts, w.MX, w.Below, w.Open, w.String()}
	}
	switch {
	case n.Same != nil:
		t.Same, t.Loop = true, n.Loop()
	case !n.Followed:
		t.Skipped = true
	case n.Err != nil:
		t.Error = cause(n.Err)
		if r := (*expand.Refusal)(nil); errors.As(n.Err, &r) && !errors.Is(n.Err, expand.ErrUnknown) {
			t.Reply = r.Reply
		}
	}
	for _, c := range n.Children {
		t.Children = append(t.Children, x.node(c, assumed))
	}
	return t
}
