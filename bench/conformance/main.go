// Command conformance runs the dialogues that our tests hold the server to
// against another one, and prints where it differs.
//
//	conformance --rcpt u@relay.test 127.0.0.1:25
//
// The dialogues are in runtime/smtp/testdata/dialogue; each cites what it is
// about. A server that does not offer an extension is not held to it. The exit
// status is 1 if it differs anywhere.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"smtpd/internal/smtptest"
)

var cli struct {
	Addr    string        `arg:"" help:"HOST:PORT of the server."`
	Dir     string        `default:"runtime/smtp/testdata/dialogue" help:"Folder of the dialogues."`
	Rcpt    string        `default:"u@relay.test" help:"An address that the server takes mail for."`
	From    string        `default:"a@client.example" help:"The sender."`
	Timeout time.Duration `default:"10s" help:"How long a reply may take."`
	Verbose bool          `short:"v" help:"Print the dialogues that hold, too."`
}

func main() {
	ctx := kong.Parse(&cli, kong.Name("conformance"), kong.Description("Compares a mail server with the standards."), kong.UsageOnError())
	cases, err := smtptest.Load(cli.Dir, cli.Rcpt, cli.From)
	ctx.FatalIfErrorf(err)
	same, differs, missing := 0, 0, 0
	for _, c := range cases {
		switch err := run(c); {
		case err == nil:
			same++
			if cli.Verbose {
				fmt.Printf("holds        %s\n", c.Name)
			}
		case errors.Is(err, smtptest.ErrNotOffered):
			missing++
			fmt.Printf("not offered  %s\n", c.Name)
		default:
			differs++
			fmt.Printf("differs      %s: %v\n", c.Name, err)
		}
	}
	fmt.Printf("%d hold, %d differ, %d not offered\n", same, differs, missing)
	if differs > 0 {
		os.Exit(1)
	}
}

// run holds one dialogue on a connection of its own.
func run(c smtptest.Case) error {
	conn, err := net.DialTimeout("tcp", cli.Addr, cli.Timeout)
	if err != nil {
		return err
	}
	d := &smtptest.Dialogue{Conn: conn, Timeout: cli.Timeout}
	defer func() { d.Conn.Close() }()
	return d.Run(c.Script)
}
