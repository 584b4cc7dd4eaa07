package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"smtpd/ast"
	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/compile/expand"
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
	Ask      bool    `help:"Ask the running daemon for what tables say that are not in the configuration, and for accounts."`
	Batch    bool    `xor:"input" help:"Read transactions as JSON lines from standard input, write a decision for each."`
	SMTP     bool    `name:"smtp" xor:"input" help:"Read the client's side of an SMTP session from standard input; each RCPT is explained."`

	Accounts  string   `placeholder:"FILE" help:"The accounts of the mail host, as in passwd(5) or a table of users. Without it every user has one."`
	Forward   []string `sep:"none" placeholder:"USER=FILE" help:"Take FILE for the .forward of USER. Without it a user has none."`
	Semantics string   `enum:"intended,opensmtpd-7.8" default:"intended" help:"What a rule means: ${enum}. The second one is OpenSMTPD 7.8 with its defects."`
	Format    string   `enum:"text,json,markdown" default:"text" help:"How to print: ${enum}."`

	File         string `arg:"" help:"The configuration."`
	Transactions string `arg:"" optional:"" help:"- explains each transaction that standard input describes as a JSON line."`
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

	tag string // what Tag points to, if parsePlain has read it
}

// transaction returns what d describes. Where it is silent a session comes
// through the first listener, and a local one is known by the server's name.
func (d *described) transaction(rs *compile.Ruleset) (*engine.Transaction, error) {
	if d.RcptTo == "" {
		return nil, errors.New("it has no recipient")
	}
	tx := &engine.Transaction{
		Kind: engine.FromAddress, TLS: d.TLS, Helo: d.Helo, RDNS: d.RDNS,
		Auth: d.Auth != "", User: d.Auth, Sender: address(d.MailFrom), Rcpt: address(d.RcptTo),
	}
	if d.Tag != nil {
		tx.Tag = *d.Tag
	}
	switch d.Source {
	case "socket":
		tx.Kind, tx.Auth = engine.FromSocket, true
	case "local":
		tx.Addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		addr, err := netip.ParseAddr(strings.Trim(d.Source, "[]"))
		if err != nil {
			return nil, fmt.Errorf("source %q is no address, nor local or socket", d.Source)
		}
		tx.Addr = addr
	}
	if !d.Internal {
		tx.Complete(rs, d.Tag != nil)
		return tx, nil
	}
	// What came out of an expansion has the session of the first recipient.
	first := *tx
	first.Complete(rs, d.Tag != nil)
	tx.Kind, tx.Tag, tx.RDNS = engine.FromInternal, first.Tag, first.RDNS
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

// Run explains one transaction or several, or decides many.
func (c *explainCmd) Run(s *streams) error {
	if c.File == "-" && (c.Batch || c.SMTP || c.Transactions != "") {
		return errors.New("standard input cannot hold the configuration and the transactions")
	}
	if c.Transactions != "" && c.Transactions != "-" {
		return fmt.Errorf("%q after the configuration: - reads transactions from standard input", c.Transactions)
	}
	l, err := c.compiled(s, c.File)
	if err != nil {
		return err
	}
	if err := c.substitute(l.rules); err != nil {
		return err
	}
	semantics := engine.Intended
	if c.Semantics != "intended" {
		semantics = engine.OpenSMTPD78
	}
	x := &explainer{cmd: c, loaded: l, Explainer: analyze.NewExplainer(l.rules, semantics)}
	if c.Ask {
		daemon, err := dialDaemon()
		if err != nil {
			return err
		}
		defer daemon.Close()
		x.live = newLive(l.rules, daemon)
	}
	if c.Batch {
		return batch(s, l.rules, x.Explainer, x.lookups())
	}
	if err := x.prepare(s); err != nil {
		return err
	}
	out := bufio.NewWriter(s.out)
	return errors.Join(x.input(s.in, out), out.Flush())
}

// An explainer explains transactions by one configuration.
type explainer struct {
	cmd *explainCmd
	*loaded
	*analyze.Explainer
	live       *live          // nil: nobody is asked
	labels     map[int]string // of rules, by their index
	accounts   *compile.Table
	forwards   map[string]string
	host       compile.Host
	statements map[compile.Origin]*ast.Stmt // made when first needed
	explained  int
}

// lookups returns who is asked for tables without content.
func (x *explainer) lookups() engine.Lookups {
	if x.live == nil {
		return nil
	}
	return x.live
}

// input explains what the command line asks for.
func (x *explainer) input(in io.Reader, out *bufio.Writer) error {
	c := x.cmd
	d := described{Source: c.From, Tag: c.Tag, TLS: c.TLS, Auth: c.Auth, Helo: c.Helo, RDNS: c.RDNS,
		MailFrom: c.MailFrom, RcptTo: c.RcptTo, Internal: c.Internal}
	one := func(d described) error {
		tx, err := d.transaction(x.rules)
		if err != nil {
			return err
		}
		return x.explain(out, tx)
	}
	switch {
	case c.SMTP:
		return dialogue(in, d, one)
	case c.Transactions == "-":
		return forEachTransaction(in, out, x.rules, func(_ *described, tx *engine.Transaction) error { return x.explain(out, tx) })
	}
	return one(d)
}

// prepare reads what an expansion needs beside the rule table.
func (x *explainer) prepare(s *streams) error {
	var err error
	if x.labels, err = x.loaded.labels(s); err != nil {
		return err
	}
	if x.host, err = x.cmd.host(); err != nil {
		return err
	}
	if x.cmd.Accounts != "" {
		if x.accounts, err = readTable(x.cmd.Accounts); err != nil {
			return err
		}
	}
	x.forwards = make(map[string]string)
	for _, arg := range x.cmd.Forward {
		user, file, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("--forward %s: no = in it; the form is USER=FILE", arg)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		x.forwards[strings.ToLower(user)] = string(text)
	}
	return nil
}

// include reads a file that an alias includes, if the host's files are known.
func (x *explainer) include(path string) (text string, ok bool, err error) {
	f, err := x.host.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", false, nil
	case errors.Is(err, compile.ErrUnknown), errors.Is(err, compile.ErrContent):
		return "", false, fmt.Errorf("%s: its content is %w", path, expand.ErrUnknown)
	}
	return string(f.Data), err == nil, err
}

// explain decides one transaction and prints why.
func (x *explainer) explain(w io.Writer, tx *engine.Transaction) error {
	t := x.trace(context.Background(), tx)
	if x.explained++; x.explained > 1 && x.cmd.Format == "text" {
		fmt.Fprintln(w)
	}
	switch x.cmd.Format {
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return e.Encode(t)
	case "markdown":
		return t.markdown(w)
	}
	return t.text(w)
}
