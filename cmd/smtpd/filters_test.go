package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/mail"
	"strings"

	wire "github.com/emersion/go-milter"
	"github.com/rogpeppe/go-internal/testscript"

	"smtpd/internal/dnstest"
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

// rspamd ADDR speaks the check API of rspamd: what it decides is the subject of
// the message. A decision "add header" comes with a signature.
func rspamd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: rspamd ADDR")
	}
	ln, err := net.Listen("tcp", args[0])
	ts.Check(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, err := mail.ReadMessage(r.Body)
		if err != nil || r.URL.Path != "/checkv2" || r.Method != http.MethodPost {
			http.Error(w, "not a check", http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{
			"action": m.Header.Get("Subject"), "score": 7.5, "required_score": 15.0,
			"dkim-signature": "v=1; d=example.org; b=" + r.Header.Get("From") + "|" + r.Header.Get("Rcpt") + "|" + r.Header.Get("IP"),
			"symbols":        map[string]any{"STAND_IN": map[string]any{"name": "STAND_IN", "score": 7.5}},
		})
	})}
	go server.Serve(ln)
	ts.Defer(func() { server.Close() })
}

// nameserver FILE ADDR serves the zones of FILE for who can be told no port.
func nameServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: nameserver FILE ADDR")
	}
	s, err := dnstest.ListenOn(args[1], ts.ReadFile(args[0]))
	ts.Check(err)
	ts.Defer(s.Close)
}
