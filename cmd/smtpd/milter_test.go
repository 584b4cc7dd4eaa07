package main

import (
	"errors"
	"net"
	"strings"

	wire "github.com/emersion/go-milter"
	"github.com/rogpeppe/go-internal/testscript"
)

// milter ADDR is a milter that does what the subject of a message says:
// "reject", "discard", "hold", or the words after "for " as another recipient.
// It marks each message, puts a field before it, and ends its text.
func milter(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: milter ADDR")
	}
	ln, err := net.Listen("tcp", args[0])
	ts.Check(err)
	server := &wire.Server{
		NewMilter: func() wire.Milter { return new(obedient) },
		Actions:   wire.OptAddHeader | wire.OptChangeHeader | wire.OptChangeBody | wire.OptAddRcpt | wire.OptQuarantine,
	}
	go server.Serve(ln)
	ts.Defer(func() { ln.Close() })
}

// An obedient milter does as the message says.
type obedient struct {
	wire.NoOpMilter
	subject, body string
}

func (o *obedient) RcptTo(to string, _ *wire.Modifier) (wire.Response, error) {
	if strings.HasPrefix(to, "bad@") {
		return wire.NewResponseStr('y', "550 5.7.1 bad one"), nil
	}
	return wire.RespContinue, nil
}

func (o *obedient) Header(name, value string, _ *wire.Modifier) (wire.Response, error) {
	if name == "Subject" {
		o.subject = value
	}
	return wire.RespContinue, nil
}

func (o *obedient) BodyChunk(chunk []byte, _ *wire.Modifier) (wire.Response, error) {
	o.body += string(chunk)
	return wire.RespContinue, nil
}

func (o *obedient) Body(m *wire.Modifier) (wire.Response, error) {
	what, rest, _ := strings.Cut(o.subject, " ")
	switch what {
	case "reject":
		return wire.RespReject, nil
	case "discard":
		return wire.RespDiscard, nil
	case "hold":
		return wire.RespAccept, m.Quarantine("as asked")
	case "for":
		if err := m.AddRecipient(rest); err != nil {
			return nil, err
		}
	}
	return wire.RespAccept, errors.Join(m.AddHeader("X-Queue", m.Macros["i"]), m.InsertHeader(1, "X-First", "yes"),
		m.ChangeHeader(1, "Subject", "["+o.subject+"]"), m.ReplaceBody([]byte(o.body+".signed\r\n")))
}
