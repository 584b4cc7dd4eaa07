package main

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/pires/go-proxyproto"
	"github.com/rogpeppe/go-internal/testscript"

	"smtpd/compile/analyze"
	"smtpd/compile/oshost"
	"smtpd/internal/smtptest"
)

// relays CONF has the daemon decide what smtpd-check relay claims of CONF: it
// pastes each session that is printed, and the recipient must be taken. With
// ! all must be refused: the daemon has another configuration.
func relays(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: relays CONF")
	}
	var stderr bytes.Buffer
	rules, err := load(ts.MkAbs(args[0]), nil, oshost.New(), &stderr)
	if err != nil {
		ts.Fatalf("%v\n%s", err, &stderr)
	}
	report := analyze.Relay(rules, analyze.RelayOptions{})
	if len(report.Open) == 0 {
		ts.Fatalf("%s: %v, no way to relay", args[0], report.Verdict)
	}
	for i := range report.Open {
		o := &report.Open[i]
		l := &rules.Listeners[o.Listener]
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(l.Port))))
		ts.Check(err)
		if l.ProxyV2 {
			ts.Check(claim(conn, o))
		}
		err = paste(conn, o.Witness.Dialogue(), !neg)
		conn.Close()
		if err != nil {
			ts.Fatalf("rule %d, the listener of line %d: %v", o.Rule+1, l.Origin.Line, err)
		}
	}
}

// claim says, as a proxy does, that the client has the address of a witness.
func claim(conn net.Conn, o *analyze.Open) error {
	to, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("%v is no TCP address", conn.RemoteAddr())
	}
	from := &net.TCPAddr{IP: o.Witness.Transaction.Addr.AsSlice(), Port: 1}
	_, err := proxyproto.HeaderProxyFromAddrs(2, from, to).WriteTo(conn)
	return err
}

// paste sends the lines of a session, each after the reply to the one before
// it.
func paste(conn net.Conn, session string, taken bool) error {
	script := "S: 220\n"
	for line := range strings.Lines(session) {
		reply := "2"
		if strings.HasPrefix(line, "RCPT") && !taken {
			reply = "550"
		}
		script += "C: " + line + "S: " + reply + "\n"
	}
	d := &smtptest.Dialogue{Conn: conn, Timeout: patience}
	return d.Run(strings.TrimSuffix(script, "\n"))
}
