package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/lang/token"
)

type explainCmd struct {
	source    `embed:""`
	snapshots `embed:""`

	From     string  `default:"socket" placeholder:"ADDRESS" help:"Where the mail comes from: an address, local (TCP from 127.0.0.1) or socket (${default})."`
	Tag      *string `placeholder:"TAG" help:"Tag of the listener; that of the first one unless given."`
	TLS      bool    `name:"tls" help:"The session uses TLS."`
	Auth     string  `placeholder:"USER" help:"The client is authenticated as USER."`
	Helo     string  `placeholder:"NAME" default:"client.invalid" help:"Argument of HELO (${default})."`
	RDNS     string  `name:"rdns" placeholder:"NAME" help:"Reverse name of the client."`
	MailFrom string  `placeholder:"ADDRESS" help:"The sender; none is the null sender."`
	RcptTo   string  `placeholder:"ADDRESS" help:"The recipient."`
	Internal bool    `help:"The recipient came out of an expansion."`
	Batch    bool    `help:"Read transactions as JSON lines from standard input, write a decision for each."`
	SMTP     bool    `name:"smtp" help:"Read the client's side of an SMTP session from standard input; each RCPT is explained."`
	Format   string  `enum:"text,json" default:"text" help:"How to print: ${enum}."`

	File string `arg:"" help:"The configuration."`
}

// A described is a transaction as JSON says it.
type described struct {
	Source   string  `json:"source"`
	Tag      *string `json:"tag"`
	TLS      bool    `json:"tls"`
	Auth     string  `json:"auth"`
	Helo     string  `json:"helo"`
	RDNS     string  `json:"rdns"`
	MailFrom string  `json:"mail_from"`
	RcptTo   string  `json:"rcpt_to"`
	Internal bool    `json:"internal"`
}

// transaction returns what d describes. Where it is silent a session comes
// through the first listener, and a local one is known by the server's name.
func (d *described) transaction(rs *compile.Ruleset) (*engine.Transaction, error) {
	tx := &engine.Transaction{
		Kind: engine.FromAddress, TLS: d.TLS, Helo: d.Helo, RDNS: d.RDNS,
		Auth: d.Auth != "", User: d.Auth, Sender: address(d.MailFrom), Rcpt: address(d.RcptTo),
	}
	switch d.Source {
	case "socket":
		tx.Kind, tx.Auth, tx.Tag = engine.FromSocket, true, rs.Socket.Tag
		if tx.RDNS == "" {
			tx.RDNS = rs.ServerName
		}
	default:
		addr, err := netip.ParseAddr(strings.Trim(d.Source, "[]"))
		if d.Source == "local" {
			addr, err = netip.MustParseAddr("127.0.0.1"), nil
		}
		if err != nil {
			return nil, fmt.Errorf("source %q is no address, nor local or socket", d.Source)
		}
		tx.Addr = addr
		if len(rs.Listeners) > 0 {
			tx.Tag = rs.Listeners[0].Tag
		}
	}
	if d.Tag != nil {
		tx.Tag = *d.Tag
	}
	if d.Internal {
		tx.Kind = engine.FromInternal
	}
	return tx, nil
}

// address reads an address, with or without its brackets.
func address(s string) engine.Address {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">")
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		return engine.Address{User: s[:at], Domain: s[at+1:]}
	}
	return engine.Address{User: s}
}

// A verdict is a decision as JSON says it.
type verdict struct {
	Outcome string `json:"outcome"`
	Action  string `json:"action"`
	Host    string `json:"host"`
	Rule    int    `json:"rule"` // from 1; 0: none matched
	File    string `json:"file"`
	Line    int    `json:"line"`
}

func verdictOf(rs *compile.Ruleset, d engine.Decision) verdict {
	v := verdict{Outcome: "reject", Rule: d.Rule + 1}
	if d.Rule < 0 {
		return v
	}
	r := &rs.Rules[d.Rule]
	v.File, v.Line = r.Origin.File, r.Origin.Line
	switch d.Outcome {
	case engine.TempFail:
		v.Outcome = "tempfail"
	case engine.Accept:
		a := rs.Action(r.Action)
		v.Outcome, v.Action, v.Host = a.Method.String(), a.Name, analyze.RelayHost(rs, a)
	}
	return v
}

// Run explains one transaction, or decides many.
func (c *explainCmd) Run(s *streams) error {
	l, err := c.compiled(s, c.File)
	if err != nil {
		return err
	}
	if err := c.substitute(l.rules); err != nil {
		return err
	}
	if c.Batch {
		return batch(s, l.rules)
	}
	d := described{c.From, c.Tag, c.TLS, c.Auth, c.Helo, c.RDNS, c.MailFrom, c.RcptTo, c.Internal}
	if !c.SMTP {
		return c.explain(s.out, l, d)
	}
	return dialogue(s.in, d, func(d described) error {
		if c.Format == "text" {
			fmt.Fprintf(s.out, "RCPT TO:<%s>\n", d.RcptTo)
		}
		return c.explain(s.out, l, d)
	})
}

// explain decides one transaction and prints why.
func (c *explainCmd) explain(w io.Writer, l *loaded, d described) error {
	tx, err := d.transaction(l.rules)
	if err != nil {
		return err
	}
	x := analyze.Explain(context.Background(), l.rules, tx, nil)
	if c.Format == "json" {
		return json.NewEncoder(w).Encode(verdictOf(l.rules, x.Decision))
	}
	return explanation(w, l, &x)
}

// origins says by which includes and macros a rule came to be what it is.
func origins(f *ast.File, o compile.Origin) []string {
	var list []string
	for _, s := range f.Stmts {
		if s.Match == nil || s.Pos.Filename != o.File || s.Pos.Line != o.Line || s.Pos.Column != o.Column {
			continue
		}
		for _, frame := range f.Set.Trace(s.Pos) {
			if frame.Kind == token.Include {
				list = append(list, "included from "+frame.Use.String())
			}
		}
		for _, frame := range f.Set.Expansions() {
			if frame.Use.Offset < s.Pos.Offset || frame.Use.Offset > s.EndPos.Offset {
				continue
			}
			where := "defined on the command line"
			if frame.Def.IsValid() {
				where = "defined at " + frame.Def.String()
			}
			if text := "with macro " + frame.Name + ", " + where; !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
		break
	}
	return list
}

// batch decides a transaction a line.
func batch(s *streams, rs *compile.Ruleset) error {
	e := engine.New(rs)
	in, out := json.NewDecoder(bufio.NewReaderSize(s.in, 1<<16)), bufio.NewWriterSize(s.out, 1<<16)
	encoder := json.NewEncoder(out)
	for n := 1; ; n++ {
		var d described
		err := in.Decode(&d)
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		var tx *engine.Transaction
		if err == nil {
			tx, err = d.transaction(rs)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("transaction %d: %w", n, err), out.Flush())
		}
		if err := encoder.Encode(verdictOf(rs, e.Decide(context.Background(), tx, nil))); err != nil {
			return err
		}
	}
}

// explanation prints why a transaction is decided as it is.
func explanation(w io.Writer, l *loaded, x *analyze.Explanation) error {
	rs := l.rules
	b := bufio.NewWriter(w)
	for i := range x.Passed {
		p := &x.Passed[i]
		r := &rs.Rules[p.Rule]
		if len(p.Failed) == 0 {
			continue
		}
		fmt.Fprintf(b, "%s:%d: rule %d passed over: %s does not hold\n", r.Origin.File, r.Origin.Line, p.Rule+1,
			analyze.Criterion(rs, r, p.Failed[0].Part))
		if p.Near() {
			fmt.Fprintf(b, "\tit would decide but for that\n")
		}
	}
	for _, q := range x.Asked {
		fmt.Fprintf(b, "table %s would be asked for %q\n", rs.Table(q.Table).Name, q.Key)
	}
	v := verdictOf(rs, x.Decision)
	switch x.Decision.Outcome {
	case engine.NoRule:
		fmt.Fprintf(b, "reject: no rule matches\n")
	case engine.Reject:
		fmt.Fprintf(b, "%s:%d: rule %d decides: reject\n", v.File, v.Line, v.Rule)
	case engine.TempFail:
		fmt.Fprintf(b, "%s:%d: rule %d decides: tempfail, %v\n", v.File, v.Line, v.Rule, x.Decision.Err)
	default:
		fmt.Fprintf(b, "%s:%d: rule %d decides: %s, action %q", v.File, v.Line, v.Rule, v.Outcome, v.Action)
		if v.Host != "" {
			fmt.Fprintf(b, " by way of %s", v.Host)
		}
		fmt.Fprintln(b)
	}
	if x.Decision.Rule >= 0 {
		for _, text := range origins(l.file, rs.Rules[x.Decision.Rule].Origin) {
			fmt.Fprintf(b, "\t%s\n", text)
		}
	}
	return b.Flush()
}
