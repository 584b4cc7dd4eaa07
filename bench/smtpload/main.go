// Command smtpload puts load on SMTP servers on loopback and counts what
// becomes of every message.
//
// send numbers its messages, survives the death of the server (it connects
// again and sends the message again that was not acknowledged) and logs the
// number of each that was. sink takes mail as fast as it can and logs the
// numbers it gets. compare says which acknowledged numbers never arrived and
// which arrived more than once: the first are mail lost, the second are the
// price of a crash between a reply and the next flush.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/alecthomas/kong"
)

var cli struct {
	Send    sendCmd    `cmd:"" help:"Send messages and measure."`
	Rcpt    rcptCmd    `cmd:"" help:"Send MAIL, RCPT, RSET without data and measure."`
	Idle    idleCmd    `cmd:"" help:"Open sessions and hold them until standard input ends."`
	Sink    sinkCmd    `cmd:"" help:"Take messages and count them."`
	Compare compareCmd `cmd:"" help:"Compare what was acknowledged with what arrived."`
}

// target is where load goes and what it looks like.
type target struct {
	Addr string `default:"127.0.0.1:2525" help:"Address of the server."`
	From string `default:"sender@from.test" help:"Envelope sender."`
	Rcpt string `default:"u@relay.test" help:"Envelope recipient."`
	TLS  bool   `name:"tls" help:"Use STARTTLS and accept any certificate."`
}

func main() {
	ctx := kong.Parse(&cli, kong.Name("smtpload"), kong.Description("Load and accounting for SMTP servers on loopback."), kong.UsageOnError())
	if err := ctx.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "smtpload:", err)
		os.Exit(1)
	}
}

// dialTimeout bounds one attempt to connect and every read and write.
const dialTimeout = 60 * time.Second
