// Package compile turns a syntax tree into a Ruleset.
//
// It takes the statements once, in source order, because that is what the
// language means: a name must be declared before it is used, and options
// hold from where they stand. What can only be judged at the end (is there a
// rule, are the certificates complete) is judged after the last statement. A
// mistake never ends the work: one call reports as much as possible, each
// cause once, in the order in which OpenSMTPD would come upon it.
//
// Compile asks the Host it is given for everything that depends on a
// machine: addresses, services, files. It opens nothing itself, so that the
// same configuration can be judged on a workstation and on the mail host.
//
// A Ruleset can be sent to another process (Append, Decode) and shown to a
// person (Dump, MarshalJSON).
package compile

import (
	"time"

	"smtpd/ast"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

// Compile returns the rule table of f on host h, and all that is to be said
// of it. The Ruleset is nil if any of it is of class Language or Host, and if
// the parser had to give up a statement of f. There are mistakes of the text
// that leave no trace in the tree, so the caller looks at what the parser
// said as well before it uses the Ruleset.
func Compile(f *ast.File, h Host) (*Ruleset, diag.List) {
	rs, list := Draft(f, h)
	if list.Has(diag.Host) {
		rs = nil
	}
	return rs, list
}

// Draft is Compile for a host that is not known in full. What h lacks is
// reported as class Host all the same, but the Ruleset is there: a table
// whose file is missing is Dynamic, and a listener on an unknown interface
// has the zero address. It is for tools that look at a policy, never for a
// server.
func Draft(f *ast.File, h Host) (*Ruleset, diag.List) {
	c := newCompiler(f, h)
	for i, s := range f.Stmts {
		c.index = i
		c.statement(s)
	}
	before := len(c.diags)
	c.finish()
	for _, d := range c.diags[before:] {
		d.AtEnd = true
	}
	if c.partial || c.errors > 0 {
		return nil, c.diags
	}
	return c.rs, c.diags
}

// A compiler is the state of one Draft.
type compiler struct {
	host  Host
	file  *ast.File
	index int       // of the statement in hand
	stmt  *ast.Stmt // the statement in hand
	rs    *Ruleset
	diags diag.List

	errors  int  // complaints of class Language so far
	hints   int  // suggestions made so far; see maxHints
	partial bool // a statement was not understood: the Ruleset is not what was meant
	broken  bool // the statement in hand is the part of one that was understood
	lost    bool // a statement that cannot be guessed at was lost: anything may be declared
	matched bool // there is a match statement, good or bad

	tables   scope[TableID]
	actions  scope[ActionID]
	filters  scope[FilterID]
	procs    scope[int]
	wrappers scope[int]
	pki      scope[int]
	ca       scope[int]
	domains  map[string]int // index into MTA.Domains

	given                 []given // options of the statement in hand
	dynTables, dynFilters int     // anonymous ones made so far
	socket                *ast.Stmt
	queueKey              *ast.Str
}

func newCompiler(f *ast.File, h Host) *compiler {
	name := h.ServerName()
	c := &compiler{
		host:     h,
		file:     f,
		rs:       defaults(name),
		tables:   newScope[TableID]("table"),
		actions:  newScope[ActionID]("action"),
		filters:  newScope[FilterID]("filter"),
		procs:    newScope[int]("proc"),
		wrappers: newScope[int]("wrapper"),
		pki:      newScope[int]("pki"),
		ca:       newScope[int]("ca"),
		domains:  make(map[string]int),
	}
	c.reserve()
	c.builtinTables()
	return c
}

// reserve makes room for what a long file holds, so that growing does not
// need it twice.
func (c *compiler) reserve() {
	var actions, rules int
	for _, s := range c.file.Stmts {
		switch {
		case s.Action != nil:
			actions++
		case s.Match != nil:
			rules++
		}
	}
	c.rs.Actions = make([]Action, 0, actions)
	c.rs.Rules = make([]Rule, 0, rules)
	c.rs.Tables = make([]Table, 0, actions+rules+8) // about one each
	c.actions.names = make(map[string]decl[ActionID], actions)
}

// defaults returns what holds when nothing is written (language.md 4).
func defaults(server string) *Ruleset {
	return &Ruleset{
		ServerName: server,
		ADMD:       server,
		Socket:     Socket{Hostname: server},
		SMTP: SMTP{
			MaxMails:       100,
			MaxRcpt:        1000,
			MaxMessageSize: 35 << 20,
			SubAddrDelim:   '+',
		},
		Queue:     Queue{TTL: 4 * 24 * time.Hour},
		SRS:       SRS{TTL: 4 * 24 * time.Hour},
		MDA:       MDALimits{MaxSession: 50, MaxSessionPerUser: 7, TaskHiwat: 50, TaskLowat: 30, TaskRelease: 10},
		Scheduler: SchedulerLimits{MaxInflight: 5000, MaxEvpBatchSize: 256, MaxMsgBatchSize: 1024, MaxSchedule: 10},
		MTA: MTA{MaxDeferred: 100, Limits: MTALimits{
			MaxConnPerHost: 10, MaxConnPerRoute: 5, MaxConnPerSource: 100,
			MaxConnPerConnector: 20, MaxConnPerRelay: 100, MaxConnPerDomain: 100,
			ConnDelayRoute: 5, ConnDelayRelay: 2, ReconnDelayRoute: 3,
			SessionMailMax: 100, SessionKeepalive: 10, MaxFailuresPerSession: 25,
			TaskHiwat: 50, TaskLowat: 30, TaskRelease: 10,
		}},
		Bounce: []time.Duration{4 * time.Hour},
	}
}

// statement compiles one statement.
func (c *compiler) statement(s *ast.Stmt) {
	c.stmt = s
	c.given = c.given[:0]
	switch {
	case s.Match != nil:
		c.match(s.Match)
	case s.Action != nil:
		c.action(s.Action)
	case s.Table != nil:
		c.tableStmt(s.Table)
	case s.Listen != nil:
		c.listen(s.Listen)
	case s.Filter != nil:
		c.filter(s.Filter)
	case s.Proc != nil:
		c.proc(s.Proc)
	case s.PKI != nil:
		c.pkiStmt(s.PKI)
	case s.CA != nil:
		c.caStmt(s.CA)
	case s.Bad != nil:
		c.bad(s.Bad)
	case s.Include != nil:
		c.include(s.Include)
	default:
		c.setting(s)
	}
}

// bad reports what is wrong in the part of a statement that was understood.
// What is missing may be in the rest, so only what is there is judged.
func (c *compiler) bad(b *ast.Bad) {
	c.partial = true
	if b.Part != nil {
		c.broken = true
		c.statement(b.Part)
		c.broken = false
	}
	c.poison(b)
}

// failed reports whether the statement in hand is no good: it is a part, or
// there are more errors than before it.
func (c *compiler) failed(before int) bool { return c.broken || c.errors > before }

// include notices a file that could not be read, and was reported: what it
// declares is anybody's guess.
func (c *compiler) include(i *ast.Include) {
	if c.file.Set == nil {
		return
	}
	if _, ok := c.file.Set.Source(i.Path.Text); !ok {
		c.lost, c.partial = true, true
	}
}

// finish makes the checks that need the whole file, in OpenSMTPD's order.
func (c *compiler) finish() {
	c.stmt = nil
	c.lost = c.lost || c.file.Lost
	c.resolveTTL()
	if !c.matched && c.errors == 0 && !c.lost {
		d := c.errorf(token.Span{}, token.Pos{}, "no-rules", "no rules: without a match statement no mail is accepted from anybody")
		d.Help = append(d.Help, `the smallest rule is: match for local action "local"`)
	}
	c.checkQueueKey()
	c.loadCertificates()
	if c.errors == 0 && !c.lost {
		c.checkRelays()
	}
}

// errorf reports a mistake at span. seen is the token at which OpenSMTPD
// notices it.
func (c *compiler) errorf(span token.Span, seen token.Pos, code diag.Code, format string, args ...any) *diag.Diagnostic {
	c.errors++
	d := c.diags.Errorf(span, code, format, args...)
	d.Seen = seenAt(span, seen)
	return d
}

// lacks reports that the host has not what the configuration needs.
func (c *compiler) lacks(span token.Span, code diag.Code, format string, args ...any) *diag.Diagnostic {
	return c.diags.Reportf(diag.Host, span, code, format, args...)
}

// seenAt returns seen if it is on another line than span.
func seenAt(span token.Span, seen token.Pos) token.Pos {
	if seen.Line == span.Start.Line && seen.Filename == span.Start.Filename {
		return token.Pos{}
	}
	return seen
}

// span returns the place of a string.
func span(s *ast.Str) token.Span { return token.Span{Start: s.Pos, End: s.EndPos} }

// origin returns a position in the form a Ruleset keeps.
func origin(p token.Pos) Origin { return Origin{File: p.Filename, Line: p.Line, Column: p.Column} }

// here returns the place of the statement in hand.
func (c *compiler) here() Origin { return origin(c.stmt.Pos) }
