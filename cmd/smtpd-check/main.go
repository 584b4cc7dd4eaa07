// Command smtpd-check judges, explains, shows and lays out configurations of
// smtpd. It needs no server and no mail host: what depends on a host is
// reported as a condition, unless the host is described with --host or is
// this machine.
//
// The exit status of every command is
//
//	0  good
//	1  bad: a finding of the classes that --fail-on names, by default
//	   mistakes of the language and of security; a configuration that has
//	   no rule table; or the answer that was feared
//	2  the command could not do its work; relay, verify and diff, whose
//	   status 1 is an answer, say so of a configuration without rule table
//	3  good, with conditions or remarks
//
// An explicit --fail-on asks one question and gets a plain answer: then the
// status is 0 or 1, and what is not asked about does not change it.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// The exit statuses.
const (
	good    = 0
	bad     = 1
	broken  = 2
	remarks = 3
)

// A streams is where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
	color    bool // out is a terminal that shows colour
}

// An outcome is the error by which a command sets a status without a
// message: it has said everything already.
type outcome int

// Error makes an outcome an error.
func (o outcome) Error() string { return fmt.Sprintf("status %d", int(o)) }

type cli struct {
	Check   checkCmd   `cmd:"" default:"withargs" help:"Judge configurations (the default)."`
	Dump    dumpCmd    `cmd:"" help:"Show the compiled rule table."`
	Fmt     fmtCmd     `cmd:"" help:"Lay configurations out in the one canonical way."`
	Explain explainCmd `cmd:"" help:"Say why a transaction is decided as it is."`
	Relay   relayCmd   `cmd:"" help:"Say who can send mail out through the host."`
	Verify  verifyCmd  `cmd:"" help:"Check the certificate that nobody can relay."`
	Diff    diffCmd    `cmd:"" help:"Say what two configurations decide differently."`
	Migrate migrateCmd `cmd:"" help:"Convert a configuration of an older release to the present language."`
	Import  importCmd  `cmd:"" help:"Make a configuration of the settings of another mail server."`
	Test    testCmd    `cmd:"" help:"Run tests of the rules."`
	Codes   codesCmd   `cmd:"" help:"Explain the codes of findings."`
	LSP     lspCmd     `cmd:"" name:"lsp" help:"Serve an editor over standard input."`
}

func main() {
	os.Exit(run(os.Args[1:], &streams{os.Stdin, os.Stdout, os.Stderr, colorful(os.Stdout)}))
}

// run does what args say and returns the exit status.
func run(args []string, s *streams) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("smtpd-check"),
		kong.Description("Judge, explain, show and lay out configurations of smtpd. Exit status: 0 good, 1 bad, 2 could not run, 3 good with conditions or remarks."),
		kong.Writers(s.out, s.err),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintf(s.err, "smtpd-check: %v\n", err)
		return broken
	}
	ctx, err := parser.Parse(args)
	if exited >= 0 { // --help was all
		return exited
	}
	if err == nil {
		err = ctx.Run(s)
	}
	var o outcome
	switch {
	case err == nil:
		return good
	case errors.As(err, &o):
		return int(o)
	}
	fmt.Fprintf(s.err, "smtpd-check: %v\n", err)
	return broken
}
